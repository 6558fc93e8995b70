"""
What greylisting remembers: one SQLite database below Queue, for all workers together.

:Room: ``spool``
:Called by: `mailhost.intake.greylist`, in one thread; everything here blocks.

A kill loses nothing of it; a power cut may lose the last moments, and then a client has to come
back once more.  No message depends on it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from attrs import define, field

from mailhost.model.greylist import GreylistTerms

#: Kept in ``PRAGMA user_version``; another format is begun anew.
FORMAT = 1
#: More triplets are not kept; those that were seen last a long time ago go first.
MAX_TRIPLETS = 1_000_000
_PURGE_SECONDS = 3600.0
_BUSY_SECONDS = 5.0
_CREATE = f"""
DROP TABLE IF EXISTS triplets;
DROP TABLE IF EXISTS clients;
CREATE TABLE triplets (
    key BLOB PRIMARY KEY, first_at REAL NOT NULL, last_at REAL NOT NULL, passed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX triplets_last_at ON triplets (last_at);
CREATE TABLE clients (
    place TEXT PRIMARY KEY, passed INTEGER NOT NULL, last_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX clients_last_at ON clients (last_at);
PRAGMA user_version = {FORMAT};
"""

#: ``(first_at, last_at, passed)``; see `mailhost.policy.greylisting.Triplet`.
Row = tuple[float, float, int]
Judge = Callable[[Row | None, GreylistTerms, float], tuple[float, Row]]


@define(eq=False)
class GreylistFile:
    """
    :ivar path: the database.
    :ivar judge: decides about a triplet.
    :ivar max_triplets: more are not kept.
    """

    path: Path
    judge: Judge
    max_triplets: int = MAX_TRIPLETS
    _connection: sqlite3.Connection | None = field(default=None, init=False)
    _count: int = field(default=0, init=False)
    _purged_at: float = field(default=0.0, init=False)

    def ask(
        self, place: str, sender: str, recipient: str, terms: GreylistTerms, now: float
    ) -> tuple[float, bool]:
        """
        How many seconds *place* has to wait still, 0 for not at all; and whether it is known.

        :raises OSError: it cannot be said.
        :raises sqlite3.Error: it cannot be said.
        """
        connection = self._opened()
        if now - self._purged_at >= _PURGE_SECONDS or self._count > self.max_triplets:
            self._purge(connection, terms, now)
        connection.execute("BEGIN IMMEDIATE")
        try:
            answer = self._decide(connection, place, _key(place, sender, recipient), terms, now)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return answer

    def close(self) -> None:
        """Remember it for the next life."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _decide(
        self,
        connection: sqlite3.Connection,
        place: str,
        key: bytes,
        terms: GreylistTerms,
        now: float,
    ) -> tuple[float, bool]:
        client = connection.execute("SELECT passed, last_at FROM clients WHERE place = ?", (place,))
        passed, last_at = client.fetchone() or (0, 0.0)
        if now - last_at > terms.keep_seconds:
            passed = 0
        if 0 < terms.known_after <= passed:
            connection.execute("UPDATE clients SET last_at = ? WHERE place = ?", (now, place))
            return 0.0, True
        found = connection.execute(
            "SELECT first_at, last_at, passed FROM triplets WHERE key = ?", (key,)
        ).fetchone()
        wait, row = self.judge(found, terms, now)
        connection.execute("REPLACE INTO triplets VALUES (?, ?, ?, ?)", (key, *row))
        self._count += found is None
        if row[2]:
            passed += not (found and found[2])
            connection.execute("REPLACE INTO clients VALUES (?, ?, ?)", (place, passed, now))
        return wait, 0 < terms.known_after <= passed

    def _purge(self, connection: sqlite3.Connection, terms: GreylistTerms, now: float) -> None:
        """Forget what is over, and what is too much with a tenth besides."""
        self._purged_at = now
        kept = (now - terms.keep_seconds,)
        connection.execute("DELETE FROM clients WHERE last_at < ?", kept)
        connection.execute("DELETE FROM triplets WHERE last_at < ?", kept)
        connection.execute(
            "DELETE FROM triplets WHERE passed = 0 AND last_at < ?", (now - terms.retry_seconds,)
        )
        (self._count,) = connection.execute("SELECT count(*) FROM triplets").fetchone()
        if self._count > self.max_triplets:
            surplus = self._count - self.max_triplets * 9 // 10
            connection.execute(
                "DELETE FROM triplets WHERE key IN "
                "(SELECT key FROM triplets ORDER BY last_at LIMIT ?)",
                (surplus,),
            )
            self._count -= surplus

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.touch(0o600)
            connection = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS
            )
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                _prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection


def _prepare(connection: sqlite3.Connection) -> None:
    """Make the tables, if no other worker has."""
    connection.execute("BEGIN IMMEDIATE")
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found != FORMAT:
        for statement in _CREATE.split(";"):
            connection.execute(statement)
    connection.execute("COMMIT")


def _key(place: str, sender: str, recipient: str) -> bytes:
    return sha256("\0".join((place, sender, recipient)).encode("utf-8", "replace")).digest()[:16]
