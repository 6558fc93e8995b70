"""
The sorts of values that a setting may have, and how an operator writes each.

:Room: ``config`` (floor 1)
:RFC: 5321 §2.3.5 (domains), §4.1.2 (mailbox), §4.1.3 (address literals).
:Called by: `mailhost.config.settings`, which gives every key its `Kind`.

A parser raises `ValueError` saying only what is wrong; what is allowed stands in
`Kind.allowed`, once for messages and for ``docs/settings.rst``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Any

from attrs import frozen

from mailhost.config.faults import shown
from mailhost.model.access import Network, check_domain_pattern, parse_network
from mailhost.model.address import Mailbox
from mailhost.model.domain_name import a_labels
from mailhost.model.rate import Rate
from mailhost.model.route import NextHop

#: "none" and "unlimited" lift a limit.
LIFTED = frozenset({"none", "unlimited"})

#: IIS stores "no limit" as this number (GEN-06); nothing countable goes beyond it.
MOST = 2_000_000_000
#: DEL-05: the longest span the IIS pages take is 9999 days.
LONGEST_SECONDS = 9999 * 86400
#: What is spread over longer is no rate any more.
_LONGEST_RATE_SECONDS = 86400

_WHOLE = re.compile(r"[0-9]{1,15}")
_SIZE = re.compile(r"([0-9]{1,15})\s*([kKmMgG]?)")
_SPAN = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([smhdSMHD]?)")
_OCTETS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
# RFC 5321 §4.1.2: Dot-string; a quoted local part is not needed for a postmaster's address.
_DOT_STRING = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,62}[A-Za-z0-9._-])?")


def _anything_goes(value: Any) -> None:
    """The check of a kind whose parser leaves nothing to check."""


@frozen
class Kind:
    """
    One sort of value.

    :ivar parse: from text to value; raises `ValueError` saying what is wrong.
    :ivar allowed: what may be written.
    :ivar unit: of the value, empty where it has none.
    :ivar check: raises `ValueError` for a value out of bounds; applied to values from
        files and from code alike.
    """

    parse: Callable[[str], Any]
    allowed: str
    unit: str = ""
    check: Callable[[Any], object] = _anything_goes


# ---- numbers, sizes, times


def _between(least: float, most: float) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if value is None:
            return
        if not least <= value <= most:
            number = int(value) if value == int(value) else value
            raise ValueError(f"{number} is too {'small' if value < least else 'large'}")

    return check


def _or_lifted(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: None if text.strip().lower() in LIFTED else parse(text)


def parse_whole(text: str) -> int:
    """:raises ValueError: *text* is not a run of decimal digits."""
    if not _WHOLE.fullmatch(text.strip()):
        raise ValueError(f"{shown(text)} is not a whole number")
    return int(text)


def whole(least: int, most: int = MOST, *, unit: str = "", lifted: bool = False) -> Kind:
    """A whole number from *least* to *most*; *lifted* admits "unlimited" (`None`)."""
    bounds = f" from {least} to {most}" if most < MOST else f", at least {least}"
    allowed = f"a whole number{bounds}{', or unlimited' if lifted else ''}"
    parse: Callable[[str], Any] = _or_lifted(parse_whole) if lifted else parse_whole
    return Kind(parse, allowed, unit, _between(least, most))


def parse_score(text: str) -> int:
    """:raises ValueError: *text* is no whole number, with a sign or without."""
    text = text.strip()
    value = parse_whole(text[1:] if text[:1] in ("-", "+") else text)
    return -value if text.startswith("-") else value


#: What an entry in a list counts; below 0: it is a good sign.
SCORE = Kind(parse_score, "a whole number from -1000 to 1000", "", _between(-1000, 1000))


def parse_size(text: str) -> int | None:
    """
    :returns: octets; `None` for no limit, which 0 means as well (MSG-01).
    :raises ValueError: *text* is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{shown(text)} is not a size")
    return int(match[1]) * _OCTETS[match[2].lower()] or None


def size(least: int) -> Kind:
    """Octets, at least *least*; ``0`` and ``unlimited`` give `None`."""
    allowed = (
        f"octets, at least {least}, also with K, M or G (1024-based); 0 or unlimited: no limit"
    )
    return Kind(_or_lifted(parse_size), allowed, "octets", _between(least, 1 << 60))


def parse_span(text: str) -> float:
    """
    :returns: seconds.
    :raises ValueError: *text* is no time.
    """
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{shown(text)} is not a time")
    return float(match[1]) * _SECONDS[match[2].lower()]


def parse_seconds(text: str) -> int:
    """
    :returns: whole seconds.
    :raises ValueError: *text* is no time, or has a fraction of a second.
    """
    seconds = parse_span(text)
    if seconds != int(seconds):
        raise ValueError(f"{shown(text)} is not a whole number of seconds")
    return int(seconds)


def span(*, lifted: bool = False) -> Kind:
    """Whole seconds, at least one; *lifted* admits "none" (`None`: never)."""
    parse: Callable[[str], Any] = _or_lifted(parse_seconds) if lifted else parse_seconds
    allowed = "a time of at least 1s, with s, m, h or d, or plain seconds"
    words = f"{allowed}; none: never" if lifted else allowed
    return Kind(parse, words, "seconds", _between(1, LONGEST_SECONDS))


