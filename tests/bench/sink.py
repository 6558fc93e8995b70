"""
A sink for messages that costs little beside the server that relays them; smtp-sink looks at
every octet.

``python -m tests.bench.sink HOST:PORT`` takes whatever comes, and keeps nothing of it; for each
line that it reads it says how many messages have come.  It offers what smtp-sink offers, but for
what needs a login or a proxy.  One thread: with so little to do for a session, threads would only
wait for each other.
"""

from __future__ import annotations

import selectors
import socket
import sys
from collections.abc import Callable

from attrs import define, field

from tests.support.process import split_address

#: What comes of a content at once; it is all that is read between two looks at the selector.
_BLOCK_OCTETS = 262_144
_DOT = b"\r\n.\r\n"
_OK = b"250 2.0.0 Ok\r\n"
_HELLO = (b"250-sink", b"250-PIPELINING", b"250-8BITMIME", b"250-ENHANCEDSTATUSCODES", b"250 DSN")
_REPLIES = {
    b"EHLO": b"\r\n".join((*_HELLO, b"")),
    b"MAIL": _OK,
    b"RCPT": _OK,
    b"DATA": b"354 End data with <CR><LF>.<CR><LF>\r\n",
    b"RSET": _OK,
    b"QUIT": b"221 2.0.0 Bye\r\n",
}


@define(eq=False)
class Session:
    """
    One client that is right.

    :ivar closed: it has gone.
    """

    connection: socket.socket
    closed: bool = field(default=False, init=False)
    _in_content: bool = field(default=False, init=False)
    # An unfinished line; of a content what may be the beginning of its end.
    _rest: bytes = field(default=b"", init=False)

    def read(self, buffer: bytearray) -> bool:
        """
        Take what has come, by way of *buffer*, and answer it.

        :returns: whether it ends a message.
        :raises ValueError: the client does not wait where it has to.
        """
        begin = len(self._rest)
        buffer[:begin] = self._rest
        try:
            end = begin + self.connection.recv_into(memoryview(buffer)[begin:])
        except ConnectionResetError:
            end = begin
        self.closed = end == begin
        if not self._in_content:
            self._answer(buffer[:end], b"")
            return False
        # No other line of a dot can be here: contents have two in its place.  But RFC 2920 §3.1
        # lets the next commands follow it, up to the next DATA.
        dot = buffer.rfind(_DOT, 0, end)
        if dot < 0:
            self._rest = bytes(buffer[max(0, end - len(_DOT) + 1) : end])
            return False
        self._in_content = False
        self._answer(buffer[dot + len(_DOT) : end], _OK)
        return True

    def _answer(self, octets: bytearray, said: bytes) -> None:
        """The commands in *octets*, behind what is to be *said* anyway."""
        *lines, rest = octets.split(b"\r\n")
        self._rest = bytes(rest)
        for line in lines:
            if self._in_content:
                raise ValueError(f"{line!r} behind DATA, which is the last of a group")
            verb = bytes(line[:4]).upper()
            self._in_content = verb == b"DATA"
            said += _REPLIES.get(verb, b"500 5.5.1 Not known\r\n")
        if self._in_content:
            if rest:
                raise ValueError(f"{rest!r} before the reply to DATA")
            # The end of a line: a content that is empty begins with its dot.
            self._rest = b"\r\n"
        if said:
            self.connection.sendall(said)


@define(eq=False)
class Sink:
    """
    Everything that listens on one socket.

    :ivar arrived: how many messages have come.
    """

    listening: socket.socket
    arrived: int = field(default=0, init=False)
    _selector: selectors.BaseSelector = field(factory=selectors.DefaultSelector, init=False)
    _buffer: bytearray = field(factory=lambda: bytearray(_BLOCK_OCTETS), init=False)

    def __attrs_post_init__(self) -> None:
        self.watch(self.listening, self._accept)

    def watch(self, readable: object, ready: Callable[[], None]) -> None:
        """Call *ready* whenever there is something to be read."""
        self._selector.register(readable, selectors.EVENT_READ, ready)  # type: ignore[arg-type]  # a file or a socket

    def turn(self) -> None:
        """Wait until something is ready, and serve all that is."""
        for key, _ in self._selector.select():
            key.data()

    def _accept(self) -> None:
        connection, _ = self.listening.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        session = Session(connection)
        self.watch(connection, lambda: self._read(session))
        connection.sendall(b"220 sink ESMTP\r\n")

    def _read(self, session: Session) -> None:
        self.arrived += session.read(self._buffer)
        if session.closed:
            self._selector.unregister(session.connection)
            session.connection.close()


def main() -> None:
    """Serve until nobody asks any more."""
    with socket.create_server(split_address(sys.argv[1]), backlog=500) as listening:
        sink = Sink(listening)
        asking = True

        def asked() -> None:
            nonlocal asking
            asking = bool(sys.stdin.readline())
            if asking:
                print(sink.arrived, flush=True)

        sink.watch(sys.stdin, asked)
        while asking:
            sink.turn()


if __name__ == "__main__":
    main()
