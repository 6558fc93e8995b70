"""
The entities of a MIME message, found while its octets go by.

:Room: ``content``
:RFC: 2045 §5 (types), §6 (encodings); 2046 §5.1 (multipart), §5.2.1 (message/rfc822); 6532 §3.7.
:Called by: `mailhost.content.conversion`.

Nothing is decoded and nothing is kept but a header and what may be the beginning of a
boundary, however large the message is.  What is nested or divided without measure is not
read (attacks.md A33, A34).
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Protocol

from attrs import define, field, frozen

from mailhost.content.headers import split_fields, unfold
from mailhost.errors import MailhostError

#: Entities within each other; and in all.
MAX_DEPTH = 100
MAX_ENTITIES = 1000
#: Octets of one header, and of a value that is taken apart.
MAX_HEADER_OCTETS = 262144
_MAX_VALUE_OCTETS = 4096
#: RFC 2046 §5.1.1: a boundary has 70 at most; blanks may stand behind it.
_MAX_BOUNDARY_LINE = 256
#: What is what it looks like (RFC 2045 §6.2).
IDENTITY = frozenset({"7bit", "8bit", "binary"})
#: Nothing in them may be changed (RFC 1847 §2.1, §2.2).
_SEALED = frozenset({"multipart/signed", "multipart/encrypted"})

_TYPE = re.compile(rb"\s*([^\s/;()]+)\s*/\s*([^\s;()]+)")
_PARAMETER = re.compile(rb'\s*;\s*([^\s=;"()]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"()]*))')
_QUOTED = re.compile(rb"\\(.)")


class Unreadable(MailhostError):
    """Its structure is beyond what is read; the words say why."""


@frozen(eq=False)
class Entity:
    """
    A message, or a part of one.

    :ivar number: the first is 0, in the order of their headers.
    :ivar parent: what it is a part of.
    :ivar kind: ``text/plain``, lower case; empty: its header names none.
    :ivar encoding: as named, lower case; ``7bit`` where none is named.
    :ivar boundary: of its parts; empty: it has none.
    :ivar has_version: its header has MIME-Version.
    """

    number: int
    parent: Entity | None
    kind: str
    encoding: str
    boundary: bytes
    has_version: bool

    @property
    def is_message(self) -> bool:
        """Its body is a message, whose entities follow."""
        default = self.parent is not None and self.parent.kind == "multipart/digest"
        kind = self.kind or ("message/rfc822" if default else "")
        return kind == "message/rfc822" and self.encoding in IDENTITY

    @property
    def is_multipart(self) -> bool:
        """Its body is parts."""
        return self.kind.startswith("multipart/") and self.boundary != b""

    @property
    def begins_message(self) -> bool:
        """Its header is that of a message, not of a part."""
        return self.parent is None or self.parent.is_message

    @property
    def is_sealed(self) -> bool:
        """A change to it, or in it, would break a signature or a cipher."""
        one: Entity | None = self
        while one is not None:
            if one.kind in _SEALED:
                return True
            one = one.parent
        return False

    @property
    def depth(self) -> int:
        """How many it is a part of."""
        return 0 if self.parent is None else self.parent.depth + 1


class Visitor(Protocol):
    """Is told of everything, in order; together it is the message."""

    def header(self, entity: Entity, octets: bytes) -> None:
        """The header of *entity*, its blank line included where there is one."""

    def body(self, entity: Entity, octets: bytes) -> None:
        """A piece of the body of *entity*, which has no entities in it."""

    def end(self, entity: Entity) -> None:
        """The body of *entity*, which has no entities in it, is over."""

    def between(self, entity: Entity, octets: bytes) -> None:
        """A boundary of *entity*, or what stands before its first part or behind its last."""


class _At(Enum):
    HEADER = "in a header"
    BODY = "in a body without entities"
    BETWEEN = "before, between or behind parts"


@define(eq=False)
class Walker:
    """
    Takes one message.

    :ivar visitor: is told.
    """

    visitor: Visitor
    _at: _At = field(default=_At.HEADER, init=False)
    _buffer: bytes = field(default=b"", init=False)
    # What stands before it in the buffer has been told.
    _start: int = field(default=0, init=False)
    # Where the line begins that is looked at next, in a header.
    _line: int = field(default=0, init=False)
    # Octets from the start that are not the message's.
    _virtual: int = field(default=0, init=False)
    _count: int = field(default=0, init=False)
    _parent: Entity | None = field(default=None, init=False)
    # The entity whose body this is, or whose parts.
    _entity: Entity | None = field(default=None, init=False)
    _multiparts: list[Entity] = field(factory=list, init=False)
    _boundaries: tuple[bytes, ...] = field(default=(), init=False)

    def feed(self, octets: bytes) -> None:
        """
        Take a block.

        :raises Unreadable: it goes too far.
        """
        self._buffer += octets
        while self._step(final=False):
            pass
        self._buffer = self._buffer[self._start :]
        self._line -= self._start
        self._start = 0

    def end(self) -> None:
        """There is no more."""
        while self._step(final=True):
            pass
        if self._at is _At.HEADER:
            self._begin(len(self._buffer))
            self._step(final=True)
        self._finish_body()

    def _step(self, final: bool) -> bool:
        """Use some of the buffer; `False` where nothing is to be done with what is there."""
        return self._header_line() if self._at is _At.HEADER else self._lines(final)

    # ---- headers

    def _header_line(self) -> bool:
        buffer, start = self._buffer, self._line
        end = buffer.find(b"\r\n", start)
        if (len(buffer) if end < 0 else end) - self._start > MAX_HEADER_OCTETS:
            raise Unreadable(f"a header of more than {MAX_HEADER_OCTETS} octets")
        if end < 0:
            return False
        if end == start:
            self._begin(end + 2)
        elif buffer.startswith(b"--", start) and self._hit(start, end) is not None:
            # A part that ends before its header does.
            self._begin(start)
            self._at = _At.BODY if self._at is _At.HEADER else self._at
            self._start, self._virtual = 0, 2
        else:
            self._line = end + 2
        return True

    def _begin(self, end: int) -> None:
        """An entity whose header ends before *end*."""
        header = self._buffer[self._start : end]
        if self._count >= MAX_ENTITIES:
            raise Unreadable(f"more than {MAX_ENTITIES} parts")
        entity = _entity(self._count, self._parent, header)
        if entity.depth >= MAX_DEPTH:
            raise Unreadable(f"more than {MAX_DEPTH} parts in each other")
        self._count += 1
        self._entity = entity
        # A boundary may follow at once, as if behind a line end.
        self._buffer = b"\r\n" + self._buffer[end:]
        self._start, self._virtual = 0, 2
        self.visitor.header(entity, header)
        if entity.is_message:
            self._parent = entity
            self._start = self._line = 2
            self._virtual = 0
        elif entity.is_multipart:
            self._at = _At.BETWEEN
            self._open([*self._multiparts, entity])
        else:
            self._at = _At.BODY

    # ---- bodies

    def _lines(self, final: bool) -> bool:
        """Up to the next boundary (RFC 2046 §5.1.1)."""
        buffer = self._buffer
        at = buffer.find(b"\r\n--", self._start) if self._boundaries else -1
        while at >= 0:
            end = buffer.find(b"\r\n", at + 4, at + _MAX_BOUNDARY_LINE)
            if end < 0 and not final and len(buffer) - at <= _MAX_BOUNDARY_LINE:
                self._tell(at)
                return False
            if end < 0 and final:
                end = len(buffer)
            if end >= 0 and buffer.startswith(self._boundaries, at + 4):
                hit = self._hit(at + 2, end)
                if hit is not None:
                    self._tell(at)
                    self._take_boundary(*hit, end)
                    return True
            at = buffer.find(b"\r\n--", at + 4)
        keep = 0 if final else _held_back(buffer)
        self._tell(max(self._start, len(buffer) - keep))
        return False

    def _take_boundary(self, place: int, closes: bool, end: int) -> None:
        self._finish_body()
        owner = self._entity = self._multiparts[place]
        self._at = _At.BETWEEN
        self._open(self._multiparts[: place if closes else place + 1])
        # What closes may have the boundary of another directly behind its line.
        self._tell(end if closes else min(end + 2, len(self._buffer)))
        if not closes:
            self._at, self._parent, self._line = _At.HEADER, owner, self._start

    def _open(self, multiparts: list[Entity]) -> None:
        self._multiparts = multiparts
        self._boundaries = tuple(one.boundary for one in multiparts)

    def _hit(self, start: int, end: int) -> tuple[int, bool] | None:
        """Whose boundary that line is, of those that are open, and whether it is the last one."""
        words = self._buffer[start + 2 : end].rstrip(b" \t")
        for place in range(len(self._boundaries) - 1, -1, -1):
            boundary = self._boundaries[place]
            if words == boundary:
                return place, False
            if words == boundary + b"--":
                return place, True
        return None

    def _tell(self, end: int) -> None:
        """Everything before *end*."""
        real = self._start + self._virtual
        self._virtual = max(0, real - end)
        octets = self._buffer[real:end]
        self._start = end
        if not octets or self._entity is None:
            return
        if self._at is _At.BODY:
            self.visitor.body(self._entity, octets)
        else:
            self.visitor.between(self._entity, octets)

    def _finish_body(self) -> None:
        if self._at is _At.BODY and self._entity is not None:
            self.visitor.end(self._entity)


def _held_back(buffer: bytes) -> int:
    """Octets at its end that may begin a boundary's line."""
    for tail in (b"\r\n-", b"\r\n", b"\r"):
        if buffer.endswith(tail):
            return len(tail)
    return 0


def _entity(number: int, parent: Entity | None, header: bytes) -> Entity:
    fields = split_fields(header)
    known = dict(reversed(fields))  # of several the first counts
    kind, boundary = _content_type(unfold(known.get(b"content-type", b"")))
    encoding = unfold(known.get(b"content-transfer-encoding", b"7bit"))
    name = encoding.partition(b";")[0].strip().lower().decode("ascii", "replace")
    return Entity(number, parent, kind, name, boundary, b"mime-version" in known)


def _content_type(value: bytes) -> tuple[str, bytes]:
    """Type and boundary; what is malformed is no type (RFC 2045 §5.2)."""
    found = _TYPE.match(value) if len(value) <= _MAX_VALUE_OCTETS else None
    if found is None:
        return "", b""
    kind = f"{found[1].decode('ascii', 'replace')}/{found[2].decode('ascii', 'replace')}".lower()
    at = found.end()
    while (parameter := _PARAMETER.match(value, at)) is not None:
        if parameter[1].lower() == b"boundary":
            quoted = parameter[2]
            text = parameter[3] if quoted is None else _QUOTED.sub(rb"\1", quoted)
            return kind, text.rstrip(b" ")
        at = parameter.end()
    return kind, b""
