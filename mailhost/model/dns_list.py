"""
Lists of clients in DNS: of those who send spam, and of those who do not.

:Room: ``model``
:RFC: 5782.
:Made by: `mailhost.config`; read by `mailhost.policy.dns_lists`.
"""

from __future__ import annotations

from ipaddress import ip_network

from attrs import frozen

from mailhost.model.access import Network

#: RFC 5782 §2.1: what an entry may answer.
_ENTRIES = ip_network("127.0.0.0/8")
#: By agreement of the large lists: the question was refused, and says nothing of the client.
_NO_ENTRIES = ip_network("127.255.255.0/24")


@frozen
class DNSList:
    """
    One list.

    :ivar zone: where it is in DNS.
    :ivar score: counts for a client that is in it; negative where that is good.
    :ivar codes: the answers that count; empty: every entry.
    """

    zone: str
    score: int
    codes: tuple[Network, ...] = ()

    @property
    def counted(self) -> tuple[Network, ...]:
        """The answers that count."""
        return self.codes or (_ENTRIES,)

    @property
    def not_counted(self) -> tuple[Network, ...]:
        """Answers that never do."""
        return (_NO_ENTRIES,)
