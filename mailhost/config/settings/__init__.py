"""
Every setting there is: one frozen class per page of the IIS console, one module per page.

:Room: ``config.settings`` (floor 1); imports ``model`` and its own room.
:Made by: `mailhost.config.reader` from a file, or by whoever embeds a part of the house;
    every room above gets the page it needs.

An attribute is named as its key in the file.  Where a value of ``model`` is what the rooms
want (`AccessList`, `RetrySchedule`), the class with the keys makes it.  Paths are kept as
they were given: a relative one starts at the current directory of the process.
"""

from mailhost.config.settings.access import AccessSettings, ConnectionKeys, RelayKeys, TLSSettings
from mailhost.config.settings.delivery import (
    DeliverySettings,
    LocalKeys,
    OutboundConnections,
    OutboundKeys,
    QueueKeys,
    SuspensionKeys,
)
from mailhost.config.settings.domains import DomainSettings, DropSettings
from mailhost.config.settings.extensions import ExtensionSettings
from mailhost.config.settings.general import LISTEN, ListenAddress, ListenKeys, machine_name
from mailhost.config.settings.ldap import AttributeKeys, LDAPSettings
from mailhost.config.settings.log import LogSettings
from mailhost.config.settings.messages import BadmailSettings, MessagesSettings
from mailhost.config.settings.process import ResolverSettings, Settings
from mailhost.config.settings.protocol_log import ProtocolLogSettings
from mailhost.config.settings.rates import RateKeys
from mailhost.config.settings.remote_control import RemoteControlSettings
from mailhost.config.settings.security import SecurityKeys
from mailhost.config.settings.trace import TraceSettings
from mailhost.config.settings.virtual_server import VirtualServerSettings

__all__ = [
    "LISTEN",
    "AccessSettings",
    "AttributeKeys",
    "BadmailSettings",
    "ConnectionKeys",
    "DeliverySettings",
    "DomainSettings",
    "DropSettings",
    "ExtensionSettings",
    "LDAPSettings",
    "ListenAddress",
    "ListenKeys",
    "LocalKeys",
    "LogSettings",
    "MessagesSettings",
    "OutboundConnections",
    "OutboundKeys",
    "ProtocolLogSettings",
    "QueueKeys",
    "RateKeys",
    "RelayKeys",
    "RemoteControlSettings",
    "ResolverSettings",
    "SecurityKeys",
    "Settings",
    "TLSSettings",
    "TraceSettings",
    "SuspensionKeys",
    "VirtualServerSettings",
    "machine_name",
]
