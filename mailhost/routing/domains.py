"""
The domains of one virtual server: default, alias, remote.

:Room: ``routing``
:IIS: §8 (domain types), DOM-10..14.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field, frozen

from mailhost.model.held import Holding
from mailhost.model.rate import RateLimits
from mailhost.model.route import NextHop
from mailhost.model.security import OutboundSecurity


@frozen
class LocalDomain:
    """
    Mail for it is ours.

    :ivar name: lower case.
    :ivar alias: its mail is stamped with the default domain.
    """

    name: str
    alias: bool


@frozen
class RemoteDomain:
    """
    A domain with rules of its own.

    :ivar name: lower case; ``*.`` in front covers every sub-domain.
    :ivar relay: incoming mail may be relayed to it whoever sends (DOM-10).
    :ivar helo: say HELO instead of EHLO (DOM-11).
    :ivar hops: forward everything to these smart hosts (DOM-14); `None`: use
        DNS (DOM-13); empty: no route of its own.
    :ivar security: how to meet its hosts (DOM-12); `None`: as the virtual server does.
    :ivar rates: how fast its mail may leave.
    :ivar hold: its mail waits until it is asked for (DOM-20); `None`: it does not.
    :ivar lmtp: its *hops* speak LMTP.
    """

    name: str
    relay: bool = False
    helo: bool = False
    hops: tuple[NextHop, ...] | None = ()
    security: OutboundSecurity | None = None
    rates: RateLimits = RateLimits()
    hold: Holding | None = None
    lmtp: bool = False


Domain = LocalDomain | RemoteDomain


@define
class DomainTable:
    """
    Finds the entry for a domain: its own, else the longest ``*.`` above it.

    :ivar default: the default domain, lower case.
    """

    default: str
    _exact: dict[str, Domain] = field(factory=dict, init=False)
    _below: dict[str, Domain] = field(factory=dict, init=False)

    @classmethod
    def build(cls, default: str, others: Iterable[Domain]) -> DomainTable:
        """
        :param default: the default domain.
        :param others: aliases and remote domains; a later entry of the same
            name replaces an earlier one.
        """
        table = cls(default.lower())
        for domain in (LocalDomain(table.default, alias=False), *others):
            if domain.name.startswith("*."):
                table._below[domain.name[2:]] = domain
            else:
                table._exact[domain.name] = domain
        return table

    def find(self, name: str) -> Domain | None:
        """The entry that rules *name* (lower case), if there is one."""
        found = self._exact.get(name)
        if found is not None or not self._below:
            return found
        _, _, above = name.partition(".")
        while above:
            if above in self._below:
                return self._below[above]
            _, _, above = above.partition(".")
        return None

    def held(self) -> tuple[RemoteDomain, ...]:
        """The entries whose mail waits until it is asked for."""
        every = (*self._exact.values(), *self._below.values())
        return tuple(one for one in every if isinstance(one, RemoteDomain) and one.hold)

    def local(self) -> frozenset[str]:
        """The names of those whose mail is ours, lower case."""
        every = self._exact.values()
        return frozenset(one.name for one in every if isinstance(one, LocalDomain))

    def is_local(self, name: str) -> bool:
        """Whether mail for *name* (lower case) is ours."""
        return isinstance(self.find(name), LocalDomain)
