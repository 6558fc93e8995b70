"""
Deadlines of many sessions on one timer.

:Room: ``net``
:RFC: 5321 §4.5.3.2 (a deadline for every state).
:Called by: `mailhost.net.inbound` and `mailhost.net.outbound`.

A timer per session has to be set, moved and cancelled with every message.  A
session that only writes down when its patience ends costs nothing; one look at
all of them a second is precise enough for time-outs of minutes.

Whoever sets the clock of the machine ends nobody's patience: it is measured on a clock that
cannot be set.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.runtime import seconds as wall_seconds

#: At most so late is a deadline noticed.
SWEEP_SECONDS = 1.0


def steady_seconds(clock: Any) -> Callable[[], float]:
    """
    How long something takes by *clock*, whatever time of day is set meanwhile.

    A reactor's own clock is the machine's; one made up for a test or a world has another, or is
    never set.
    """
    if clock.seconds is wall_seconds:
        return time.monotonic
    found: Callable[[], float] = getattr(clock, "steady_seconds", clock.seconds)
    return found


class Impatient(Protocol):
    """Something with a deadline."""

    #: On the clock of `Deadlines.seconds`.
    deadline_at: float

    def expire(self) -> None:
        """The deadline has passed; set a later one, or be forgotten."""


@define(eq=False)
class Deadlines:
    """
    :ivar clock: tells the time and calls back.
    :ivar seconds: what deadlines are measured by; it has its own beginning.
    :ivar sweep_seconds: how often to look.
    """

    clock: IReactorTime
    sweep_seconds: float = SWEEP_SECONDS
    seconds: Callable[[], float] = field(init=False)
    _watched: dict[Impatient, None] = field(factory=dict, init=False)
    _call: IDelayedCall | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.seconds = steady_seconds(self.clock)

    def watch(self, session: Impatient) -> None:
        """Look after *session* from now on."""
        self._watched[session] = None
        if self._call is None:
            self._call = self.clock.callLater(self.sweep_seconds, self._sweep)

    def forget(self, session: Impatient) -> None:
        """Look after it no longer; harmless when it was not watched."""
        self._watched.pop(session, None)
        if not self._watched and self._call is not None:
            call, self._call = self._call, None
            call.cancel()

    def _sweep(self) -> None:
        self._call = None
        now = self.seconds()
        for session in [s for s in self._watched if s.deadline_at <= now]:
            if session in self._watched:
                session.expire()
        if self._watched and self._call is None:
            self._call = self.clock.callLater(self.sweep_seconds, self._sweep)
