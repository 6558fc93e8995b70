"""
Which names may be asked for, and how they are written.

:Room: ``relay.dns`` -- pure functions.
:RFC: 1035 §2.3.4 (lengths), 5891 (IDNA), 6761 and 7686 (special names).
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from mailhost.errors import ResolveProblem
from mailhost.model.domain_name import a_labels

#: RFC 1035 §2.3.4: 255 octets on the wire, which is 253 characters without the final dot.
MAX_NAME_CHARACTERS = 253
#: RFC 1035 §2.3.4: 63 octets a label.  Letters, digits, hyphens (RFC 1123 §2.1)
#: and the underscore of service names (RFC 8552).
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
#: RFC 6761 §6.4 and RFC 7686 §2: never sent to a name server, they do not exist.
_NOWHERE = frozenset({"invalid", "onion"})


@lru_cache(maxsize=8192)
def check_name(text: str) -> str:
    """
    *text* as a name to ask for: A-labels, lower case, no final dot.

    :raises mailhost.errors.ResolveProblem: 5.1.2, no such name can exist.
    """
    name = _a_labels(text.removesuffix(".")).lower()
    labels = name.split(".")
    good = len(name) <= MAX_NAME_CHARACTERS and all(_LABEL.fullmatch(part) for part in labels)
    # RFC 1123 §2.1: a top-level name is alphabetic, so all digits is an address gone astray.
    if not good or labels[-1].isdigit() or labels[-1] in _NOWHERE:
        raise _cannot_exist(text)
    return name


def _a_labels(text: str) -> str:
    """RFC 5891 §4: U-labels become A-labels; ASCII is left as it is."""
    try:
        return a_labels(text)
    except ValueError:
        raise _cannot_exist(text) from None


def _cannot_exist(text: str) -> ResolveProblem:
    """RFC 3463 §3.2, X.1.2: bad destination system address."""
    return ResolveProblem("5.1.2", f"there is no domain {text[:80]!a}")


def is_address(text: str) -> bool:
    """Whether *text* is an IPv4 or IPv6 address; a zone (``%eth0``) may follow."""
    return find_address(text) is not None


def find_address(text: str) -> IPv4Address | IPv6Address | None:
    """*text* as an address without its zone; `None` if it is a name."""
    if ":" not in text and not text[-1:].isdigit():
        return None
    try:
        return ip_address(text.partition("%")[0])
    except ValueError:
        return None


def is_localhost(name: str) -> bool:
    """RFC 6761 §6.3: ``localhost`` and everything below it."""
    return name == "localhost" or name.endswith(".localhost")


def reverse_name(address: str) -> str:
    """
    The name that holds the PTR records of *address* (RFC 1035 §3.5, RFC 3596 §2.5).

    :raises ValueError: *address* is no IP address.
    """
    ip = ip_address(address.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return (mapped or ip).reverse_pointer
