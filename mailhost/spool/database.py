"""
Opening the database: its tables, its format, its name, and what an earlier life left.

:Room: ``spool``
:Called by: `mailhost.spool.sqlite`, at start; `mailhost.spool.writer`, after a failure.

Everything here blocks.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path

from twisted.logger import Logger

from mailhost.errors import SpoolProblem, SpoolTooNew
from mailhost.model.queue import HELD_AT
from mailhost.spool import schema
from mailhost.spool.files import BODY_SUFFIX, PART_NAME, PART_SUFFIX, PROBE_NAME
from mailhost.spool.ids import LAST_KEY, QueueIds, first_key_at
from mailhost.spool.steps import Passed, Step

_log = Logger()
#: The first octets of every SQLite database; an empty file is a new one.
_MAGIC = b"SQLite format 3\0"


def database_path(queue: Path) -> Path:
    """Where the database of *queue* lies."""
    return queue / "queue.sqlite"


def connect(queue: Path) -> sqlite3.Connection:
    """
    A connection that commits durably.

    :raises SpoolProblem: what lies there is no database; it is left as it is.
    :raises sqlite3.Error: it cannot be opened.
    """
    path = database_path(queue)
    path.touch(0o600)  # SQLite's own files take their mode from it
    _check_magic(path)
    # Each connection is used by one thread at a time, not always the same.
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=512
    )
    try:
        connection.executescript(schema.PRAGMAS)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_magic(path: Path) -> None:
    with open(path, "rb") as file:
        found = file.read(len(_MAGIC))
    if found == _MAGIC or _has_octets(path.with_name(path.name + "-journal")):
        return  # With a journal SQLite undoes what a power cut has left of its first write.
    # SQLite throws the log of an empty database away, with all that is in it.
    if found or _has_octets(path.with_name(path.name + "-wal")):
        raise SpoolProblem(f"{path} is damaged: it is no SQLite database; nothing was changed")


def _has_octets(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def prepare(connection: sqlite3.Connection, queue: Path, passed: Passed) -> None:
    """
    Make what is missing, and a newer format of an older one.

    :raises SpoolTooNew: the format is newer than this program.
    """
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > schema.FORMAT:
        raise SpoolTooNew(
            f"the queue in {queue} has format {found}; this program knows up to {schema.FORMAT}"
        )
    if found == 0:
        connection.executescript(
            f"BEGIN; {schema.CREATE} PRAGMA user_version = {schema.FORMAT}; COMMIT;"
        )
    for old in range(found or schema.FORMAT, schema.FORMAT):
        connection.executescript(
            f"BEGIN; {schema.MIGRATE[old]} PRAGMA user_version = {old + 1}; COMMIT;"
        )
    passed(Step.TABLES_MADE)
    # Not in one transaction with the tables: a crash may have come between.
    connection.execute(schema.NAME_STORE, (secrets.randbits(32),))
    passed(Step.STORE_NAMED)


def ids_of(connection: sqlite3.Connection, clock: Callable[[], float]) -> QueueIds:
    """The ids that this store gives out next."""
    (store,) = connection.execute(schema.SELECT_META, ("store",)).fetchone()
    (last,) = connection.execute(schema.SELECT_LAST).fetchone()
    return QueueIds(store, clock, last)


def wake(connection: sqlite3.Connection, now: float) -> None:
    """
    Make due what was accepted under a clock that was ahead.

    A message that was never tried is due since it was accepted; if that is in
    the future the clock has jumped back, and the message must not wait for it.  What is
    held stays so.
    """
    connection.execute(schema.WAKE, (now, min(first_key_at(now), LAST_KEY), now, HELD_AT))


def sweep(
    connection: sqlite3.Connection, queue: Path, sort_temp: Path, ids: QueueIds, passed: Passed
) -> None:
    """
    Remove what no row speaks of: see the crash states in `files`.

    Only what this very store has made: a content that another database named,
    or nobody, may be all that is left of a message.
    """
    for part in sort_temp.glob(f"*{PART_SUFFIX}"):
        if PART_NAME.fullmatch(part.name):
            part.unlink()
            passed(Step.PART_SWEPT)
    (queue / PROBE_NAME).unlink(missing_ok=True)
    kept = {ids.name(key) for (key,) in connection.execute(schema.SELECT_LARGE)}
    ours = re.compile(rf"[0-9a-f]{{16}}{ids.store:08x}")
    strange = 0
    for body in queue.glob(f"*{BODY_SUFFIX}"):
        if body.stem in kept:
            continue
        if ours.fullmatch(body.stem):
            body.unlink()
            passed(Step.BODY_SWEPT)
        else:
            strange += 1
    passed(Step.SWEPT)
    if strange:
        _log.warn(
            "{count} files in {directory} belong to no message of this queue; they are left alone",
            count=strange,
            directory=queue,
        )
