"""
The content of a message on the wire, in blocks: dots, line ends, line lengths.

:Room: ``smtp``
:RFC: 3030 §2 (chunks); 5321 §4.5.2 (transparency), §4.1.1.4 (only CRLF.CRLF ends it), §2.3.8
    (only CRLF ends a line), §4.5.3.1.6 (text line); promise P6.
:Called by: `mailhost.smtp.server_dialogue` (`ContentReader`) and
    `mailhost.smtp.client_dialogue` (`ContentWriter`).

No Python runs per line: a block goes through a handful of C calls.  What could
be the beginning of an end, ``CR LF . CR``, is held back until the next block.
"""

from __future__ import annotations

import re
from io import IncrementalNewlineDecoder

from attrs import define, field

from mailhost.model.reply import Reply
from mailhost.smtp import replies

# As numbers: ``in`` takes octets for a number first, and has made an exception before it looks.
_NUL, _DOT = b"\0."
END = b"\r\n.\r\n"
#: What may be the start of `END` or of a stuffed line, longest first.
_TAILS = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")
#: Where line ends are mended, a dot behind a bare LF starts a line as well.
_MENDED_TAILS = (*_TAILS, b"\n")
_BARE_CR = re.compile(rb"\r(?!\n)")
_BARE_LF = re.compile(rb"(?<!\r)\n")


@define
class LineLengths:
    """Lengths of text lines, over the borders of blocks."""

    # Octets of the line that has begun and not ended.
    _begun: int = field(default=0, init=False)

    def exceed(self, block: bytes, limit: int) -> bool:
        """
        Whether a line is longer than *limit* octets, its CRLF not counted.

        Jumps from line end to line end in steps of *limit*, not line by line.

        :param block: what follows; every LF in it ends a line.
        """
        size = len(block)
        find = block.rfind
        reach = limit + 2  # up to the LF, which stands behind a CR
        start = -self._begun
        if start < 0 and size - start >= reach:
            start = find(b"\n", 0, max(start + reach, 0)) + 1
            if not start:
                return True
        final = size - reach
        while start <= final:
            start = find(b"\n", start, start + reach) + 1
            if not start:
                return True
        last = find(b"\n", max(start, 0))
        self._begun = size - (last + 1 if last >= 0 else start)
        return False


@define
class ContentReader:
    """
    Turns wire octets into content.

    :ivar max_line_octets: the longest text line without its CRLF; `None`: any.
    :ivar mends: a bare CR or LF is mended, see `mended`.  It ends no content in any case.
    :ivar fault: the first thing that makes the content unacceptable.  Reading
        goes on to the real end all the same, so that no octet of a refused
        content is ever taken for a command.
    :ivar ended: the final dot has been seen.
    """

    max_line_octets: int | None = 998
    mends: bool = False
    fault: Reply | None = field(default=None, init=False)
    ended: bool = field(default=False, init=False)
    # No dot was taken from the start of a line.
    _undotted: bool = field(default=True, init=False)
    # The content starts as if after a CRLF, which is not part of it.
    _held: bytes = field(default=b"\r\n", init=False)
    _virtual: int = field(default=2, init=False)
    _lines: LineLengths = field(factory=LineLengths, init=False)

    @property
    def wire_ready(self) -> bool:
        """The whole content can be sent as it is: good lines, and no dot begins one."""
        return self.ended and self._undotted and self.fault is None

    def feed(self, octets: bytes) -> tuple[bytes, bytes]:
        """
        :returns: content that is sure, and what follows the final dot; the
            latter is empty unless `ended`.
        """
        octets = self._held + octets
        # A dot at the start of a line: the end, or stuffed.  Most blocks have none, and a
        # single octet (base64 has no dot at all) is looked for ten times as fast.
        dot = octets.find(b"\r\n.") if _DOT in octets else -1
        # Of many stuffed lines few end: searched from behind, most are passed over faster.
        end = octets.find(END, dot) if dot >= 0 and octets.rfind(END, dot) >= 0 else -1
        if end >= 0:
            self.ended = True
            block, rest = octets[: end + 2], octets[end + 5 :]
            self._held = b""
        else:
            keep = len(octets)
            for tail in _MENDED_TAILS if self.mends else _TAILS:
                if octets.endswith(tail):
                    keep -= len(tail)
                    break
            block, rest = octets[:keep], b""
            self._held = octets[keep:]
        if not block:
            return b"", rest
        if self.mends and has_bare_ends(block):
            block = mended(block)
            dot = block.find(b"\r\n.")
        if self.fault is None:
            self.fault = octets_fault(block)
        if 0 <= dot <= len(block) - 3:  # neither the end, nor held back
            block = _unstuffed(block, self.fault is None)
            self._undotted = False
        if self.fault is None:
            self._check_lines(block)
        if self._virtual:
            self._virtual, block = 0, block[2:]
        return block, rest

    def _check_lines(self, block: bytes) -> None:
        # After un-stuffing: the transparent dot is not counted (§4.5.3.1.6).
        limit = self.max_line_octets
        if limit is not None and self._lines.exceed(block, limit):
            self.fault = replies.content_line_too_long(limit)


