"""
Sessions that say nothing: what each costs, and how soon a fresh client is served beside them.
"""

from __future__ import annotations

import socket
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.contestants import Contestant, memory_octets, raise_descriptor_limit, running
from tests.support.process import reserve_port

_FRESH = 20


def measure(contestant: Contestant, sessions: int) -> None:
    """Open *sessions*, each after its EHLO; prints a line."""
    raise_descriptor_limit()
    with TemporaryDirectory(prefix="bench") as folder:
        Path(folder).chmod(0o755)
        port = reserve_port("127.0.0.1")
        with running(contestant, Path(folder), port, ("127.0.0.1", 9)) as server:
            greet(server.port).close()
            before = memory_octets(server.pid)
            idle = [greet(server.port) for _ in range(sessions)]
            each = (memory_octets(server.pid) - before) / sessions
            seconds = statistics.median(_served_in(server.port) for _ in range(_FRESH))
            for one in idle:
                one.close()
    print(
        f"{sessions} idle sessions: {contestant.name}: {each / 1024:.1f} KB each, "
        f"a fresh client has its EHLO answered in {1000 * seconds:.1f} ms",
        flush=True,
    )


def _served_in(port: int) -> float:
    start = time.monotonic()
    greet(port).close()
    return time.monotonic() - start


def greet(port: int) -> socket.socket:
    """A session after its EHLO."""
    connection = socket.create_connection(("127.0.0.1", port), 60)
    _read(connection)
    connection.sendall(b"EHLO client.example\r\n")
    _read(connection)
    return connection


def _read(connection: socket.socket) -> None:
    said = b""
    while not (said.endswith(b"\r\n") and said.rstrip().splitlines()[-1][3:4] == b" "):
        block = connection.recv(4096)
        if not block:
            raise ConnectionError(f"closed after {said!r}")
        said += block
