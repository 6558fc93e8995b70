"""
A source of messages through STARTTLS, a connection each; smtp-source speaks no TLS.

``python -m tests.bench.tls_source HOST:PORT SESSIONS`` says ``ready`` once it runs; for each
number that it reads it offers so many messages, and says ``done``.  So nobody measures how long
Python takes to start.  It verifies nothing: what is measured is the server.  Two processes, so
that two cores can be busy with it.
"""

from __future__ import annotations

import signal
import socket
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection

_PROCESSES = 2
_CONTENT = b"Subject: load\r\n\r\n" + (b"x" * 62 + b"\r\n") * 64 + b".\r\n"
_HELLO = b"EHLO client.example\r\n"
_ENVELOPE = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@remote.example>\r\nDATA\r\n"


def send_one(address: tuple[str, int], context: ssl.SSLContext) -> None:
    """One session with one message; inside TLS in as few writes as PIPELINING allows."""
    with socket.create_connection(address, 60) as plain:
        _expect(plain, 1)
        plain.sendall(_HELLO)
        _expect(plain, 1)
        plain.sendall(b"STARTTLS\r\n")
        _expect(plain, 1)
        with context.wrap_socket(plain) as secure:
            secure.sendall(_HELLO)
            _expect(secure, 1)
            secure.sendall(_ENVELOPE)
            _expect(secure, 3)
            secure.sendall(_CONTENT)
            _expect(secure, 1)
            secure.sendall(b"QUIT\r\n")
            _expect(secure, 1)


def _expect(connection: socket.socket, count: int) -> None:
    """
    Read *count* replies; the server says nothing unasked behind them.

    :raises ConnectionError: the server has closed, or one of them is a refusal.
    """
    received = b""
    while True:
        part = connection.recv(4096)
        if not part:
            raise ConnectionError("the server has closed")
        received += part
        lines = received.splitlines() if received.endswith(b"\n") else []
        replies = [line for line in lines if line[3:4] != b"-"]
        if any(line[:1] not in b"23" for line in replies):
            raise ConnectionError(received.decode("ascii", "replace"))
        if len(replies) == count:
            return


def send(address: tuple[str, int], sessions: int, orders: Connection) -> None:
    """As many messages as each order says, *sessions* at a time; ends with order 0."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with ThreadPoolExecutor(sessions) as pool:
        orders.send("ready")
        while count := orders.recv():
            for done in [pool.submit(send_one, address, context) for _ in range(count)]:
                done.result()
            orders.send("done")


def main() -> None:
    """Share the load among the processes."""
    # Only who ends in order takes its daemons with it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit())
    host, _, port = sys.argv[1].rpartition(":")
    each = int(sys.argv[2]) // _PROCESSES
    orders = []
    for _ in range(_PROCESSES):
        ours, theirs = Pipe()
        Process(target=send, args=((host, int(port)), each, theirs), daemon=True).start()
        theirs.close()
        orders.append(ours)
    print(*{order.recv() for order in orders}, flush=True)
    for line in sys.stdin:
        count = int(line)
        for nth, order in enumerate(orders):
            order.send(count // _PROCESSES + (nth < count % _PROCESSES))
        print(*{order.recv() for order in orders}, flush=True)


if __name__ == "__main__":
    main()
