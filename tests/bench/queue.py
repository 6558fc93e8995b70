"""
A queue with a million delayed messages: how soon a start listens and delivers, what it costs
in memory, and whether new mail notices.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from mailhost.spool.schema import MESSAGE_COLUMNS, RECIPIENT_COLUMNS
from tests.bench.contestants import MAILHOST, memory_octets, running
from tests.bench.idle import greet
from tests.bench.load import settled, smtp_sink
from tests.bench.throughput import SCENARIOS, source
from tests.support.process import reserve_port, wait_until

_CONTENT = b"Subject: delayed\r\n\r\n" + (b"x" * 62 + b"\r\n") * 15
_NEXT_HOUR_SECONDS = 3600
#: Due at once when the server starts, to see the first delivery.
_DUE = 10
_FILL = """
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)
INSERT INTO {table} ({columns}) SELECT {values} FROM numbers
"""
_MESSAGE = (
    "messages",
    MESSAGE_COLUMNS,
    ":base + n, 'a@example.org', '7BIT', 'x', :now, :size, :digest, :octets",
)
_RECIPIENT = (
    "recipients",
    f"{RECIPIENT_COLUMNS}, attempts, status, words",
    ":base + n, 0, 'user' || n, 'site' || (n % 5000) || '.example', "
    ":now + :wait + (n % 3600), 1, '4.4.1', 'no answer'",
)


def measure(queued: int, messages: int) -> None:
    """Compare an empty queue with one of *queued*; prints three lines."""
    with TemporaryDirectory(prefix="bench") as folder:
        empty = _run(Path(folder), 0, messages)
    with TemporaryDirectory(prefix="bench") as folder:
        full = _run(Path(folder), queued, messages)
    print(
        f"{queued} delayed messages: listening after {full.listening:.2f} s "
        f"(empty queue {empty.listening:.2f} s), first delivery after {full.first:.2f} s "
        f"({empty.first:.2f} s)\n"
        f"  added memory {(full.memory - empty.memory) / 1e6:.0f} MB\n"
        f"  new mail {full.rate:.0f}/s, with an empty queue {empty.rate:.0f}/s: "
        f"{full.rate / empty.rate:.2f}",
        flush=True,
    )


class _Run:
    """What one run has shown: seconds, seconds, octets, messages a second."""

    listening = first = rate = 0.0
    memory = 0


def _run(folder: Path, queued: int, messages: int) -> _Run:
    found = _Run()
    folder.chmod(0o755)
    port, sink_port = reserve_port("127.0.0.1"), reserve_port("127.0.0.1")
    hop = ("127.0.0.1", sink_port)
    with running(MAILHOST, folder, port, hop) as server:
        greet(server.port).close()  # it has made its tables
    _fill(folder / "server" / "mailroot" / "Queue" / "queue.sqlite", queued)
    start = time.monotonic()
    with (
        smtp_sink(sink_port, folder / "sink") as sink,
        running(MAILHOST, folder, port, hop) as server,
    ):
        greet(server.port).close()
        found.listening = time.monotonic() - start
        wait_until(lambda: sink.arrived() > 0, "the first delivery", 120)
        found.first = time.monotonic() - start
        settled(sink, _DUE)
        found.memory = memory_octets(server.pid)
        begin = time.monotonic()
        with source(server.address, SCENARIOS[0]) as offer:
            offer(messages)
        settled(sink, _DUE + messages)
        found.rate = messages / (time.monotonic() - begin)
    return found


def _fill(database: Path, queued: int) -> None:
    """*queued* messages due in an hour, and a few due now."""
    given = {
        "now": time.time(),
        "size": len(_CONTENT),
        "digest": sha256(_CONTENT).digest(),
        "octets": _CONTENT,
    }
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for base, count, wait in (
            (1 << 32, queued, _NEXT_HOUR_SECONDS),
            (1 << 40, _DUE, -_NEXT_HOUR_SECONDS),
        ):
            if not count:
                continue
            values = {**given, "base": base, "count": count, "wait": wait}
            for table, columns, row in (_MESSAGE, _RECIPIENT):
                statement = _FILL.format(table=table, columns=columns, values=row)
                connection.execute(statement, values)
        connection.commit()
    # What the kernel still had to write would be measured with the new mail.
    with database.open("rb") as file:
        os.fsync(file.fileno())
