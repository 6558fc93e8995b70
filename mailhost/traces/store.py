"""
Traces on disk: one SQLite database for each worker of a virtual server.

:Room: ``traces``
:Called by: `mailhost.traces.tracer`, in threads; everything here blocks.

Nothing depends on what is in it: it is written without a sync, a crash loses the last moments,
a database that cannot be used is begun anew.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field

from mailhost.traces.events import Event, TracedEvent, row

#: Kept in ``PRAGMA user_version``; another format is begun anew.
FORMAT = 1
_CREATE = f"""
CREATE TABLE events (
    number INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    words TEXT NOT NULL,
    paths TEXT NOT NULL,
    sender TEXT NOT NULL,
    peer TEXT NOT NULL,
    due_at REAL,
    other TEXT NOT NULL,
    dialogue TEXT
);
CREATE INDEX events_id ON events (id);
CREATE INDEX events_other ON events (other) WHERE other <> '';
PRAGMA user_version = {FORMAT};
"""
# Nothing is empty text here, because for `None` the module ``sqlite3`` looks for an adapter.
_MARKS = "(?, ?, ?, ?, ?, ?, ?, nullif(?, ''), ?, nullif(?, ''))"
_COLUMNS = "at, id, kind, words, paths, sender, peer, due_at, other, dialogue"
#: Few enough that a statement for each number of rows stays prepared.
_ROWS_PER_STATEMENT = 50
#: What is too much goes in pieces, the oldest first.
_PURGED_AT_ONCE = 20_000
_NAME = re.compile(r"worker-[0-9]{1,4}\.sqlite")
_ID = re.compile(r"[0-9a-f]{24}")
_BUSY_SECONDS = 5.0


@define(eq=False)
class TraceWriter:
    """
    :ivar path: the database.
    :ivar keep_seconds: older events are forgotten.
    :ivar max_octets: so large the database may become; the oldest make room.
    """

    path: Path
    keep_seconds: float
    max_octets: int
    _connection: sqlite3.Connection | None = field(default=None, init=False)

    def write(self, events: Sequence[Event]) -> None:
        """
        Append *events*.

        :raises OSError: it cannot be done.
        :raises sqlite3.Error: it cannot be done.
        """
        connection = self._opened()
        rows = list(map(row, events))
        connection.execute("BEGIN")
        try:
            for start in range(0, len(rows), _ROWS_PER_STATEMENT):
                part = rows[start : start + _ROWS_PER_STATEMENT]
                connection.execute(_insert(len(part)), [value for one in part for value in one])
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def purge(self, now: float) -> None:
        """
        Forget what is too old or too much.

        :raises sqlite3.Error: it cannot be done.
        """
        connection = self._opened()
        oldest = "SELECT number FROM events ORDER BY number LIMIT ?"
        while True:
            (found,) = connection.execute("SELECT min(number) FROM events").fetchone()
            if found is None:
                return
            first = connection.execute("SELECT at FROM events WHERE number = ?", (found,))
            (at,) = first.fetchone()
            if at >= now - self.keep_seconds and _used_octets(connection) <= self.max_octets:
                return
            old = " AND at < ?" if at < now - self.keep_seconds else ""
            values: tuple[object, ...] = (_PURGED_AT_ONCE,)
            values += (now - self.keep_seconds,) if old else ()
            connection.execute(f"DELETE FROM events WHERE number IN ({oldest}){old}", values)

    def close(self) -> None:
        """Write no more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.touch(0o600)
            try:
                self._connection = self._open()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                for name in (self.path.name, f"{self.path.name}-wal", f"{self.path.name}-shm"):
                    self.path.with_name(name).unlink(missing_ok=True)
                self.path.touch(0o600)
                self._connection = self._open()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA cache_size = -4096")
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            if found != FORMAT:
                connection.execute("DROP TABLE IF EXISTS events")
                connection.executescript(_CREATE)
        except BaseException:
            connection.close()
            raise
        return connection


