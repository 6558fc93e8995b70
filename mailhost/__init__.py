"""
mailhost: many SMTP virtual servers in one Twisted process.

:Room: the door for applications that embed parts of it (docs/embedding.rst).

The names below are imported when they are first asked for, so that a command
that needs none of them starts at once, and nothing imports a reactor.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailhost.directory.resolver import LDAPAddressResolver
    from mailhost.net.factory import ESMTPFactory
    from mailhost.relay.mail_exchange import MailExchangeResolver
    from mailhost.relay.manager import RelayManager
    from mailhost.server.virtual_server import VirtualServer
    from mailhost.spool.sqlite import SQLiteQueue

__version__ = "0.1.0"

__all__ = [
    "ESMTPFactory",
    "LDAPAddressResolver",
    "MailExchangeResolver",
    "RelayManager",
    "SQLiteQueue",
    "VirtualServer",
    "__version__",
]

_HOMES = {
    "ESMTPFactory": "mailhost.net.factory",
    "LDAPAddressResolver": "mailhost.directory.resolver",
    "MailExchangeResolver": "mailhost.relay.mail_exchange",
    "RelayManager": "mailhost.relay.manager",
    "SQLiteQueue": "mailhost.spool.sqlite",
    "VirtualServer": "mailhost.server.virtual_server",
}


def __getattr__(name: str) -> object:
    """A name for embedding, imported now (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
