"""
A source of messages that costs little beside a server; smtp-source speaks no TLS.

``python -m tests.bench.source HOST:PORT SESSIONS OCTETS [--tls] [--kept]`` says ``ready`` once
it runs; for each number that it reads it offers so many messages of OCTETS, and says how many
have got their 250.  So nobody measures how long Python takes to start.  There is one content,
made once; it leaves with its final dot in one call.  With ``--tls`` each session begins with
STARTTLS; nothing is verified, since what is measured is the server.  With ``--kept`` connections
live as long as the program, else for one message.  Two processes, so that two cores can be busy
with handshakes.
"""

from __future__ import annotations

import argparse
import signal
import socket
import ssl
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from typing import NoReturn

from attrs import define, field

from tests.support.process import split_address

_PROCESSES = 2
_SECONDS = 60.0
_HEADER = b"Subject: load\r\n\r\n"
_LINE = b"x" * 62 + b"\r\n"
_HELLO = b"EHLO client.example\r\n"
#: RFC 2920 §3.1: a client waits only behind the last of these.
_ENVELOPE = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@remote.example>\r\nDATA\r\n"
_CODES = (b"250", b"250", b"354")


def message(octets: int) -> bytes:
    """A content of about so many octets, as it goes over the wire: with its final dot."""
    return _HEADER + _LINE * (octets // len(_LINE)) + b".\r\n"


@define(eq=False)
class Session:
    """
    One client, which blocks.

    :ivar content: as it goes over the wire.
    :ivar context: of TLS, which begins with STARTTLS; `None`: all is said in clear.
    :ivar kept: one connection for all messages, else one for each.
    """

    address: tuple[str, int]
    content: bytes
    context: ssl.SSLContext | None = None
    kept: bool = False
    _connection: socket.socket | None = field(default=None, init=False)

    def offer(self, turns: Iterator[int]) -> int:
        """
        A message for each of *turns*, which others take as well.

        :returns: how many have got their 250.
        :raises OSError: the server has closed, is silent, or says what it should not.
        """
        acknowledged = 0
        for _ in turns:
            connection = self._connection or self._open()
            _ask(connection, _ENVELOPE, *_CODES)
            _ask(connection, self.content, b"250")
            acknowledged += 1
            if not self.kept:
                self.close()
        return acknowledged

    def _open(self) -> socket.socket:
        connection = self._connection = socket.create_connection(self.address, _SECONDS)
        # Else the kernel keeps the end of a content until its beginning is acknowledged.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        _expect(connection, b"220")
        said = _ask(connection, _HELLO, b"250")
        if self.context is not None:
            _ask(connection, b"STARTTLS\r\n", b"220")
            connection = self._connection = self.context.wrap_socket(connection)
            said = _ask(connection, _HELLO, b"250")
        if b"PIPELINING" not in said:
            raise ConnectionError(f"commands cannot go in one piece: {said!r}")
        return connection

    def close(self) -> None:
        """In order, where a connection is open."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with connection:
                _ask(connection, b"QUIT\r\n", b"221")


def _ask(connection: socket.socket, octets: bytes, *codes: bytes) -> bytes:
    connection.sendall(octets)
    return _expect(connection, *codes)


def _expect(connection: socket.socket, *codes: bytes) -> bytes:
    """
    A reply with each of *codes*; the server says nothing unasked behind them.

    :raises ConnectionError: it does, it has closed, or says something else.
    """
    received = b""
    while True:
        part = connection.recv(4096)
        if not part:
            raise ConnectionError(f"the server has closed after {received!r}")
        received += part
        if not received.endswith(b"\n"):
            continue
        found = tuple(line[:3] for line in received.splitlines() if line[3:4] != b"-")
        if found == codes:
            return received
        if found != codes[: len(found)]:
            raise ConnectionError(f"{received!r} instead of {codes}")


def unverified() -> ssl.SSLContext:
    """TLS with whomever it may be."""
    # The default context has the system's authorities, and each handshake would look among them:
    # nearly a quarter of a client's work.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def serve(sessions: Sequence[Session], orders: Connection) -> NoReturn:
    """As many messages as each order says, shared by *sessions*, until it is ended."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with ThreadPoolExecutor(len(sessions)) as pool:
        orders.send("ready")
        while True:
            turns = iter(range(orders.recv()))
            offered = [pool.submit(one.offer, turns) for one in sessions]
            orders.send(sum(one.result() for one in offered))


def _start(sessions: Sequence[Session]) -> Connection:
    ours, theirs = Pipe()
    Process(target=serve, args=(sessions, theirs), daemon=True).start()
    theirs.close()
    return ours


def main() -> None:
    """Share the load among the processes."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.source", description=__doc__)
    parser.add_argument("address")
    parser.add_argument("sessions", type=int)
    parser.add_argument("octets", type=int)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--kept", action="store_true")
    given = parser.parse_args()
    # Only who ends in order takes its daemons with it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit())
    context = unverified() if given.tls else None
    sessions = [
        Session(split_address(given.address), message(given.octets), context, given.kept)
        for _ in range(given.sessions)
    ]
    orders = [_start(sessions[nth::_PROCESSES]) for nth in range(_PROCESSES)]
    print(*{order.recv() for order in orders}, flush=True)
    for line in sys.stdin:
        count = int(line)
        for nth, order in enumerate(orders):
            order.send(count // _PROCESSES + (nth < count % _PROCESSES))
        print(sum(order.recv() for order in orders), flush=True)


if __name__ == "__main__":
    main()
