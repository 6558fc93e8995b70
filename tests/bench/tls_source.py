"""
A source of messages through STARTTLS, a connection each; smtp-source speaks no TLS.

``python -m tests.bench.tls_source HOST:PORT SESSIONS MESSAGES``.  It verifies nothing:
what is measured is the server.  Two processes, so that two cores can be busy with it.
"""

from __future__ import annotations

import socket
import ssl
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

_PROCESSES = 2
_CONTENT = b"Subject: load\r\n\r\n" + (b"x" * 62 + b"\r\n") * 64 + b".\r\n"


def send_one(address: tuple[str, int], context: ssl.SSLContext) -> None:
    """One session with one message."""
    with socket.create_connection(address, 60) as plain:
        _talk(plain, b"", b"EHLO client.example\r\n", b"STARTTLS\r\n")
        with context.wrap_socket(plain) as secure:
            envelope = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@remote.example>\r\nDATA\r\n"
            _talk(secure, b"EHLO client.example\r\n")
            secure.sendall(envelope)
            for _ in range(3):
                _reply(secure)
            _talk(secure, _CONTENT, b"QUIT\r\n")


def _talk(connection: socket.socket, *lines: bytes) -> None:
    for line in lines:
        if line:
            connection.sendall(line)
        _reply(connection)


def _reply(connection: socket.socket) -> None:
    """Read one reply; replies to pipelined commands come one by one."""
    line = b""
    while True:
        octet = connection.recv(1)
        if not octet:
            raise ConnectionError("the server has closed")
        line += octet
        if line.endswith(b"\r\n"):
            if line[:1] not in b"23":
                raise ConnectionError(line.decode("ascii", "replace"))
            if line[3:4] == b" ":
                return
            line = b""


def send(address: tuple[str, int], sessions: int, count: int) -> None:
    """*count* messages, *sessions* at a time."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with ThreadPoolExecutor(sessions) as pool:
        for done in [pool.submit(send_one, address, context) for _ in range(count)]:
            done.result()


def main() -> None:
    """Share the load among the processes."""
    host, _, port = sys.argv[1].rpartition(":")
    sessions, count = int(sys.argv[2]), int(sys.argv[3])
    with ProcessPoolExecutor(_PROCESSES) as pool:
        shares = [count // _PROCESSES + (n < count % _PROCESSES) for n in range(_PROCESSES)]
        each = sessions // _PROCESSES
        for done in [pool.submit(send, (host, int(port)), each, share) for share in shares]:
            done.result()


if __name__ == "__main__":
    main()
