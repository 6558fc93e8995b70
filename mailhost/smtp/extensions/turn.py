"""
TURN and ATRN: the client becomes the server, and gets its mail over the same session.

:RFC: 5321 §F.1 (TURN, of 821: only for who has proved who he is), 2645 §4 (keyword ATRN),
    §5.2.1 (its argument).
"""

from __future__ import annotations

from mailhost.errors import SyntaxProblem
from mailhost.smtp.extensions.base import Extension
from mailhost.smtp.grammar import is_domain
from mailhost.smtp.rules import Rules


def parse_domains(argument: str) -> tuple[str, ...]:
    """
    The argument of ATRN: domains, or nothing; in small letters.

    :raises SyntaxProblem: it is neither.
    """
    names = argument.split(",") if argument else []
    if not all(map(is_domain, names)):
        raise SyntaxProblem("ATRN takes domains with commas between them, or nothing")
    return tuple(dict.fromkeys(name.removesuffix(".").lower() for name in names))


def _usable(rules: Rules) -> bool:
    # RFC 2645 §5.2.1: nobody without a login is served.
    return rules.holds and bool(rules.secure_mechanisms or rules.clear_mechanisms)


TURN = Extension("TURN", verbs=("TURN",), usable=_usable)
ATRN = Extension("ATRN", verbs=("ATRN",), usable=_usable)
