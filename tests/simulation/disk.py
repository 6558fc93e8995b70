"""
The queue of a simulated world: what is durable, and what each process sees of it.

`Disk` survives; a `LifeQueue` is the store of one process.  Its operations take time, fail as
planned, and stop half-way with the process: what had been written by then stays written.
Process and disk share no objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhost.errors import ContentDamaged, SpoolFull, SpoolProblem
from mailhost.interfaces import IQueueStore
from mailhost.model.directory import EnvelopePart
from mailhost.model.envelope import Envelope
from mailhost.model.outcome import Outcome
from mailhost.model.queue import (
    Expanded,
    Postponement,
    QueueCounts,
    QueuedMessage,
    Result,
    Submission,
)
from mailhost.spool.content import MemoryContent
from mailhost.spool.memory import MemoryIncoming, MemoryQueue
from mailhost.spool.recipients import apply_results, due_later
from tests.simulation.plan import Plan
from tests.simulation.timeline import LifeReactor, Timeline

T = TypeVar("T")


@frozen
class Accepted:
    """
    A message that came onto the disk.

    :ivar paths: its recipients, in the order of their numbers.
    :ivar about: the queue id of the message that it is a report about.
    """

    queue_id: str
    reverse_path: str
    paths: tuple[str, ...]
    octets: bytes = field(repr=False)
    accepted_at: float = 0.0
    about: str = ""


@frozen
class Recorded:
    """
    An outcome that came onto the disk.

    :ivar place: see `Timeline.next_place`.
    """

    elapsed: float
    place: int
    at: float
    life: int
    queue_id: str
    path: str
    outcome: Outcome


@define(eq=False)
class Disk:
    """
    :ivar queue: what is durable now.
    :ivar accepted: every message there ever was, by queue id.
    :ivar by_content: their ids.
    :ivar recorded: every outcome, in order.
    """

    timeline: Timeline
    queue: MemoryQueue = field(init=False)
    accepted: dict[str, Accepted] = field(factory=dict, init=False)
    by_content: dict[bytes, str] = field(factory=dict, init=False)
    recorded: list[Recorded] = field(factory=list, init=False)
    damaged: set[str] = field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        self.queue = MemoryQueue(self.timeline.seconds)

    def commit(
        self, octets: bytes, queue_id: str, envelope: Envelope, hello: str, now: float
    ) -> QueuedMessage:
        message = self.queue._accept(octets, queue_id, envelope, hello, now)
        self.note(message, octets, "")
        return message

    def note(self, message: QueuedMessage, octets: bytes, about: str) -> None:
        self.accepted[message.queue_id] = Accepted(
            message.queue_id,
            str(message.reverse_path or ""),
            tuple(str(r.forward_path) for r in message.recipients.values()),
            octets,
            message.accepted_at,
            about,
        )
        self.by_content[octets] = message.queue_id

    def record(
        self,
        life: int,
        key: int,
        results: Sequence[Result],
        reports: Sequence[Submission],
        now: float,
    ) -> list[QueuedMessage]:
        message = self.queue.messages[key]
        paths = {n: str(r.forward_path) for n, r in message.recipients.items()}
        made: list[QueuedMessage] = []
        self.queue.record(message, results, reports, now).addCallback(made.extend)
        for report, submission in zip(made, reports, strict=True):
            self.note(report, submission.octets, message.queue_id)
        self.recorded += [
            Recorded(
                self.timeline.elapsed,
                self.timeline.next_place(),
                self.timeline.seconds(),
                life,
                message.queue_id,
                paths[one.number],
                one.outcome,
            )
            for one in results
        ]
        return made


@implementer(IQueueStore)
@define(eq=False)
class LifeQueue:
    """
    :ivar strikes: whether an operation is in trouble now.
    :ivar number: of the life.
    """

    disk: Disk
    plan: Plan
    reactor: LifeReactor
    strikes: Callable[[str], bool]
    draw: Callable[[], float]
    number: int
    _last_at: float = field(default=0.0, init=False)

    # ---- how operations go

    def _later(self, name: str, work: Callable[[], T]) -> Deferred[T]:
        """*work* is done on the disk in its turn, told after a while; or it fails."""
        struck = self.strikes(name)
        timeline = self.disk.timeline
        at = max(timeline.elapsed + self.plan.store_seconds * self.draw(), self._last_at)
        self._last_at = at
        if at <= timeline.elapsed:
            return fail(SpoolProblem(f"trouble: {name}")) if struck else succeed(work())
        told: Deferred[T] = Deferred()

        def on_disk() -> None:
            if self.reactor.dead:
                return
            result: Any = Failure(SpoolProblem(f"trouble: {name}")) if struck else work()
            timeline.callLater(self.plan.store_seconds * self.draw() / 2, tell, result)

        def tell(result: Any) -> None:
            if not self.reactor.dead:
                told.callback(result)

        timeline.call_at(at, on_disk)
        return told

    def _check(self, name: str) -> None:
        if self.strikes(name):
            raise SpoolProblem(f"trouble: {name}")

    # ---- `IQueueStore`

    def start(self) -> None:
        """The disk is there."""

    def stop(self) -> Deferred[None]:
        return succeed(None)

    def new_queue_id(self) -> str:
        return self.disk.queue.new_queue_id()

    def check_room(self, size: int | None) -> None:
        if self.strikes("room"):
            raise SpoolFull("trouble: room") if self.draw() < 0.5 else SpoolProblem("trouble: room")

    def new_message(self, prefix: bytes, expected: int | None) -> MemoryIncoming:
        self.check_room(expected)
        return MemoryIncoming(bytearray(prefix))

    def commit(
        self, incoming: Any, queue_id: str, envelope: Envelope, hello: str, now: float
    ) -> Deferred[QueuedMessage]:
        octets = bytes(incoming.octets)
        return self._later(
            "commit", lambda: _copy(self.disk.commit(octets, queue_id, envelope, hello, now))
        )

    def load_due(
        self, before: float, limit: int, skip: frozenset[int]
    ) -> Deferred[list[QueuedMessage]]:
        def load() -> list[QueuedMessage]:
            found: list[QueuedMessage] = []
            self.disk.queue.load_due(before, limit, skip).addCallback(found.extend)
            return [_copy(message) for message in found]

        return self._later("load", load)

    def next_due_at(self, after: float) -> Deferred[float | None]:
        def find() -> float | None:
            found: list[float | None] = []
            self.disk.queue.next_due_at(after).addCallback(found.append)
            return found[0]

        return self._later("next", find)

    def counts(self) -> Deferred[QueueCounts]:
        messages = self.disk.queue.messages.values()
        return self._later(
            "counts", lambda: QueueCounts(len(messages), sum(len(m.recipients) for m in messages))
        )

    def open_content(self, message: QueuedMessage) -> Any:
        def open_it() -> _Content:
            if message.queue_id in self.disk.damaged:
                raise ContentDamaged(f"{message.queue_id} is damaged")
            octets = self.disk.accepted[message.queue_id].octets
            if message.key not in self.disk.queue.messages:
                raise ContentDamaged(f"{message.queue_id} is gone")
            return _Content(octets, self)

        if self.plan.store_seconds and self.draw() < 0.5:
            return self._later("open", lambda: None).addCallback(lambda nothing: open_it())
        self._check("open")
        return open_it()

    def expand(
        self,
        message: QueuedMessage,
        number: int,
        parts: Sequence[EnvelopePart],
        reports: Sequence[Submission],
        now: float,
    ) -> Deferred[Expanded]:
        raise AssertionError("there are no groups in these worlds")

    def record(
        self,
        message: QueuedMessage,
        results: Sequence[Result],
        reports: Sequence[Submission],
        now: float,
    ) -> Deferred[list[QueuedMessage]]:
        before = dict(message.recipients)
        message.recipients = apply_results(before, results)

        def write() -> list[QueuedMessage]:
            made = self.disk.record(self.number, message.key, results, reports, now)
            return [_copy(one) for one in made]

        def failed(failure: Failure) -> Failure:
            mine = {one.number: before[one.number] for one in results}
            message.recipients = dict(sorted((message.recipients | mine).items()))
            return failure

        return self._later("record", write).addErrback(failed)

    def postpone(self, parts: Sequence[Postponement]) -> Deferred[None]:
        before = [dict(part.message.recipients) for part in parts]
        for part in parts:
            message = part.message
            message.recipients = due_later(message.recipients, part.numbers, part.due_at)

        def write() -> None:
            for part in parts:
                durable = self.disk.queue.messages.get(part.message.key)
                if durable is not None:
                    self.disk.queue.postpone([evolve(part, message=durable)])

        def failed(failure: Failure) -> Failure:
            for part, known in zip(parts, before, strict=True):
                now = part.message.recipients
                mine = {n: known[n] for n in part.numbers if n in now}
                part.message.recipients = now | mine
            return failure

        return self._later("postpone", write).addErrback(failed)

    def quarantine(self, message: QueuedMessage, reason: str) -> Deferred[None]:
        return self._later("quarantine", lambda: None)


class _Content(MemoryContent):
    """Read at once, in a while, or not now."""

    def __init__(self, octets: bytes, store: LifeQueue) -> None:
        super().__init__(octets)
        self._store = store

    def read(self) -> Any:
        store = self._store
        if self._read:
            return b""
        if store.plan.store_seconds and store.draw() < 0.3:
            return store._later("read", super().read)
        store._check("read")
        return super().read()


def _copy(message: QueuedMessage) -> QueuedMessage:
    return evolve(message, recipients=dict(message.recipients))
