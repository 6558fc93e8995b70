"""
Text as local programs write it, made fit for the wire, block by block.

:Room: ``intake`` -- octets to octets; no I/O.
:RFC: 5321 §2.3.8 (only CRLF ends a line), §4.5.3.1.6 (text line); promise P6.
:Called by: `mailhost.intake.submission`.

No Python runs per line.  A dot at the start of a line, or alone on one, is
content like any other (PIC-07): what goes on the wire is stuffed there.
"""

from __future__ import annotations

from attrs import define, field

from mailhost.intake.pickup_file import BadPickupFile
from mailhost.smtp.content import LineLengths

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@define
class LineEnds:
    """LF, CR and CRLF each end a line; all become CRLF."""

    _held_cr: bool = field(default=False, init=False)
    _at_line_start: bool = field(default=True, init=False)

    def feed(self, block: bytes) -> bytes:
        """What is sure of *block*: a CR at its end waits for its LF."""
        if not block:
            return b""
        if self._held_cr:
            block = b"\r" + block
        self._held_cr = block.endswith(b"\r")
        if self._held_cr:
            block = block[:-1]
        if block:
            self._at_line_start = block.endswith((b"\n", b"\r"))
        return to_crlf(block)

    def end(self) -> bytes:
        """What is still missing at the end of the file."""
        return b"\r\n" if self._held_cr or not self._at_line_start else b""


def to_crlf(text: bytes) -> bytes:
    """*text* with CRLF line ends throughout."""
    pairs = text.count(b"\r\n")
    if text.count(b"\r") == pairs and text.count(b"\n") == pairs:
        return text
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


@define
class LocalText:
    """
    A local file's octets on their way to becoming content.

    :ivar max_line_octets: the longest line without its CRLF; `None`: any.
    :ivar eight_bit: an octet over 127 came by (RFC 6152).
    """

    max_line_octets: int | None
    eight_bit: bool = field(default=False, init=False)
    _ends: LineEnds = field(factory=LineEnds, init=False)
    _lines: LineLengths = field(factory=LineLengths, init=False)
    _started: bool = field(default=False, init=False)

    def feed(self, block: bytes) -> bytes:
        """
        :raises BadPickupFile: it holds NUL or too long a line.
        """
        if not self._started:
            # Programs on Windows begin UTF-8 text with a mark; no field is called so.
            block = block.removeprefix(_BYTE_ORDER_MARK)
            self._started = True
        return self._checked(self._ends.feed(block))

    def end(self) -> bytes:
        """The octets that complete the last line."""
        return self._checked(self._ends.end())

    def _checked(self, block: bytes) -> bytes:
        if b"\0" in block:
            # RFC 5322 §4: NUL is obsolete, RFC 6152 §3 keeps it out of 8BITMIME.
            raise BadPickupFile("it holds NUL octets, so it is no mail message")
        if self.max_line_octets is not None and self._lines.exceed(block, self.max_line_octets):
            raise BadPickupFile(f"it has a line of more than {self.max_line_octets} octets")
        self.eight_bit = self.eight_bit or not block.isascii()
        return block