def _unstuffed(block: bytes, clean: bool) -> bytes:
    """
    *block* without the first dot of each line (§4.5.2).

    An octet in the place of another, and then all such octets out, is twice as fast as three
    octets that become two.

    :param clean: it has no NUL, and no LF but in a CRLF.
    """
    if not clean:
        return block.replace(b"\r\n.", b"\r\n")
    return block.replace(b"\n.", b"\n\0").translate(None, b"\0")


def octets_fault(block: bytes) -> Reply | None:
    """Why *block* cannot be content of lines; it does not end within a CRLF."""
    if has_bare_ends(block):
        return replies.BARE_CR_OR_LF
    # RFC 5322 §4: NUL is obsolete, RFC 6152 §3 keeps it out of 8BITMIME.
    return replies.NUL_IN_CONTENT if _NUL in block else None


def has_bare_ends(block: bytes) -> bool:
    """
    Whether a CR or an LF in *block* is not part of a CRLF (RFC 5321 §2.3.8).

    The decoder of universal newlines walks over the text once, in C, makes no object for a
    line, and says which of the three kinds it has met.
    """
    decoder = IncrementalNewlineDecoder(None, translate=False)
    decoder.decode(block.decode("latin-1"), final=True)
    return decoder.newlines not in (None, "\r\n")


def mended(block: bytes) -> bytes:
    """
    *block* with a CRLF for each bare LF, and a blank for each bare CR.

    So a bare LF means what old devices mean by it, and neither of them reaches a next
    hop (promise P6).  *block* does not end with a CR.
    """
    return _BARE_LF.sub(b"\r\n", _BARE_CR.sub(b" ", block))


@define
class ContentWriter:
    """
    Turns content into wire octets, whatever the borders of its blocks.

    :ivar wire_ready: the content was found to need nothing when it came in.
    :ivar bare: a bare CR or LF came by; such content must not be sent.
    """

    wire_ready: bool = False
    bare: bool = field(default=False, init=False)
    # What the blocks so far end with: CRLF, a CR that may still get its LF, or
    # anything else (empty).  The content starts as if after a CRLF.
    _last: bytes = field(default=b"\r\n", init=False)

    def stuff(self, block: bytes) -> bytes:
        """*block* with a dot before every dot that starts a line (§4.5.2)."""
        if not block or self.wire_ready:
            return block
        carried = len(self._last)
        joined = self._last + block
        if joined.endswith(b"\r\n"):
            settled, self._last = joined, b"\r\n"
        elif joined.endswith(b"\r"):
            settled, self._last = joined[:-1], b"\r"
        else:
            settled, self._last = joined, b""
        if has_bare_ends(settled):
            self.bare = True
        if joined.find(b"\r\n.") >= 0:
            joined = joined.replace(b"\r\n.", b"\r\n..")
        return joined[carried:]

    def pass_on(self, block: bytes) -> bytes:
        """*block* as it is, for a chunk; nothing, once a bare CR or LF came by."""
        self.stuff(block)
        return b"" if self.bare else block

    def end(self) -> bytes:
        """The octets that end the content; a missing last CRLF is supplied."""
        if self._last == b"\r":
            self.bare = True
        return b".\r\n" if self._last == b"\r\n" else END
