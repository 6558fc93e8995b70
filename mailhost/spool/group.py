"""
What is committed together: one transaction, one sync.

:Room: ``spool``
:Called by: `mailhost.spool.sqlite`, and `mailhost.spool.writer` in its thread.

While one group is on its way to the disk the next one gathers, so that under
load a sync serves dozens of messages, and when idle one message waits for
nobody.  Acceptances, outcomes and deletions share it.

A thread that comes back to Python between two rows waits each time for the
interpreter's lock; therefore rows go into few statements of many rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from attrs import define, field

from mailhost.errors import SpoolProblem
from mailhost.later import Later
from mailhost.model.parameters import NO_MAIL_PARAMETERS
from mailhost.model.queue import Postponement, QueuedMessage, QueuedRecipient, Result
from mailhost.spool import schema
from mailhost.spool.incoming import StoredBody
from mailhost.spool.parameters import parameters_text
from mailhost.spool.steps import Passed, Step, unwatched

T = TypeVar("T")
#: SQLite takes 32,766 variables in one statement; a message row has 8.
_ROWS_PER_STATEMENT = 500
_MAX_OCTETS = 8 * 1024 * 1024


@define(eq=False)
class Accept:
    """
    A message to take over.

    :ivar special: more was asked than the addresses say, or some recipient has a home server
        or is a group.
    """

    message: QueuedMessage
    body: StoredBody
    special: bool = False

    def message_row(self) -> tuple[object, ...]:
        """In the order of `schema.MESSAGE_COLUMNS`."""
        message, octets = self.message, self.body.octets
        path = message.reverse_path
        return (
            message.key,
            "" if path is None else str(path),
            message.body,
            message.hello,
            message.accepted_at,
            message.size,
            # As arrays: for octets, which it can store as they are, the module ``sqlite3`` looks
            # for an adapter first, and makes two exceptions on the way.
            bytearray(self.body.digest),
            None if octets is None else bytearray(octets),
        )


@define(eq=False)
class Record:
    """
    Outcomes of one message.

    :ivar whole: they are terminal, and the only ones still missing: everything
        about the message can go at once.
    :ivar grouped: it has a group, whose members may be among those who leave it now.
    """

    key: int
    results: Sequence[Result]
    whole: bool
    grouped: bool = False


@define(eq=False)
class Growth:
    """
    A group that makes way for its members.

    :ivar key: the message.
    :ivar number: the group's.
    :ivar added: the new recipients.
    :ivar next_number: the next new one's.
    :ivar copies: messages that are to have the same content.
    :ivar large: which is a file, and has their names already.
    """

    key: int
    number: int
    added: Sequence[QueuedRecipient]
    next_number: int
    copies: Sequence[QueuedMessage] = ()
    large: bool = False


@define(eq=False)
class Rehome:
    """
    Recipients of the message *key* that get another home server.

    :ivar host: as it is written; `None`: they have none any more.
    """

    key: int
    numbers: Sequence[int]
    host: str | None


def nothing_follows() -> None:
    """From a change whose end nobody here has to know of."""


@define(eq=False)
class Change:
    """
    Something one caller waits for: all of it is committed, or nothing.

    What follows from its end is not put upon `done`, because there are two of them for each
    message, and nobody has to wait for a step of it.

    :ivar made: called when it is committed; gives what `done` fires with.
    :ivar undone: called when it has failed.
    :ivar vital: it frees room or keeps a promise already given; when the disk
        is full it is tried again without the others.
    """

    accepts: Sequence[Accept]
    records: Sequence[Record]
    postponements: Sequence[Postponement] = ()
    growths: Sequence[Growth] = ()
    rehomes: Sequence[Rehome] = ()
    made: Callable[[], Any] = nothing_follows
    undone: Callable[[], None] = nothing_follows
    done: Later[Any] = field(factory=Later)

    def succeed(self) -> None:
        """It is committed."""
        try:
            result = self.made()
        except Exception:
            self.done.errback()
        else:
            self.done.callback(result)

    def fail(self, problem: SpoolProblem) -> None:
        """Nothing of it is."""
        self.undone()
        self.done.errback(problem)

    @property
    def vital(self) -> bool:
        """See above: outcomes are, new mail is not."""
        return bool(self.records or self.postponements)

    @property
    def octets(self) -> int:
        """Content it brings into the database."""
        octets = 0
        for accept in self.accepts:
            octets += len(accept.body.octets or b"")
        for growth in self.growths:
            octets += 0 if growth.large else sum(copy.size for copy in growth.copies)
        return octets

    @property
    def last_key(self) -> int:
        """The highest of the messages it brings; 0: it brings none."""
        last = 0
        for accept in self.accepts:
            last = max(last, accept.message.key)
        for growth in self.growths:
            for copy in growth.copies:
                last = max(last, copy.key)
        return last

    @property
    def names_files(self) -> bool:
        """Whether a message it brings has its content in a file."""
        for accept in self.accepts:
            if accept.body.octets is None:
                return True
        return bool(self.growths) and any(one.large and one.copies for one in self.growths)


def take_group(pending: list[Change]) -> list[Change]:
    """Remove from the front of *pending* what fits into one transaction."""
    octets = 0
    count = 0
    for change in pending:
        octets += change.octets
        if count and octets > _MAX_OCTETS:
            break
        count += 1
    group = pending[:count]
    del pending[:count]
    return group


def write(
    connection: sqlite3.Connection,
    group: Sequence[Change],
    reserve: int | None = None,
    passed: Passed = unwatched,
) -> None:
    """
    Commit *group*, in the writer thread.

    :param reserve: no id up to this key is given out after a restart.
    :param passed: told of each step.
    :raises sqlite3.Error: nothing of it is committed.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        passed(Step.GROUP_BEGUN)
        _write_accepts(connection, [accept for change in group for accept in change.accepts])
        passed(Step.MESSAGES_WRITTEN)
        _write_records(connection, [record for change in group for record in change.records])
        _write_postponements(
            connection, [part for change in group for part in change.postponements]
        )
        for change in group:
            for growth in change.growths:
                _write_growth(connection, growth)
        _write_rehomes(connection, [one for change in group for one in change.rehomes])
        passed(Step.OUTCOMES_WRITTEN)
        if reserve is not None:
            connection.execute(schema.RESERVE_KEYS, (reserve,))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _write_accepts(connection: sqlite3.Connection, accepts: list[Accept]) -> None:
    rows = [accept.message_row() for accept in accepts]
    for part in _parts(rows):
        connection.execute(schema.insert_messages(len(part)), [v for row in part for v in row])
    _insert_recipients(
        connection,
        [(accept.message.key, accept.message.recipients.values()) for accept in accepts],
    )
    for accept in accepts:
        if accept.special:
            _mark_special(connection, accept.message)


