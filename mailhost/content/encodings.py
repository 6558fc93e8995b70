"""
Quoted-printable and base64, block by block.

:Room: ``content``
:RFC: 2045 §6.7, §6.8.
"""

from __future__ import annotations

from binascii import b2a_base64, b2a_qp
from typing import Protocol

from attrs import define, field

#: A line of base64 has 76 characters.
_BASE64_GROUP = 57
#: A line without end is encoded in pieces of so much.
_PIECE = 4096


class Encoder(Protocol):
    """Encodes one body."""

    def feed(self, octets: bytes) -> bytes:
        """What is sure once *octets* are there as well."""

    def end(self) -> bytes:
        """The rest."""


def quoted_printable(line: bytes) -> bytes:
    """
    One line, without its line end, in quoted-printable.

    As binary, so that a bare CR or LF within is encoded too; what line ends come out are
    then soft ones.
    """
    return b2a_qp(line, istext=False).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


@define
class QuotedPrintable:
    """Text: its lines stay lines, as far as they are short enough."""

    _rest: bytes = field(default=b"", init=False)

    def feed(self, octets: bytes) -> bytes:
        """See `Encoder`."""
        *lines, rest = (self._rest + octets).split(b"\r\n")
        pieces = [quoted_printable(line) + b"\r\n" for line in lines]
        while len(rest) > _PIECE + 1:  # the last octet may be the CR of a line end
            pieces.append(quoted_printable(rest[:_PIECE]) + b"=\r\n")
            rest = rest[_PIECE:]
        self._rest = rest
        return b"".join(pieces)

    def end(self) -> bytes:
        """See `Encoder`."""
        rest, self._rest = self._rest, b""
        return quoted_printable(rest)


@define
class Base64:
    """Anything."""

    _rest: bytes = field(default=b"", init=False)
    _begun: bool = field(default=False, init=False)

    def feed(self, octets: bytes) -> bytes:
        """See `Encoder`."""
        octets = self._rest + octets
        whole = len(octets) - len(octets) % _BASE64_GROUP
        self._rest = octets[whole:]
        return self._lines(octets[:whole])

    def end(self) -> bytes:
        """See `Encoder`."""
        rest, self._rest = self._rest, b""
        return self._lines(rest)

    def _lines(self, octets: bytes) -> bytes:
        """Line ends stand between lines: what follows the body brings its own."""
        if not octets:
            return b""
        lines = [
            b2a_base64(octets[start : start + _BASE64_GROUP], newline=False)
            for start in range(0, len(octets), _BASE64_GROUP)
        ]
        begun, self._begun = self._begun, True
        return (b"\r\n" if begun else b"") + b"\r\n".join(lines)
