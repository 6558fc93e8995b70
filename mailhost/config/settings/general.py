"""
The *General* page: names and addresses.

:Room: ``config.settings``
:IIS: GEN-02..05, DEL-42.
"""

from __future__ import annotations

import socket
from functools import cache
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from attrs import evolve, field, frozen
from attrs.validators import and_, ge, instance_of, le

from mailhost.config.faults import shown
from mailhost.config.keys import key
from mailhost.config.units import (
    PATH,
    TRUTH,
    Kind,
    choice,
    parse_address_and_port,
    parse_domain,
)


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


@frozen
class ListenAddress:
    """
    One identity of a virtual server.

    :ivar host: an IP address; ``0.0.0.0`` or ``::`` for all of this machine's.
    :ivar port: TCP port; 0 lets the kernel choose, which only code can ask for.
    :ivar implicit_tls: every session begins with the handshake (GEN-05; RFC 8314 §3.3).
    :ivar certificate: shown here; `None`: the virtual server's.
    :ivar key_file: its private key; `None`: in the same file.
    :ivar proxy: every connection begins with a PROXY header.
    :ivar lmtp: LMTP is spoken here (RFC 2033).
    """

    host: str = field(validator=instance_of(str))
    port: int = field(validator=and_(instance_of(int), ge(0), le(65535)))
    implicit_tls: bool = False
    # An address stays the same one whatever is shown there, and whoever connects to it.
    certificate: Path | None = field(default=None, eq=False)
    key_file: Path | None = field(default=None, eq=False)
    proxy: bool = field(default=False, eq=False)
    lmtp: bool = field(default=False, eq=False)

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
    where, _, tls = text.strip().partition(" ")
    if tls and tls.strip().lower() != "tls":
        raise ValueError(f"{shown(text)} is not an address and a port")
    return ListenAddress(*parse_address_and_port(where), implicit_tls=bool(tls))


LISTEN = Kind(
    _parse_listen,
    "an IP address of this machine and a port: 192.0.2.1:25, [::]:25; 'tls' may follow",
)
_IMPLICIT = choice({"implicit": True, "starttls": False})
_PROTOCOL = choice({"smtp": "smtp", "lmtp": "lmtp"})


@frozen
class ListenKeys:
    """One entry of ``listen`` written as a table."""

    address: ListenAddress = key(
        LISTEN, help="Address and port.", iis="GEN-04 ServerBindings", stand_in="127.0.0.1:25"
    )
    tls: bool = key(
        _IMPLICIT,
        "starttls",
        help="implicit: every session begins with TLS, as on port 465. starttls: TLS begins when "
        "the client asks for it, if there is a certificate.",
        iis="GEN-05 SecureBindings",
    )

    certificate: Path | None = key(
        PATH,
        "null",
        help="The certificate that is shown here, in place of access.tls.certificate.",
        iis="ACC-10",
    )
    key_: Path | None = key(
        PATH, "null", name="key", help="Its private key in PEM; null: in the same file."
    )
    proxy: bool = key(
        TRUTH,
        "false",
        help="Every connection comes from a proxy in access.proxies, and begins with a PROXY "
        "header (version 1 or 2) that says for whom.",
    )

    protocol: str = key(
        _PROTOCOL,
        "smtp",
        help="lmtp: clients speak LMTP (RFC 2033) here, and hear a reply for each recipient.",
    )

    def __attrs_post_init__(self) -> None:
        if self.protocol == "lmtp" and self.address.port == 25:
            # RFC 2033 §5.
            raise ValueError("protocol: lmtp is never spoken on port 25; allowed: another port")
        if self.key_ is not None and self.certificate is None:
            raise ValueError("key: there is no certificate; allowed: with certificate only")

    def item(self) -> ListenAddress:
        """What these keys mean."""
        return evolve(
            self.address,
            implicit_tls=self.tls or self.address.implicit_tls,
            certificate=self.certificate,
            key_file=self.key_,
            proxy=self.proxy,
            lmtp=self.protocol == "lmtp",
        )
