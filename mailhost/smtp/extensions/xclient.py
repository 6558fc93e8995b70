"""
XCLIENT: a proxy says for which client it speaks.

:Source: Postfix's XCLIENT_README; no RFC.  Offered to the hosts in ``access.proxies`` only.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from mailhost.errors import SyntaxProblem
from mailhost.model.session import SpokenFor
from mailhost.smtp.extensions.base import Extension
from mailhost.smtp.grammar import parse_hello
from mailhost.smtp.rules import Rules
from mailhost.smtp.xtext import from_xtext

_ATTRIBUTES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")
_NOTHING = ("[UNAVAILABLE]", "[TEMPUNAVAIL]")


def parse_xclient(argument: str) -> SpokenFor:
    """
    The argument of XCLIENT: ``NAME=value`` pairs, the values in xtext.

    :raises SyntaxProblem: there is no attribute, or one that is unknown, is there twice, or
        cannot have its value.
    """
    given: dict[str, str] = {}
    for word in argument.split():
        name, equals, value = word.partition("=")
        name = name.upper()
        if not equals or name not in _ATTRIBUTES or name in given:
            raise SyntaxProblem(f"XCLIENT {name}")
        given[name] = "" if value.upper() in _NOTHING else from_xtext(value)
    if not given:
        raise SyntaxProblem("XCLIENT without attributes")
    named = given.get("NAME")
    return SpokenFor(
        peer=_address(given.get("ADDR")),
        peer_port=_port(given.get("PORT")),
        peer_names=None if named is None else (named,) if named else (),
        local=_address(given.get("DESTADDR")),
        local_port=_port(given.get("DESTPORT")),
        hello=_hello(given.get("HELO")),
        protocol=_protocol(given.get("PROTO")),
        login=given.get("LOGIN"),
    )


def _address(value: str | None) -> str | None:
    # What is not available must not be taken for the proxy's own.
    if value is None:
        return None
    try:
        if value[:5].upper() == "IPV6:":
            return str(IPv6Address(value[5:]))
        return str(IPv4Address(value))
    except ValueError:
        raise SyntaxProblem("XCLIENT takes an address") from None


def _port(value: str | None) -> int | None:
    if not value:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 5 and int(value) <= 65535):
        raise SyntaxProblem("XCLIENT takes a port")
    return int(value)


def _hello(value: str | None) -> str | None:
    return parse_hello(value) if value else None


def _protocol(value: str | None) -> str | None:
    if value and value.upper() not in ("SMTP", "ESMTP"):
        raise SyntaxProblem("XCLIENT takes SMTP or ESMTP")
    return value.upper() if value else None


def _words(rules: Rules, secure: bool) -> str:
    return " ".join(_ATTRIBUTES)


XCLIENT = Extension(
    "XCLIENT", ehlo_words=_words, verbs=("XCLIENT",), usable=lambda rules: rules.xclient
)
