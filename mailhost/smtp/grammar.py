"""
The words of a command: verbs, paths, parameters.

:Room: ``smtp``
:RFC: 5321 §4.1.2, §4.1.3 (grammar), §4.5.3.1 (sizes); 1870 §3 (SIZE), 3030 §2
    (BDAT), §3 (BINARYMIME), 6152 §2 (BODY); 6531 §3.3 (addresses outside ASCII).
:Called by: `mailhost.smtp.server_dialogue`; `parse_mailbox` by whoever reads an
    address out of a file.

Every expression here reads its input once, left to right: neighbouring parts
begin with different octets, so there is nothing to go back for.
"""

from __future__ import annotations

import re
from binascii import Error, a2b_base64
from functools import cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from attrs import frozen

from mailhost.errors import SyntaxProblem
from mailhost.model.address import Mailbox
from mailhost.model.domain_name import a_labels

# RFC 6531 §3.3: letters outside ASCII, without the controls of Latin-1.
_BEYOND_ASCII = "\u00a0-\U0010ffff"
#: Format characters that words of some scripts need (RFC 5892 A.1, A.2).
_JOINERS = "\u200c\u200d"


@frozen
class _Expressions:
    """What words look like."""

    domain: re.Pattern[str]
    path: re.Pattern[str]
    mailbox: re.Pattern[str]
    next_word: re.Pattern[str]
    plain_quoted: re.Pattern[str]


@cache
def _expressions(more: str) -> _Expressions:
    """:param more: further letters; with all of them it takes a sixth of a second to make."""
    atext = rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~{more}-]"
    dot_string = rf"{atext}+(?:\.{atext}+)*"
    # §4.1.2 quoted-string: qtextSMTP or a backslash and a printable octet.
    quoted = rf'"(?:[ !#-\[\]-~{more}]|\\[ -~])*"'
    letter = rf"[A-Za-z0-9{more}]"
    label = rf"{letter}(?:[A-Za-z0-9_{more}-]*{letter})?"
    domain = rf"{label}(?:\.{label})*\.?"
    literal = r"\[[!-Z^-~]+\]"
    # Appendix C: a source route is accepted, and ignored.
    route = rf"(?:@{domain}(?:,@{domain})*:)?"
    mailbox = rf"(?P<local>{dot_string}|{quoted})(?:@(?P<domain>{domain}|{literal}))?"
    return _Expressions(
        re.compile(domain),
        re.compile(rf"<{route}{mailbox}>(?= |$)"),
        re.compile(mailbox),
        re.compile(rf" +([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~{more}]+))?(?= |$)"),
        re.compile(rf'"({dot_string})"'),
    )


_ASCII = _expressions("")


def _for(text: str) -> _Expressions:
    return _ASCII if text.isascii() else _expressions(_BEYOND_ASCII)


# RFC 4422 §3.1
_MECHANISM = re.compile(r"[A-Za-z0-9_-]{1,20}")

MAX_LOCAL_OCTETS = 64  # §4.5.3.1.1
MAX_DOMAIN_OCTETS = 255  # §4.5.3.1.2
MAX_PATH_OCTETS = 256  # §4.5.3.1.3, angle brackets included
MAX_LABEL_OCTETS = 63  # RFC 1035 §2.3.4
_MAX_SIZE_DIGITS = 20  # RFC 1870 §3


class EncodingProblem(SyntaxProblem):
    """What should be BASE64 is not."""


def parse_verb(line: str) -> tuple[str, str]:
    """
    Split a command line into upper-case verb and argument.

    The argument loses trailing blanks only: "receivers SHOULD tolerate
    trailing white space" (§4.1.1).
    """
    verb, _, argument = line.partition(" ")
    return verb.upper(), argument.rstrip(" ")


def parse_mail(argument: str) -> tuple[Mailbox | None, dict[str, str | None]]:
    """
    The argument of MAIL: reverse-path and parameters.

    :raises SyntaxProblem: it is not ``FROM:<path> [parameters]``.
    """
    rest = _after_keyword(argument, "FROM:")
    if rest.startswith("<>"):
        return None, parse_parameters(rest[2:])
    path, rest = _parse_path(rest)
    return path, parse_parameters(rest)


