"""
Which servers can be used, and which one is next: failover, fail-back, circuit breaker.

:Room: ``directory``
:Called by: `mailhost.directory.session` in its threads, `mailhost.directory.resolver`.

A server is *down* after one connection that failed, or after three answers in a row that
did not come in time.  It is asked again by a probe only, never by somebody's
look-up; when the probe succeeds it is up, and being earlier in the list it is used again.
With all servers down nothing is asked at all (the breaker is open).
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from attrs import define, field

from mailhost.directory.binding import DirectoryServer

#: Answers out of time, one after the other, that make a server count as down.
STRIKES = 3


@define(eq=False)
class _State:
    up: bool = True
    strikes: int = 0
    why: str = ""


@define(eq=False)
class ServerList:
    """
    All servers, in the order of preference; shared by the threads.

    :ivar servers: at least one.
    :ivar went_down: called, in whatever thread, when one has gone down.
    :ivar failovers: how often a server went down while another was up.
    :ivar outages: how often the last one went down: the breaker opened.
    """

    servers: tuple[DirectoryServer, ...]
    went_down: Callable[[], None] = field(default=lambda: None)
    failovers: int = field(default=0, init=False)
    outages: int = field(default=0, init=False)
    _lock: Lock = field(factory=Lock, init=False)
    _states: list[_State] = field(init=False)

    def __attrs_post_init__(self) -> None:
        if not self.servers:
            raise ValueError("no server")
        self._states = [_State() for _ in self.servers]

    def choose(self) -> int | None:
        """The index of the first that is up."""
        for index, state in enumerate(self._states):
            if state.up:
                return index
        return None

    def usable(self) -> tuple[int, ...]:
        """Indexes of those that are up, in order."""
        return tuple(index for index, state in enumerate(self._states) if state.up)

    @property
    def all_down(self) -> bool:
        """Whether the breaker is open."""
        return self.choose() is None

    @property
    def up_count(self) -> int:
        """How many are up."""
        return sum(state.up for state in self._states)

    def down(self) -> tuple[int, ...]:
        """Indexes of those that are down."""
        return tuple(index for index, state in enumerate(self._states) if not state.up)

    def why(self) -> str:
        """What is wrong with those that are down."""
        return "; ".join(state.why for state in self._states if not state.up)

    def failed(self, index: int, why: str) -> None:
        """It could not be connected to, or broke off twice."""
        with self._lock:
            state = self._states[index]
            state.why = why
            if not state.up:
                return
            state.up = False
            if self.all_down:
                self.outages += 1
            else:
                self.failovers += 1
        self.went_down()

    def slow(self, index: int, why: str) -> None:
        """An answer of it did not come in time."""
        state = self._states[index]
        state.strikes += 1
        if state.strikes >= STRIKES:
            self.failed(index, why)

    def answered(self, index: int) -> None:
        """It has answered a question."""
        state = self._states[index]
        if state.strikes:
            state.strikes = 0

    def recovered(self, index: int) -> None:
        """A probe has succeeded."""
        with self._lock:
            self._states[index] = _State()
