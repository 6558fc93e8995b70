"""
Words from outside, made safe for a line of ours.

:Room: ``content``
:RFC: 5322 §2.1.1 (lines), §2.2 (fields); 6532 §3.2 (letters outside ASCII).
:Called by: `mailhost.content.trace`, `mailhost.reports`, `mailhost.delivery`, `mailhost.spool`.

Whatever could end a line, start another one or open a comment is replaced
here, in one place, so that no composer has to think of it again.
"""

from __future__ import annotations

from mailhost.model.address import Mailbox
from mailhost.model.reply import printable

#: RFC 5321 §4.5.3.1.2: a domain has at most 255 octets.
MAX_TOKEN_OCTETS = 255
#: RFC 5321 §4.5.3.1.3 allows a path 256 octets; some more, because we show what
#: others accepted, and less than a line of RFC 5322 §2.1.1 (998) in any case.
MAX_ADDRESS_OCTETS = 512

_TOKEN = bytes(c if 0x20 < c < 0x7F and c not in b'()<>[];,"\\' else 0x3F for c in range(256))
_LITERAL = b"0123456789abcdefABCDEFIPv:.-"


def line_octets(words: str, limit_octets: int) -> bytes:
    """*words* on one line: printable ASCII, at most *limit_octets*, the rest ``?`` or cut off."""
    return printable(words[:limit_octets]).encode("ascii")


def text_octets(words: str, limit_octets: int) -> bytes:
    """*words* on one line of UTF-8: what cannot be shown becomes ``?``, the rest is cut off."""
    if words.isascii():
        return line_octets(words, limit_octets)
    shown = "".join(c if c.isprintable() else "?" for c in words[:limit_octets]).encode()
    return shown if len(shown) <= limit_octets else _whole_characters(shown[:limit_octets])


def _whole_characters(octets: bytes) -> bytes:
    return octets.decode("utf-8", "ignore").encode()


def token_octets(word: str) -> bytes:
    """
    *word* as a single token, fit to stand outside a comment in a trace field.

    Spaces, parentheses, brackets, semicolons and whatever is not printable
    ASCII become ``?``; brackets around an address literal stay (RFC 5321 §4.1.3).
    """
    octets = word[:MAX_TOKEN_OCTETS].encode("ascii", "replace")
    if octets[:1] == b"[" and octets[-1:] == b"]" and not octets[1:-1].translate(None, _LITERAL):
        return octets
    return octets.translate(_TOKEN)


def mailbox_octets(mailbox: Mailbox) -> bytes:
    """*mailbox* without angle brackets, fit for a header line; UTF-8 where it is not ASCII."""
    return text_octets(str(mailbox), MAX_ADDRESS_OCTETS)


def path_octets(path: Mailbox | None) -> bytes:
    """*path* between angle brackets; ``<>`` for the null reverse-path."""
    return b"<%b>" % mailbox_octets(path) if path is not None else b"<>"
