"""
One virtual server: all its pages.

:Room: ``config.settings``
:IIS: GEN-01..12.
"""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from mailhost.config.keys import key, keys, section, sections
from mailhost.config.settings.access import AccessSettings
from mailhost.config.settings.delivery import DeliverySettings
from mailhost.config.settings.domains import DomainSettings, DropSettings
from mailhost.config.settings.extensions import ExtensionSettings
from mailhost.config.settings.fetch import FetchSettings
from mailhost.config.settings.general import LISTEN, ListenAddress, ListenKeys, machine_name
from mailhost.config.settings.ldap import LDAPSettings
from mailhost.config.settings.messages import MessagesSettings
from mailhost.config.settings.overload import OverloadSettings
from mailhost.config.settings.protocol_log import ProtocolLogSettings
from mailhost.config.settings.remote_control import ACCOUNT
from mailhost.config.settings.trace import TraceSettings
from mailhost.config.units import (
    COMMENT,
    DOMAIN,
    NAME,
    PATH,
    Kind,
    parse_truth,
    span,
    whole,
)


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

    name: str = key(
        NAME, "default", help="Unique; used on the command line, in logs and in INI section heads."
    )
    comment: str = key(
        COMMENT, "Default SMTP Virtual Server", help="For people.", iis="GEN-01 ServerComment"
    )
    home: Path = key(
        PATH,
        "mailroot",
        help="Badmail, Drop, Logs, Pickup, Queue, SortTemp and Trace lie below it.",
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
    protocol_log: ProtocolLogSettings = section(
        ProtocolLogSettings,
        make=ProtocolLogSettings.expanded,
        help="What was said in each session, in the formats of IIS.",
    )
    access: AccessSettings = section(AccessSettings, help="Who may connect, and who may relay.")
    overload: OverloadSettings = section(
        OverloadSettings, help="What is given up when there is too much."
    )
    extensions: ExtensionSettings = section(
        ExtensionSettings, help="What the protocol offers to clients."
    )
    messages: MessagesSettings = section(MessagesSettings, help="Limits and undeliverable mail.")
    delivery: DeliverySettings = section(DeliverySettings, help="How mail leaves.")
    ldap: LDAPSettings = section(LDAPSettings, help="The directory of those who have mailboxes.")
    operators: tuple[str, ...] = keys(
        ACCOUNT,
        "",
        help="Users and names of tokens that may see and run this virtual server, and no other, by "
        "remote_control.",
        iis="SEC-01 AdminACL",
    )
    drop: DropSettings = section(DropSettings, help="Mail for the local domains.")
    trace: TraceSettings = section(
        TraceSettings, help="What has happened to each message, kept for a while."
    )
    accept_any_recipient: bool = key(
        ONLY_TRUE,
        "true",
        help="Without a directory every local part of a local domain is accepted and goes to "
        "Drop, as IIS does.",
    )
    domains: tuple[DomainSettings, ...] = sections(
        DomainSettings, "domain", help="Alias and remote domains."
    )
    fetch: tuple[FetchSettings, ...] = sections(
        FetchSettings, "fetch", help="Providers that hold mail for this server."
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
    def trace_directory(self) -> Path:
        """What has happened to each message."""
        return self.home / "Trace"

    @property
    def protocol_log_directory(self) -> Path:
        """What was said in sessions (GEN-11)."""
        return self.protocol_log.directory or self.home / "Logs"

    @property
    def drop_directory(self) -> Path:
        """Mail for local domains (DOM-01)."""
        return self.drop.directory or self.home / "Drop"

    @property
    def badmail_directory(self) -> Path:
        """Mail that can neither be delivered nor returned (MSG-06)."""
        return self.messages.badmail.directory or self.home / "Badmail"
