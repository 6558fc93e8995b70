"""
Every setting there is: one frozen class per page of the IIS console.

:Room: ``config.settings`` (floor 1); imports ``model`` and its own room.
:IIS: GEN-01..07, ACC-20..23, ACC-30, ACC-31, MSG-01..06, DEL-01..09, DEL-30..33,
    DEL-40..45, DOM-01, DOM-02, DOM-10, DOM-11, DOM-13, DOM-14.
:Made by: `mailhost.config.reader` from a file, or by whoever embeds a part of the house;
    every room above gets the page it needs.

An attribute is named as its key in the file.  Where a value of ``model`` is what the rooms
want (`AccessList`, `RetrySchedule`), the class with the keys makes it.  Paths are kept as
they were given: a relative one starts at the current directory of the process.
"""

from __future__ import annotations

import socket
from functools import cache
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import ClassVar, Literal

from attrs import field, frozen
from attrs.converters import optional
from attrs.validators import and_, ge, instance_of, le

from mailhost.config.keys import NotYet, key, keys, section, sections
from mailhost.config.units import (
    ACCESS_ENTRY,
    ADDRESS,
    COMMENT,
    DOMAIN,
    DOMAIN_PATTERN,
    MAILBOX,
    NAME,
    NAME_SERVER,
    NEXT_HOP,
    PATH,
    SHORT_SPAN,
    TRUTH,
    Kind,
    choice,
    parse_address_and_port,
    parse_domain,
    parse_truth,
    parse_whole,
    size,
    span,
    whole,
)
from mailhost.model.access import AccessList, Network
from mailhost.model.address import Mailbox
from mailhost.model.route import NextHop
from mailhost.model.schedule import RetrySchedule


@cache
def machine_name() -> str:
    """
    This machine's name, with its domain where it is known (DEL-42: read once, at start-up).

    May ask DNS, and blocks while it does: called before the reactor turns.

    :raises ValueError: the machine's name is no domain name.
    """
    short = socket.gethostname()
    full = short if "." in short else socket.getfqdn(short)
    # getfqdn() may answer "localhost" or a reverse name; neither is this machine's.
    name = full if full.startswith(f"{short}.") else short
    try:
        return parse_domain(name)
    except ValueError as wrong:
        raise ValueError(f"fqdn: this machine's name {wrong}; allowed: set fqdn") from None


# ---- General


