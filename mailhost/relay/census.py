"""
What the queue holds, counted no oftener than it may cost.

:Room: ``relay``
:Made by: `mailhost.relay.manager`; asked by `mailhost.control.metrics`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Set
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred

from mailhost.errors import MailhostError
from mailhost.interfaces import IQueueStore
from mailhost.model.queue import QueueCensus
from mailhost.relay.active import ActiveWindow

#: Five minutes, an hour, a day.
AGE_BOUNDS = (300.0, 3600.0, 86400.0)
#: At most a twentieth of the time is spent with counting.
_PAUSE_FACTOR = 19.0
#: What takes less is counted each time.
_CHEAP_SECONDS = 0.1
#: A count that takes longer is not waited for: the last one is told.
PATIENCE_SECONDS = 2.0


@frozen
class Counted:
    """
    What the queue holds.

    :ivar at: when it was counted, seconds since the epoch.
    :ivar active: messages in work, by age as in *census*; there they count as due.
    """

    at: float
    census: QueueCensus
    active: tuple[int, ...]


@define(eq=False)
class Census:
    """
    :ivar store: the queue.
    :ivar clock: the reactor.
    :ivar window: what is in work.
    :ivar local: domains whose mail is served here now, in lower case.
    """

    store: IQueueStore
    clock: Any
    window: ActiveWindow
    local: Callable[[], Set[str]]
    _last: Counted | None = field(default=None, init=False)
    _took_seconds: float = field(default=0.0, init=False)
    _counting: Deferred[None] | None = field(default=None, init=False)

    async def latest(self) -> Counted | None:
        """What was counted last, just now where that is cheap; `None`: the queue cannot be read."""
        now = self.clock.seconds()
        if self._counting is None and not self._fresh(now):
            self._counting = Deferred.fromCoroutine(self._count(now))
            # What is over at once has been forgotten before it was remembered.
            if self._counting.called:
                self._counting = None
        if self._counting is not None:
            await self._wait(self._counting)
        return self._last

    def _fresh(self, now: float) -> bool:
        if self._last is None or self._took_seconds < _CHEAP_SECONDS:
            return False
        # A clock that was set back makes nothing fresh for ever.
        return abs(now - self._last.at) < self._took_seconds * _PAUSE_FACTOR

    async def _count(self, now: float) -> None:
        try:
            census = await self.store.census(now, AGE_BOUNDS, self.local())
        except MailhostError:
            self._last = None
        else:
            self._last = Counted(now, census, self._active(now))
        finally:
            self._took_seconds = max(0.0, self.clock.seconds() - now)
            self._counting = None

    def _active(self, now: float) -> tuple[int, ...]:
        ages = [0] * (len(AGE_BOUNDS) + 1)
        for active in self.window:
            ages[bisect_left(AGE_BOUNDS, now - active.message.accepted_at)] += 1
        return tuple(ages)

    def _wait(self, counting: Deferred[None]) -> Deferred[None]:
        """Fires when *counting* is over, or has taken too long."""
        waited: Deferred[None] = Deferred()

        def over(result: Any) -> Any:
            if not waited.called:
                timer.cancel()
                waited.callback(None)
            return result

        timer = self.clock.callLater(PATIENCE_SECONDS, waited.callback, None)
        counting.addBoth(over)
        return waited
