"""
NO-SOLICITING: which kinds of unasked mail are not wanted.

:RFC: 3865 §2 (keyword), §3 (the parameter SOLICIT), §4 (the field Solicitation).
"""

from __future__ import annotations

import re

from mailhost.errors import SyntaxProblem
from mailhost.model.parameters import MailParameters
from mailhost.smtp.extensions.base import Extension
from mailhost.smtp.rules import Rules

#: §3: a list of keywords has at most 1000 characters.
_MAX_CHARACTERS = 1000
# §2.1: a domain name with its labels turned round, and a word behind a colon.
_CLASS = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]*")


def parse_classes(value: str | None) -> tuple[str, ...]:
    """
    A list of solicitation classes, in small letters.

    :raises SyntaxProblem: it is none.
    """
    if not value or len(value) > _MAX_CHARACTERS:
        raise SyntaxProblem(f"SOLICIT takes classes, at most {_MAX_CHARACTERS} characters")
    classes = value.split(",")
    if not all(_CLASS.fullmatch(one) for one in classes):
        raise SyntaxProblem("a solicitation class is letters, digits and _.:-")
    return tuple(one.lower() for one in classes)


def _words(rules: Rules, secure: bool) -> str:
    return ",".join(rules.solicitation_classes)


def _usable(rules: Rules) -> bool:
    return bool(rules.solicitation_classes)


def _mail_words(asked: MailParameters) -> str:
    return f" SOLICIT={','.join(asked.solicit)}" if asked.solicit else ""


NO_SOLICITING = Extension(
    "NO-SOLICITING",
    ehlo_words=_words,
    mail_parameters={"SOLICIT": parse_classes},
    usable=_usable,
    mail_words=_mail_words,
)
