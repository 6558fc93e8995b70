"""
What do the lists in DNS say of this client?

:Room: ``policy``
:RFC: 5782.
:Called by: `mailhost.intake.stranger`, which asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, ip_address

from mailhost.model.dns_list import DNSList
from mailhost.model.reply import Reply
from mailhost.smtp import replies


def name_in(address: str, zone: str) -> str | None:
    """
    The name to ask *zone* for (RFC 5782 §2.1, §2.4); `None`: there is none.

    :param address: the client's IP address.
    """
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(ip, IPv6Address):
        ip = ip.ipv4_mapped or ip
    turned, _, _ = ip.reverse_pointer.removesuffix(".arpa").rpartition(".")
    return f"{turned}.{zone}"


def is_entry(one: DNSList, answers: Iterable[str]) -> bool:
    """Whether *answers*, addresses of `name_in`, say that the client is in *one*."""
    for answer in map(ip_address, answers):
        refused = any(answer in network for network in one.not_counted)
        if not refused and any(answer in network for network in one.counted):
            return True
    return False


def score_of(entries: Sequence[DNSList]) -> int:
    """What the lists that the client is in come to."""
    return sum(one.score for one in entries)


def check_listed(
    address: str, entries: Sequence[DNSList], refuse_at: int, code: int
) -> Reply | None:
    """
    :param entries: the lists that the client is in.
    :param refuse_at: the score that is too much.
    :param code: of the reply: 554 in place of the greeting, else 550.
    """
    if score_of(entries) < refuse_at:
        return None
    zones = tuple(one.zone for one in entries if one.score > 0)
    return replies.listed(address, zones, code)
