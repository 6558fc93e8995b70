"""
Filters and names for a directory, in which nothing that came from outside has a meaning.

:Room: ``directory``
:RFC: 4515 §3 (filters), 4514 §2.4, §3 (names), 4516 (URLs).
:Called by: `mailhost.directory.source`, `mailhost.directory.binding`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from attrs import frozen

#: RFC 4515 §3 lets more stand; what is escaped without need means the same.
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@.:-_")
_ATTRIBUTE = re.compile(r"[A-Za-z0-9][A-Za-z0-9;-]*(?:\.[0-9]+)*")
_SPECIAL_IN_DN = frozenset('"+,;<>\\')


def escape(value: str) -> str:
    """*value* as it may stand in a filter: it matches itself and nothing else."""
    if _PLAIN.issuperset(value):
        return value
    return "".join(
        c if c in _PLAIN else "".join(f"\\{octet:02x}" for octet in _octets(c)) for c in value
    )


def _octets(text: str) -> bytes:
    """UTF-8; a lone surrogate becomes ``?``, which no address in a directory has."""
    return text.encode("utf-8", "replace")


def equals(attribute: str, value: str) -> str:
    """``(attribute=value)``."""
    return f"({attribute}={escape(value)})"


def any_of(filters: Iterable[str]) -> str:
    """True where one of *filters* is."""
    given = tuple(filters)
    return given[0] if len(given) == 1 else f"(|{''.join(given)})"


def all_of(*filters: str) -> str:
    """True where each of *filters* is; empty ones do not count."""
    given = tuple(one for one in filters if one)
    return given[0] if len(given) == 1 else f"(&{''.join(given)})"


def is_attribute(text: str) -> bool:
    """Whether *text* can name an attribute (RFC 4512 §1.4)."""
    return _ATTRIBUTE.fullmatch(text) is not None


# ---- names


def escape_name(value: str) -> str:
    """*value* as it may stand in a DN (RFC 4514 §2.4)."""
    escaped = "".join(
        f"\\{c}" if c in _SPECIAL_IN_DN else c if c.isprintable() else _hexadecimal(c)
        for c in value
    )
    if escaped.startswith(("#", " ")):
        escaped = "\\" + escaped
    if escaped.endswith(" ") and not escaped.endswith("\\ "):
        escaped = escaped[:-1] + "\\ "
    return escaped


def _hexadecimal(c: str) -> str:
    return "".join(f"\\{octet:02x}" for octet in _octets(c))


@frozen
class FirstPart:
    """
    The first component of a DN.

    :ivar attribute: lower case.
    :ivar value: with nothing escaped.
    :ivar parent: the rest of the DN, as it was.
    """

    attribute: str
    value: str
    parent: str


def first_part(dn: str) -> FirstPart | None:
    """The first component of *dn*; `None` where it has several values, or is no DN."""
    end = _end_of_part(dn)
    part, parent = dn[:end], dn[end + 1 :].lstrip()
    attribute, equal, written = part.partition("=")
    value = _unescaped(written)
    if not equal or value is None or not is_attribute(attribute.strip()):
        return None
    return FirstPart(attribute.strip().lower(), value, parent)


def _end_of_part(dn: str) -> int:
    if "\\" not in dn:
        end = dn.find(",")
        return end if end >= 0 else len(dn)
    position = 0
    while position < len(dn) and dn[position] != ",":
        position += 2 if dn[position] == "\\" else 1
    return min(position, len(dn))


def _unescaped(written: str) -> str | None:
    """The value that *written* stands for; `None` for several, or for a BER value."""
    text = written.strip(" ") if not written.endswith("\\ ") else written.lstrip(" ")
    if "\\" not in text:
        return None if "+" in text or text.startswith("#") else text
    octets = bytearray()
    position = 0
    while position < len(text):
        c = text[position]
        if c == "+":
            return None
        if c != "\\":
            octets += _octets(c)
            position += 1
            continue
        pair = text[position + 1 : position + 3]
        if len(pair) == 2 and all(one in "0123456789abcdefABCDEF" for one in pair):
            octets.append(int(pair, 16))
            position += 3
        else:
            octets += _octets(pair[:1])
            position += 2
    return octets.decode("utf-8", "replace")


def name_key(dn: str) -> str:
    """*dn* for comparing: two ways to write one name have one key, as a rule (RFC 4514 §3)."""
    if "\\" not in dn and ", " not in dn and " =" not in dn and "= " not in dn:
        return dn.lower()
    keys: list[str] = []
    rest = dn
    while rest:
        part = first_part(rest)
        if part is None:
            return ",".join([*keys, rest.lower()])
        keys.append(f"{part.attribute}={escape_name(' '.join(part.value.lower().split()))}")
        rest = part.parent
    return ",".join(keys)


# ---- URLs

_SCOPES = {"": "base", "base": "base", "one": "one", "sub": "sub"}


@frozen
class DirectoryURL:
    """
    An LDAP URL (RFC 4516).

    :ivar host: lower case; empty for "the server that is asked".
    :ivar base: a DN; empty where it has none.
    :ivar filter: empty where it has none.
    """

    scheme: str
    host: str
    port: int
    base: str
    scope: str
    filter: str


def parse_url(text: str) -> DirectoryURL | None:
    """*text* as an LDAP URL; `None` where it is none."""
    try:
        parts = urlsplit(text)
        scheme = parts.scheme.lower()
        port = parts.port or (636 if scheme == "ldaps" else 389)
    except ValueError:
        return None
    if scheme not in ("ldap", "ldaps"):
        return None
    # RFC 4516 §2: dn ? attributes ? scope ? filter ? extensions
    fields = [*(unquote(one) for one in parts.query.split("?")), "", "", ""]
    scope = _SCOPES.get(fields[1].lower())
    if scope is None:
        return None
    host = (parts.hostname or "").lower()
    return DirectoryURL(scheme, host, port, unquote(parts.path[1:]), scope, fields[2])
