"""
Back to the store without an attempt: mail that would only wait in memory.

:Room: ``relay``
:Called by: `mailhost.relay.dispatch`, for sites that are suspended or have more than their share of
    the active window already.

Postponed recipients are collected until the reactor's next turn, and a thousand messages are one
statement in the store.  Nobody's attempts are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailhost.interfaces import IQueueStore
from mailhost.model.queue import Postponement, QueuedMessage, QueuedRecipient
from mailhost.model.schedule import RetrySchedule
from mailhost.relay.active import ActiveMessage
from mailhost.traces.events import event
from mailhost.traces.tracer import Tracer

#: Messages in one statement.
AT_ONCE = 1000
_AGAIN_SECONDS = 5.0
#: Nobody is sent back for longer only because a site is full.
_LONGEST_SECONDS = 600.0
_SHORTEST_SECONDS = 1.0
#: A site is taken for at least so fast, in transactions a second.
_SLOWEST_PER_SECOND = 10.0
#: What is sent back comes again at so many times the pace at which the site takes mail: better
#: early, and sent back once more, than late to an idle site.
_OPTIMISM = 2.0
_SPAN_SECONDS = 10.0


@define(eq=False)
class Pace:
    """How many transactions a site has ended lately."""

    since: float
    _count: int = field(default=0, init=False)
    _last: float = field(default=0.0, init=False)

    def note(self, now: float) -> None:
        """One more."""
        if now - self.since >= _SPAN_SECONDS:
            self._last = self._count / (now - self.since)
            self._count, self.since = 0, now
        self._count += 1

    def per_second(self, now: float) -> float:
        """The better of what was measured and what is being measured."""
        return max(self._last, self._count / max(now - self.since, 1.0))


@define(eq=False)
class Overflow:
    """
    When mail that finds no room at its site is to come again.

    :ivar count: messages sent back so far.
    """

    count: int = field(default=0, init=False)
    _last_due_at: float = field(default=0.0, init=False)

    def next_due_at(self, waiting: int, per_second: float, now: float) -> float:
        """
        About when those before it will have been served.

        :param waiting: jobs that wait in memory.
        :param per_second: at which the site takes them.
        """
        self.count += 1
        pace = _OPTIMISM * max(per_second, _SLOWEST_PER_SECOND)
        earliest = now + max(waiting / pace, _SHORTEST_SECONDS)
        latest = now + _LONGEST_SECONDS
        due_at = min(max(self._last_due_at + 1 / pace, earliest), latest)
        self._last_due_at = due_at
        return due_at


def must_be_tried(
    message: QueuedMessage, recipient: QueuedRecipient, schedule: RetrySchedule, now: float
) -> bool:
    """Whether the sender has to hear something now, so that nothing may be put off."""
    schedule, since = message.schedule(schedule), message.schedule_from
    if now >= schedule.expires_at(since):
        return True
    return not recipient.notified and schedule.delay_due(since, now)


def bounded(
    due_at: float, message: QueuedMessage, notified: bool, schedule: RetrySchedule
) -> float:
    """*due_at*, or the instant at which the sender has to hear something."""
    schedule, since = message.schedule(schedule), message.schedule_from
    due_at = min(due_at, schedule.expires_at(since))
    after = schedule.delay_notification_seconds
    if not notified and after is not None:
        due_at = min(due_at, since + after)
    return due_at


@define(eq=False)
class Postponer:
    """
    :ivar store: where mail goes back to.
    :ivar clock: the reactor.
    :ivar tracer: is told why something waits.
    :ivar done: told of each message when its recipients are back in the store.
    """

    store: IQueueStore
    clock: Any
    done: Callable[[ActiveMessage], None]
    tracer: Tracer = field(factory=Tracer)
    _parts: list[tuple[ActiveMessage, Postponement]] = field(factory=list, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    under_way: set[Deferred[Any]] = field(factory=set, init=False)
    _again: set[IDelayedCall] = field(factory=set, init=False)
    _stopping: bool = field(default=False, init=False)

    _log = Logger()

    def add(
        self,
        active: ActiveMessage,
        recipients: Sequence[QueuedRecipient],
        due_at: float,
        status: str,
        words: str,
    ) -> None:
        """
        Some recipients of *active* are due at *due_at*; it stays active until that is written.

        :param status: replaces the last outcome's, with *words*; empty: both stay.
        """
        active.jobs += 1
        numbers = tuple(recipient.number for recipient in recipients)
        self._parts.append((active, Postponement(active.message, numbers, due_at, status, words)))
        if self.tracer.on:
            why = f"{status} {words}" if words else "more waits in memory for its site already"
            paths = tuple(recipient.forward_path for recipient in recipients)
            now, id = self.clock.seconds(), active.message.queue_id
            self.tracer.note(event(now, id, "wait", why, paths=paths, due_at=due_at))
        if len(self._parts) >= AT_ONCE:
            self._flush()
        elif self._timer is None and not self._stopping:
            self._timer = self.clock.callLater(0, self._flush)

    @property
    def busy(self) -> bool:
        """Something is not back in the store yet."""
        return bool(self._parts or self.under_way)

    def stop(self) -> None:
        """Write nothing more; the store has everything as it was."""
        self._stopping = True
        self._parts.clear()
        for timer in (self._timer, *self._again):
            if timer is not None and timer.active():
                timer.cancel()
        self._timer = None

    def _flush(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        parts, self._parts = self._parts, []
        if parts and not self._stopping:
            self._write(parts)

    def _write(self, parts: list[tuple[ActiveMessage, Postponement]]) -> None:
        self._again = {later for later in self._again if later.active()}
        writing = self.store.postpone([part for _, part in parts])
        assert isinstance(writing, Deferred)
        self.under_way.add(writing)
        writing.addCallbacks(
            self._written, self._failed, callbackArgs=(writing, parts), errbackArgs=(writing, parts)
        )

    def _written(
        self,
        nothing: object,
        writing: Deferred[Any],
        parts: list[tuple[ActiveMessage, Postponement]],
    ) -> None:
        self.under_way.discard(writing)
        for active, _ in parts:
            self.done(active)

    def _failed(
        self,
        failure: Failure,
        writing: Deferred[Any],
        parts: list[tuple[ActiveMessage, Postponement]],
    ) -> None:
        self.under_way.discard(writing)
        self._log.error(
            "{count} messages cannot be put off now: {problem}",
            count=len(parts),
            problem=failure.getErrorMessage(),
        )
        if not self._stopping:
            self._again.add(self.clock.callLater(_AGAIN_SECONDS, self._write, parts))