def parse_rcpt(argument: str) -> tuple[Mailbox, dict[str, str | None]]:
    """
    The argument of RCPT: forward-path and parameters.

    :raises SyntaxProblem: it is not ``TO:<path> [parameters]``.
    """
    path, rest = _parse_path(_after_keyword(argument, "TO:"))
    return path, parse_parameters(rest)


def parse_mailbox(text: str) -> Mailbox:
    """
    An address without angle brackets, perhaps unqualified.

    :raises SyntaxProblem: it is no mailbox.
    """
    found = _for(text).mailbox.fullmatch(text)
    if found is None:
        raise SyntaxProblem(f"{text!r} is not an address")
    return _check_mailbox(found["local"], found["domain"] or "")


def parse_named(argument: str) -> Mailbox:
    """
    The argument of VRFY or EXPN: an address, with angle brackets or without (§3.5.1).

    :raises SyntaxProblem: anything else, a person's name too.
    """
    bare = argument[1:-1] if argument.startswith("<") and argument.endswith(">") else argument
    return parse_mailbox(bare)


def parse_parameters(text: str) -> dict[str, str | None]:
    """
    ESMTP parameters, keywords in upper case (§4.1.2 esmtp-param).

    :raises SyntaxProblem: not the grammar's, or one is given twice.
    """
    found: dict[str, str | None] = {}
    next_word = _for(text).next_word
    position = 0
    while position < len(text):
        word = next_word.match(text, position)
        if word is None:
            raise SyntaxProblem("malformed parameter")
        keyword = word[1].upper()
        if keyword in found:
            raise SyntaxProblem(f"parameter {keyword} is given twice")
        found[keyword] = word[2]
        position = word.end()
    return found


def parse_size(value: str | None) -> int:
    """
    The value of SIZE=, in octets (RFC 1870 §3).

    :raises SyntaxProblem: not 1 to 20 digits.
    """
    if value is None or not value.isdigit() or len(value) > _MAX_SIZE_DIGITS:
        raise SyntaxProblem("SIZE takes 1 to 20 digits")
    return int(value)


def parse_chunk(argument: str) -> tuple[int, bool]:
    """
    The argument of BDAT: octets that follow, and whether they are the last (RFC 3030 §2).

    :raises SyntaxProblem: not a size, with or without LAST behind it.
    """
    size, _, last = argument.partition(" ")
    if last and last.strip().upper() != "LAST":
        raise SyntaxProblem("BDAT takes a size, and LAST or nothing")
    return parse_size(size), bool(last)


def parse_body(value: str | None) -> str:
    """
    The value of BODY= (RFC 6152 §2).

    :raises SyntaxProblem: neither 7BIT nor 8BITMIME.
    """
    body = (value or "").upper()
    if body not in ("7BIT", "8BITMIME"):
        raise SyntaxProblem("BODY takes 7BIT or 8BITMIME")
    return body


def parse_any_body(value: str | None) -> str:
    """
    The value of BODY= where BINARYMIME is offered (RFC 3030 §3).

    :raises SyntaxProblem: none of 7BIT, 8BITMIME and BINARYMIME.
    """
    return "BINARYMIME" if (value or "").upper() == "BINARYMIME" else parse_body(value)


def parse_auth(argument: str) -> tuple[str, bytes | None]:
    """
    The argument of AUTH: mechanism in upper case, and initial response (RFC 4954 §4).

    :raises SyntaxProblem: no mechanism, or more than that.
    :raises EncodingProblem: the response is not BASE64.
    """
    mechanism, *response = argument.split(" ")
    if not _MECHANISM.fullmatch(mechanism) or len(response) > 1:
        raise SyntaxProblem("AUTH takes a mechanism, and an initial response or nothing")
    if not response:
        return mechanism.upper(), None
    # §4: an empty response is written as one equals sign.
    return mechanism.upper(), b"" if response[0] == "=" else parse_base64(response[0])


