"""
xtext: any text as one word of a command.

:Room: ``smtp``
:RFC: 3461 §4; used by 4954 §5 too.
"""

from __future__ import annotations

import re

from mailhost.errors import SyntaxProblem

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")
_CODED = re.compile(r"\+([0-9A-F]{2})")
_TO_CODE = re.compile(r"[^!-*,-<>-~]")


def is_xtext(text: str) -> bool:
    """Whether *text* is at least one character of xtext."""
    return _XTEXT.fullmatch(text) is not None


def from_xtext(text: str) -> str:
    """
    What *text* stands for.

    :raises SyntaxProblem: it is no xtext, or stands for something that cannot be printed.
    """
    if not is_xtext(text):
        raise SyntaxProblem("no xtext")
    meant = _CODED.sub(lambda coded: chr(int(coded[1], 16)), text)
    if not (meant.isascii() and meant.isprintable()):
        raise SyntaxProblem("xtext of what is no printable ASCII")
    return meant


def to_xtext(text: str) -> str:
    """Printable ASCII *text* as xtext."""
    return _TO_CODE.sub(lambda found: f"+{ord(found[0]):02X}", text)
