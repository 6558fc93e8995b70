"""
DELIVERBY: mail that is worth nothing, or something less, after a time.

:RFC: 2852 §4 (keyword and the parameter BY).
"""

from __future__ import annotations

import re

from mailhost.errors import SyntaxProblem
from mailhost.model.parameters import MailParameters
from mailhost.smtp.extensions.base import Extension
from mailhost.smtp.rules import Rules

_BY = re.compile(r"(-?[0-9]{1,9});([RN])(T?)", re.IGNORECASE)


def _parse(value: str | None) -> tuple[int, str]:
    found = _BY.fullmatch(value or "")
    if found is None:
        raise SyntaxProblem("BY takes seconds, a semicolon, R or N, and perhaps T")
    seconds, mode = int(found[1]), f"{found[2]}{found[3]}".upper()
    if seconds <= 0 and mode.startswith("R"):
        # §4.1.1: what is to be returned in time needs some.
        raise SyntaxProblem("BY with R takes a time to come")
    return seconds, mode


def _words(rules: Rules, secure: bool) -> str:
    return str(rules.min_deliver_by_seconds) if rules.min_deliver_by_seconds else ""


def _mail_words(asked: MailParameters) -> str:
    return f" BY={asked.by[0]};{asked.by[1]}" if asked.by[1] else ""


DELIVERBY = Extension(
    "DELIVERBY", ehlo_words=_words, mail_parameters={"BY": _parse}, mail_words=_mail_words
)
