"""
The third part of a report: the original, or its header.

:Room: ``reports``
:RFC: 6522 §3 item 3, §4 (text/rfc822-headers); 6533 §4 (message/global); 2046 §5.2.1
    (message/rfc822 is never encoded); 6152 §3.
:Called by: `mailhost.reports.compose`.
"""

from __future__ import annotations

from attrs import field, frozen

from mailhost.content.conversion import MAX_LINE_OCTETS
from mailhost.content.encodings import quoted_printable
from mailhost.content.headers import header_end
from mailhost.reports.values import OriginalMessage

#: Of a header without end, so much is returned.
MAX_HEADER_OCTETS = 64 * 1024


@frozen
class ReturnedPart:
    """
    :ivar content_type: ``message/rfc822`` or ``text/rfc822-headers``.
    :ivar encoding: ``7bit``, ``8bit`` or ``quoted-printable``.
    :ivar octets: the part's body.
    """

    content_type: bytes
    encoding: bytes
    octets: bytes = field(repr=False)


def returned_part(original: OriginalMessage, max_original_octets: int) -> ReturnedPart:
    """
    What of *original* goes back to its sender.

    The whole message where all of it is here, it is not larger than
    *max_original_octets*, and its lines can stand in mail as they are; else
    its header alone.  A header that is not plain 7-bit text is encoded (RFC
    6522 §4), so only a whole 8-bit message needs 8BITMIME on its way back.
    """
    octets = original.octets
    whole = len(octets) == original.size <= max_original_octets
    header = _header_of(octets)
    # A header in UTF-8 is understood by those who have written one (RFC 6532 §3.7).
    utf8 = original.parameters.smtputf8 and not header.isascii()
    if whole and has_plain_lines(octets) and (original.international or not utf8):
        kind = b"message/global" if utf8 else b"message/rfc822"
        return ReturnedPart(kind, b"7bit" if octets.isascii() else b"8bit", octets)
    if utf8 and original.international and has_plain_lines(header):
        return ReturnedPart(b"message/global-headers", b"8bit", header)
    if header.isascii() and has_plain_lines(header):
        return ReturnedPart(b"text/rfc822-headers", b"7bit", header)
    return ReturnedPart(b"text/rfc822-headers", b"quoted-printable", _quoted_printable(header))


def has_plain_lines(octets: bytes) -> bool:
    """Whether it is lines of bearable length, ended by CRLF, without NUL (RFC 5322 §2.3)."""
    ends = octets.count(b"\r\n")
    return (
        octets.count(b"\n") == ends == octets.count(b"\r")
        and b"\0" not in octets
        and max(map(len, octets.split(b"\r\n"))) <= MAX_LINE_OCTETS
    )


def _header_of(octets: bytes) -> bytes:
    """Its header without the blank line; what is there of it, if it has no end."""
    end = header_end(octets)
    if 0 <= end <= MAX_HEADER_OCTETS:
        return octets[: end - 2]
    shortened = octets[:MAX_HEADER_OCTETS]
    # Half a line would be taken for a whole field.
    lines, line_end, _half = shortened.rpartition(b"\r\n")
    return lines + line_end or shortened


def _quoted_printable(octets: bytes) -> bytes:
    return b"\r\n".join(map(quoted_printable, octets.split(b"\r\n")))
