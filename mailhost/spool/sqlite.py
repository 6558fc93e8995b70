"""
The embedded queue: SQLite for rows and small bodies, files for large ones.

:Room: ``spool``
:Implements: `mailhost.interfaces.IQueueStore`; promises P1, P7, P9.
:Called by: `mailhost.intake` (new mail), `mailhost.relay` (due mail, outcomes).

All writes go through one connection in one thread, a group at a time (`writer`);
reads have a connection of their own (`reader`).  Nothing here blocks the reactor
but `start`, and now and then the question how much room the disk has.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Sequence, Set
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorFromThreads, IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from mailhost.durable import make_directory, sync_directory
from mailhost.errors import ContentDamaged, SpoolFull, SpoolProblem
from mailhost.interfaces import IIncomingMessage, IQueueStore, IStoredContent
from mailhost.model.directory import EnvelopePart
from mailhost.model.envelope import Envelope
from mailhost.model.listing import QueueFilter, QueuePage, QueueSelection
from mailhost.model.queue import (
    Expanded,
    Postponement,
    QueueCensus,
    QueueCounts,
    QueuedMessage,
    Result,
    Submission,
)
from mailhost.model.route import NextHop
from mailhost.spool import schema
from mailhost.spool.content import MemoryContent
from mailhost.spool.counting import KeptCounts
from mailhost.spool.database import connect, ids_of, prepare, sweep, wake
from mailhost.spool.expanding import GrowthFacts, apply_growth, plan_expansion
from mailhost.spool.files import PART_SUFFIX, problem_of
from mailhost.spool.group import Accept, Change, Growth, Record, Rehome
from mailhost.spool.held import HeldContents
from mailhost.spool.ids import key_of
from mailhost.spool.incoming import IncomingMessage, StoredBody
from mailhost.spool.lock import QueueLock
from mailhost.spool.reader import QueueReader
from mailhost.spool.recipients import apply_results, at_home, due_later, new_recipients
from mailhost.spool.space import DiskSpace
from mailhost.spool.steps import Passed, Step, unwatched
from mailhost.spool.writer import GroupWriter

T = TypeVar("T")
#: Up to so many octets a content shares the sync of its group.  Measured at 100 KB: 2.3
#: times as many messages a second as with a file and a sync each.
SMALL_OCTETS = 131072
#: Whatever the threshold is or was: nothing smaller was ever put into a file.
_NEVER_IN_A_FILE_OCTETS = 65536
BALLAST_OCTETS = 64 * 1024 * 1024
FLOOR_OCTETS = 32 * 1024 * 1024
#: Content kept in memory between the commit and the first attempt, in all.
HELD_OCTETS = 32 * 1024 * 1024


@implementer(IQueueStore)
class SQLiteQueue:
    """
    The durable queue of one virtual server.

    :param reactor: runs the callbacks.
    :param directory: ``Queue``; created if missing.
    :param sort_temp: ``SortTemp``, on the same disk; created if missing, emptied
        at start.
    :param clock: seconds since the epoch.
    :param small_octets: contents up to this size live in their row.
    :param floor_octets: free space below which no mail is taken (452 4.3.1).
    :param ballast_octets: size of the reserve for a full disk; 0 for none.
    :param space: the measure of the disk, replaced in tests.
    :param passed: told of each step; the default does not listen.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        directory: Path,
        sort_temp: Path,
        clock: Callable[[], float],
        *,
        small_octets: int = SMALL_OCTETS,
        floor_octets: int = FLOOR_OCTETS,
        ballast_octets: int = BALLAST_OCTETS,
        space: DiskSpace | None = None,
        passed: Passed = unwatched,
    ) -> None:
        self._reactor: IReactorThreads | IReactorFromThreads = reactor
        self._directory = directory
        self._sort_temp = sort_temp
        self._clock = clock
        self._small_octets = small_octets
        self._passed = passed
        self._space = space or DiskSpace(
            directory, floor_octets, ballast_octets, clock=clock, passed=passed
        )
        self._held = HeldContents(HELD_OCTETS)
        # Large contents that are being synced, and records under way, by message.
        self._finishing = 0
        self._finished: list[Deferred[None]] = []
        self._recording: dict[int, int] = {}
        self._stopped = False
        # Threads are expensive to start and cheap to keep: one that commits, a
        # few for files.  Never the reactor's own pool (P9).
        self._writer = GroupWriter(reactor, directory, clock, self._space, passed)
        self._files = ThreadPool(0, 4, f"files {directory.parent.name}")
        self._counts = KeptCounts(directory, self._writer.ask, self._run)

    @property
    def pools(self) -> dict[str, ThreadPool]:
        """The threads by what they are for."""
        return {"commit": self._writer.pool, "files": self._files}

    # ---- life

    def start(self) -> None:
        """See `IQueueStore`."""
        try:
            connection, last = self._open()
        except (sqlite3.Error, OSError) as error:
            raise SpoolProblem(f"the queue in {self._directory} cannot be opened: {error}") from (
                error
            )
        self._writer.start(connection, last)
        self._files.start()

    def _open(self) -> tuple[sqlite3.Connection, int]:
        """The writer's connection, and the highest key that is reserved."""
        make_directory(self._directory)
        make_directory(self._sort_temp)
        self._passed(Step.FOLDERS_MADE)
        self._lock = QueueLock(self._directory / "lock")
        with ExitStack() as undo:
            undo.callback(self._lock.release)
            self._passed(Step.LOCKED)
            writing = undo.enter_context(closing(connect(self._directory)))
            self._passed(Step.DATABASE_OPENED)
            prepare(writing, self._directory, self._passed)
            self._ids = ids_of(writing, self._clock)
            wake(writing, self._clock())
            reading = undo.enter_context(closing(connect(self._directory)))
            self._reader = QueueReader(reading, self._directory, self._ids, self._run, self._passed)
            sweep(writing, self._directory, self._sort_temp, self._ids, self._passed)
            self._space.load_ballast()
            sync_directory(self._directory)
            undo.pop_all()
        return writing, self._ids.last

    async def stop(self) -> None:
        """See `IQueueStore`."""
        self._counts.stop()
        while self._finishing:
            finished: Deferred[None] = Deferred()
            self._finished.append(finished)
            await finished
        await self._writer.idle()
        self._writer.stop()
        self._stopped = True
        self._files.stop()
        self._reader.close()
        self._lock.release()

    # ---- the way in

    def new_queue_id(self) -> str:
        """See `IQueueStore`."""
        return self._ids.next()

    def check_room(self, size: int | None) -> None:
        """See `IQueueStore`."""
        if self._writer.failed:
            raise SpoolProblem("the queue's disk has failed")
        self._space.check(size or self._small_octets)

    def new_message(self, prefix: bytes, expected: int | None) -> IncomingMessage:
        """See `IQueueStore`."""
        share = max(expected or 0, self._small_octets)
        self.check_room(share)
        self._space.reserve(share)
        incoming = IncomingMessage(
            self._small_octets,
            self._new_part,
            self._run,
            partial(self._space.release, share),
            self._passed,
        )
        incoming.write(prefix)
        return incoming

    def _new_part(self) -> Path:
        return self._sort_temp / f"{secrets.token_hex(12)}{PART_SUFFIX}"

    def commit(
        self,
        incoming: IIncomingMessage,
        queue_id: str,
        envelope: Envelope,
        hello: str,
        now: float,
    ) -> Deferred[QueuedMessage]:
        """See `IQueueStore`."""
        assert isinstance(incoming, IncomingMessage)
        if incoming.small:
            return self._commit_body(
                incoming, incoming.small_body(), queue_id, envelope, hello, now
            )
        return Deferred.fromCoroutine(self._commit_large(incoming, queue_id, envelope, hello, now))

    async def _commit_large(
        self, incoming: IncomingMessage, queue_id: str, envelope: Envelope, hello: str, now: float
    ) -> QueuedMessage:
        path = self._reader.body_path(queue_id)
        self._finishing += 1
        try:
            body = await self._finish(incoming, path)
            return await self._commit_body(incoming, body, queue_id, envelope, hello, now)
        except SpoolFull:
            await self._remove_orphan(queue_id, path)
            raise
        finally:
            self._finishing -= 1
            self._tell_finished()

    async def _remove_orphan(self, queue_id: str, path: Path) -> None:
        """
        Give back at once what a full disk could not keep.

        A write without room is rolled back for certain.  After a failed sync the
        row might yet be found after a crash: then the next start decides.
        """
        if not await self._writer.ask(_is_queued, key_of(queue_id)):
            await self._unlink(path)

    def _tell_finished(self) -> None:
        if self._finishing:
            return
        finished, self._finished = self._finished, []
        for waiting in finished:
            waiting.callback(None)

    async def _finish(self, incoming: IncomingMessage, path: Path) -> StoredBody:
        try:
            return await incoming.finish(path)
        except SpoolProblem as problem:
            self._writer.note(problem)
            raise

    def _commit_body(
        self,
        incoming: IncomingMessage,
        body: StoredBody,
        queue_id: str,
        envelope: Envelope,
        hello: str,
        now: float,
    ) -> Deferred[QueuedMessage]:
        accept = self._accept(body, queue_id, envelope, hello, now)

        def made() -> QueuedMessage:
            incoming.stored()
            self._accepted(accept.message)
            self._hold(accept)
            return accept.message

        change = Change((accept,), (), made=made, undone=self._counts.doubt)
        self._writer.submit(change)
        return change.done

    def _accepted(self, message: QueuedMessage) -> None:
        self._counts.add(1, len(message.recipients))

    def _accept(
        self, body: StoredBody, queue_id: str, envelope: Envelope, hello: str, now: float
    ) -> Accept:
        message = QueuedMessage(
            key_of(queue_id),
            queue_id,
            envelope.reverse_path,
            envelope.body,
            body.size,
            now,
            hello,
            new_recipients(envelope, now),
            envelope.wire_ready,
            envelope.parameters,
        )
        return Accept(message, body, envelope.is_special)

    def _hold(self, accept: Accept) -> None:
        """Keep a small content for the first attempt."""
        if accept.body.octets is not None:
            self._held.hold(accept.message.key, accept.body.octets)

    # ---- the way out

    def load_due(
        self, before: float, limit: int, skip: frozenset[int]
    ) -> Deferred[list[QueuedMessage]]:
        """See `IQueueStore`."""
        return self._run(self._reader.load_due, before, limit, skip)

    def next_due_at(self, after: float) -> Deferred[float | None]:
        """See `IQueueStore`."""
        return self._run(self._reader.next_due_at, after)

    def open_content(self, message: QueuedMessage) -> IStoredContent | Deferred[IStoredContent]:
        """See `IQueueStore`."""
        held = self._held.find(message.key)
        if held is not None:
            return MemoryContent(held)
        return self._run(self._reader.content, message)

    def record(
        self,
        message: QueuedMessage,
        results: Sequence[Result],
        reports: Sequence[Submission],
        now: float,
    ) -> Deferred[list[QueuedMessage]]:
        """See `IQueueStore`."""
        key, before = message.key, message.recipients
        grouped = message.has_groups
        message.recipients = apply_results(before, results)
        left = len(before) - len(message.recipients)
        # A record beside it may fail: then its recipients' rows must still be there.
        beside = self._recording.get(key, 0)
        whole = not (message.recipients or beside)
        accepts = [self._accept_report(report, now) for report in reports]
        self._recording[key] = beside + 1

        def made() -> list[QueuedMessage]:
            self._recorded(key)
            held = self._held.let_go(key)
            self._counts.add(0, -left)
            self._remove_if_finished(message, in_row=held)
            for accept in accepts:
                self._accepted(accept.message)
                self._hold(accept)
            return [accept.message for accept in accepts]

        def undone() -> None:
            self._counts.doubt()
            self._recorded(key)
            mine = {result.number: before[result.number] for result in results}
            message.recipients = dict(sorted((message.recipients | mine).items()))

        record = Record(key, results, whole, grouped)
        change = Change(accepts, (record,), made=made, undone=undone)
        self._writer.submit(change)
        return change.done

    def _recorded(self, key: int) -> None:
        left = self._recording[key] - 1
        if left:
            self._recording[key] = left
        else:
            del self._recording[key]

    def _remove_if_finished(self, message: QueuedMessage, in_row: bool = False) -> None:
        """:param in_row: it is known that its content was no file."""
        if not message.recipients and message.key not in self._recording:
            self._counts.add(-1, 0)
            if not in_row:
                self._remove_body(message)

    def expand(
        self,
        message: QueuedMessage,
        number: int,
        parts: Sequence[EnvelopePart],
        reports: Sequence[Submission],
        now: float,
    ) -> Deferred[Expanded]:
        """See `IQueueStore`."""
        return Deferred.fromCoroutine(self._expand(message, number, parts, reports, now))

    async def _expand(
        self,
        message: QueuedMessage,
        number: int,
        parts: Sequence[EnvelopePart],
        reports: Sequence[Submission],
        now: float,
    ) -> Expanded:
        self._finishing += 1
        self._recording[message.key] = self._recording.get(message.key, 0) + 1
        try:
            facts: GrowthFacts = await self._run(self._reader.growth, message.key)
            plan = plan_expansion(message, number, parts, facts, self.new_queue_id, now)
            accepts = [self._accept_report(report, now) for report in reports]
            next_number = facts.next_number + len(plan.added)
            growth = Growth(message.key, number, plan.added, next_number, plan.copies, facts.large)
            await self._grow(message, Change(accepts, (), (), (growth,)))
            self._counts.add(0, len(plan.added) - 1)
        finally:
            self._finishing -= 1
            self._recorded(message.key)
            self._tell_finished()
        apply_growth(message, number, plan.added)
        self._hold_copies(message, plan.copies)
        self._remove_if_finished(message)
        for accept in accepts:
            self._hold(accept)
        new = (*plan.copies, *(one.message for one in accepts))
        for one in new:
            self._accepted(one)
        return Expanded(plan.added, new)

    async def _grow(self, message: QueuedMessage, change: Change) -> None:
        large = [copy for one in change.growths if one.large for copy in one.copies]
        names = [self._reader.body_path(copy.queue_id) for copy in large]
        try:
            if names:
                await self._run(self._link_body, self._reader.body_path(message.queue_id), names)
            self._writer.submit(change)
            await change.done
        except SpoolProblem as problem:
            self._counts.doubt()
            if isinstance(problem, SpoolFull):
                for copy, name in zip(large, names, strict=True):
                    await self._remove_orphan(copy.queue_id, name)
            raise

    def _link_body(self, body: Path, names: Sequence[Path]) -> None:
        """
        In a thread: one content for several messages, none of which changes it.

        The writer syncs the names before a row speaks of one (P1).

        :raises ContentDamaged: it is not there.
        """
        try:
            for name in names:
                os.link(body, name)
                self._passed(Step.BODY_LINKED)
        except FileNotFoundError as error:
            raise ContentDamaged(f"{body.name} is missing") from error
        except OSError as error:
            raise problem_of(error) from error

    def _hold_copies(self, message: QueuedMessage, copies: Sequence[QueuedMessage]) -> None:
        octets = self._held.find(message.key)
        if octets is not None:
            for copy in copies:
                self._held.hold(copy.key, octets)

    def postpone(self, parts: Sequence[Postponement]) -> Deferred[None]:
        """See `IQueueStore`."""
        before = [(part, dict(part.message.recipients)) for part in parts]
        for part in parts:
            message = part.message
            message.recipients = due_later(message.recipients, part.numbers, part.due_at)

        def made() -> None:
            for part in parts:
                if part.message.recipients.keys() <= set(part.numbers):
                    self._held.let_go(part.message.key)

        def undone() -> None:
            for part, known in reversed(before):
                for number in part.numbers:
                    if number in known and number in part.message.recipients:
                        part.message.recipients[number] = known[number]

        change = Change((), (), tuple(parts), made=made, undone=undone)
        self._writer.submit(change)
        return change.done

    def _accept_report(self, report: Submission, now: float) -> Accept:
        octets = report.octets
        body = StoredBody(octets, len(octets))
        return self._accept(body, self.new_queue_id(), report.envelope, "", now)

    def _remove_body(self, message: QueuedMessage) -> None:
        if message.size > min(self._small_octets, _NEVER_IN_A_FILE_OCTETS):
            self._unlink(self._reader.body_path(message.queue_id))

    def _unlink(self, body: Path) -> Deferred[None]:
        """A file that stays is an orphan; the next start removes it."""
        return self._run(self._unlink_body, body).addErrback(
            lambda failure: self._log.failure("{path} stays", failure, path=body)
        )

    def _unlink_body(self, body: Path) -> None:
        """In a thread."""
        self._passed(Step.FORGOTTEN)
        body.unlink(missing_ok=True)
        self._passed(Step.BODY_REMOVED)

    def quarantine(self, message: QueuedMessage, reason: str) -> Deferred[None]:
        """See `IQueueStore`."""
        self._log.critical("Message {id} is damaged: {reason}", id=message.queue_id, reason=reason)
        return self._run(self._reader.quarantine, message, reason)

    def counts(self) -> Deferred[QueueCounts]:
        """See `IQueueStore`."""
        return Deferred.fromCoroutine(self._count())

    async def _count(self) -> QueueCounts:
        self._finishing += 1
        try:
            held, oldest_at = await self._run(self._reader.held_and_oldest)
            messages, recipients = await self._counts.latest()
        finally:
            self._finishing -= 1
            self._tell_finished()
        return QueueCounts(messages, recipients, held, oldest_at)

    def census(self, now: float, bounds: Sequence[float], local: Set[str]) -> Deferred[QueueCensus]:
        """See `IQueueStore`."""
        return self._run(self._reader.census, now, bounds, local)

    # ---- operators

    def look_through(self, wanted: QueueFilter, after: int, limit: int) -> Deferred[QueuePage]:
        """See `IQueueStore`."""
        return self._run(self._reader.look_through, wanted, after, limit)

    def select(self, wanted: QueueFilter, after: int, limit: int) -> Deferred[QueueSelection]:
        """See `IQueueStore`."""
        return self._run(self._reader.select, wanted, after, limit)

    def find(self, ids: Sequence[str]) -> Deferred[list[QueuedMessage]]:
        """See `IQueueStore`."""
        return self._run(self._reader.find, ids)

    def rehome(
        self, message: QueuedMessage, numbers: Sequence[int], host: NextHop | None
    ) -> Deferred[None]:
        """See `IQueueStore`."""
        name = None if host is None else str(host)

        def made() -> None:
            message.recipients = at_home(message.recipients, numbers, host)

        change = Change((), (), rehomes=(Rehome(message.key, numbers, name),), made=made)
        self._writer.submit(change)
        return change.done

    def content_part(self, message: QueuedMessage, start: int, size: int) -> Deferred[bytes]:
        """See `IQueueStore`."""
        return self._run(self._reader.content_part, message, start, size)

    def _run(self, function: Any, *arguments: Any) -> Deferred[Any]:
        """In a thread for files; behind the stop there is none, and nobody is to wait for it."""
        if self._stopped:
            return fail(SpoolProblem("the queue has stopped"))
        return deferToThreadPool(self._reactor, self._files, function, *arguments)


def _is_queued(connection: sqlite3.Connection, key: int) -> bool:
    return connection.execute(schema.SELECT_IS_QUEUED, (key,)).fetchone() is not None
