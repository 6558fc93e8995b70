"""
SMTPUTF8: addresses and header fields in every script.

:RFC: 6531 §3.1 (keyword), §3.4 (parameter of MAIL, VRFY and EXPN), §3.6 (8BITMIME comes with it).
"""

from mailhost.errors import SyntaxProblem
from mailhost.model.parameters import MailParameters
from mailhost.smtp.extensions.base import Extension
from mailhost.smtp.rules import Rules


def _parse(value: str | None) -> bool:
    if value is not None:
        raise SyntaxProblem("SMTPUTF8 takes no value")
    return True


def _usable(rules: Rules) -> bool:
    # §3.1: whoever offers it offers 8BITMIME too.
    return "8BITMIME" in rules.extensions


def _mail_words(asked: MailParameters) -> str:
    return " SMTPUTF8" if asked.smtputf8 else ""


SMTPUTF8 = Extension(
    "SMTPUTF8", mail_parameters={"SMTPUTF8": _parse}, usable=_usable, mail_words=_mail_words
)