#: Seconds with a fraction, for what is shorter than a moment.
SHORT_SPAN = Kind(
    parse_span,
    "a time from 0.1s to 300s, with s, m, h or d, or plain seconds",
    "seconds",
    _between(0.1, 300),
)

#: The same, or not at all.
PAUSE = Kind(
    parse_span,
    "a time from 0s to 300s, with s, m, h or d, or plain seconds",
    "seconds",
    _between(0, 300),
)


_RATE = re.compile(r"([0-9]{1,10})\s*/\s*([0-9]{0,6}\s*[smhdSMHD])")


def parse_rate(text: str) -> Rate:
    """
    *text* as so many in so long: ``100/1m``, or ``100/m``.

    :raises ValueError: it is no such thing, or none, or in no time.
    """
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{shown(text)} is not a rate")
    seconds = parse_span(match[2] if match[2][0].isdigit() else f"1{match[2]}")
    if int(match[1]) < 1 or seconds < 1:
        raise ValueError(f"{shown(text)} is too small")
    return Rate(int(match[1]), seconds)


def _check_rate(value: Rate | None) -> None:
    if value is not None and value.seconds > _LONGEST_RATE_SECONDS:
        raise ValueError(f"{value} counts over too long a time")


def rate() -> Kind:
    """How many in how long; ``none`` gives `None`: any number."""
    allowed = "a number and a time of 1s to 1d, such as 100/1m or 20/1s; none: no limit"
    return Kind(_or_lifted(parse_rate), allowed, check=_check_rate)


# ---- words


def choice(words: Mapping[str, Any]) -> Kind:
    """One of a few *words*, each standing for a value."""

    def parse(text: str) -> Any:
        try:
            return words[text.strip().lower()]
        except KeyError:
            raise ValueError(f"{shown(text)} is none of the words known here") from None

    return Kind(parse, " or ".join(words))


_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def parse_truth(text: str) -> bool:
    """:raises ValueError: *text* is none of the six words for it."""
    try:
        return _TRUTH[text.strip().lower()]
    except KeyError:
        raise ValueError(f"{shown(text)} is neither true nor false") from None


TRUTH = Kind(parse_truth, "true or false (also yes, on, no, off)")


def parse_name(text: str) -> str:
    """:raises ValueError: *text* cannot name a virtual server."""
    if not _NAME.fullmatch(text):
        raise ValueError(f"{shown(text)} cannot be a name")
    return text


# Used on command lines and in INI section heads, so no slash, quote or control character.
NAME = Kind(
    parse_name,
    "1 to 64 ASCII letters, digits, spaces, dots, hyphens or underscores",
    check=parse_name,
)


def parse_comment(text: str) -> str:
    """:raises ValueError: *text* is not one line of printable text."""
    if not text.isprintable():
        raise ValueError(f"{shown(text)} is not one line of text")
    if len(text) > 256:
        raise ValueError(f"{len(text)} characters are too many")
    return text


COMMENT = Kind(parse_comment, "one line of up to 256 printable characters")


def parse_login_name(text: str) -> str:
    """:raises ValueError: nobody can be called so."""
    if not (text.isprintable() and " " not in text and 0 < len(text) <= 256):
        raise ValueError(f"{text!r} is no name of a login")
    return text


LOGIN_NAME = Kind(parse_login_name, "the name of a login")


def parse_path(text: str) -> Path:
    """:raises ValueError: *text* is no path, or would not mean what it seems to."""
    if not text.strip() or not text.isprintable():
        raise ValueError(f"{shown(text)} is not a path")
    if text.startswith("~"):
        raise ValueError(f"{shown(text)} starts with ~, which is not expanded")
    return Path(text)


PATH = Kind(parse_path, "a path; a relative one starts at the current directory of the process")


# ---- names and addresses


def parse_domain(text: str) -> str:
    """
    *text* as a domain name (RFC 5321 §2.3.5), its case kept; U-labels become A-labels.

    :raises ValueError: it is none; an address is none either.
    """
    wrong = ValueError(f"{shown(text)} is not a domain name")
    try:
        name = a_labels(text.strip().rstrip("."))
        checked = check_domain_pattern(name)
    except ValueError:
        raise wrong from None
    # RFC 3696 §2: the last label is not all digits, so that no address looks like a name.
    if checked.startswith("*.") or checked.rpartition(".")[2].isdigit():
        raise wrong
    return name


DOMAIN = Kind(
    parse_domain,
    "a domain name",
    check=parse_domain,
)


def parse_domain_pattern(text: str) -> str:
    """:raises ValueError: *text* is no domain, with or without ``*.`` before it."""
    wildcard = "*." if text.strip().startswith("*.") else ""
    return wildcard + parse_domain(text.strip().removeprefix("*.")).lower()


DOMAIN_PATTERN = Kind(
    parse_domain_pattern,
    "a domain name; *.example.com for all that lie below example.com",
    check=parse_domain_pattern,
)