def _insert_recipients(
    connection: sqlite3.Connection, comers: Sequence[tuple[int, Iterable[QueuedRecipient]]]
) -> None:
    rows = [
        (
            key,
            recipient.number,
            recipient.forward_path.local,
            recipient.forward_path.domain,
            recipient.due_at,
        )
        for key, recipients in comers
        for recipient in recipients
    ]
    for part in _parts(rows):
        connection.execute(schema.insert_recipients(len(part)), [v for row in part for v in row])


def _mark_special(connection: sqlite3.Connection, message: QueuedMessage) -> None:
    recipients = message.recipients.values()
    _ask(connection, message)
    _handle(connection, message.key, recipients)
    if message.has_groups:
        connection.execute(schema.NUMBER_NEXT, (len(recipients), message.key))


def _ask(connection: sqlite3.Connection, message: QueuedMessage) -> None:
    if message.parameters is not NO_MAIL_PARAMETERS:
        text = parameters_text(message.parameters)
        connection.execute(schema.ASK, (text, message.key))


def _handle(
    connection: sqlite3.Connection, key: int, recipients: Iterable[QueuedRecipient]
) -> None:
    rows = [
        (
            str(one.host) if one.host is not None else None,
            one.group or None,
            parameters_text(one.parameters),
            key,
            one.number,
        )
        for one in recipients
        if one.is_special
    ]
    connection.executemany(schema.HANDLE, rows)


def _write_growth(connection: sqlite3.Connection, growth: Growth) -> None:
    key = growth.key
    for copy in growth.copies:
        path = "" if copy.reverse_path is None else str(copy.reverse_path)
        connection.execute(schema.COPY_MESSAGE, (copy.key, path, key))
        _ask(connection, copy)
    comers: list[tuple[int, Iterable[QueuedRecipient]]] = [(key, growth.added)]
    comers += [(copy.key, copy.recipients.values()) for copy in growth.copies]
    _insert_recipients(connection, comers)
    for to, found in comers:
        _handle(connection, to, found)
    elsewhere = (one for copy in growth.copies for one in copy.recipients.values())
    rows = [(key, str(one.forward_path).lower()) for one in elsewhere]
    connection.executemany(schema.REMEMBER, rows)
    connection.execute(schema.delete_recipients(1), (key, growth.number))
    connection.execute(schema.NUMBER_NEXT, (growth.next_number, key))
    connection.execute(schema.FORGET_SERVED, (key,))
    connection.execute(schema.FORGET_IF_FINISHED, (key,))


def _write_records(connection: sqlite3.Connection, records: list[Record]) -> None:
    whole = [record.key for record in records if record.whole and not record.grouped]
    for keys in _parts(whole):
        connection.execute(schema.delete_recipients_of(len(keys)), keys)
        connection.execute(schema.delete_messages(len(keys)), keys)
    for record in records:
        if not record.whole or record.grouped:
            _write_results(connection, record)


def _write_results(connection: sqlite3.Connection, record: Record) -> None:
    finished = [result.number for result in record.results if result.outcome.fate.terminal]
    for numbers in _parts(finished):
        if record.grouped:
            connection.execute(schema.remember_recipients(len(numbers)), (record.key, *numbers))
        connection.execute(schema.delete_recipients(len(numbers)), (record.key, *numbers))
    if finished:
        if record.grouped:
            connection.execute(schema.FORGET_SERVED, (record.key,))
        connection.execute(schema.FORGET_IF_FINISHED, (record.key,))
    delayed = [
        (
            *(r.due_at, r.notified, r.outcome.status, r.outcome.words),
            *(r.outcome.in_doubt, record.key, r.number),
        )
        for r in record.results
        if not r.outcome.fate.terminal
    ]
    connection.executemany(schema.DELAY, delayed)


def _write_postponements(connection: sqlite3.Connection, parts: list[Postponement]) -> None:
    rows = [
        (part.due_at, part.status, part.words, part.message.key, number)
        for part in parts
        for number in part.numbers
    ]
    connection.executemany(schema.POSTPONE, rows)


def _write_rehomes(connection: sqlite3.Connection, rehomes: list[Rehome]) -> None:
    rows = [(one.host, one.key, number) for one in rehomes for number in one.numbers]
    connection.executemany(schema.REHOME, rows)


def _parts(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), _ROWS_PER_STATEMENT):
        yield rows[start : start + _ROWS_PER_STATEMENT]
