"""
The whole configuration: what belongs to no virtual server, and the virtual servers.

:Room: ``config.settings``
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from attrs import frozen

from mailhost.config.faults import shown
from mailhost.config.keys import key, keys, section, sections
from mailhost.config.settings.log import LogSettings
from mailhost.config.settings.remote_control import RemoteControlSettings
from mailhost.config.settings.virtual_server import VirtualServerSettings
from mailhost.config.units import (
    ADDRESS_AND_PORT,
    NAME_SERVER,
    PATH,
    SHORT_SPAN,
    Kind,
    choice,
    whole,
)
from mailhost.model.proven import TrustAD

#: More than any machine this runs on has use for.
MOST_WORKERS = 64
# What the address of a UNIX socket has room for on Linux, without the NUL behind it.
_LONGEST_SOCKET_PATH = 107


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
    trust_ad: TrustAD = key(
        choice({one.value: one for one in TrustAD}),
        "loopback",
        help="Which name servers are believed when they say that DNSSEC has proven an answer (AD), "
        "as REQUIRETLS needs it of MX records. loopback: those on this machine; always: all, where "
        "nobody on the way can change what they say; never: none.",
    )


def _parse_user(text: str) -> str:
    _check_user(text.strip())
    return text.strip()


def _check_user(name: str | None) -> None:
    if name is None:
        return
    try:
        pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise ValueError(f"{shown(name)} is not a user of this machine") from None


USER = Kind(_parse_user, "the name of a user of this machine", check=_check_user)


def _check_socket_path(path: Path) -> None:
    if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
        raise ValueError(f"{shown(str(path))} is too long for a socket")


SOCKET_PATH = Kind(
    PATH.parse,
    f"{PATH.allowed}; up to {_LONGEST_SOCKET_PATH} octets",
    check=_check_socket_path,
)


@frozen
class Settings:
    """The whole configuration."""

    workers: int = key(
        whole(1, MOST_WORKERS, unit="processes"),
        "1",
        help="Processes that do the work. 1: the process that is started does it; more: it starts "
        "and watches so many others, which share the addresses and the limits.",
    )
    user: str | None = key(
        USER,
        "null",
        help="Who the server is once its ports are bound, when root has started it; null: whoever "
        "has started it.",
    )
    control: Path = key(
        SOCKET_PATH,
        "mailroot/control.sock",
        help="The local socket on which the mailhost command speaks with the server. Only root and "
        "the user that the server is may use it.",
    )
    remote_control: RemoteControlSettings = section(
        RemoteControlSettings, help="The control interface over TCP, with TLS."
    )
    metrics: tuple[str, int] | None = key(
        ADDRESS_AND_PORT,
        "null",
        help="Where Prometheus is told numbers over HTTP (/metrics), and others whether the server "
        "lives (/healthz) and is ready (/readyz). Who can connect may read: keep it on the "
        "loopback interface, or behind a firewall. null: nowhere.",
    )
    max_outbound_connections: int | None = key(
        whole(1, unit="connections", lifted=True),
        "unlimited",
        help="Connections to other hosts of all virtual servers together. While it is reached the "
        "virtual servers take turns: one with more gives up connections, between two messages, to "
        "one with fewer. Each has its own limit below it, delivery.connections.max.",
    )
    log: LogSettings = section(LogSettings, help="The log of the whole service.")
    resolver: ResolverSettings = section(ResolverSettings, help="How names are looked up.")
    virtual_servers: tuple[VirtualServerSettings, ...] = sections(
        VirtualServerSettings, "virtual_server", least=1, help="The virtual servers."
    )
