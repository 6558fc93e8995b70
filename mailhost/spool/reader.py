"""
The one who reads: due mail, contents, counts; and what becomes of damaged rows.

:Room: ``spool``
:Called by: `mailhost.spool.sqlite`, in threads; everything here blocks.

It has a connection of its own, so it never waits for the writer.  A row that
cannot be understood must not keep the others from leaving: it is set aside, that
is copied into ``corrupt``, logged, and passed over until the next start.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TypeVar

from twisted.logger import Logger

from mailhost.config.units import parse_next_hop
from mailhost.durable import make_directory, sync_directory
from mailhost.errors import ContentDamaged, SpoolProblem
from mailhost.interfaces import IStoredContent
from mailhost.model.address import Mailbox
from mailhost.model.envelope import Handling
from mailhost.model.listing import (
    PAGE_RECIPIENTS,
    LastOutcome,
    QueueFilter,
    QueuePage,
    QueueSelection,
    page_of,
)
from mailhost.model.parameters import (
    NO_MAIL_PARAMETERS,
    NO_RECIPIENT_PARAMETERS,
    MailParameters,
    RecipientParameters,
)
from mailhost.model.queue import (
    HELD_AT,
    QueueCensus,
    QueuedMessage,
    QueuedRecipient,
)
from mailhost.spool import schema
from mailhost.spool.census import part_end, take_census
from mailhost.spool.content import FileContent, MemoryContent, Runner, check_octets
from mailhost.spool.expanding import GrowthFacts
from mailhost.spool.files import BODY_SUFFIX, write_synced
from mailhost.spool.ids import LAST_KEY, QueueIds, key_of
from mailhost.spool.parameters import read_parameters
from mailhost.spool.recipients import mailbox_of
from mailhost.spool.steps import Passed, Step

_KEYS_PER_STATEMENT = 500
_ROWS_AT_A_TIME = 1000
#: A listing looks at so many recipients, lets others read, and goes on so many times.
_RECIPIENTS_AT_A_TIME = 20_000
_PARTS_AT_A_TIME = 10
#: What stands last in nearly every recipient's row.
_NOTHING_SPECIAL = [None, None, None]

_P = TypeVar("_P", MailParameters, RecipientParameters)


class _RowDamaged(Exception):
    """A row, or what belongs to it, is not what this program writes."""


class QueueReader:
    """
    :param directory: ``Queue``.
    :param ids: names the rows.
    :param run: reads files in a thread.
    :param passed: told of each step.
    """

    _log = Logger()

    def __init__(
        self,
        connection: sqlite3.Connection,
        directory: Path,
        ids: QueueIds,
        run: Runner,
        passed: Passed,
    ) -> None:
        self._connection = connection
        self._directory = directory
        self._ids = ids
        self._run = run
        self._passed = passed
        self._lock = Lock()
        self._set_aside: set[int] = set()

    def close(self) -> None:
        """Read no more."""
        self._connection.close()

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """All questions asked in it see one state of the queue; one thread at a time."""
        with self._lock:
            try:
                self._connection.execute("BEGIN")
                try:
                    yield self._connection
                finally:
                    self._connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise SpoolProblem(str(error)) from error

    # ---- due mail

    def load_due(self, before: float, limit: int, skip: frozenset[int]) -> list[QueuedMessage]:
        """See `IQueueStore.load_due`."""
        with self._snapshot() as connection:
            messages: list[QueuedMessage] = []
            for keys in _due_keys(connection, before, skip | self._set_aside):
                # Once more only where a damaged message has left its place empty.
                while keys and len(messages) < limit:
                    wanted = limit - len(messages)
                    messages += self._load_messages(connection, keys[:wanted])
                    keys = keys[wanted:]
                if len(messages) >= limit:
                    break
            return messages

    def _load_messages(
        self, connection: sqlite3.Connection, keys: Sequence[int]
    ) -> list[QueuedMessage]:
        try:
            return [
                message
                for part in _parts(keys)
                for message in _read_messages(connection, part, self._ids)
            ]
        except (_RowDamaged, sqlite3.Error) as error:
            if not _is_damage(error):
                raise
        return [message for key in keys for message in self._load_one(connection, key)]

    def _load_one(self, connection: sqlite3.Connection, key: int) -> list[QueuedMessage]:
        """The message *key*, or nothing where it is not to be understood."""
        try:
            return _read_messages(connection, [key], self._ids)
        except (_RowDamaged, sqlite3.Error) as error:
            if not _is_damage(error):
                raise
            self._put_aside(connection, key, str(error))
            return []

    def _put_aside(self, connection: sqlite3.Connection, key: int, reason: str) -> None:
        name = self._ids.name(key)
        self._set_aside.add(key)
        self._log.critical(
            "A row of message {id} in {directory} is damaged; the message stays in the queue "
            "and is not sent: {reason}",
            id=name,
            directory=self._directory,
            reason=reason,
        )
        rows = {
            "message": connection.execute(schema.SELECT_RAW_MESSAGE, (key,)).fetchall(),
            "recipients": connection.execute(schema.SELECT_RAW_RECIPIENTS, (key,)).fetchall(),
        }
        self._keep_facts(name, {"reason": reason, "hexadecimal": rows})

    def next_due_at(self, after: float) -> float | None:
        """See `IQueueStore.next_due_at`."""
        with self._snapshot() as connection:
            (found,) = connection.execute(schema.SELECT_NEXT_DUE, (after,)).fetchone()
            return None if found is None else float(found)

    def held_and_oldest(self) -> tuple[int, float | None]:
        """Recipients that an operator holds; when the oldest message came, if there is one."""
        with self._snapshot() as connection:
            held, oldest = connection.execute(schema.SELECT_HELD_AND_OLDEST, (HELD_AT,)).fetchone()
            return held, oldest

    def census(self, now: float, bounds: Sequence[float], local: Set[str]) -> QueueCensus:
        """See `IQueueStore.census`."""
        return take_census(self._snapshot, now, bounds, local)

    # ---- operators

    def find(self, ids: Sequence[str]) -> list[QueuedMessage]:
        """See `IQueueStore.find`."""
        keys = [key_of(one) for one in ids]
        ours = [key for key, one in zip(keys, ids, strict=True) if self._ids.name(key) == one]
        with self._snapshot() as connection:
            known: list[int] = []
            for part in _parts(ours):
                rows = connection.execute(schema.select_known(len(part)), part)
                known += [key for (key,) in rows]
            return self._load_messages(connection, known)

    def look_through(self, wanted: QueueFilter, after: int, limit: int) -> QueuePage:
        """See `IQueueStore.look_through`."""
        if wanted.ids is not None:
            found = page_of(self.find(sorted(wanted.ids)), wanted, after, limit)
            keys, reached = [one.key for one in found.messages], found.reached
        else:
            rows, reached = self._wanted_rows(wanted, after, limit)
            keys = [key for key, _ in rows]
        with self._snapshot() as connection:
            messages = self._load_messages(connection, keys)
            last = {
                (key, number): LastOutcome(status, words or "")
                for part in _parts(keys)
                for key, number, status, words in connection.execute(
                    schema.select_last_outcomes(len(part)), part
                )
            }
        return QueuePage(tuple(one for one in messages if wanted.chosen(one)), last, reached)

    def select(self, wanted: QueueFilter, after: int, limit: int) -> QueueSelection:
        """See `IQueueStore.select`."""
        if wanted.ids is not None:
            page = page_of(self.find(sorted(wanted.ids)), wanted, after, limit)
            counts = {one.queue_id: len(wanted.chosen(one)) for one in page.messages}
            return QueueSelection(counts, page.reached)
        rows, reached = self._wanted_rows(wanted, after, limit)
        return QueueSelection({self._ids.name(key): count for key, count in rows}, reached)

    def _wanted_rows(
        self, wanted: QueueFilter, after: int, limit: int
    ) -> tuple[list[tuple[int, int]], int | None]:
        """
        Keys, with the number of recipients that are wanted, and up to which all were looked at.

        A part of the queue, then others read.
        """
        found: list[tuple[int, int]] = []
        room = PAGE_RECIPIENTS
        for _ in range(_PARTS_AT_A_TIME):
            with self._snapshot() as connection:
                bound = part_end(connection, after, _RECIPIENTS_AT_A_TIME)
                rows = _wanted_part(connection, wanted, after, bound, limit - len(found))
            for key, recipients, count in rows:
                found.append((key, count))
                room -= recipients
                if room < 0 or len(found) == limit:
                    return found, key
            if bound == LAST_KEY:
                return found, None
            after = bound
        return found, after

    def content_part(self, message: QueuedMessage, start: int, size: int) -> bytes:
        """See `IQueueStore.content_part`."""
        with self._snapshot() as connection:
            values = (start + 1, size, message.key)
            row = connection.execute(schema.SELECT_CONTENT_PART, values).fetchone()
        if row is None:
            raise ContentDamaged(f"{message.queue_id} has left the queue")
        if not row[0]:
            return bytes(row[1])
        try:
            with open(self.body_path(message.queue_id), "rb") as body:
                body.seek(start)
                return body.read(size)
        except OSError as error:
            raise ContentDamaged(f"{message.queue_id}: {error.strerror}") from error

    # ---- groups

    def growth(self, key: int) -> GrowthFacts:
        """What has to be known before a group of the message *key* is expanded."""
        with self._snapshot() as connection:
            row = connection.execute(schema.SELECT_GROWTH, (key,)).fetchone()
            if row is None or not isinstance(row[0], int):
                raise SpoolProblem(f"{self._ids.name(key)} is not in the queue with a group")
            known = connection.execute(schema.SELECT_KNOWN, (key,)).fetchall()
        return GrowthFacts(frozenset(address for (address,) in known), row[0], bool(row[1]))

    # ---- contents

    def content(self, message: QueuedMessage) -> IStoredContent:
        """See `IQueueStore.open_content`."""
        row = self._content_row(message)
        if row is None:
            raise ContentDamaged(f"{message.queue_id} has left the queue")
        size, digest, octets = row
        if octets is not None:
            return MemoryContent(check_octets(octets, size, digest, message.queue_id))
        if not isinstance(size, int) or not isinstance(digest, bytes):
            raise ContentDamaged(f"nobody knows the length or digest of {message.queue_id}")
        return FileContent.opened(self.body_path(message.queue_id), size, digest, self._run)

    def _content_row(self, message: QueuedMessage) -> tuple[object, ...] | None:
        with self._snapshot() as connection:
            try:
                found = connection.execute(schema.SELECT_CONTENT, (message.key,)).fetchone()
            except sqlite3.Error as error:
                if not _is_damage(error):
                    raise
                raise ContentDamaged(f"the row of {message.queue_id}: {error}") from error
        row: tuple[object, ...] | None = found
        return row

    def body_path(self, queue_id: str) -> Path:
        """Where the large body of *queue_id* lies."""
        return self._directory / f"{queue_id}{BODY_SUFFIX}"

    def quarantine(self, message: QueuedMessage, reason: str) -> None:
        """See `IQueueStore.quarantine`."""
        try:
            self._keep_copy(message)
            self._keep_facts(
                message.queue_id,
                {
                    "reason": reason,
                    "reverse_path": str(message.reverse_path or ""),
                    "recipients": [str(r.forward_path) for r in message.recipients.values()],
                    "accepted_at": message.accepted_at,
                },
            )
        except OSError as error:
            raise SpoolProblem(str(error)) from error

    def _keep_copy(self, message: QueuedMessage) -> None:
        corrupt = self._corrupt()
        body = self.body_path(message.queue_id)
        with self._snapshot() as connection:
            row = connection.execute(schema.SELECT_RAW_OCTETS, (message.key,)).fetchone()
        if row is not None and row[0] is not None:
            write_synced(corrupt / body.name, row[0])
        else:
            # A second name: the first goes with the message, when its failure is recorded.
            _link(body, corrupt / body.name)
        self._passed(Step.COPY_KEPT)
        sync_directory(corrupt)
        self._passed(Step.COPY_SYNCED)

    def _keep_facts(self, name: str, facts: dict[str, object]) -> None:
        corrupt = self._corrupt()
        write_synced(corrupt / f"{name}.json", json.dumps(facts, indent=1).encode("ascii") + b"\n")
        sync_directory(corrupt)

    def _corrupt(self) -> Path:
        corrupt = self._directory / "corrupt"
        make_directory(corrupt)
        return corrupt


def _link(body: Path, copy: Path) -> None:
    try:
        os.link(body, copy)
    except (FileExistsError, FileNotFoundError):
        return  # Kept before the last crash; or there is nothing to keep.


def _due_keys(
    connection: sqlite3.Connection, before: float, skip: frozenset[int]
) -> Iterator[list[int]]:
    """Keys of due messages, each once, some at a time, the most urgent first."""
    seen: set[int] = set()
    offset = 0
    while True:
        rows = connection.execute(schema.SELECT_DUE, (before, _ROWS_AT_A_TIME, offset)).fetchall()
        offset += len(rows)
        found = dict.fromkeys(key for (key,) in rows if key not in skip and key not in seen)
        seen.update(found)
        yield list(found)
        if len(rows) < _ROWS_AT_A_TIME:
            return


def _wanted_part(
    connection: sqlite3.Connection, wanted: QueueFilter, after: int, bound: int, limit: int
) -> list[tuple[int, int, int]]:
    """The first messages that are *wanted*: key, recipients, recipients that are wanted."""
    statement = schema.select_wanted(
        wanted.sender is not None,
        wanted.domain is not None,
        wanted.recipient is not None,
        wanted.held,
        wanted.accepted_before is not None,
    )
    values: list[object] = [one.glob for one in (wanted.domain, wanted.recipient) if one]
    values += [HELD_AT] if wanted.held is not None else []
    values += [after, bound]
    values += [wanted.sender.glob, after, bound] if wanted.sender is not None else []
    values += [wanted.accepted_before] if wanted.accepted_before is not None else []
    return connection.execute(statement, (*values, limit)).fetchall()


def _read_messages(
    connection: sqlite3.Connection, keys: Sequence[int], ids: QueueIds
) -> list[QueuedMessage]:
    """
    The messages *keys*, without those that are not there.

    Keys that another snapshot has found may have left the queue since.

    :raises _RowDamaged: one of them is not to be understood.
    """
    found: dict[int, QueuedMessage] = {}
    for row in connection.execute(schema.select_messages(len(keys)), keys):
        key, path, body, hello, accepted_at, size, asked = row
        _check(row[:6], (int, str, str, str, float, int))
        found[key] = QueuedMessage(
            key, ids.name(key), mailbox_of(path), body, size, accepted_at, hello
        )
        if asked is not None:
            found[key].parameters = _asked(asked, NO_MAIL_PARAMETERS)
    for row in connection.execute(schema.select_recipients(len(keys)), keys):
        key, number, local, domain, due_at, attempts, notified, in_doubt, *special = row
        _check(row[:8], (int, int, str, str, float, int, int, int))
        if key not in found:
            raise _RowDamaged("a recipient belongs to no message")
        recipient = found[key].recipients[number] = QueuedRecipient(
            number, Mailbox(local, domain), attempts, due_at, bool(notified), bool(in_doubt)
        )
        if special != _NOTHING_SPECIAL:
            recipient.handle(_handling(*special))
    return [found[key] for key in keys if key in found]


def _handling(host: object, group: object, asked: object) -> Handling:
    if not isinstance(host, str | None) or not isinstance(group, str | None):
        raise _RowDamaged("a home server or a group is no text")
    try:
        hop = None if host is None else parse_next_hop(host)
    except ValueError as error:
        raise _RowDamaged(str(error)) from error
    return Handling(hop, group or "", _asked(asked, NO_RECIPIENT_PARAMETERS))


def _asked(text: object, nothing: _P) -> _P:
    try:
        return read_parameters(text, nothing)
    except ValueError as error:
        raise _RowDamaged(str(error)) from error


def _check(row: Sequence[object], types: Sequence[type]) -> None:
    # SQLite keeps types per value: one that is another was not written by us.
    if tuple(map(type, row)) != types:
        raise _RowDamaged("a value has a type that this program does not write")


def _is_damage(error: Exception) -> bool:
    """Damage is for ever; anything else that a database says may pass."""
    if isinstance(error, _RowDamaged):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    # Without a code it comes from Python: text that is no UTF-8.
    return code in (None, sqlite3.SQLITE_CORRUPT)


def _parts(keys: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(keys), _KEYS_PER_STATEMENT):
        yield keys[start : start + _KEYS_PER_STATEMENT]
