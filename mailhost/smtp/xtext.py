"""
xtext: any text as one word of a command.

:Room: ``smtp``
:RFC: 3461 §4; 6533 §3 (utf-8-addr-xtext); used by 4954 §5 too.
"""

from __future__ import annotations

import re

from mailhost.errors import SyntaxProblem

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")
_CODED = re.compile(rb"\+([0-9A-F]{2})")
_TO_CODE = re.compile(r"[^!-*,-<>-~]")
_UTF8_AND_XTEXT = re.compile(r"(?:[!-*,-<>-~\u00a0-\U0010ffff]|\+[0-9A-F]{2})+")
# RFC 6533 §3: characters by their number, or as they are where SMTPUTF8 is spoken.
_UTF8_XTEXT = re.compile(r"(?:[!-*,-<>-\[\]-~\u00a0-\U0010ffff]|\\x\{[0-9A-F]{2,6}\})+")
_UTF8_CODED = re.compile(r"\\x\{([0-9A-F]+)\}")
_UTF8_TO_CODE = re.compile(r"[^!-*,-<>-\[\]-~]")


def is_xtext(text: str) -> bool:
    """Whether *text* is at least one character of xtext."""
    return _XTEXT.fullmatch(text) is not None


def from_xtext(text: str, utf8: bool = False) -> str:
    """
    What *text* stands for.

    :param utf8: it may stand for UTF-8, and hold some as it is.
    :raises SyntaxProblem: it is no xtext, or stands for something that cannot be printed.
    """
    if not (_UTF8_AND_XTEXT.fullmatch(text) if utf8 else is_xtext(text)):
        raise SyntaxProblem("no xtext")
    octets = _CODED.sub(lambda coded: bytes([int(coded[1], 16)]), text.encode())
    try:
        meant = octets.decode("utf-8" if utf8 else "ascii")
    except UnicodeDecodeError:
        meant = "\0"
    if not meant.isprintable():
        raise SyntaxProblem("xtext of what cannot be printed")
    return meant


def to_xtext(text: str) -> str:
    """Printable ASCII *text* as xtext."""
    return _TO_CODE.sub(lambda found: f"+{ord(found[0]):02X}", text)


def from_utf8_xtext(text: str) -> str:
    """
    The address that *text* stands for (RFC 6533 §3).

    :raises SyntaxProblem: it is no utf-8-addr-xtext and no utf-8-addr-unitext, or stands for
        something that cannot be shown.
    """
    if not _UTF8_XTEXT.fullmatch(text):
        raise SyntaxProblem("no address of type utf-8")
    try:
        meant = _UTF8_CODED.sub(lambda coded: chr(int(coded[1], 16)), text)
        meant.encode("utf-8")
    except (ValueError, OverflowError):
        raise SyntaxProblem("a number that is no character") from None
    if not meant.isprintable():
        raise SyntaxProblem("characters that cannot be shown")
    return meant


def to_utf8_xtext(text: str) -> str:
    """*text* in ASCII (RFC 6533 §3)."""
    return _UTF8_TO_CODE.sub(lambda found: f"\\x{{{ord(found[0]):02X}}}", text)
