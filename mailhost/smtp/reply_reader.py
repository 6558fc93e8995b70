"""
A peer's replies, read off the wire.

:Room: ``smtp``
:RFC: 5321 §4.2 (shape), §4.2.1 (multi-line), §4.5.3.1.5 (512 octets a line), 2034 §4.
:Called by: `mailhost.smtp.client_dialogue`.
"""

from __future__ import annotations

import re
from collections import deque
from functools import lru_cache

from attrs import define, field

from mailhost.errors import SyntaxProblem
from mailhost.model.reply import Reply

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_STATUS = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?: |$)")
MAX_LINES = 100
MAX_REPLY_OCTETS = 16384
#: What is not longer is remembered: hosts say the same again and again, and answer commands that
#: came together in one piece.
_REMEMBERED_OCTETS = 256


@define
class ReplyReader:
    """
    Collects octets until a reply is whole.

    What it holds is bounded: a reply of more than `MAX_LINES` lines or
    `MAX_REPLY_OCTETS` octets is refused.
    """

    # Those that came as whole lines, with nothing begun before them.
    _ready: deque[Reply] = field(factory=deque, init=False)
    _buffer: bytes = field(default=b"", init=False)
    _lines: list[str] = field(factory=list, init=False)
    _code: bytes = field(default=b"", init=False)
    _octets: int = field(default=0, init=False)

    def feed(self, octets: bytes) -> None:
        """Take what came from the peer."""
        if len(octets) <= MAX_REPLY_OCTETS and not (self._buffer or self._lines):
            known = len(octets) <= _REMEMBERED_OCTETS
            whole = _remembered(octets) if known else _whole_lines(octets)
            if whole is not None:
                self._ready.extend(whole)
                return
        self._buffer += octets

    @property
    def empty(self) -> bool:
        """Nothing is left over, whole or in part."""
        return not (self._ready or self._buffer or self._lines)

    def take(self) -> Reply | None:
        """
        The next whole reply, or `None` when more octets are needed.

        :raises SyntaxProblem: what the peer sent is no reply.
        """
        if self._ready:
            return self._ready.popleft()
        while (end := self._buffer.find(b"\n")) >= 0:
            # A reply whose lines end in LF alone is understood all the same: it
            # is read here, and goes nowhere.
            line = self._buffer[:end].removesuffix(b"\r")
            self._buffer = self._buffer[end + 1 :]
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


def _whole_lines(octets: bytes) -> tuple[Reply, ...] | None:
    """The replies that *octets* are, unless some line is part of one, or none, or not whole."""
    *lines, rest = octets.split(b"\n")
    if rest:
        return None
    replies = []
    for line in lines:
        reply = _short_line(line) if len(line) <= _REMEMBERED_OCTETS else _one_line(line)
        if reply is None:
            return None
        replies.append(reply)
    return tuple(replies)


_remembered = lru_cache(maxsize=1024)(_whole_lines)


def _one_line(line: bytes) -> Reply | None:
    """The reply that *line* is, unless it is part of one, or none."""
    found = _LINE.fullmatch(line.removesuffix(b"\r"))
    if found is None or found[2] == b"-":
        return None
    return _reply(int(found[1]), [(found[3] or b"").decode("utf-8", "replace")])


_short_line = lru_cache(maxsize=1024)(_one_line)


def _reply(code: int, lines: list[str]) -> Reply:
    status = None
    found = _STATUS.match(lines[0])
    # §4 of RFC 2034: the classes agree; a status that contradicts is noise.
    if found is not None and int(found[1][0]) == code // 100:
        status = found[1]
        lines = [line.removeprefix(status).lstrip(" ") for line in lines]
    return Reply(code, status, tuple(lines))
