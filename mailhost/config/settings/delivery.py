"""
The *Delivery* page: schedules, outbound connections, *Advanced Delivery*.

:Room: ``config.settings``
:IIS: DEL-01..09, DEL-30..33, DEL-40..45.
"""

from __future__ import annotations

from attrs import frozen
from attrs.converters import optional

from mailhost.config.keys import key, keys, section
from mailhost.config.settings.rates import RateKeys
from mailhost.config.settings.security import SecurityKeys
from mailhost.config.units import (
    ADDRESS,
    DOMAIN,
    NEXT_HOP,
    TRUTH,
    span,
    whole,
)
from mailhost.model.rate import RateLimits
from mailhost.model.route import NextHop
from mailhost.model.schedule import RetrySchedule
from mailhost.model.security import OutboundSecurity


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
    first_per_domain: int = key(
        whole(1, 1000, unit="connections"),
        "5",
        help="Connections to one domain at first; they become more as mail is taken, fewer as "
        "connections fail. Never more than max_per_domain.",
    )


@frozen
class SuspensionKeys:
    """What becomes of hosts that take no connection."""

    shortest: int = key(
        span(),
        "1m",
        help="A site (the hosts of a domain) where connection after connection fails is left "
        "alone for so long, then asked by one connection; each failure doubles the time.",
    )
    longest: int = key(span(), "1h", help="It is never left alone for longer.")


@frozen
class QueueKeys:
    """How much is worked on at a time, and how much may wait."""

    max_active: int = key(
        whole(100, 1_000_000, unit="messages"),
        "20000",
        help="Messages being sent or waiting for a connection, in memory; the rest is on disk.",
    )
    max_messages: int | None = key(
        whole(1, unit="messages", lifted=True),
        "unlimited",
        help="While more are queued, on disk or in memory, new mail is put off with 452.",
    )


@frozen
class DeliverySettings:
    """The *Delivery* page: schedules, outbound connections and *Advanced Delivery*."""

    outbound: RetrySchedule = section(
        OutboundKeys, make=OutboundKeys.schedule, help="Mail for other hosts."
    )
    local: RetrySchedule = section(LocalKeys, make=LocalKeys.schedule, help="Mail for Drop.")
    security: OutboundSecurity = section(
        SecurityKeys, make=SecurityKeys.security, help="Outbound security."
    )
    connections: OutboundConnections = section(OutboundConnections, help="Outbound connections.")
    suspension: SuspensionKeys = section(SuspensionKeys, help="Hosts that take no connection.")
    rates: RateLimits = section(
        RateKeys, make=RateKeys.limits, help="How fast mail leaves this virtual server."
    )
    rates_per_site: RateLimits = section(
        RateKeys,
        make=RateKeys.limits,
        help="How fast mail leaves for one set of hosts, such as the mail exchanges of a large "
        "provider, whatever its domains; the other rates hold as well.",
    )
    queue: QueueKeys = section(QueueKeys, help="How much is worked on, and how much may wait.")
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
