"""
The *Delivery* page: schedules, outbound connections, *Advanced Delivery*.

:Room: ``config.settings``
:IIS: DEL-01..09, DEL-30..33, DEL-40..45.
"""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen
from attrs.converters import optional

from mailhost.config.keys import NotYet, key, keys, section
from mailhost.config.units import (
    ADDRESS,
    DOMAIN,
    NEXT_HOP,
    TRUTH,
    span,
    whole,
)
from mailhost.model.route import NextHop
from mailhost.model.schedule import RetrySchedule


@frozen
class OutboundKeys:
    """When mail for other hosts is tried again."""

    retry: tuple[int, ...] = keys(
        span(),
        "15m,30m,60m,240m",
        least=1,
        help="Waits after the first, second, ... attempt; the last repeats until expiry.",
        iis="DEL-01, DEL-02, DEL-03, DEL-04 SmtpRemoteProgressiveRetry",
    )
    delay_notification: int | None = key(
        span(lifted=True),
        "12h",
        help="After so long in the queue the sender is told of the delay.",
        iis="DEL-05 SmtpRemoteDelayExpireMinutes",
    )
    expiration: int = key(
        span(),
        "2d",
        help="After so long the message is returned.",
        iis="DEL-06 SmtpRemoteNDRExpireMinutes",
    )

    def schedule(self) -> RetrySchedule:
        """What these keys mean."""
        return RetrySchedule(self.retry, self.delay_notification, self.expiration)


@frozen
class LocalKeys:
    """When delivery into Drop is tried again."""

    retry: tuple[int, ...] = keys(
        span(),
        "60m",
        least=1,
        help="Waits after the first, second, ... attempt; the last repeats until expiry.",
        iis="DEL-09 LocalRetryInterval",
    )
    delay_notification: int | None = key(
        span(lifted=True),
        "12h",
        help="After so long in the queue the sender is told of the delay.",
        iis="DEL-07 SmtpLocalDelayExpireMinutes",
    )
    expiration: int = key(
        span(),
        "2d",
        help="After so long the message is returned.",
        iis="DEL-08 SmtpLocalNDRExpireMinutes",
    )

    def schedule(self) -> RetrySchedule:
        """What these keys mean."""
        return RetrySchedule(self.retry, self.delay_notification, self.expiration)


@frozen
class OutboundConnections:
    """The *Outbound Connections* dialogue of the *Delivery* page."""

    max: int | None = key(
        whole(1, unit="connections", lifted=True),
        "1000",
        help="Outbound connections at a time.",
        iis="DEL-30 MaxOutConnections",
    )
    max_per_domain: int | None = key(
        whole(1, unit="connections", lifted=True),
        "100",
        help="Outbound connections to one domain at a time; not more than max.",
        iis="DEL-32 MaxOutConnectionsPerDomain",
    )
    timeout: int = key(
        span(),
        "10m",
        help="An outbound connection on which nothing moves is given up.",
        iis="DEL-31 RemoteTimeout",
    )
    port: int = key(
        whole(1, 65535),
        "25",
        help="The TCP port of other hosts, where a route names none.",
        iis="DEL-33 RemoteSmtpPort",
    )
    source_address: str | None = key(
        ADDRESS,
        "null",
        help="The address outbound connections come from; null: the system's choice.",
    )


@frozen
class DeliverySettings:
    """The *Delivery* page: schedules, outbound connections and *Advanced Delivery*."""

    not_yet: ClassVar[NotYet] = NotYet("security")

    outbound: RetrySchedule = section(
        OutboundKeys, make=OutboundKeys.schedule, help="Mail for other hosts."
    )
    local: RetrySchedule = section(LocalKeys, make=LocalKeys.schedule, help="Mail for Drop.")
    connections: OutboundConnections = section(OutboundConnections, help="Outbound connections.")
    max_hops: int = key(
        whole(1, 1000, unit="Received fields"),
        "15",
        help="A message that has passed through more hosts is taken for a loop and returned.",
        iis="DEL-40 HopCount",
    )
    masquerade_domain: str | None = key(
        DOMAIN,
        "null",
        converter=optional(str.lower),
        help="Replaces a local domain in the reverse-path of mail that leaves.",
        iis="DEL-41 MasqueradeDomain",
    )
    smart_host: tuple[NextHop, ...] = keys(
        NEXT_HOP,
        "null",
        separators=",;",
        help="All mail for other domains goes to the first of these hosts that answers; null: to "
        "the hosts that DNS names. An address stands in brackets, and in quotes in YAML.",
        iis="DEL-43 SmartHost",
    )
    direct_first: bool = key(
        TRUTH,
        "false",
        help="Try the hosts that DNS names before the smart host.",
        iis="DEL-44 SmartHostType",
    )
    reverse_dns: bool = key(
        TRUTH,
        "false",
        help="Look up the client's name and note the result in the Received field; never refuses.",
        iis="DEL-45 EnableReverseDnsLookup",
    )
