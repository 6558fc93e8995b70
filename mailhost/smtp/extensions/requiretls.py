"""
REQUIRETLS: mail that goes through TLS on its whole way, or not at all.

:RFC: 8689 §2 (keyword, parameter of MAIL), §4.1.  Offered through TLS only.
"""

from mailhost.errors import SyntaxProblem
from mailhost.model.parameters import MailParameters
from mailhost.smtp.extensions.base import Extension
from mailhost.smtp.rules import Rules


def _parse(value: str | None) -> bool:
    if value is not None:
        raise SyntaxProblem("REQUIRETLS takes no value")
    return True


def _offered(rules: Rules, secure: bool) -> bool:
    return secure


def _mail_words(asked: MailParameters) -> str:
    return " REQUIRETLS" if asked.requiretls else ""


REQUIRETLS = Extension(
    "REQUIRETLS", mail_parameters={"REQUIRETLS": _parse}, offered=_offered, mail_words=_mail_words
)