def parse_base64(text: str | bytes) -> bytes:
    """
    A line of an AUTH exchange.

    :raises EncodingProblem: any octet outside of the alphabet, or padding that
        is not as it has to be (RFC 4954 §4).
    """
    try:
        return a2b_base64(text, strict_mode=True)
    except (Error, ValueError):
        raise EncodingProblem("not BASE64") from None


def parse_hello(argument: str) -> str:
    """
    The name in HELO or EHLO.

    §4.1.1.1 wants a domain or an address literal.  Programs send host names
    with underscores, and addresses without brackets; §4.1.4 forbids refusing
    a client for a name that does not fit its address, so any single printable
    word of up to 255 octets is taken.

    :raises SyntaxProblem: nothing, or more than one word.
    """
    if not argument or " " in argument or len(argument) > MAX_DOMAIN_OCTETS:
        raise SyntaxProblem("one domain name or address literal")
    return argument


def is_domain(text: str) -> bool:
    """Whether *text* is a domain name that fits the sizes of §4.5.3.1.2."""
    return _ASCII.domain.fullmatch(text) is not None and _domain_fits(text)


def _after_keyword(argument: str, keyword: str) -> str:
    if argument[: len(keyword)].upper() != keyword:
        raise SyntaxProblem(f"{keyword}<address> expected")
    # §3.3: no blank may stand after the colon, but programs put one there.
    return argument[len(keyword) :].lstrip(" ")


def _parse_path(text: str) -> tuple[Mailbox, str]:
    found = _for(text).path.match(text)
    if found is None:
        raise SyntaxProblem("malformed path")
    return _check_mailbox(found["local"], found["domain"] or ""), text[found.end() :]


def _check_mailbox(local: str, domain: str) -> Mailbox:
    # §4.1.2: a sender should not quote what needs no quotes; the two are equal.
    plain = _for(local).plain_quoted.fullmatch(local) if local[0] == '"' else None
    if plain is not None:
        local = plain[1]
    if not (local.isascii() and domain.isascii()):
        return _check_international(local, domain)
    _check_lengths(len(local), len(domain))
    if domain.startswith("["):
        return Mailbox(local, parse_literal(domain))
    if domain and not _domain_fits(domain):
        raise SyntaxProblem("domain or label too long")
    return Mailbox(local, domain.removesuffix("."))


def _check_lengths(local: int, domain: int) -> None:
    """In octets (§4.5.3.1)."""
    if local > MAX_LOCAL_OCTETS:
        raise SyntaxProblem("local part longer than 64 octets")
    if local + domain + 3 > MAX_PATH_OCTETS:
        raise SyntaxProblem("path longer than 256 octets")


def _check_international(local: str, domain: str) -> Mailbox:
    """RFC 6531 §3.3: U-labels that have A-labels, and text that can be shown."""
    if not all(one.isprintable() or one in _JOINERS for one in local):
        raise SyntaxProblem("characters that cannot be shown")
    name = domain.removesuffix(".")
    _check_lengths(len(local.encode()), len(name.encode()))
    if domain.startswith("["):
        return Mailbox(local, parse_literal(domain))
    try:
        fits = _domain_fits(a_labels(name)) if name else True
    except ValueError as error:
        raise SyntaxProblem(str(error)) from None
    if not fits:
        raise SyntaxProblem("domain or label too long")
    return Mailbox(local, name)


def _domain_fits(domain: str) -> bool:
    return len(domain) <= MAX_DOMAIN_OCTETS and (
        len(domain) <= MAX_LABEL_OCTETS
        or all(len(label) <= MAX_LABEL_OCTETS for label in domain.split("."))
    )


def parse_literal(text: str) -> str:
    """
    An address literal in its one canonical form (§4.1.3).

    :param text: ``[192.0.2.1]`` or ``[IPv6:2001:db8::1]``.
    :raises SyntaxProblem: it is none.
    """
    inner = text[1:-1]
    try:
        if inner[:5].upper() == "IPV6:":
            return f"[IPv6:{IPv6Address(inner[5:])}]"
        return f"[{IPv4Address(inner)}]"
    except (AddressValueError, ValueError):
        raise SyntaxProblem(f"{text} is not an address literal") from None
