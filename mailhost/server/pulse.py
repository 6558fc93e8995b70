"""
How late the reactor is, and what it was doing when it stood still.

:Room: ``server``
:Called by: `mailhost.service`, once in each process; read by `mailhost.control.metrics`.

Four times a second the reactor says how much later it came than it was asked to.  A thread
looks twenty times a second whether that is overdue, and notes then what the reactor's
thread is in the middle of: the one moment at which it can be seen.  It is also this thread
that sees when the clock of the machine is set, for it waits for no time of day.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from mailhost.model.tally import LATENESS_BOUNDS, Spread
from mailhost.net.deadlines import steady_seconds
from mailhost.server.clock_steps import ClockSteps

#: So often the reactor is asked.
BEAT_SECONDS = 0.25
#: Later than this it has stood still.
STALL_SECONDS = 0.1
#: So often the thread looks.
LOOK_SECONDS = 0.05
#: A stall is told with its stack so often at most; all are counted.
TELL_AGAIN_SECONDS = 60.0
_FRAMES = 30


@define(eq=False)
class Pulse:
    """
    :ivar reactor: is watched, and has the time.
    :ivar steady: what lateness is measured by.
    :ivar steps: is asked whether the clock was set.
    :ivar lateness: how late it was, in seconds.
    :ivar stalls: times that it was later than `STALL_SECONDS`.
    """

    reactor: Any
    steady: Callable[[], float] = field(init=False)
    steps: ClockSteps = field(init=False)
    lateness: Spread = field(factory=lambda: Spread(LATENESS_BOUNDS), init=False)
    stalls: int = field(default=0, init=False)
    _due: float = field(default=float("inf"), init=False)
    _call: IDelayedCall | None = field(default=None, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _ended: threading.Event = field(factory=threading.Event, init=False)
    # What the thread has seen in the turn that is overdue.
    _seen: str = field(default="", init=False)
    _told_at: float = field(default=float("-inf"), init=False)

    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self.steady = steady_seconds(self.reactor)
        self.steps = ClockSteps(self.reactor, self.steady)

    def start(self) -> None:
        """Watch from now on; called in the reactor's thread."""
        self._ended.clear()
        self._ask()
        watched = threading.get_ident()
        self._thread = threading.Thread(
            target=self._watch, args=(watched,), name="pulse", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._ended.set()
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call, self._due = None, float("inf")
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _ask(self) -> None:
        self._due = self.steady() + BEAT_SECONDS
        self._call = self.reactor.callLater(BEAT_SECONDS, self._beat)

    def _beat(self) -> None:
        late = max(0.0, self.steady() - self._due)
        self.lateness.add(late)
        seen, self._seen = self._seen, ""
        if late > STALL_SECONDS:
            self.stalls += 1
            self._tell(late, seen)
        self._ask()

    def _tell(self, late: float, seen: str) -> None:
        now = self.steady()
        if now - self._told_at >= TELL_AGAIN_SECONDS:
            self._told_at = now
            self._log.warn(
                "The reactor has stood still for {seconds:.2f} s, in the middle of:\n{stack}",
                seconds=late,
                stack=seen or "what was over before it could be seen",
            )

    # ---- in the thread

    def _watch(self, watched: int) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self.steps.look()
            self.look(watched)

    def look(self, watched: int) -> None:
        """See what the thread *watched* is doing, if it is overdue and that is not known yet."""
        if self._seen or self.steady() - self._due <= STALL_SECONDS:
            return
        frame = sys._current_frames().get(watched)
        if frame is not None:
            self._seen = "".join(traceback.format_stack(frame)[-_FRAMES:]).rstrip("\n")
