"""
A content made fit for hosts that take less than it has: octets above 127, or any octets at all.

:Room: ``content``
:RFC: 6152 §3, 3030 §3 (conversion), 2045 §6 (encodings), §6.4 (of multipart), 2046 §5.2.1;
    1428 §3 (unknown-8bit), 1847 §2 (what is sealed), 5322 §2.1.1 (line lengths).
:Called by: `mailhost.relay.fitting`.

Two passes: `Survey` finds out which bodies need an encoding, `Converter` gives them one.
What needs none comes out as it went in, octet by octet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from attrs import define, field

from mailhost.content.encodings import Base64, Encoder, QuotedPrintable
from mailhost.content.headers import header_end, remove_fields
from mailhost.content.mime import IDENTITY, Entity, Unreadable, Walker

#: RFC 5322 §2.1.1, without CRLF.
MAX_LINE_OCTETS = 998
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_ENCODERS: dict[str, type[QuotedPrintable | Base64]] = {
    "quoted-printable": QuotedPrintable,
    "base64": Base64,
}
#: RFC 6532 §3.7, 6533 §4: of messages only these may be encoded.
_ENCODABLE_MESSAGES = frozenset(
    {"message/global", "message/global-headers", "message/global-delivery-status"}
)
#: Quoted-printable is for text of which at most one octet in so many is escaped.
_ESCAPED_ONE_IN = 4


@define
class _Text:
    """What is in some octets, over the borders of blocks."""

    size: int = field(default=0, init=False)
    eight_bit: bool = field(default=False, init=False)
    #: NUL, or a CR or LF alone.
    binary: bool = field(default=False, init=False)
    long_lines: bool = field(default=False, init=False)
    escaped: int = field(default=0, init=False)
    _held: bytes = field(default=b"", init=False)
    _line: int = field(default=0, init=False)

    def feed(self, octets: bytes) -> None:
        self.size += len(octets)
        octets = self._held + octets
        self._held = b"\r" if octets.endswith(b"\r") else b""
        self._look(octets[:-1] if self._held else octets)

    def end(self) -> None:
        self.binary = self.binary or self._held != b""

    def _look(self, octets: bytes) -> None:
        if not octets.isascii():
            self.eight_bit = True
            self.escaped += len(octets) - len(octets.decode("ascii", "ignore"))
        self.escaped += octets.count(b"=")
        self.binary = self.binary or b"\0" in octets or _BARE.search(octets) is not None
        first, *others = octets.split(b"\r\n")
        lengths = [self._line + len(first), *map(len, others)]
        self._line = lengths[-1]
        self.long_lines = self.long_lines or max(lengths) > MAX_LINE_OCTETS

    def fits(self, eight_bit: bool) -> bool:
        """:param eight_bit: octets above 127 may be there."""
        return not (self.binary or self.long_lines or (self.eight_bit and not eight_bit))


@define(eq=False)
class Survey:
    """
    The first pass.

    :ivar eight_bit: octets above 127 may stay (RFC 6152).
    :ivar encodings: what is to be changed: encodings by the number of the entity.  A composite
        one has that of what is in it, ``7bit`` or ``8bit``.
    """

    eight_bit: bool
    encodings: dict[int, str] = field(factory=dict, init=False)
    _walker: Walker = field(init=False)
    _text: _Text = field(factory=_Text, init=False)
    _between: _Text = field(factory=_Text, init=False)

    def __attrs_post_init__(self) -> None:
        self._walker = Walker(self)

    def feed(self, octets: bytes) -> None:
        """
        Take a block.

        :raises Unreadable: it cannot be converted; the words say why.
        """
        self._walker.feed(octets)

    def finish(self) -> None:
        """There is no more; raises as `feed` does."""
        self._walker.end()
        self._between.end()
        self._need_fit_between()

    # ---- `mailhost.content.mime.Visitor`

    def header(self, entity: Entity, octets: bytes) -> None:
        """See there."""
        text = _Text()
        text.feed(octets)
        text.end()
        self._need_fit(text, "a header")
        self._text = _Text()

    def between(self, entity: Entity, octets: bytes) -> None:
        """See there."""
        self._between.feed(octets)
        self._need_fit_between()

    def body(self, entity: Entity, octets: bytes) -> None:
        """See there."""
        self._text.feed(octets)

    def end(self, entity: Entity) -> None:
        """See there."""
        text = self._text
        text.end()
        if text.fits(self.eight_bit):
            return
        kind = entity.kind or "text/plain"
        if entity.is_sealed:
            raise Unreadable("nothing of what is signed or encrypted may be changed")
        if entity.encoding not in IDENTITY:
            raise Unreadable(f"a part that says that it is {entity.encoding} is not")
        if kind.startswith("multipart/"):
            raise Unreadable("a multipart without a boundary")
        if kind.startswith("message/") and kind not in _ENCODABLE_MESSAGES:
            raise Unreadable(f"{kind} is never encoded")
        self.encodings[entity.number] = self._best(kind, text)
        self._relabel(entity.parent)

    def _need_fit_between(self) -> None:
        self._need_fit(self._between, "what stands between parts")

    def _need_fit(self, text: _Text, what: str) -> None:
        """There is no encoding for anything but bodies."""
        if not text.fits(self.eight_bit):
            raise Unreadable(f"{what} cannot be encoded")

    def _best(self, kind: str, text: _Text) -> str:
        if not kind.startswith("text/") or text.binary:
            return "base64"
        if text.escaped * _ESCAPED_ONE_IN > text.size:
            return "base64"
        return "quoted-printable"

    def _relabel(self, entity: Entity | None) -> None:
        """RFC 2045 §6.4: what is around it says no more than what is in it."""
        while entity is not None:
            if entity.encoding in ("8bit", "binary"):
                self.encodings[entity.number] = "8bit" if self.eight_bit else "7bit"
            entity = entity.parent


@define(eq=False)
class Converter:
    """
    The second pass.

    :ivar encodings: as a `Survey` has found them.
    """

    encodings: Mapping[int, str]
    _walker: Walker = field(init=False)
    _out: list[bytes] = field(factory=list, init=False)
    _encoder: Encoder | None = field(default=None, init=False)
    _last: bytes = field(default=b"", init=False)

    def __attrs_post_init__(self) -> None:
        self._walker = Walker(self)

    def feed(self, octets: bytes) -> bytes:
        """What is sure once *octets* are there as well."""
        self._walker.feed(octets)
        return self._taken()

    def finish(self) -> bytes:
        """The rest; the last line of it all is whole."""
        self._walker.end()
        rest = self._taken()
        return rest if self._last == b"\r\n" else rest + b"\r\n"

    def _taken(self) -> bytes:
        octets = b"".join(self._out)
        self._out.clear()
        self._last = (self._last + octets[-2:])[-2:]
        return octets

    # ---- `mailhost.content.mime.Visitor`

    def header(self, entity: Entity, octets: bytes) -> None:
        """See there."""
        encoding = self.encodings.get(entity.number)
        self._encoder = _ENCODERS[encoding]() if encoding in _ENCODERS else None
        self._out.append(octets if encoding is None else _labelled(entity, octets, encoding))

    def between(self, entity: Entity, octets: bytes) -> None:
        """See there."""
        self._out.append(octets)

    def body(self, entity: Entity, octets: bytes) -> None:
        """See there."""
        self._out.append(octets if self._encoder is None else self._encoder.feed(octets))

    def end(self, entity: Entity) -> None:
        """See there."""
        if self._encoder is not None:
            self._out.append(self._encoder.end())


def _labelled(entity: Entity, header: bytes, encoding: str) -> bytes:
    """*header* with another encoding, and with what a body that is encoded needs besides."""
    untyped = not entity.kind and encoding in _ENCODERS
    replaced = {b"content-transfer-encoding"} | ({b"content-type"} if untyped else set())
    kept = remove_fields(header, frozenset(replaced))
    end = header_end(kept)
    fields = kept if end < 0 else kept[: end - 2]
    added = b"Content-Transfer-Encoding: %b\r\n" % encoding.encode("ascii")
    if untyped:
        # RFC 1428 §3: what it is nobody has said.
        added = b"Content-Type: text/plain; charset=unknown-8bit\r\n" + added
    if entity.begins_message and not entity.has_version:
        added = b"MIME-Version: 1.0\r\n" + added
    return fields + added + b"\r\n"