@frozen
class ListenAddress:
    """
    One identity of a virtual server.

    :ivar host: an IP address; ``0.0.0.0`` or ``::`` for all of this machine's.
    :ivar port: TCP port; 0 lets the kernel choose, which only code can ask for.
    """

    host: str = field(validator=instance_of(str))
    port: int = field(validator=and_(instance_of(int), ge(0), le(65535)))

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for every address of its family."""
        return ip_address(self.host).is_unspecified

    @property
    def is_ipv6(self) -> bool:
        """Whether it is of the IPv6 family."""
        return isinstance(ip_address(self.host), IPv6Address)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _parse_listen(text: str) -> ListenAddress:
    return ListenAddress(*parse_address_and_port(text))


LISTEN = Kind(_parse_listen, "an IP address of this machine and a port: 192.0.2.1:25, [::]:25")


@frozen
class ListenKeys:
    """One entry of ``listen`` written as a table."""

    not_yet: ClassVar[NotYet] = NotYet("tls", "proxy")

    address: ListenAddress = key(
        LISTEN, help="Address and port.", iis="GEN-04 ServerBindings", stand_in="127.0.0.1:25"
    )


# ---- Access

_ALLOW = choice({"allow": True, "deny": False})


def _access_list(allow: bool, entries: tuple[Network | str, ...]) -> AccessList:
    return AccessList(
        allow,
        networks=tuple(entry for entry in entries if not isinstance(entry, str)),
        domains=tuple(entry for entry in entries if isinstance(entry, str)),
    )


@frozen
class ConnectionKeys:
    """Connection control: who may connect."""

    default: bool = key(
        _ALLOW,
        "allow",
        help="Whether those who are not listed may connect: allow is IIS's 'All except the "
        "list below', deny its 'Only the list below'.",
        iis="ACC-20 IPSecurity.GrantByDefault",
    )
    except_: tuple[Network | str, ...] = keys(
        ACCESS_ENTRY,
        "",
        name="except",
        help="The list below. A domain is compared with the client's names in DNS, which costs "
        "a look-up for each connection.",
        iis="ACC-21, ACC-22, ACC-23 IPSecurity",
    )

    def access_list(self) -> AccessList:
        """What these keys mean."""
        return _access_list(self.default, self.except_)


@frozen
class RelayKeys:
    """Relay restrictions: who may send mail to domains that are not local."""

    not_yet: ClassVar[NotYet] = NotYet("authenticated")

    default: bool = key(
        _ALLOW,
        "deny",
        help="Whether those who are not listed may relay. With allow anybody in the world can "
        "send mail through this server.",
        iis="ACC-30 RelayIpList",
    )
    except_: tuple[Network | str, ...] = keys(
        ACCESS_ENTRY,
        "",
        name="except",
        help="The list below: clients, by address, by network or by their names in DNS.",
        iis="ACC-31 RelayIpList",
    )

    def access_list(self) -> AccessList:
        """What these keys mean."""
        return _access_list(self.default, self.except_)


@frozen
class AccessSettings:
    """The *Access* page: connection control and relay restrictions."""

    not_yet: ClassVar[NotYet] = NotYet("anonymous", "basic", "integrated", "scram", "users", "tls")

    connections: AccessList = section(
        ConnectionKeys, make=ConnectionKeys.access_list, help="Who may connect."
    )
    relay: AccessList = section(
        RelayKeys, make=RelayKeys.access_list, help="Who may relay to other domains."
    )


# ---- Messages


@frozen
class BadmailSettings:
    """Where mail goes that can neither be delivered nor returned."""

    not_yet: ClassVar[NotYet] = NotYet("keep", "max_size")

    directory: Path | None = key(
        PATH,
        "null",
        help="The Badmail directory; null: Badmail below home.",
        iis="MSG-06 BadMailDirectory",
    )


@frozen
class MessagesSettings:
    """The *Messages* page: limits, and what happens to undeliverable mail."""

    max_message_size: int | None = key(
        size(1024),
        "2M",
        help="The largest message accepted; announced with SIZE (RFC 1870).",
        iis="MSG-01 MaxMessageSize",
    )
    max_session_size: int | None = key(
        size(1024),
        "10M",
        help="The most content accepted in one connection, which is closed beyond it.",
        iis="MSG-02 MaxSessionSize",
    )
    max_messages_per_connection: int | None = key(
        whole(1, unit="messages", lifted=True),
        "20",
        help="Messages sent over one outbound connection before a further one is opened.",
        iis="MSG-03 MaxBatchedMessages",
    )
    max_recipients: int | None = key(
        whole(1, unit="recipients", lifted=True),
        "100",
        help="Recipients of one message.",
        iis="MSG-04 MaxRecipients",
    )
    max_line_length: int | None = key(
        size(998),
        "998",
        help="The longest line of content, without its CRLF (RFC 5321 §4.5.3.1.6).",
    )
    copy_ndr_to: Mailbox | None = key(
        MAILBOX,
        "null",
        help="Gets a copy of every non-delivery report; null: nobody.",
        iis="MSG-05 SendNdrTo",
    )
    badmail: BadmailSettings = section(
        BadmailSettings, help="Mail that can neither be delivered nor returned."
    )


# ---- Delivery


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


# ---- Drop and domains


@frozen
class DropSettings:
    """Where mail for the local domains goes."""

    directory: Path | None = key(
        PATH, "null", help="The Drop directory; null: Drop below home.", iis="DOM-01 DropDirectory"
    )
    quota: int | None = key(
        size(1024),
        "none",
        help="While Drop holds more than this, mail for it waits in the queue. IIS's own quota is "
        "11 times the largest message.",
        iis="DOM-02 RouteAction",
    )


@frozen
class DomainSettings:
    """One alias or remote domain."""

    not_yet: ClassVar[NotYet] = NotYet("security", "hold")

    name: str = key(
        DOMAIN_PATTERN,
        stand_in="invalid",
        converter=str.lower,
        help="The domain; a remote one may stand for all domains below it.",
    )
    type: Literal["alias", "remote"] = key(
        choice({"alias": "alias", "remote": "remote"}),
        stand_in="remote",
        help="alias: mail for it is local, as for the default domain. remote: it is not, and the "
        "keys below say how it goes there.",
    )
    relay: bool = key(
        TRUTH,
        "false",
        help="Anybody may send mail to this remote domain through this server.",
        iis="DOM-10 RouteAction 0x1000",
    )
    helo: bool = key(
        TRUTH,
        "false",
        help="Say HELO instead of EHLO to the hosts of this remote domain.",
        iis="DOM-11 RouteAction 0x400000",
    )
    route: tuple[NextHop, ...] | None = keys(
        NEXT_HOP,
        "dns",
        word="dns",
        least=1,
        separators=",;",
        help="Its mail goes to the first of these hosts that answers, before any smart host of the "
        "virtual server; dns: no fixed hosts for this domain.",
        iis="DOM-13, DOM-14 RouteActionString",
    )


# ---- the virtual server


def _parse_supported_truth(text: str) -> bool:
    if not parse_truth(text):
        raise ValueError("false is not supported yet")
    return True


def _check_supported_truth(value: bool) -> None:
    if value is not True:
        raise ValueError(f"{value} is not supported yet")


ONLY_TRUE = Kind(_parse_supported_truth, "true", check=_check_supported_truth)


@frozen
class VirtualServerSettings:
    """One virtual server: its *General* page, and all other pages below it."""

    not_yet: ClassVar[NotYet] = NotYet("protocol_log", "ldap", "operators")

    name: str = key(
        NAME, "default", help="Unique; used on the command line, in logs and in INI section heads."
    )
    comment: str = key(
        COMMENT, "Default SMTP Virtual Server", help="For people.", iis="GEN-01 ServerComment"
    )
    home: Path = key(
        PATH, "mailroot", help="Badmail, Drop, Pickup, Queue and SortTemp lie below it."
    )
    fqdn: str = key(
        DOMAIN,
        "null",
        computed=lambda server: machine_name(),
        help="What this server calls itself in the banner, in HELO and EHLO, in Received fields "
        "and in reports; null: this machine's name.",
        iis="GEN-02, DEL-42 FullyQualifiedDomainName",
    )
    domain: str = key(
        DOMAIN,
        "null",
        computed=lambda server: server.fqdn,
        converter=str.lower,
        help="The default domain: its mail is local, and it completes addresses without a domain; "
        "null: the fqdn.",
        iis="DefaultDomain",
    )
    listen: tuple[ListenAddress, ...] = keys(
        LISTEN,
        "0.0.0.0:25",
        least=1,
        tables=ListenKeys,
        help="Addresses and ports; 0.0.0.0 and [::] are all of this machine's.",
        iis="GEN-03, GEN-04 ServerBindings",
    )
    max_connections: int | None = key(
        whole(1, unit="connections", lifted=True),
        "unlimited",
        help="Inbound connections at a time.",
        iis="GEN-06 MaxConnections",
    )
    connection_timeout: int = key(
        span(),
        "10m",
        help="An inbound connection that says nothing for so long is closed.",
        iis="GEN-07 ConnectionTimeout",
    )
    access: AccessSettings = section(AccessSettings, help="Who may connect, and who may relay.")
    messages: MessagesSettings = section(MessagesSettings, help="Limits and undeliverable mail.")
    delivery: DeliverySettings = section(DeliverySettings, help="How mail leaves.")
    drop: DropSettings = section(DropSettings, help="Mail for the local domains.")
    accept_any_recipient: bool = key(
        ONLY_TRUE,
        "true",
        help="Every local part of a local domain is accepted and goes to Drop, as IIS does.",
    )
    domains: tuple[DomainSettings, ...] = sections(
        DomainSettings, "domain", help="Alias and remote domains."
    )

    @property
    def pickup_directory(self) -> Path:
        """Files put here are sent."""
        return self.home / "Pickup"

    @property
    def queue_directory(self) -> Path:
        """The spool."""
        return self.home / "Queue"

    @property
    def sort_temp_directory(self) -> Path:
        """Incomplete content; emptied at start."""
        return self.home / "SortTemp"

    @property
    def drop_directory(self) -> Path:
        """Mail for local domains (DOM-01)."""
        return self.drop.directory or self.home / "Drop"

    @property
    def badmail_directory(self) -> Path:
        """Mail that can neither be delivered nor returned (MSG-06)."""
        return self.messages.badmail.directory or self.home / "Badmail"


# ---- the whole


@frozen
class ResolverSettings:
    """How names are looked up."""

    servers: tuple[tuple[str, int], ...] | None = keys(
        NAME_SERVER,
        "system",
        word="system",
        least=1,
        help="Name servers, asked in order; system: those this machine uses.",
    )
    timeout: float = key(SHORT_SPAN, "5s", help="How long a name server may take.")
    cache: int = key(
        whole(1, 10_000_000, unit="entries"), "10000", help="Answers remembered for their TTL."
    )


def _parse_workers(text: str) -> int:
    number = parse_whole(text)
    _check_workers(number)
    return number


def _check_workers(number: int) -> None:
    if number > 1:
        raise ValueError(f"{number} workers are not supported yet")
    if number < 1:
        raise ValueError(f"{number} is too small")


ONE_WORKER = Kind(_parse_workers, "1", "processes", _check_workers)


@frozen
class Settings:
    """The whole configuration."""

    not_yet: ClassVar[NotYet] = NotYet("user", "control", "log", "metrics")

    workers: int = key(ONE_WORKER, "1", help="Processes.")
    resolver: ResolverSettings = section(ResolverSettings, help="How names are looked up.")
    virtual_servers: tuple[VirtualServerSettings, ...] = sections(
        VirtualServerSettings, "virtual_server", least=1, help="The virtual servers."
    )
