"""
The clock of the machine is set while the server runs.

:Room: ``server``
:Called by: `mailhost.server.pulse`, in its thread and in the reactor's; by the simulation.

The reactor's timers are times of day.  When the clock is set back by a day, a retry in one
minute would come in a day and one minute, and so would the end of everybody's patience.  What
was planned before is moved with the clock, so that it takes as long as it was meant to.  When
the clock is set forward timers come early, which costs an attempt at most.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.logger import Logger

#: What the clock is set by in smaller steps nobody has to know.
STEP_SECONDS = 2.0


@define(eq=False)
class ClockSteps:
    """
    :ivar reactor: has the time of day, and the timers.
    :ivar steady: a clock that nobody sets.
    """

    reactor: Any
    steady: Callable[[], float] = time.monotonic
    _offset: float = field(init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self._offset = self.reactor.seconds() - self.steady()

    def look(self) -> None:
        """Whether the clock was set since the last look; in any thread."""
        with self._lock:
            offset = self.reactor.seconds() - self.steady()
            step, self._offset = offset - self._offset, offset
        if abs(step) >= STEP_SECONDS:
            self.reactor.callFromThread(self._follow, step)

    def _follow(self, step: float) -> None:
        self._log.warn(
            "The clock of the machine was set {direction} by {seconds:.0f} s",
            direction="forward" if step > 0 else "back",
            seconds=abs(step),
        )
        if step < 0:
            self._move(step)

    def _move(self, step: float) -> None:
        """What was planned before the clock was set back comes when it was meant to come."""
        now = self.reactor.seconds()
        for call in self.reactor.getDelayedCalls():
            left = call.getTime() - now + step
            # What is due sooner than the step was planned after it.
            if left > -STEP_SECONDS:
                call.reset(max(0.0, left))
