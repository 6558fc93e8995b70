"""
SASLprep: two spellings of one name or password become the same octets.

:Room: ``smtp``
:RFC: 4013, 3454.
"""

from __future__ import annotations

import stringprep
import unicodedata

from mailhost.errors import SyntaxProblem

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def prepared(text: str) -> str:
    """
    *text* by the profile of RFC 4013 §2.

    :raises SyntaxProblem: it has characters that no name or password may have.
    """
    if text.isascii() and text.isprintable():
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(one) else one
        for one in text
        if not stringprep.in_table_b1(one)
    )
    found = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if any(prohibited(one) for one in found for prohibited in _PROHIBITED):
        raise SyntaxProblem("characters that names and passwords may not have")
    _check_direction(found)
    return found


def _check_direction(text: str) -> None:
    """RFC 3454 §6."""
    if not any(stringprep.in_table_d1(one) for one in text):
        return
    mixed = any(stringprep.in_table_d2(one) for one in text)
    if mixed or not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])):
        raise SyntaxProblem("text in both directions")
