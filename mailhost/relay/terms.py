"""
What the operator allows the relay: one page, replaced when it is read anew.

:Room: ``relay``
:IIS: the Delivery page, MSG-03, MSG-04, MSG-05.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define, field

from mailhost.config.settings import QueueKeys, SuspensionKeys, VirtualServerSettings
from mailhost.content.conversion import MAX_LINE_OCTETS
from mailhost.model.address import Mailbox
from mailhost.model.rate import RateLimits
from mailhost.model.schedule import RetrySchedule
from mailhost.routing.categorizer import Categorizer
from mailhost.routing.domains import RemoteDomain


@define
class Terms:
    """
    :ivar fqdn: our name in HELO and in reports.
    :ivar categorizer: routes recipients, masquerades senders.
    :ivar outbound: schedule for what goes to other hosts.
    :ivar local: schedule for final delivery.
    :ivar max_connections: to all sites; `None`: no limit.
    :ivar max_per_site: to one site; `None`: no limit.
    :ivar first_per_site: to a site that nobody knows anything about.
    :ivar max_messages: on one connection; `None`: any number.
    :ivar max_recipients: in one transaction; `None`: any number.
    :ivar port: where a next hop names none.
    :ivar timeout_seconds: patience with a silent peer.
    :ivar source_address: local address to connect from.
    :ivar copy_ndr_to: gets a copy of each failure report.
    :ivar suspension: how long a dead site is left alone.
    :ivar rates: how fast mail leaves, in all.
    :ivar site_rates: the same for each set of hosts.
    :ivar domain_rates: the same for remote domains that have rates, by their entries' names.
    :ivar queue: how much is worked on, and how much may wait.
    :ivar holds: mail of some remote domains waits to be asked for.
    :ivar long_lines: lines are taken that no host has to take.
    """

    fqdn: str
    categorizer: Categorizer
    outbound: RetrySchedule = field(factory=RetrySchedule)
    local: RetrySchedule = field(factory=lambda: RetrySchedule(intervals=(3600,)))
    max_connections: int | None = 1000
    max_per_site: int | None = 100
    max_messages: int | None = 20
    max_recipients: int | None = 100
    port: int = 25
    timeout_seconds: float = 600
    source_address: str | None = None
    copy_ndr_to: Mailbox | None = None
    first_per_site: int = 5
    suspension: SuspensionKeys = field(factory=SuspensionKeys)
    rates: RateLimits = RateLimits()
    site_rates: RateLimits = RateLimits()
    domain_rates: Mapping[str, RateLimits] = field(factory=dict)
    queue: QueueKeys = field(factory=QueueKeys)
    long_lines: bool = False
    holds: bool = False

    @classmethod
    def of(cls, settings: VirtualServerSettings, categorizer: Categorizer) -> Terms:
        """The terms on a virtual server's pages."""
        delivery, messages = settings.delivery, settings.messages
        connections = delivery.connections
        return cls(
            settings.fqdn,
            categorizer,
            delivery.outbound,
            delivery.local,
            connections.max,
            connections.max_per_domain,
            messages.max_messages_per_connection,
            messages.max_recipients,
            connections.port,
            connections.timeout,
            connections.source_address,
            messages.copy_ndr_to,
            connections.first_per_domain,
            delivery.suspension,
            delivery.rates,
            delivery.rates_per_site,
            {one.name: one.rates for one in settings.domains if not one.rates.none},
            delivery.queue,
            messages.max_line_length is None or messages.max_line_length > MAX_LINE_OCTETS,
            bool(categorizer.domains.held()),
        )

    @property
    def domain(self) -> str:
        """The default domain: reports come from its postmaster."""
        return self.categorizer.domains.default

    @property
    def suspension_seconds(self) -> tuple[float, float]:
        """
        The shortest and the longest suspension.

        The operator's retry intervals are a promise to try as often as that, so no
        suspension begins longer than the first, or becomes longer than the longest of them.
        """
        intervals = self.outbound.intervals
        shortest = min(self.suspension.shortest, intervals[0])
        longest = min(self.suspension.longest, max(intervals))
        return shortest, max(shortest, longest)

    def held_by(self, path: Mailbox) -> str:
        """The entry that holds mail for *path* until it is asked for; empty: none does."""
        if not self.holds:
            return ""
        found = self.categorizer.find_domain(path)
        return found.name if isinstance(found, RemoteDomain) and found.hold is not None else ""

    def rated_by(self, path: Mailbox) -> str:
        """The entry whose rates hold for mail to *path*; empty: none."""
        if not self.domain_rates:
            return ""
        found = self.categorizer.find_domain(path)
        return found.name if found is not None and found.name in self.domain_rates else ""
