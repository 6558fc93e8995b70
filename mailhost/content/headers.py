"""
The header of a content: found, looked through, taken apart.

:Room: ``content``
:RFC: 5322 §2.2 (fields), §3.6, §4.5 (obsolete forms); 5321 §6.3 (loops); 3834 §5; 8689 §3.
:Called by: `mailhost.intake` (every message: `header_end`, `scan_header`) and
    `mailhost.reports`; Pickup takes fields apart with `split_fields`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mailhost.model.values import value

#: RFC 5322 allows a whole line; nobody's Message-ID is this long.
MAX_MESSAGE_ID_OCTETS = 255
#: How far a field is read for its value: a line (RFC 5322 §2.1.1) and a fold.
_MAX_VALUE_OCTETS = 2000

_BLANK_LINES = (b"\r\n", b"\n")
#: obs-optional: white space before the colon (RFC 5322 §4.5.8).
_SPACED_NAME = re.compile(
    rb"\n(received|date|message-id|from|auto-submitted|tls-required)[ \t]++:", re.IGNORECASE
)
_GRAPHIC = bytes(range(0x21, 0x7F))
_NAME = bytes(c for c in _GRAPHIC if c != 0x3A)


@value
class HeaderFacts:
    """
    What intake wants to know of every header.

    :ivar received_count: Received fields, the hops so far (RFC 5321 §6.3).
    :ivar message_id: the first Message-ID with its angle brackets; `None` when
        there is none, or none that is printable and of sane length.
    :ivar has_date: there is a Date field.
    :ivar has_message_id: there is a Message-ID field, whatever it holds.
    :ivar has_from: there is a From field.
    :ivar auto_submitted: there is an Auto-Submitted field other than ``no``
        (RFC 3834 §5).
    :ivar tls_optional: there is a field ``TLS-Required: No`` (RFC 8689 §3).
    """

    received_count: int
    message_id: bytes | None
    has_date: bool
    has_message_id: bool
    has_from: bool
    auto_submitted: bool
    tls_optional: bool = False


def header_end(octets: bytes) -> int:
    """
    The offset just behind the blank line, -1 if it is not there yet.

    A content that begins with CRLF has an empty header.
    """
    if octets.startswith(b"\r\n"):
        return 2
    at = octets.find(b"\r\n\r\n")
    return at + 4 if at >= 0 else -1


def scan_header(block: bytes) -> HeaderFacts:
    """
    Look a header through: one pass of few long calls, nothing per line.

    :param block: the header; what stands behind a blank line is not looked at.
        Anything at all is allowed in it.
    """
    end = header_end(block)
    # With a line feed before the first field, all fields are found alike.
    text = b"\n" + (block[:end] if end >= 0 else block)
    # Not ``in``: it takes octets for a number first, and has made an exception before it looks.
    if text.find(b" :") >= 0 or text.find(b"\t:") >= 0:
        text = _SPACED_NAME.sub(rb"\n\1:", text)
    lowered = text.lower()
    message_id_at = lowered.find(b"\nmessage-id:")
    auto_at = lowered.find(b"\nauto-submitted:")
    tls_at = lowered.find(b"\ntls-required:")
    return HeaderFacts(
        lowered.count(b"\nreceived:"),
        _message_id(text, message_id_at + 12) if message_id_at >= 0 else None,
        lowered.find(b"\ndate:") >= 0,
        message_id_at >= 0,
        lowered.find(b"\nfrom:") >= 0,
        auto_at >= 0 and _says_automatic(lowered, auto_at + 16),
        tls_at >= 0 and unfold(_value_at(lowered, tls_at + 14)) == b"no",
    )


def split_fields(block: bytes) -> list[tuple[bytes, bytes]]:
    """
    The fields of a header, in order: ``(name, value)``.

    Linear in the octets.  The name is in lower case; the value is all that
    stands behind the colon, folds included (see `unfold`), without the last
    line end.  Lines end with CRLF or LF.  A line that is no field is left out,
    together with the lines that continue it.
    """
    fields = []
    for start, end in _spans(block):
        name = _name_at(block, start, end)
        if name is not None:
            colon = block.index(b":", start)
            fields.append((name, _without_line_end(block[colon + 1 : end])))
    return fields


def unfold(value: bytes) -> bytes:
    """*value* on one line, without white space around it (RFC 5322 §2.2.3)."""
    return value.replace(b"\r\n", b"").replace(b"\n", b"").strip(b" \t")


def remove_fields(block: bytes, names: frozenset[bytes]) -> bytes:
    """
    *block* without the fields called *names*, every other octet as it was.

    :param block: a header, alone or with what follows it; only the header is
        touched.
    :param names: in lower case.
    """
    kept = []
    kept_from = 0
    for start, end in _spans(block):
        if _name_at(block, start, end) in names:
            kept.append(block[kept_from:start])
            kept_from = end
    kept.append(block[kept_from:])
    return b"".join(kept)


def _spans(block: bytes) -> Iterator[tuple[int, int]]:
    """Where each field starts and ends, up to the blank line."""
    start = 0
    while start < len(block):
        end = _line_end(block, start)
        if block[start:end] in _BLANK_LINES:
            return
        while block[end : end + 1] in (b" ", b"\t"):
            end = _line_end(block, end)
        yield start, end
        start = end


def _line_end(block: bytes, start: int) -> int:
    at = block.find(b"\n", start)
    return at + 1 if at >= 0 else len(block)


def _name_at(block: bytes, start: int, end: int) -> bytes | None:
    """The name of the field there, in lower case; `None` if it is no field."""
    colon = block.find(b":", start, end)
    name = block[start:colon].rstrip(b" \t") if colon > start else b""
    return name.lower() if name and not name.translate(None, _NAME) else None


def _without_line_end(value: bytes) -> bytes:
    return value.removesuffix(b"\n").removesuffix(b"\r")


def _value_at(text: bytes, start: int) -> bytes:
    """The value that starts there, folds included; cut off where it is absurd."""
    limit = min(len(text), start + _MAX_VALUE_OCTETS)
    end = start
    while True:
        end = text.find(b"\n", end, limit)
        if end < 0:
            return text[start:limit]
        end += 1
        if text[end : end + 1] not in (b" ", b"\t"):
            return text[start:end]


def _message_id(text: bytes, start: int) -> bytes | None:
    value = _value_at(text, start)
    opening = value.find(b"<")
    closing = value.find(b">", opening)
    if not 0 <= opening < closing - 1 or value.find(b"<", opening + 1, closing) >= 0:
        return None
    token = value[opening : closing + 1]
    return None if len(token) > MAX_MESSAGE_ID_OCTETS or token.translate(None, _GRAPHIC) else token


def _says_automatic(lowered: bytes, start: int) -> bool:
    value = _value_at(lowered, start)
    return value.partition(b";")[0].partition(b"(")[0].strip() != b"no"
