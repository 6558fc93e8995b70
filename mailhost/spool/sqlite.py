"""
The embedded queue: SQLite for rows and small bodies, files for large ones.

:Room: ``spool``
:Implements: `mailhost.interfaces.IQueueStore`; promises P1, P7, P9.
:Called by: `mailhost.intake` (new mail), `mailhost.relay` (due mail, outcomes).

All writes go through one connection in one thread, a group at a time; reads
have a connection of their own.  Nothing here blocks the reactor but `start`.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from mailhost.errors import ContentDamaged, SpoolFull, SpoolProblem, SpoolTooNew
from mailhost.interfaces import IIncomingMessage, IQueueStore, IStoredContent
from mailhost.model.address import Mailbox
from mailhost.model.envelope import Envelope
from mailhost.model.queue import (
    QueueCounts,
    QueuedMessage,
    QueuedRecipient,
    Result,
    Submission,
)
from mailhost.spool import schema
from mailhost.spool.content import FileContent, MemoryContent, check_octets
from mailhost.spool.files import BODY_SUFFIX, PART_SUFFIX, BodyReader, sync_directory
from mailhost.spool.group import Accept, Change, Record, take_group, write
from mailhost.spool.held import HeldContents
from mailhost.spool.ids import QueueIds, key_of, reserved_key
from mailhost.spool.incoming import IncomingMessage, StoredBody
from mailhost.spool.lock import QueueLock
from mailhost.spool.recipients import apply_results, mailbox_of
from mailhost.spool.space import DiskSpace

T = TypeVar("T")
SMALL_OCTETS = 65536
BALLAST_OCTETS = 64 * 1024 * 1024
FLOOR_OCTETS = 32 * 1024 * 1024
#: Content kept in memory between the commit and the first attempt, in all.
HELD_OCTETS = 32 * 1024 * 1024
_PROBE_AFTER_SECONDS = 5.0


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
    ) -> None:
        self._reactor: IReactorThreads | IReactorFromThreads = reactor
        self._directory = directory
        self._sort_temp = sort_temp
        self._clock = clock
        self._small_octets = small_octets
        self._space = space or DiskSpace(directory, floor_octets, ballast_octets)
        self._pending: list[Change] = []
        self._writing: list[Change] = []
        self._idle: list[Deferred[None]] = []
        self._held = HeldContents(HELD_OCTETS)
        self._failed_at: float | None = None
        self._probing = False
        self._stopped = False
        # Large contents that are being synced, and records under way, by message.
        self._finishing = 0
        self._recording: Counter[int] = Counter()
        self._reading = threading.Lock()
        # Threads are expensive to start and cheap to keep: one that commits, a
        # few for files.  Never the reactor's own pool (P9).
        self._writer = ThreadPool(1, 1, f"commit {directory.parent.name}")
        self._files = ThreadPool(0, 4, f"files {directory.parent.name}")

    # ---- life

    def start(self) -> None:
        """See `IQueueStore`."""
        try:
            self._open()
        except (sqlite3.Error, OSError) as error:
            raise SpoolProblem(f"the queue in {self._directory} cannot be opened: {error}") from (
                error
            )
        self._writer.start()
        self._files.start()

    def _open(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sort_temp.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = QueueLock(self._directory / "lock")
        with ExitStack() as undo:
            undo.callback(self._lock.release)
            self._connection = undo.enter_context(closing(self._connect()))
            self._prepare()
            self._reader = undo.enter_context(closing(self._connect()))
            self._sweep()
            self._space.load_ballast()
            undo.pop_all()

    def _connect(self) -> sqlite3.Connection:
        path = self._directory / "queue.sqlite"
        path.touch(0o600)  # SQLite's own files take their mode from it
        # Each connection is used by one thread at a time, not always the same.
        connection = sqlite3.connect(
            path,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
        )
        connection.executescript(schema.PRAGMAS)
        return connection

    def _prepare(self) -> None:
        (found,) = self._connection.execute("PRAGMA user_version").fetchone()
        if found > schema.FORMAT:
            raise SpoolTooNew(
                f"the queue in {self._directory} has format {found}; this program knows "
                f"up to {schema.FORMAT}"
            )
        if found == 0:
            self._connection.executescript(
                f"BEGIN; {schema.CREATE} PRAGMA user_version = {schema.FORMAT}; COMMIT;"
            )
        # Not in one transaction with the tables: a crash may have come between.
        self._connection.execute(schema.NAME_STORE, (secrets.randbits(32),))
        (store,) = self._connection.execute(schema.SELECT_META, ("store",)).fetchone()
        (last,) = self._connection.execute(schema.SELECT_LAST).fetchone()
        self._ids = QueueIds(store, self._clock, last)
        self._reserved_key = last

    def _sweep(self) -> None:
        """Remove what no row speaks of: see the crash states in `files`."""
        for part in self._sort_temp.glob(f"*{PART_SUFFIX}"):
            part.unlink()
        kept = {self._ids.name(key) for (key,) in self._connection.execute(schema.SELECT_LARGE)}
        for body in self._directory.glob(f"*{BODY_SUFFIX}"):
            if body.stem not in kept and len(body.stem) == 24:
                body.unlink()

    async def stop(self) -> None:
        """See `IQueueStore`."""
        while self._writing or self._pending or self._finishing:
            idle: Deferred[None] = Deferred()
            self._idle.append(idle)
            await idle
        self._stopped = True
        self._writer.stop()
        self._files.stop()
        self._reader.close()
        self._connection.close()
        self._lock.release()

    # ---- the way in

    def new_queue_id(self) -> str:
        """See `IQueueStore`."""
        return self._ids.next()

    def check_room(self, size: int | None) -> None:
        """See `IQueueStore`."""
        if self._failed_at is not None:
            self._probe()
            raise SpoolProblem("the queue's disk has failed")
        self._space.check(size or self._small_octets)

    def new_message(self, prefix: bytes, expected: int | None) -> IncomingMessage:
        """See `IQueueStore`."""
        share = max(expected or 0, self._small_octets)
        self.check_room(share)
        self._space.reserve(share)
        incoming = IncomingMessage(
            self._small_octets,
            self._sort_temp / f"{secrets.token_hex(12)}{PART_SUFFIX}",
            self._run,
            partial(self._space.release, share),
        )
        incoming.write(prefix)
        return incoming

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
        path = self._body_path(queue_id)
        self._finishing += 1
        try:
            body = await self._finish(incoming, path)
            return await self._commit_body(incoming, body, queue_id, envelope, hello, now)
        except SpoolFull:
            # Rolled back for certain, so no row speaks of it.  After any other
            # failure one might be found after a crash: then the next start decides.
            await self._unlink(path)
            raise
        finally:
            self._finishing -= 1
            self._tell_idle()

    async def _finish(self, incoming: IncomingMessage, path: Path) -> StoredBody:
        try:
            return await incoming.finish(path)
        except SpoolProblem as problem:
            self._note(problem)
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
        change = Change((accept,), ())
        committed: Deferred[QueuedMessage] = Deferred()

        def succeeded(nothing: None) -> None:
            incoming.stored()
            self._hold(accept)
            committed.callback(accept.message)

        change.done.addCallbacks(succeeded, committed.errback)
        self._submit(change)
        return committed

    def _accept(
        self, body: StoredBody, queue_id: str, envelope: Envelope, hello: str, now: float
    ) -> Accept:
        recipients = {
            number: QueuedRecipient(number, path, 0, now)
            for number, path in enumerate(envelope.forward_paths)
        }
        message = QueuedMessage(
            key_of(queue_id),
            queue_id,
            envelope.reverse_path,
            envelope.body,
            body.size,
            now,
            hello,
            recipients,
        )
        return Accept(message, body)

    def _hold(self, accept: Accept) -> None:
        """Keep a small content for the first attempt."""
        if accept.body.octets is not None:
            self._held.hold(accept.message.key, accept.body.octets)

    # ---- group commit

    def _submit(self, change: Change) -> None:
        if self._stopped:
            change.done.errback(SpoolProblem("the queue has stopped"))
            return
        self._pending.append(change)
        if not self._writing:
            self._write_next()

    def _write_next(self) -> None:
        self._writing = take_group(self._pending)
        self._in_writer(self._write, self._writing).addCallbacks(
            self._group_written, self._group_failed
        )

    def _write(self, group: list[Change]) -> None:
        """In the writer thread, which alone knows which connection is open."""
        keys = [accept.message.key for change in group for accept in change.accepts]
        reserve = reserved_key(max(keys)) if max(keys, default=0) > self._reserved_key else None
        write(self._connection, group, reserve)
        self._reserved_key = reserve or self._reserved_key

    def _group_written(self, nothing: object) -> None:
        for change in self._next_group():
            change.done.callback(None)

    def _group_failed(self, failure: Failure) -> None:
        """Nothing of the group is committed; tell everybody, or save what is vital."""
        full = isinstance(failure.value, sqlite3.OperationalError) and "full" in str(failure.value)
        vital = [change for change in self._writing if change.vital]
        if full and vital and self._space.drop_ballast():
            self._log.critical("The disk of {directory} is full", directory=self._directory)
            self._pending[:0] = vital
            self._writing = [change for change in self._writing if not change.vital]
        problem: SpoolProblem = (SpoolFull if full else SpoolProblem)(str(failure.value))
        self._note(problem)
        for change in self._next_group():
            change.done.errback(problem)

    def _next_group(self) -> list[Change]:
        """Start what has gathered, then hand out what is finished."""
        group, self._writing = self._writing, []
        if self._pending:
            self._write_next()
        else:
            self._tell_idle()
        return group

    def _tell_idle(self) -> None:
        if self._writing or self._pending or self._finishing:
            return
        idle, self._idle = self._idle, []
        for waiting in idle:
            waiting.callback(None)

    # ---- a disk that fails

    def _note(self, problem: SpoolProblem) -> None:
        """After a failed write or sync nothing is accepted until a probe succeeds."""
        self._log.critical(
            "The queue in {directory} has failed: {problem}",
            directory=self._directory,
            problem=problem,
        )
        if not isinstance(problem, SpoolFull):
            self._failed_at = self._clock()

    def _probe(self) -> None:
        assert self._failed_at is not None
        if self._probing or self._clock() < self._failed_at + _PROBE_AFTER_SECONDS:
            return
        self._probing = True
        self._in_writer(self._probe_disk).addCallbacks(self._probed, self._probe_failed)

    def _probe_disk(self) -> None:
        """In the writer thread: a new file on the same disk takes, syncs and gives back."""
        probe = self._directory / "probe"
        sample = secrets.token_bytes(4096)
        with open(probe, "wb", buffering=0) as file:
            file.write(sample)
            os.fsync(file.fileno())
        sync_directory(self._directory)
        if probe.read_bytes() != sample:
            raise SpoolProblem("the disk gave back something else")
        probe.unlink()
        # The log is written anew, so that no page of it depends on a failed sync.
        self._connection.close()
        self._connection = self._connect()
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _probed(self, nothing: object) -> None:
        self._log.info("The queue in {directory} works again", directory=self._directory)
        self._probing = False
        self._failed_at = None
        self._space.load_ballast()

    def _probe_failed(self, failure: Failure) -> None:
        self._probing = False
        self._failed_at = self._clock()

    # ---- the way out

    def load_due(
        self, before: float, limit: int, skip: frozenset[int]
    ) -> Deferred[list[QueuedMessage]]:
        """See `IQueueStore`."""
        return self._in_reader(self._load_due, before, limit, skip)

    def _load_due(self, before: float, limit: int, skip: frozenset[int]) -> list[QueuedMessage]:
        keys: dict[int, None] = {}
        offset = 0
        while len(keys) < limit:
            rows = self._reader.execute(schema.SELECT_DUE, (before, 1000, offset)).fetchall()
            offset += len(rows)
            keys.update((key, None) for (key,) in rows if key not in skip)
            if len(rows) < 1000:
                break
        wanted = list(keys)[:limit]
        return [
            message
            for start in range(0, len(wanted), 500)
            for message in self._load_messages(wanted[start : start + 500])
        ]

    def _load_messages(self, keys: list[int]) -> list[QueuedMessage]:
        found: dict[int, QueuedMessage] = {}
        for key, path, body, hello, accepted_at, size in self._reader.execute(
            schema.select_messages(len(keys)), keys
        ):
            found[key] = QueuedMessage(
                key, self._ids.name(key), mailbox_of(path), body, size, accepted_at, hello
            )
        for key, number, local, domain, due_at, attempts, notified in self._reader.execute(
            schema.select_recipients(len(keys)), keys
        ):
            if key in found:
                found[key].recipients[number] = QueuedRecipient(
                    number, Mailbox(local, domain), attempts, due_at, bool(notified)
                )
        # The last outcome may have been committed between two of the questions.
        return [found[key] for key in keys if key in found and found[key].recipients]

    def next_due_at(self, after: float) -> Deferred[float | None]:
        """See `IQueueStore`."""
        return self._in_reader(self._next_due_at, after)

    def _next_due_at(self, after: float) -> float | None:
        (found,) = self._reader.execute(schema.SELECT_NEXT_DUE, (after,)).fetchone()
        return None if found is None else float(found)

    def open_content(self, message: QueuedMessage) -> IStoredContent | Deferred[IStoredContent]:
        """See `IQueueStore`."""
        held = self._held.find(message.key)
        if held is not None:
            return MemoryContent(held)
        return self._in_reader(self._read_content, message)

    def _read_content(self, message: QueuedMessage) -> IStoredContent:
        row = self._reader.execute(schema.SELECT_CONTENT, (message.key,)).fetchone()
        if row is None:
            raise ContentDamaged(f"{message.queue_id} has left the queue")
        size, digest, octets = row
        if octets is not None:
            return MemoryContent(check_octets(octets, size, digest, message.queue_id))
        reader = BodyReader(self._body_path(message.queue_id), size, digest)
        return FileContent(size, reader, self._run)

    def record(
        self,
        message: QueuedMessage,
        results: Sequence[Result],
        reports: Sequence[Submission],
        now: float,
    ) -> Deferred[list[QueuedMessage]]:
        """See `IQueueStore`."""
        before = dict(message.recipients)
        message.recipients = apply_results(before, results)
        # A record beside it may fail: then its recipients' rows must still be there.
        whole = not message.recipients and not self._recording[message.key]
        accepts = [self._accept_report(report, now) for report in reports]
        change = Change(accepts, (Record(message.key, results, whole),))
        recorded: Deferred[list[QueuedMessage]] = Deferred()
        self._recording[message.key] += 1

        def over(result: T) -> T:
            self._recording[message.key] -= 1
            if not self._recording[message.key]:
                del self._recording[message.key]
            return result

        def succeeded(nothing: None) -> None:
            self._held.let_go(message.key)
            if not message.recipients and not self._recording[message.key]:
                self._remove_body(message)
            for accept in accepts:
                self._hold(accept)
            recorded.callback([accept.message for accept in accepts])

        def failed(failure: Failure) -> None:
            mine = {result.number: before[result.number] for result in results}
            message.recipients = dict(sorted((message.recipients | mine).items()))
            recorded.errback(failure)

        change.done.addBoth(over).addCallbacks(succeeded, failed)
        self._submit(change)
        return recorded

    def _accept_report(self, report: Submission, now: float) -> Accept:
        octets = report.octets
        body = StoredBody(octets, len(octets), hashlib.sha256(octets).digest())
        return self._accept(body, self.new_queue_id(), report.envelope, "", now)

    def _remove_body(self, message: QueuedMessage) -> None:
        if message.size > self._small_octets:
            self._unlink(self._body_path(message.queue_id))

    def _unlink(self, body: Path) -> Deferred[None]:
        """A file that stays is an orphan; the next start removes it."""
        return self._run(body.unlink, True).addErrback(
            lambda failure: self._log.failure("{path} stays", failure, path=body)
        )

    def quarantine(self, message: QueuedMessage, reason: str) -> Deferred[None]:
        """See `IQueueStore`."""
        self._log.critical("Message {id} is damaged: {reason}", id=message.queue_id, reason=reason)
        return self._in_reader(self._quarantine, message, reason)

    def _quarantine(self, message: QueuedMessage, reason: str) -> None:
        corrupt = self._directory / "corrupt"
        corrupt.mkdir(mode=0o700, exist_ok=True)
        row = self._reader.execute(schema.SELECT_CONTENT, (message.key,)).fetchone()
        body = self._body_path(message.queue_id)
        if row is not None and row[2] is not None:
            left = row[2] if isinstance(row[2], bytes) else str(row[2]).encode()
            (corrupt / body.name).write_bytes(left)
        elif body.exists():
            body.rename(corrupt / body.name)
        facts = {
            "reason": reason,
            "reverse_path": str(message.reverse_path or ""),
            "recipients": [str(r.forward_path) for r in message.recipients.values()],
            "accepted_at": message.accepted_at,
        }
        (corrupt / f"{message.queue_id}.json").write_text(json.dumps(facts), "utf-8")
        sync_directory(corrupt)

    def counts(self) -> Deferred[QueueCounts]:
        """See `IQueueStore`."""
        return self._in_reader(self._counts)

    def _counts(self) -> QueueCounts:
        return QueueCounts(*self._reader.execute(schema.SELECT_COUNTS).fetchone())

    # ---- threads

    def _body_path(self, queue_id: str) -> Path:
        return self._directory / f"{queue_id}{BODY_SUFFIX}"

    def _run(self, function: Any, *arguments: Any) -> Deferred[Any]:
        """In a thread for files; what the disk says is said in our words."""
        return deferToThreadPool(self._reactor, self._files, function, *arguments)

    def _in_writer(self, function: Any, *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._writer, function, *arguments)

    def _in_reader(self, function: Any, *arguments: Any) -> Deferred[Any]:
        return self._run(self._read_alone, function, arguments)

    def _read_alone(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        with self._reading:
            try:
                return function(*arguments)
            except (sqlite3.Error, OSError) as error:
                raise SpoolProblem(str(error)) from error