def _insert(count: int) -> str:
    """One statement for *count* events: one step in C, not *count*."""
    marks = ", ".join([_MARKS] * count)
    return f"INSERT INTO events ({_COLUMNS}) VALUES {marks}"


def _used_octets(connection: sqlite3.Connection) -> int:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int((pages - free) * size)


# ---- reading


def find_events(
    directory: Path, what: str, since: float | None, until: float | None, limit: int
) -> list[TracedEvent]:
    """
    What has happened to the messages that *what* names, and to those that have to do with them.

    :param directory: where the databases of all workers are.
    :param what: a queue id, a Message-ID, or an address of sender or recipient; empty: any.
    :param since: events from then on, seconds since the epoch.
    :param until: events up to then.
    :param limit: so many messages, the latest ones.
    :returns: the events of each message together, in order.
    :raises sqlite3.Error: they cannot be read.
    """
    connections = list(_readers(directory))
    try:
        found: dict[str, float] = {}
        for connection in connections:
            for id, at in _matching(connection, what, since, until, limit):
                found[id] = max(at, found.get(id, at))
        latest = sorted(found, key=lambda id: found[id])[-limit:]
        wanted = dict.fromkeys(latest)
        for id in latest:
            wanted.update(dict.fromkeys(_linked(connections, id)))
        events = [one for id in wanted for one in _events_of(connections, id)]
        order = {id: place for place, id in enumerate(wanted)}
        return sorted(events, key=lambda one: (order[one.id], one.at))
    finally:
        for connection in connections:
            connection.close()


def _readers(directory: Path) -> Iterator[sqlite3.Connection]:
    for path in sorted(directory.glob("worker-*.sqlite")):
        if not _NAME.fullmatch(path.name):
            continue
        uri = f"{path.absolute().as_uri()}?mode=ro"
        try:
            connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)
            (found,) = connection.execute("PRAGMA user_version").fetchone()
        except sqlite3.DatabaseError:
            continue  # Just being made, or damaged: then its writer begins it anew.
        if found == FORMAT:
            yield connection
        else:
            connection.close()


def _matching(
    connection: sqlite3.Connection,
    what: str,
    since: float | None,
    until: float | None,
    limit: int,
) -> list[tuple[str, float]]:
    where, values = _condition(what)
    if since is not None:
        where.append("at >= ?")
        values.append(since)
    if until is not None:
        where.append("at <= ?")
        values.append(until)
    statement = (
        f"SELECT id, max(at) FROM events WHERE {' AND '.join(where) or '1'} "
        "GROUP BY id ORDER BY max(at) DESC LIMIT ?"
    )
    return connection.execute(statement, (*values, limit)).fetchall()


def _condition(what: str) -> tuple[list[str], list[object]]:
    if not what:
        return [], []
    if _ID.fullmatch(what.lower()):
        return ["id = ?"], [what.lower()]
    name = what if what.startswith("<") else f"<{what}>"
    if what.startswith("<"):
        return ["other = ?"], [name]
    lists = "instr(',' || lower(paths) || ',', ',' || lower(?) || ',') > 0"
    words = f"(other = ? OR lower(sender) = lower(?) OR {lists})"
    return [words], [name, what, what]


def _linked(connections: Sequence[sqlite3.Connection], id: str) -> Iterator[str]:
    """Reports about the message *id*, and what it is a report about."""
    for connection in connections:
        for statement in (
            "SELECT DISTINCT id FROM events WHERE other = ? AND other <> ''",
            "SELECT DISTINCT other FROM events WHERE id = ? AND length(other) = 24",
        ):
            for (other,) in connection.execute(statement, (id,)):
                if _ID.fullmatch(other):
                    yield other


def _events_of(connections: Sequence[sqlite3.Connection], id: str) -> Iterator[TracedEvent]:
    for connection in connections:
        statement = f"SELECT {_COLUMNS} FROM events WHERE id = ? ORDER BY number"
        for found in connection.execute(statement, (id,)):
            facts: tuple[Any, ...] = (*found[:-1], found[-1] or "")
            yield TracedEvent(*facts)
