"""
BINARYMIME: content may have any octets at all; it comes by BDAT.

:RFC: 3030 §3.
"""

from mailhost.smtp.extensions.base import Extension
from mailhost.smtp.grammar import parse_any_body
from mailhost.smtp.rules import Rules


def _usable(rules: Rules) -> bool:
    # §3: CHUNKING comes with it; who takes any octets takes those above 127.
    return {"CHUNKING", "8BITMIME"} <= rules.extensions


BINARYMIME = Extension("BINARYMIME", mail_parameters={"BODY": parse_any_body}, usable=_usable)
