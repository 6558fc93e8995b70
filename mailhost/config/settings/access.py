"""
The *Access* page: who may connect, and who may relay.

:Room: ``config.settings``
:IIS: ACC-20..23, ACC-30, ACC-31.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from attrs import frozen

from mailhost.config.keys import NotYet, key, keys, section
from mailhost.config.units import (
    ACCESS_ENTRY,
    PATH,
    TRUTH,
    choice,
)
from mailhost.model.access import AccessList, Network

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
class TLSSettings:
    """The certificate of a virtual server, and who has to use TLS."""

    not_yet: ClassVar[NotYet] = NotYet("client_ca")

    certificate: Path | None = key(
        PATH,
        "null",
        help="The certificate in PEM, followed by those between it and its authority; with it "
        "STARTTLS is offered. Read anew when the file changes.",
        iis="ACC-10 SSLCertHash",
    )
    key_: Path | None = key(
        PATH, "null", name="key", help="Its private key in PEM; null: in the same file."
    )
    require: bool = key(
        TRUTH,
        "false",
        help="No mail without TLS: 530 5.7.0 before STARTTLS.",
        iis="ACC-11 AccessSSL",
    )
    minimum: str = key(
        choice({"1.2": "1.2", "1.3": "1.3"}), "1.2", help="The lowest version of TLS.", iis="ACC-12"
    )


@frozen
class AccessSettings:
    """The *Access* page: connection control and relay restrictions."""

    not_yet: ClassVar[NotYet] = NotYet("anonymous", "basic", "integrated", "scram", "users")

    tls: TLSSettings = section(TLSSettings, help="Certificate and TLS of what comes in.")
    connections: AccessList = section(
        ConnectionKeys, make=ConnectionKeys.access_list, help="Who may connect."
    )
    relay: AccessList = section(
        RelayKeys, make=RelayKeys.access_list, help="Who may relay to other domains."
    )
