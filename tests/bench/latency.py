"""
From the final dot to its 250, at a fixed rate: what a client waits for durability.

The rate is offered, not what the server makes of it: a client that is late sends at once.
"""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.contestants import Contestant, running
from tests.bench.load import smtp_sink
from tests.support.process import reserve_port

_SESSIONS = 20
_CONTENT = b"Subject: load\r\n\r\n" + (b"x" * 62 + b"\r\n") * 64 + b".\r\n"
_ENVELOPE = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@remote.example>\r\nDATA\r\n"


def measure(contestant: Contestant, rate: float, count: int) -> None:
    """*count* messages at *rate* a second; prints a line."""
    with TemporaryDirectory(prefix="bench") as folder:
        Path(folder).chmod(0o755)
        port, sink_port = reserve_port("127.0.0.1"), reserve_port("127.0.0.1")
        with (
            smtp_sink(sink_port, Path(folder) / "sink"),
            running(contestant, Path(folder), port, ("127.0.0.1", sink_port)) as server,
        ):
            _offer(server.port, rate, count // 5)
            found = sorted(_offer(server.port, rate, count))
    at = {
        name: found[min(int(len(found) * share), len(found) - 1)] * 1000
        for name, share in (("median", 0.5), ("p99", 0.99), ("longest", 1.0))
    }
    words = ", ".join(f"{name} {value:.1f} ms" for name, value in at.items())
    print(f"dot to 250 at {rate:.0f} messages/s: {contestant.name}: {words}", flush=True)


def _offer(port: int, rate: float, count: int) -> list[float]:
    """Seconds from each final dot to its reply."""
    found: list[float] = []
    begin = time.monotonic() + 0.2

    def session(number: int) -> None:
        with socket.create_connection(("127.0.0.1", port), 60) as connection:
            _expect(connection, 1)
            connection.sendall(b"EHLO client.example\r\n")
            _expect(connection, 1)
            for n in range(number, count, _SESSIONS):
                wait = begin + n / rate - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                connection.sendall(_ENVELOPE)
                _expect(connection, 3)
                connection.sendall(_CONTENT)
                dot = time.monotonic()
                _expect(connection, 1)
                found.append(time.monotonic() - dot)

    threads = [threading.Thread(target=session, args=(n,)) for n in range(_SESSIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def _expect(connection: socket.socket, replies: int) -> None:
    said = b""
    while sum(line[3:4] == b" " for line in said.splitlines()) < replies or said[-1:] != b"\n":
        block = connection.recv(4096)
        if not block:
            raise ConnectionError(f"closed after {said!r}")
        said += block
