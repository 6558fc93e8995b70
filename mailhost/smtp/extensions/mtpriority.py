"""
MT-PRIORITY: which mail goes first.

:RFC: 6710 §3 (keyword and parameter), §4.1 (what a server may make of it).
"""

import re

from mailhost.errors import SyntaxProblem
from mailhost.model.parameters import MailParameters
from mailhost.smtp.extensions.base import Extension

_PRIORITY = re.compile(r"-?[1-9]|0")


def _parse(value: str | None) -> int:
    if value is None or not _PRIORITY.fullmatch(value):
        raise SyntaxProblem("MT-PRIORITY takes a number from -9 to 9")
    return int(value)


def _mail_words(asked: MailParameters) -> str:
    return f" MT-PRIORITY={asked.mt_priority}" if asked.mt_priority else ""


MT_PRIORITY = Extension(
    "MT-PRIORITY", mail_parameters={"MT-PRIORITY": _parse}, mail_words=_mail_words
)
