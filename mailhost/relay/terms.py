"""
What the operator allows the relay: one page, replaced when it is read anew.

:Room: ``relay``
:IIS: the Delivery page, MSG-03, MSG-04, MSG-05.
"""

from __future__ import annotations

from attrs import define, field

from mailhost.config.settings import VirtualServerSettings
from mailhost.model.address import Mailbox
from mailhost.model.schedule import RetrySchedule
from mailhost.routing.categorizer import Categorizer


@define
class Terms:
    """
    :ivar fqdn: our name in HELO and in reports.
    :ivar categorizer: routes recipients, masquerades senders.
    :ivar outbound: schedule for what goes to other hosts.
    :ivar local: schedule for final delivery.
    :ivar max_connections: to all sites; `None`: no limit.
    :ivar max_per_site: to one site; `None`: no limit.
    :ivar max_messages: on one connection; `None`: any number.
    :ivar max_recipients: in one transaction; `None`: any number.
    :ivar port: where a next hop names none.
    :ivar timeout_seconds: patience with a silent peer.
    :ivar source_address: local address to connect from.
    :ivar copy_ndr_to: gets a copy of each failure report.
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
        )

    @property
    def domain(self) -> str:
        """The default domain: reports come from its postmaster."""
        return self.categorizer.domains.default
