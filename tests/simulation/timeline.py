"""The time of a simulated world, which may jump, and the reactor of one life of the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.task import Clock

from mailhost.server.clock_steps import ClockSteps
from tests.support.world import START

#: A world that needs more calls than this goes round in circles.
_MOST_CALLS = 300_000


class EndlessWorld(AssertionError):
    """Something is called again and again."""


class Timeline(Clock):
    """
    What everybody's clock shows, and what has really passed.

    When the wall clock jumps, what the server planned stays where it was planned, until the server
    sees it; what the rest of the world does takes as long as it takes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rightNow = START
        self.lives: list[LifeReactor] = []
        self._jumped = 0.0
        self._count = 0
        self._happened = 0
        #: Since when the wall clock has been how far ahead.
        self._ahead = [(0.0, 0.0)]

    @property
    def elapsed(self) -> float:
        """Seconds that have passed, whatever the clock shows."""
        return self.seconds() - START - self._jumped

    def latest(self, since: float, until: float) -> float:
        """The latest time that the wall clock has shown from *since* to *until*, both past."""
        ends = [start for start, _ in self._ahead[1:]] + [until]
        return max(
            START + min(end, until) + ahead
            for (start, ahead), end in zip(self._ahead, ends, strict=True)
            if start <= until and end >= since
        )

    def next_place(self) -> int:
        """The place in the order of all that happens; much of it at one and the same time."""
        self._happened += 1
        return self._happened

    def callLater(  # type: ignore[override]  # upstream has no annotations
        self, delay: float, function: Callable[..., Any], *given: Any, **named: Any
    ) -> DelayedCall:
        self._count += 1
        if self._count > _MOST_CALLS:
            raise EndlessWorld(f"{_MOST_CALLS} calls, the last of {function}")
        return super().callLater(max(0.0, delay), function, *given, **named)

    def call_at(self, elapsed: float, function: Callable[..., Any], *given: Any) -> None:
        """Call *function* when so much time has passed."""
        self.callLater(elapsed - self.elapsed, function, *given)

    def step(self) -> None:
        """Go to the next moment at which something happens."""
        self.advance(max(0.0, self.calls[0].getTime() - self.seconds()))

    def jump(self, seconds: float) -> None:
        """The wall clock shows *seconds* more, or less."""
        planned = {id(call) for life in self.lives for call in life.getDelayedCalls()}
        elapsed = self.elapsed
        self.rightNow += seconds
        self._jumped += seconds
        self._ahead.append((elapsed, self._jumped))
        for call in self.calls:
            if id(call) not in planned:
                call.time += seconds
        for life in self.lives:
            if not life.dead:
                life.steps.look()
        self._sortCalls()


class LifeReactor:
    """The reactor of one process: when it is killed nothing of it ever happens."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._calls: list[Any] = []
        self.dead = False
        self.steps = ClockSteps(self, self.steady_seconds)
        timeline.lives.append(self)

    def seconds(self) -> float:
        return float(self._timeline.seconds())

    def steady_seconds(self) -> float:
        """What nobody can set."""
        return self._timeline.elapsed

    def callFromThread(self, function: Callable[..., Any], *given: Any) -> None:
        """There are no threads."""
        function(*given)

    def callLater(
        self, delay: float, function: Callable[..., Any], *given: Any, **named: Any
    ) -> Any:
        if self.dead:
            return DelayedCall(0, function, given, named, _nothing, _nothing)
        call = self._timeline.callLater(delay, function, *given, **named)
        self._calls.append(call)
        if len(self._calls) > 200:
            self._calls = self.getDelayedCalls()
        return call

    def getDelayedCalls(self) -> list[Any]:
        return [call for call in self._calls if call.active()]

    def kill(self) -> None:
        self.dead = True
        for call in self.getDelayedCalls():
            call.cancel()


def _nothing(call: object) -> None:
    """What is not planned need not be planned anew."""
