"""A mail host in threads of the test, which remembers every copy it has taken, and when."""

from __future__ import annotations

import socketserver
import threading
import time
from contextlib import suppress
from typing import Any

from attrs import define, field, frozen

#: Recipients below this domain are refused with 550.
REFUSED_DOMAIN = "refused.example"


@frozen
class Copy:
    """
    One message taken.

    :ivar taken_at: monotonic seconds, before the reply to the final dot.
    """

    receivers: tuple[str, ...]
    content: bytes
    taken_at: float

    @property
    def test_id(self) -> str:
        """The X-Test-ID field; empty where there is none."""
        return id_of(self.content)


def id_of(content: bytes) -> str:
    """The first X-Test-ID field in *content*; empty where there is none."""
    _, found, rest = content.partition(b"X-Test-ID: ")
    return rest.partition(b"\r\n")[0].decode() if found else ""


@define(eq=False)
class RecordingSink:
    """
    :ivar copies: what was taken, in order.
    :ivar latency_seconds: between a copy's being taken and the reply that says so; a
        client that dies meanwhile does not know.
    :ivar open_sessions: how many there are now.
    :ivar address: ``host:port``.
    """

    host: str
    latency_seconds: float = 0.0
    copies: list[Copy] = field(factory=list)
    open_sessions: int = 0
    _server: Any = None
    _counting: threading.Lock = field(factory=threading.Lock)

    def start(self) -> None:
        """Listen on a port that the kernel gives."""
        sink = self

        class Session(_Session):
            def count(self, step: int) -> None:
                with sink._counting:
                    sink.open_sessions += step

            def take(self, receivers: list[str], content: bytes) -> None:
                sink.copies.append(Copy(tuple(receivers), content, time.monotonic()))
                time.sleep(sink.latency_seconds)

        self._server = _Server((self.host, 0), Session)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self) -> str:
        host, port = self._server.server_address
        return f"{host}:{port}"

    def stop(self) -> None:
        """Take no more."""
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is what this host is for."""


class _Session(socketserver.StreamRequestHandler):
    def count(self, step: int) -> None:
        raise NotImplementedError

    def take(self, receivers: list[str], content: bytes) -> None:
        raise NotImplementedError

    def setup(self) -> None:
        super().setup()
        self.count(1)

    def finish(self) -> None:
        self.count(-1)
        with suppress(OSError):
            super().finish()

    def handle(self) -> None:
        """One session; commands may come in one piece (RFC 2920)."""
        self.say("220 sink.example")
        receivers: list[str] = []
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                self.say("250-sink.example\r\n250-PIPELINING\r\n250 8BITMIME")
            elif verb == b"MAIL":
                receivers = []
                self.say("250 2.1.0 ok")
            elif verb == b"RCPT":
                self.receive(line, receivers)
            elif verb == b"DATA":
                if not self.data(receivers):
                    return
            elif verb == b"QUIT":
                self.say("221 2.0.0 bye")
                return
            else:
                self.say("250 2.0.0 ok")

    def receive(self, line: bytes, receivers: list[str]) -> None:
        path = line.partition(b"<")[2].partition(b">")[0].decode()
        if path.endswith("@" + REFUSED_DOMAIN):
            self.say("550 5.1.1 nobody here")
            return
        receivers.append(path)
        self.say("250 2.1.5 ok")

    def data(self, receivers: list[str]) -> bool:
        """:returns: whether the client has sent all of it."""
        if not receivers:
            self.say("554 5.5.1 no valid recipients")
            return True
        self.say("354 go on")
        lines: list[bytes] = []
        while (line := self.rfile.readline()) != b".\r\n":
            if not line.endswith(b"\r\n"):
                return False
            lines.append(line[1:] if line.startswith(b".") else line)
        content = b"".join(lines)
        self.take(receivers, content)
        self.say(f"250 2.0.0 taken {id_of(content)}".rstrip())
        return True

    def say(self, words: str) -> None:
        self.wfile.write(words.encode() + b"\r\n")
