"""
A server that speaks LDAP as a test tells it to, be it well or badly.

Its answers are written octet by octet (RFC 4511, BER), so that they can be wrong.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from threading import Thread

from attrs import define, field

#: In place of a frame: end the connection here.
HANG_UP = b""
_PAGED_RESULTS = b"1.2.840.113556.1.4.319"


def tlv(tag: int, *parts: bytes) -> bytes:
    """One BER element."""
    body = b"".join(parts)
    if len(body) < 128:
        return bytes((tag, len(body))) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + body


def _integer(value: int, tag: int = 2) -> bytes:
    return tlv(tag, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def entry(number: int, dn: bytes, attributes: Mapping[str, Sequence[bytes]]) -> bytes:
    """A SearchResultEntry."""
    listed = b"".join(
        tlv(0x30, tlv(4, name.encode()), tlv(0x31, *(tlv(4, value) for value in values)))
        for name, values in attributes.items()
    )
    return tlv(0x30, _integer(number), tlv(0x64, tlv(4, dn), tlv(0x30, listed)))


def reference(number: int, *urls: str) -> bytes:
    """A SearchResultReference."""
    return tlv(0x30, _integer(number), tlv(0x73, *(tlv(4, url.encode()) for url in urls)))


def done(
    number: int,
    code: int = 0,
    words: str = "",
    referrals: Sequence[str] = (),
    cookie: bytes | None = None,
    tag: int = 0x65,
) -> bytes:
    """A SearchResultDone, or by *tag* another result."""
    parts = [_integer(code, 10), tlv(4), tlv(4, words.encode())]
    if referrals:
        parts.append(tlv(0xA3, *(tlv(4, url.encode()) for url in referrals)))
    controls = b""
    if cookie is not None:
        value = tlv(0x30, _integer(0), tlv(4, cookie))
        controls = tlv(0xA0, tlv(0x30, tlv(4, _PAGED_RESULTS), tlv(4, value)))
    return tlv(0x30, _integer(number), tlv(tag, *parts), controls)


@define
class Asked:
    """A search as it came."""

    number: int
    base: str
    attributes: list[str]
    cookie: bytes


#: From a search to the frames that answer it.
Script = Callable[[Asked], Sequence[bytes]]


@define(eq=False)
class FakeServer:
    """
    :ivar script: answers searches; binds succeed.
    :ivar searches: what has been asked.
    """

    script: Script
    searches: list[Asked] = field(factory=list, init=False)
    connections: int = field(default=0, init=False)
    _listening: socket.socket = field(factory=socket.socket, init=False)
    _open: list[socket.socket] = field(factory=list, init=False)

    def start(self) -> str:
        """Listen; the URL."""
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(50)
        Thread(target=self._accept, daemon=True).start()
        return f"ldap://127.0.0.1:{self._listening.getsockname()[1]}"

    def stop(self) -> None:
        """End the socket, and every connection."""
        for one in (self._listening, *self._open):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it was not connected
            finally:
                one.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        unread = b""
        while True:
            try:
                block = connection.recv(65536)
            except OSError:
                return
            if not block:
                return
            unread += block
            message, unread = _element(unread)
            try:
                for frame in self._answer(message):
                    if frame == HANG_UP:
                        connection.close()
                        return
                    connection.sendall(frame)
            except OSError:
                return

    def _answer(self, message: Element) -> Sequence[bytes]:
        envelope = _elements(message[1])
        number = int.from_bytes(envelope[0][1], "big")
        sort, body = envelope[1]
        if sort == 0x60:  # BindRequest
            return [done(number, tag=0x61)]
        if sort != 0x63:  # SearchRequest
            return [HANG_UP]
        request = _elements(body)
        attributes = [value.decode() for _, value in _elements(request[7][1])]
        cookie = _cookie(envelope[2][1]) if len(envelope) > 2 else b""
        asked = Asked(number, request[0][1].decode(), attributes, cookie)
        self.searches.append(asked)
        return self.script(asked)


#: Tag and content.
Element = tuple[int, bytes]


def _element(octets: bytes) -> tuple[Element, bytes]:
    """The first BER element, and what is behind it."""
    length, start = octets[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(octets[2:start], "big")
    return (octets[0], octets[start : start + length]), octets[start + length :]


def _elements(octets: bytes) -> list[Element]:
    found = []
    while octets:
        element, octets = _element(octets)
        found.append(element)
    return found


def _cookie(controls: bytes) -> bytes:
    for _, control in _elements(controls):
        parts = _elements(control)
        if parts[0][1] == _PAGED_RESULTS:
            return _elements(_elements(parts[-1][1])[0][1])[1][1]
    return b""