def parse_address(text: str) -> str:
    """:raises ValueError: *text* is not an IPv4 or IPv6 address."""
    bare = text.strip().removeprefix("[").removesuffix("]")
    try:
        if not _ADDRESS.fullmatch(bare):  # ip_address() takes any text as an IPv6 scope
            raise ValueError(bare)
        return str(ip_address(bare))
    except ValueError:
        raise ValueError(f"{shown(text)} is not an IP address") from None


ADDRESS = Kind(parse_address, "an IPv4 or IPv6 address of this machine", check=parse_address)


def parse_port(text: str) -> int:
    """:raises ValueError: *text* is not a TCP port, 1 to 65535 (GEN-04)."""
    if not _WHOLE.fullmatch(text) or not 1 <= int(text) <= 65535:
        raise ValueError(f"{shown(text)} is not a port from 1 to 65535")
    return int(text)


def _split_port(text: str) -> tuple[str, str | None]:
    """``host:port`` or ``[address]:port``; brackets stay, the port may be missing."""
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{shown(text)} has no matching bracket")
        return host + bracket, rest[1:] if rest else None
    host, colon, port = text.partition(":")
    if ":" in port:
        raise ValueError(f"{shown(text)} is an IPv6 address without brackets")
    return host, port if colon else None


def parse_address_and_port(text: str, default_port: int | None = None) -> tuple[str, int]:
    """
    :returns: ``(address, port)``.
    :raises ValueError: *text* is not ``192.0.2.1:25`` or ``[2001:db8::1]:25``; the port may
        be left out only where there is a *default_port*.
    """
    host, port = _split_port(text.strip())
    address = parse_address(host)
    if port is not None:
        return address, parse_port(port)
    if default_port is None:
        raise ValueError(f"{shown(text)} has no port")
    return address, default_port


def parse_name_server(text: str) -> tuple[str, int]:
    """
    :returns: ``(address, port)``, the port 53 where *text* has none.
    :raises ValueError: *text* is no such thing.
    """
    try:
        return parse_address(text), 53
    except ValueError:
        return parse_address_and_port(text, 53)


NAME_SERVER = Kind(
    parse_name_server, "an IP address, with or without a port: 192.0.2.1:53, [::1]:53"
)


ADDRESS_AND_PORT = Kind(
    parse_address_and_port, "an IP address of this machine and a port: 127.0.0.1:9125, [::1]:9125"
)


def parse_next_hop(text: str) -> NextHop:
    """
    ``[address]``, ``[address]:port``, ``name``, ``name:port`` or ``unix:/path``.

    :raises ValueError: it is none of them; an address without brackets is refused
        because only the brackets say "no DNS" (DEL-43).
    """
    if text.strip().startswith("unix:/"):
        return NextHop(str(parse_path(text.strip()[5:])), literal=True)
    host, port_text = _split_port(text.strip())
    port = parse_port(port_text) if port_text is not None else None
    if host.startswith("["):
        literal = host[1:-1]
        # RFC 5321 §4.1.3 writes an IPv6 literal with a tag in front.
        tagged = literal[5:] if literal[:5].lower() == "ipv6:" else literal
        return NextHop(parse_address(tagged), port, literal=True)
    try:
        parse_address(host)
    except ValueError:
        return NextHop(parse_domain(host).lower(), port)
    raise ValueError(f"{shown(text)} is an address without brackets")


NEXT_HOP = Kind(
    parse_next_hop,
    'relay.example.net, relay.example.net:587, "[192.0.2.10]", "[2001:db8::1]:25" '
    "(brackets: an address, no DNS), unix:/run/socket",
)


def parse_mailbox(text: str) -> Mailbox:
    """:raises ValueError: *text* is not ``local@domain``."""
    local, _, domain = text.strip().rpartition("@")
    # RFC 5321 §4.5.3.1.1: a local part has at most 64 octets.
    if not _DOT_STRING.fullmatch(local) or len(local) > 64:
        raise ValueError(f"{shown(text)} is not a mail address")
    try:
        return Mailbox(local, parse_domain(domain))
    except ValueError:
        raise ValueError(f"{shown(text)} is not a mail address") from None


MAILBOX = Kind(parse_mailbox, "one mail address such as postmaster@example.com")


def parse_access_entry(text: str) -> Network | str:
    """
    :returns: a network (one address is a network of one), or a domain in lower case.
    :raises ValueError: *text* is neither; or an IPv4 address in IPv6 dress, which would
        match nobody because clients are compared by their IPv4 address.
    """
    try:
        network = parse_network(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is not an address or network") from None
    if network is None:
        return parse_domain_pattern(text)
    if isinstance(network, IPv6Network) and _is_mapped(network.network_address):
        raise ValueError(f"{shown(text)} is an IPv4 address written as IPv6")
    return network


def _is_mapped(address: IPv6Address) -> bool:
    return address.ipv4_mapped is not None


ACCESS_ENTRY = Kind(
    parse_access_entry,
    "an address, a network (192.0.2.0/24, 192.0.2.0/255.255.255.0, 2001:db8::/32), "
    "a domain or *.domain",
)
