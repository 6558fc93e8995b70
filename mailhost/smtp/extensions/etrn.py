"""
ETRN: a host asks that the mail for a domain be sent to it now.

:RFC: 1985 §3 (keyword), §5.2 (the argument of the command).
"""

from __future__ import annotations

from mailhost.errors import SyntaxProblem
from mailhost.smtp.extensions.base import Extension
from mailhost.smtp.grammar import is_domain
from mailhost.smtp.rules import Rules

_MAX_NAME = 255


def parse_node(argument: str) -> tuple[str, str]:
    """
    The argument of ETRN: an option character, or nothing, and a name.

    ``@`` stands for the domain with all below it, ``#`` for a queue by whatever name it has.

    :raises SyntaxProblem: it is none.
    """
    option = argument[:1] if argument[:1] in ("@", "#") else ""
    name = argument[len(option) :]
    if option == "#":
        good = name.isprintable() and " " not in name and 0 < len(name) <= _MAX_NAME
    else:
        good = is_domain(name)
    if not good:
        raise SyntaxProblem("ETRN takes a domain, @ and a domain, or # and a queue")
    return option, name.removesuffix(".").lower()


def _usable(rules: Rules) -> bool:
    return rules.holds


ETRN = Extension("ETRN", verbs=("ETRN",), usable=_usable)
