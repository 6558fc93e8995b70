"""
A queue that forgets everything when the process ends.

:Room: ``spool``
:Implements: `mailhost.interfaces.IQueueStore`, for tests, simulations and
    embedding applications that keep mail safe by other means.  It keeps the
    contract's order and failures, not promise P1.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence, Set
from typing import TypeVar

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from mailhost.errors import ContentDamaged, SpoolFull
from mailhost.interfaces import IIncomingMessage, IQueueStore
from mailhost.model.address import Mailbox
from mailhost.model.directory import EnvelopePart
from mailhost.model.envelope import Envelope
from mailhost.model.listing import QueueFilter, QueuePage, QueueSelection, page_of
from mailhost.model.queue import (
    HELD_AT,
    AgeCounts,
    Expanded,
    Postponement,
    QueueCensus,
    QueueCounts,
    QueuedMessage,
    Result,
    Submission,
)
from mailhost.model.route import NextHop
from mailhost.spool.content import MemoryContent
from mailhost.spool.expanding import GrowthFacts, apply_growth, plan_expansion
from mailhost.spool.ids import QueueIds, key_of
from mailhost.spool.recipients import apply_results, at_home, due_later, new_recipients

T = TypeVar("T")


@implementer(IIncomingMessage)
@define(eq=False)
class MemoryIncoming:
    """A content on its way in."""

    octets: bytearray

    @property
    def size(self) -> int:
        """See `IIncomingMessage`."""
        return len(self.octets)

    def write(self, octets: bytes) -> None:
        """See `IIncomingMessage`."""
        self.octets += octets

    def discard(self) -> None:
        """See `IIncomingMessage`."""


@implementer(IQueueStore)
@define(eq=False)
class MemoryQueue:
    """
    :ivar clock: seconds since the epoch.
    :ivar max_octets: content it holds in all before it says that it is full.
    :ivar messages: what waits, by key; open to tests.
    """

    clock: Callable[[], float]
    max_octets: int = 256 * 1024 * 1024
    messages: dict[int, QueuedMessage] = field(factory=dict, init=False)
    _contents: dict[int, bytes] = field(factory=dict, init=False)
    _grown: dict[int, GrowthFacts] = field(factory=dict, init=False)
    _octets: int = field(default=0, init=False)
    _ids: QueueIds = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._ids = QueueIds(0, self.clock)

    def start(self) -> None:
        """See `IQueueStore`."""

    def stop(self) -> Deferred[None]:
        """See `IQueueStore`."""
        return succeed(None)

    def new_queue_id(self) -> str:
        """See `IQueueStore`."""
        return self._ids.next()

    def check_room(self, size: int | None) -> None:
        """See `IQueueStore`."""
        if self._octets + (size or 0) > self.max_octets:
            raise SpoolFull(f"{self._octets} octets are in memory already")

    def new_message(self, prefix: bytes, expected: int | None) -> MemoryIncoming:
        """See `IQueueStore`."""
        self.check_room(expected)
        return MemoryIncoming(bytearray(prefix))

    def commit(
        self, incoming: IIncomingMessage, queue_id: str, envelope: Envelope, hello: str, now: float
    ) -> Deferred[QueuedMessage]:
        """See `IQueueStore`."""
        assert isinstance(incoming, MemoryIncoming)
        try:
            self.check_room(incoming.size)
        except SpoolFull as problem:
            return fail(problem)
        return succeed(self._accept(bytes(incoming.octets), queue_id, envelope, hello, now))

    def _accept(
        self, octets: bytes, queue_id: str, envelope: Envelope, hello: str, now: float
    ) -> QueuedMessage:
        message = QueuedMessage(
            key_of(queue_id),
            queue_id,
            envelope.reverse_path,
            envelope.body,
            len(octets),
            now,
            hello,
            new_recipients(envelope, now),
            envelope.wire_ready,
            envelope.parameters,
        )
        if message.has_groups:
            self._grown[message.key] = GrowthFacts(frozenset(), len(message.recipients))
        self._keep(message, octets)
        return message

    def _keep(self, message: QueuedMessage, octets: bytes) -> None:
        self.messages[message.key] = message
        self._contents[message.key] = octets
        self._octets += len(octets)

    def load_due(
        self, before: float, limit: int, skip: frozenset[int]
    ) -> Deferred[list[QueuedMessage]]:
        """See `IQueueStore`."""
        due = [
            (min(r.due_at for r in message.recipients.values()), key)
            for key, message in self.messages.items()
            if key not in skip
        ]
        keys = [key for at, key in sorted(due) if at < before]
        return succeed([self.messages[key] for key in keys[:limit]])

    def next_due_at(self, after: float) -> Deferred[float | None]:
        """See `IQueueStore`."""
        due = (r.due_at for m in self.messages.values() for r in m.recipients.values())
        return succeed(min((at for at in due if at > after), default=None))

    def open_content(self, message: QueuedMessage) -> MemoryContent:
        """See `IQueueStore`."""
        octets = self._contents.get(message.key)
        if octets is None or len(octets) != message.size:
            raise ContentDamaged(f"the content of {message.queue_id} is not what was accepted")
        return MemoryContent(octets)

    def record(
        self,
        message: QueuedMessage,
        results: Sequence[Result],
        reports: Sequence[Submission],
        now: float,
    ) -> Deferred[list[QueuedMessage]]:
        """See `IQueueStore`."""
        before = message.recipients
        message.recipients = apply_results(before, results)
        gone = before.keys() - message.recipients.keys()
        self._remember(message, (before[number].forward_path for number in gone))
        self._forget_if_finished(message)
        return succeed(self._accept_reports(reports, now))

    def _accept_reports(self, reports: Sequence[Submission], now: float) -> list[QueuedMessage]:
        return [
            self._accept(report.octets, self.new_queue_id(), report.envelope, "", now)
            for report in reports
        ]

    def _forget_if_finished(self, message: QueuedMessage) -> None:
        if not message.recipients:
            del self.messages[message.key]
            self._grown.pop(message.key, None)
            self._octets -= len(self._contents.pop(message.key))

    def _remember(self, message: QueuedMessage, paths: Iterable[Mailbox]) -> None:
        """Who must not get it once more through a group."""
        facts = self._grown.get(message.key)
        if facts is not None:
            known = facts.known | {str(path).lower() for path in paths}
            self._grown[message.key] = evolve(facts, known=known)

    def expand(
        self,
        message: QueuedMessage,
        number: int,
        parts: Sequence[EnvelopePart],
        reports: Sequence[Submission],
        now: float,
    ) -> Deferred[Expanded]:
        """See `IQueueStore`."""
        here = (one.forward_path for one in message.recipients.values() if not one.group)
        self._remember(message, here)
        facts, octets = self._grown[message.key], self._contents[message.key]
        plan = plan_expansion(message, number, parts, facts, self.new_queue_id, now)
        self._grown[message.key] = evolve(facts, next_number=facts.next_number + len(plan.added))
        for copy in plan.copies:
            self._keep(copy, octets)
            self._remember(message, (one.forward_path for one in copy.recipients.values()))
        apply_growth(message, number, plan.added)
        self._forget_if_finished(message)
        return succeed(Expanded(plan.added, (*plan.copies, *self._accept_reports(reports, now))))

    def postpone(self, parts: Sequence[Postponement]) -> Deferred[None]:
        """See `IQueueStore`."""
        for part in parts:
            message = part.message
            message.recipients = due_later(message.recipients, part.numbers, part.due_at)
        return succeed(None)

    def quarantine(self, message: QueuedMessage, reason: str) -> Deferred[None]:
        """See `IQueueStore`."""
        return succeed(None)

    def counts(self) -> Deferred[QueueCounts]:
        """See `IQueueStore`."""
        everyone = [one for m in self.messages.values() for one in m.recipients.values()]
        oldest = min((one.accepted_at for one in self.messages.values()), default=None)
        held = sum(one.held for one in everyone)
        return succeed(QueueCounts(len(self.messages), len(everyone), held, oldest))

    async def census(self, now: float, bounds: Sequence[float], local: Set[str]) -> QueueCensus:
        """See `IQueueStore`."""
        ages = [AgeCounts()] * (len(bounds) + 1)
        retries = [0, 0]
        for message in self.messages.values():
            everyone = message.recipients.values()
            place = bisect_left(bounds, now - message.accepted_at)
            due_at = min(one.due_at for one in everyone)
            state = "held" if due_at >= HELD_AT else "waiting" if due_at > now else "due"
            ages[place] = evolve(ages[place], **{state: getattr(ages[place], state) + 1})
            put_off = [one for one in everyone if one.attempts and now < one.due_at < HELD_AT]
            here = [one.host is None and one.forward_path.domain_key in local for one in put_off]
            retries[0] += any(here)
            retries[1] += not all(here)
        return QueueCensus(await self.counts(), tuple(ages), *retries)

    def look_through(self, wanted: QueueFilter, after: int, limit: int) -> Deferred[QueuePage]:
        """See `IQueueStore`.  Last outcomes are not kept here."""
        return succeed(page_of(self.messages.values(), wanted, after, limit))

    def select(self, wanted: QueueFilter, after: int, limit: int) -> Deferred[QueueSelection]:
        """See `IQueueStore`."""
        page = page_of(self.messages.values(), wanted, after, limit)
        counts = {one.queue_id: len(wanted.chosen(one)) for one in page.messages}
        return succeed(QueueSelection(counts, page.reached))

    def find(self, ids: Sequence[str]) -> Deferred[list[QueuedMessage]]:
        """See `IQueueStore`."""
        found = (self.messages.get(key_of(one)) for one in ids)
        return succeed([one for one in found if one is not None and one.queue_id in ids])

    def rehome(
        self, message: QueuedMessage, numbers: Sequence[int], host: NextHop | None
    ) -> Deferred[None]:
        """See `IQueueStore`."""
        message.recipients = at_home(message.recipients, numbers, host)
        return succeed(None)

    def content_part(self, message: QueuedMessage, start: int, size: int) -> Deferred[bytes]:
        """See `IQueueStore`."""
        octets = self._contents.get(message.key)
        if octets is None:
            return fail(ContentDamaged(f"{message.queue_id} has left the queue"))
        return succeed(octets[start : start + size])
