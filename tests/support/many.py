"""A queue with as many messages as are wanted, made in one transaction."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from mailhost.spool import schema
from mailhost.spool.ids import QueueIds, first_key_at

CONTENT = b"Subject: one of many\r\n\r\ntext\r\n"
STORE = 0x5EED


def make_queue(directory: Path, count: int, accepted_at: float, due_at: float) -> list[str]:
    """
    Messages from ``s0@example.com`` on, for ``r@d0.example`` to ``r@d999.example`` in turn.

    Each tenth has two recipients, and one failed attempt.

    :returns: their ids, in order.
    """
    directory.mkdir(mode=0o700, parents=True)
    first = first_key_at(accepted_at)
    keys = range(first, first + count)
    digest = sha256(CONTENT).digest()
    with closing(sqlite3.connect(directory / "queue.sqlite")) as connection:
        connection.executescript(f"{schema.CREATE} PRAGMA user_version = {schema.FORMAT};")
        connection.execute("INSERT INTO meta VALUES ('store', ?)", (STORE,))
        connection.executemany(
            f"INSERT INTO messages ({schema.MESSAGE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (key, f"s{n}@example.com", "7BIT", "x", accepted_at, len(CONTENT), digest, CONTENT)
                for n, key in enumerate(keys)
            ),
        )
        connection.executemany(
            f"INSERT INTO recipients ({schema.RECIPIENT_COLUMNS}, attempts, status, words)"
            " VALUES (?, ?, ?, ?, ?, 1, '4.4.1', 'no answer')",
            (
                (key, number, "r", f"d{n % 1000}.example", due_at)
                for n, key in enumerate(keys)
                for number in range(1 if n % 10 else 2)
            ),
        )
        connection.commit()
    ids = QueueIds(STORE, lambda: accepted_at)
    return [ids.name(key) for key in keys]
