"""
A peer's replies, read off the wire.

:Room: ``smtp``
:RFC: 5321 §4.2 (shape), §4.2.1 (multi-line), §4.5.3.1.5 (512 octets a line), 2034 §4.
:Called by: `mailhost.smtp.client_dialogue`.
"""

from __future__ import annotations

import re
from functools import lru_cache

from attrs import define, field

from mailhost.errors import SyntaxProblem
from mailhost.model.reply import Reply

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_STATUS = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?: |$)")
MAX_LINES = 100
MAX_REPLY_OCTETS = 16384
#: A whole reply of one line that is not longer is remembered: hosts say the same again and again.
_REMEMBERED_OCTETS = 128


@define
class ReplyReader:
    """
    Collects octets until a reply is whole.

    What it holds is bounded: a reply of more than `MAX_LINES` lines or
    `MAX_REPLY_OCTETS` octets is refused.
    """

    _buffer: bytes = field(default=b"", init=False)
    _lines: list[str] = field(factory=list, init=False)
    _code: bytes = field(default=b"", init=False)
    _octets: int = field(default=0, init=False)

    def feed(self, octets: bytes) -> None:
        """Take what came from the peer."""
        self._buffer += octets

    @property
    def empty(self) -> bool:
        """Nothing is left over, whole or in part."""
        return not self._buffer and not self._lines

    def take(self) -> Reply | None:
        """
        The next whole reply, or `None` when more octets are needed.

        :raises SyntaxProblem: what the peer sent is no reply.
        """
        while (end := self._buffer.find(b"\n")) >= 0:
            # A reply whose lines end in LF alone is understood all the same: it
            # is read here, and goes nowhere.
            line = self._buffer[:end].removesuffix(b"\r")
            self._buffer = self._buffer[end + 1 :]
            if end <= _REMEMBERED_OCTETS and not self._lines:
                reply = _one_line(line)
                if reply is not None:
                    return reply
            if self._line(line):
                return self._whole()
        if len(self._buffer) > MAX_REPLY_OCTETS:
            raise SyntaxProblem("a reply line without end")
        return None

    def _line(self, line: bytes) -> bool:
        """Take one line; `True` when it was the reply's last."""
        self._octets += len(line)
        found = _LINE.fullmatch(line)
        if found is None or (self._code and found[1] != self._code):
            raise SyntaxProblem(f"not an SMTP reply: {line[:80]!r}")
        if len(self._lines) >= MAX_LINES or self._octets > MAX_REPLY_OCTETS:
            raise SyntaxProblem("a reply without end")
        self._code = found[1]
        self._lines.append((found[3] or b"").decode("utf-8", "replace"))
        return found[2] != b"-"

    def _whole(self) -> Reply:
        code, lines = int(self._code), self._lines
        self._code, self._lines, self._octets = b"", [], 0
        return _reply(code, lines)


@lru_cache(maxsize=1024)
def _one_line(line: bytes) -> Reply | None:
    """The reply that *line* is, unless it is part of one, or none."""
    found = _LINE.fullmatch(line)
    if found is None or found[2] == b"-":
        return None
    return _reply(int(found[1]), [(found[3] or b"").decode("utf-8", "replace")])


def _reply(code: int, lines: list[str]) -> Reply:
    status = None
    found = _STATUS.match(lines[0])
    # §4 of RFC 2034: the classes agree; a status that contradicts is noise.
    if found is not None and int(found[1][0]) == code // 100:
        status = found[1]
        lines = [line.removeprefix(status).lstrip(" ") for line in lines]
    return Reply(code, status, tuple(lines))
