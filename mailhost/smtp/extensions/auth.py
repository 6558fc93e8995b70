"""
AUTH: the client proves who it is.

:RFC: 4954 §3 (keyword), §4 (command), §5 (the parameter AUTH of MAIL).
:IIS: ACC-02, ACC-03: what sends a password is offered behind STARTTLS only, where
    the operator has not said otherwise.
"""

from mailhost.errors import SyntaxProblem
from mailhost.smtp.extensions.base import Extension
from mailhost.smtp.rules import Rules
from mailhost.smtp.xtext import is_xtext


def _parse_submitter(value: str | None) -> str:
    """
    Who has submitted a message, as another server says.

    §5: it counts only where that server is trusted.  We trust none, and ignore it.

    :raises SyntaxProblem: not ``<>`` and no xtext.
    """
    if value is None or not (value == "<>" or is_xtext(value)):
        raise SyntaxProblem("AUTH takes xtext or <>")
    return value


def _offered(rules: Rules, secure: bool) -> bool:
    return bool(rules.mechanisms(secure))


def _words(rules: Rules, secure: bool) -> str:
    return " ".join(rules.mechanisms(secure))


def _usable(rules: Rules) -> bool:
    return bool(rules.secure_mechanisms or rules.clear_mechanisms)


AUTH = Extension(
    "AUTH",
    ehlo_words=_words,
    mail_parameters={"AUTH": _parse_submitter},
    verbs=("AUTH",),
    usable=_usable,
    offered=_offered,
)
