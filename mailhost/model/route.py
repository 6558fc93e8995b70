"""
Where one recipient goes next.

:Room: ``model``
:Made by: `mailhost.routing` at each attempt; followed by `mailhost.relay`.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge, le

from mailhost.model.security import OutboundSecurity


@frozen
class NextHop:
    """
    A host to connect to.

    :ivar host: domain name; where `literal` is true an IP address, or the path of a local socket.
    :ivar port: TCP port, 1-65535; `None`: the virtual server's outbound port.
    :ivar literal: written ``[192.0.2.1]``: no DNS at all (IIS DEL-43).
    """

    host: str
    port: int | None = None
    literal: bool = False

    def __str__(self) -> str:
        if self.host.startswith("/"):
            return f"unix:{self.host}"
        name = f"[{self.host}]" if self.literal else self.host
        return f"{name}:{self.port}" if self.port else name


@frozen
class Drop:
    """Final delivery into this virtual server's Drop directory."""


@frozen(cache_hash=True)
class SmartHosts:
    """
    Fixed next hops, tried in order.

    :ivar hosts: at least one.
    :ivar helo: say HELO instead of EHLO (IIS DOM-11).
    :ivar security: how to meet them.
    :ivar lmtp: they speak LMTP (RFC 2033).
    """

    hosts: tuple[NextHop, ...]
    helo: bool = False
    security: OutboundSecurity = OutboundSecurity()
    lmtp: bool = False


@frozen
class MailExchange:
    """
    The hosts that DNS names for a domain (RFC 5321 §5.1).

    :ivar domain: lower case.
    :ivar helo: say HELO instead of EHLO (IIS DOM-11).
    :ivar otherwise: smart hosts to fall back on when DNS leads nowhere
        (IIS DEL-44, "attempt direct delivery before sending to smart host").
    :ivar security: how to meet them.
    :ivar own: *security* was said of this domain, not of hosts in general.
    """

    domain: str
    helo: bool = False
    otherwise: SmartHosts | None = None
    security: OutboundSecurity = OutboundSecurity()
    own: bool = False


@frozen
class NoRoute:
    """
    There is no way: the recipient fails.

    :ivar status: enhanced status of class 5.
    :ivar words: why.
    """

    status: str
    words: str


Route = Drop | SmartHosts | MailExchange | NoRoute


@frozen
class HostAddress:
    """One address of a next hop, ready to connect to."""

    host: str
    address: str
    port: int = field(validator=[ge(1), le(65535)])
