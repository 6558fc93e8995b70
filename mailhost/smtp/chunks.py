"""
Content that comes in chunks of announced sizes.

:Room: ``smtp``
:RFC: 3030 §2 (BDAT), §3; 5321 §2.3.8 (only CRLF ends a line), §4.5.3.1.6; promise P6.
:Called by: `mailhost.smtp.server_dialogue`.

There are no dots, and the rules for the content are the same as after DATA; unless it was
announced as BINARYMIME (§3), which has no rules at all.
"""

from __future__ import annotations

from attrs import define, field

from mailhost.model.reply import Reply
from mailhost.smtp import replies
from mailhost.smtp.content import LineLengths, octets_fault
from mailhost.smtp.events import ChunkGiven


@define
class ChunkedContent:
    """
    One content, chunk after chunk.

    :ivar max_line_octets: the longest text line without its CRLF; `None`: any.
    :ivar binary: it is BINARYMIME.
    :ivar fault: the first thing that makes the content unacceptable.
    :ivar chunk: the one that is being read; `None` between two of them.
    :ivar left: octets of it that have not come.
    :ivar announced: octets of all chunks so far.
    """

    max_line_octets: int | None = 998
    binary: bool = False
    fault: Reply | None = field(default=None, init=False)
    chunk: ChunkGiven | None = field(default=None, init=False)
    left: int = field(default=0, init=False)
    announced: int = field(default=0, init=False)
    # A CR at the end of what came, until it is known what follows it.
    _held: bytes = field(default=b"", init=False)
    _at_line_end: bool = field(default=True, init=False)
    _lines: LineLengths = field(factory=LineLengths, init=False)

    def begin(self, chunk: ChunkGiven) -> None:
        """*chunk* follows."""
        self.chunk, self.left = chunk, chunk.size
        self.announced += chunk.size

    def feed(self, octets: bytes) -> tuple[bytes, bytes]:
        """:returns: content that is sure, and what follows the chunk."""
        octets, rest = octets[: self.left], octets[self.left :]
        self.left -= len(octets)
        if self.binary:
            return octets, rest
        block = self._held + octets if self._held else octets
        self._held = b"\r" if block.endswith(b"\r") else b""
        if self._held:
            block = block[:-1]
        if block:
            self._check(block)
            self._at_line_end = block.endswith(b"\r\n")
        return block, rest

    def _check(self, block: bytes) -> None:
        limit = self.max_line_octets
        if self.fault is None:
            self.fault = octets_fault(block)
        if self.fault is None and limit is not None and self._lines.exceed(block, limit):
            self.fault = replies.content_line_too_long(limit)

    def end(self) -> bytes:
        """
        The last chunk is there.

        :returns: what completes the last line, so that the content can go out by
            DATA as well.
        """
        if self._held and self.fault is None:
            self.fault = replies.BARE_CR_OR_LF
        return b"" if self._at_line_end else b"\r\n"
