"""
The PROXY header: a proxy says for whom it has connected.

:Room: ``net`` -- octets in, addresses out; no socket.
:Source: the PROXY protocol, versions 1 and 2, as HAProxy publishes it (§2.1, §2.2).
:Called by: `mailhost.net.proxied`.

The one in Twisted needs the first sixteen octets at once, which TCP does not promise.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from attrs import define, field, frozen

from mailhost.errors import SyntaxProblem

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V1 = b"PROXY "
#: §2.1: the longest line of version 1, with CRLF.
_MAX_V1_OCTETS = 107
#: Behind the addresses there may be more about the connection; nobody needs so much.
_MAX_V2_OCTETS = 16 + 4096
#: §2.2: octets of an address, by family and transport.
_ADDRESS_OCTETS = {0x11: 4, 0x21: 16}
_LOCAL, _PROXY = 0x20, 0x21


@frozen
class Proxied:
    """
    Both ends of the connection that the proxy has taken.

    :ivar peer: the client's IP address.
    :ivar local: the address that it connected to.
    """

    peer: str
    peer_port: int
    local: str
    local_port: int


@define
class ProxyHeaderReader:
    """
    One header.

    :ivar found: what it says; `None`: not known yet, or nothing, see *ended*.
    :ivar ended: it is complete.  Where *found* is `None` then, the proxy speaks for itself
        (``UNKNOWN``, ``LOCAL``): a health check.
    """

    found: Proxied | None = field(default=None, init=False)
    ended: bool = field(default=False, init=False)
    _buffer: bytes = field(default=b"", init=False)

    def feed(self, octets: bytes) -> bytes:
        """
        :returns: what follows the header; empty while it is incomplete.
        :raises SyntaxProblem: this is no header.
        """
        self._buffer += octets
        if _begins(self._buffer, _SIGNATURE):
            return self._read_v2()
        if _begins(self._buffer, _V1):
            return self._read_v1()
        raise SyntaxProblem("no PROXY header")

    def _end(self, size: int) -> bytes:
        self.ended = True
        rest, self._buffer = self._buffer[size:], b""
        return rest

    def _read_v1(self) -> bytes:
        end = self._buffer.find(b"\r\n", 0, _MAX_V1_OCTETS)
        if end >= 0:
            self.found = _parse_line(self._buffer[:end])
            return self._end(end + 2)
        if len(self._buffer) >= _MAX_V1_OCTETS:
            raise SyntaxProblem("a PROXY header without end")
        return b""

    def _read_v2(self) -> bytes:
        if len(self._buffer) < 16:
            return b""
        size = 16 + int.from_bytes(self._buffer[14:16], "big")
        if size > _MAX_V2_OCTETS:
            raise SyntaxProblem("a PROXY header that is too long")
        if len(self._buffer) < size:
            return b""
        self.found = _parse_binary(self._buffer[:size])
        return self._end(size)


def _begins(octets: bytes, with_: bytes) -> bool:
    """Whether *octets* begins so, as far as it goes."""
    return octets[: len(with_)] == with_[: len(octets)]


def _parse_line(line: bytes) -> Proxied | None:
    """§2.1: ``PROXY TCP4 192.0.2.7 198.51.100.1 40000 25``."""
    words = line.decode("ascii", "replace").split(" ")
    if len(words) >= 2 and words[1] == "UNKNOWN":
        return None
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise SyntaxProblem("a malformed PROXY header")
    family = IPv4Address if words[1] == "TCP4" else IPv6Address
    try:
        peer, local = family(words[2]), family(words[3])
    except ValueError:
        raise SyntaxProblem("a malformed address in the PROXY header") from None
    return Proxied(str(peer), _port(words[4]), str(local), _port(words[5]))


def _port(word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) <= 5 and int(word) <= 65535):
        raise SyntaxProblem("a malformed port in the PROXY header")
    return int(word)


def _parse_binary(octets: bytes) -> Proxied | None:
    """§2.2: signature, command, family, length, addresses, ports, and what we skip."""
    command, family = octets[12], octets[13]
    if command == _LOCAL:
        return None
    width = _ADDRESS_OCTETS.get(family)
    if command != _PROXY or width is None or len(octets) < 16 + 2 * width + 4:
        raise SyntaxProblem("a malformed PROXY header")
    peer, local = octets[16 : 16 + width], octets[16 + width : 16 + 2 * width]
    ports = octets[16 + 2 * width : 16 + 2 * width + 4]
    return Proxied(
        str(ip_address(peer)),
        int.from_bytes(ports[:2], "big"),
        str(ip_address(local)),
        int.from_bytes(ports[2:], "big"),
    )
