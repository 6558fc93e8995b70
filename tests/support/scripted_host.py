"""A mail host in threads of the test that does, once or for ever, what its script says."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from attrs import define, field

GOOD = {
    "banner": "220 host.example",
    "HELO": "250 host.example",
    "STARTTLS": "454 4.7.0 not now",
    "MAIL": "250 2.1.0 ok",
    "RCPT": "250 2.1.5 ok",
    "DATA": "354 go on",
    ".": "250 2.0.0 taken",
    "RSET": "250 2.0.0 ok",
    "QUIT": "221 2.0.0 bye",
}
_TEST_ID = re.compile(rb"^X-Test-ID: (\S+)\r$", re.MULTILINE)


class Over(Exception):
    """The host closes the connection now."""


#: Does what is done instead of a good reply.
Manner = Callable[["Peer"], None]


@define
class Copy:
    """
    One message that came to its final dot.

    :ivar promised: the host began to say 2yz.
    """

    test_id: str
    receivers: tuple[str, ...]
    promised: bool = False


@define(eq=False)
class ScriptedHost:
    """
    :ivar script: per phase (a verb, ``"banner"``, ``"."``, or ``"RCPT local-part"``) what is
        done instead of the good reply (`None`: nothing), used up from its beginning;
        afterwards it is good.
    :ivar extensions: offered to EHLO.
    :ivar copies: what came, in order.
    :ivar sessions: how many there were.
    :ivar port: 0: one that the kernel gives.
    """

    host: str
    script: Mapping[str, Iterable[Manner | None]] = field(factory=dict)
    extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME")
    copies: list[Copy] = field(factory=list)
    sessions: int = 0
    port: int = 0
    _open: set[socket.socket] = field(factory=set)
    _server: Any = None
    _lock: threading.Lock = field(factory=threading.Lock)
    _scripts: dict[str, Iterator[Manner | None]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._scripts = {phase: iter(manners) for phase, manners in self.script.items()}

    def start(self) -> None:
        """Listen, for the first time or again."""
        owner = self

        class Session(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with owner._lock:
                    owner.sessions += 1
                    owner._open.add(self.connection)
                with suppress(Over, OSError):
                    Peer(owner, self.rfile, self.connection.sendall).serve()

            def finish(self) -> None:
                with owner._lock:
                    owner._open.discard(self.connection)
                with suppress(OSError):
                    super().finish()

        self._server = _Server((self.host, self.port), Session)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def next_hop(self) -> str:
        """This host as a next hop that needs no DNS."""
        return f"[{self.host}]:{self.port}"

    def stop(self) -> None:
        """Take no more; who is talking goes on."""
        self._server.shutdown()
        self._server.server_close()

    def die(self) -> None:
        """Take no more, and end what is under way, wherever it is."""
        self.stop()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def copies_of(self, test_id: str) -> list[Copy]:
        return [one for one in list(self.copies) if one.test_id == test_id]

    def manner(self, phase: str) -> Manner | None:
        """What is to be done this time instead of the good reply."""
        with self._lock:
            return next(self._scripts.get(phase, iter(())), None)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def server_bind(self) -> None:
        # What the kernel takes unread must not hide that the host has gone (inherited by accept).
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        super().server_bind()


@define(eq=False)
class Peer:
    """One session, as a `Manner` sees it."""

    owner: ScriptedHost
    stream: Any
    send: Callable[[bytes], None]
    said: bytes = b""
    _paths: list[str] = field(factory=list)

    def say(self, words: str | bytes) -> None:
        """Send *words* as a line."""
        octets = words if isinstance(words, bytes) else words.encode() + b"\r\n"
        self.said = self.said or octets[:1]
        self.send(octets)

    def wait_for_end(self) -> None:
        """Hear, and say nothing any more."""
        while self.stream.read1(65536):
            pass
        raise Over

    def serve(self) -> None:
        """Commands may come in one piece (RFC 2920)."""
        self._answer("banner")
        while line := self.stream.readline():
            verb = line.split()[0].decode("ascii").upper() if line.split() else ""
            if verb == "RCPT":
                self._recipient(line)
            elif verb in ("DATA", "BDAT"):
                self._content(verb, line)
            else:
                if verb == "MAIL":
                    self._paths = []
                self._answer(verb)
            if verb == "QUIT":
                raise Over

    def _answer(self, *phases: str) -> bool:
        """:returns: whether 2yz or 3yz was said."""
        self.said = b""
        manner = next(filter(None, map(self.owner.manner, phases)), None)
        if manner is not None:
            manner(self)
        else:
            self.say(self._good(phases[-1]))
        return self.said in (b"2", b"3")

    def _good(self, phase: str) -> str:
        if phase == "EHLO":
            lines = ["host.example", *self.owner.extensions]
            return "\r\n".join(f"250{' -'[one is not lines[-1]]}{one}" for one in lines)
        return GOOD.get(phase, "500 5.5.2 what")

    def _recipient(self, line: bytes) -> None:
        path = line.partition(b"<")[2].partition(b">")[0].decode()
        if self._answer(f"RCPT {path.partition('@')[0]}", "RCPT"):
            self._paths.append(path)

    def _content(self, verb: str, line: bytes) -> None:
        if verb == "BDAT":
            octets = self.stream.read(int(line.split()[1]))
        elif not self._paths and "DATA" not in self.owner.script:
            self.say("554 5.5.1 no valid recipients")
            return
        elif not self._answer("DATA"):
            return
        else:
            octets = b"".join(self._lines())
        found = _TEST_ID.search(octets)
        copy = Copy(found[1].decode() if found else "", tuple(self._paths))
        self.owner.copies.append(copy)
        try:
            self._answer(".")
        finally:
            copy.promised = self.said == b"2"

    def _lines(self) -> Iterator[bytes]:
        while (line := self.stream.readline()) != b".\r\n":
            if not line:
                raise Over
            yield line


# ---- manners


def says(words: str | bytes) -> Manner:
    """Another reply; after 421 the host is gone (RFC 5321 §3.8)."""

    def manner(peer: Peer) -> None:
        peer.say(words)
        if peer.said == b"4" and b"421" in (words.encode() if isinstance(words, str) else words):
            raise Over

    return manner


def says_and_goes(words: str | bytes) -> Manner:
    def manner(peer: Peer) -> None:
        peer.say(words)
        raise Over

    return manner


def goes(peer: Peer) -> None:
    raise Over


def is_silent(peer: Peer) -> None:
    peer.wait_for_end()


def never_ends(octets: bytes, beginning: bytes = b"") -> Manner:
    """As fast as it can, until it is cut off."""

    def manner(peer: Peer) -> None:
        if beginning:
            peer.say(beginning)
        while True:
            peer.send(octets * (65536 // len(octets)))

    return manner


def dribbles(octets: bytes, pause_seconds: float, for_ever: bool = False) -> Manner:
    """One octet at a time."""

    def manner(peer: Peer) -> None:
        while True:
            for octet in octets:
                peer.say(bytes([octet]))
                time.sleep(pause_seconds)
            if not for_ever:
                return

    return manner


def late(seconds: float, words: str) -> Manner:
    def manner(peer: Peer) -> None:
        time.sleep(seconds)
        peer.say(words)

    return manner


def hears_and_goes(octets: int) -> Manner:
    """Says 354, reads some of the content, and closes."""

    def manner(peer: Peer) -> None:
        peer.say("354 go on")
        peer.stream.read(octets)
        raise Over

    return manner


def garbled_handshake(peer: Peer) -> None:
    """220 to STARTTLS, and then no TLS."""
    peer.say("220 go on")
    peer.stream.read1(65536)
    peer.send(b"\x16\x03\x03" + bytes(range(256)))
    peer.wait_for_end()
