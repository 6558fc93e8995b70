"""
Drop, alias domains and remote domains.

:Room: ``config.settings``
:IIS: DOM-01, DOM-02, DOM-10, DOM-11, DOM-13, DOM-14, DOM-20, DOM-21.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from attrs import frozen

from mailhost.config.keys import key, keys, section
from mailhost.config.settings.rates import RateKeys
from mailhost.config.settings.security import SecurityKeys
from mailhost.config.units import (
    DOMAIN_PATTERN,
    LOGIN_NAME,
    NEXT_HOP,
    PATH,
    TRUTH,
    choice,
    size,
)
from mailhost.model.held import Holding
from mailhost.model.rate import RateLimits
from mailhost.model.route import NextHop
from mailhost.model.security import OutboundSecurity


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
class HoldKeys:
    """Mail that waits until its domain asks for it, by ETRN, TURN or ATRN."""

    enabled: bool = key(
        TRUTH,
        "false",
        help="Its mail waits in the queue until it is asked for, as long as any mail may.",
        iis="DOM-20 RouteAction 0x200",
    )
    accounts: tuple[str, ...] = keys(
        LOGIN_NAME,
        "",
        help="Who may have it sent over a session of his own, by TURN or ATRN: names of logins, "
        "with their domain or without the default one.",
        iis="DOM-21 AuthTurnList",
    )

    def holding(self) -> Holding | None:
        """What these keys mean."""
        return Holding(tuple(name.lower() for name in self.accounts)) if self.enabled else None


@frozen
class DomainSettings:
    """One alias or remote domain."""

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
    lmtp: bool = key(
        TRUTH,
        "false",
        help="Speak LMTP (RFC 2033) to the hosts of route: a mail store, which answers for each "
        "recipient. Its port is in route, and is not 25; unix:/path is a local socket.",
    )
    route: tuple[NextHop, ...] | None = keys(
        NEXT_HOP,
        "null",
        word="dns",
        separators=",;",
        help="Its mail goes to the first of these hosts that answers; dns: to the hosts that DNS "
        "names. Both come before a smart host of the virtual server; null: as for a domain "
        "without an entry.",
        iis="DOM-13, DOM-14 RouteActionString",
    )
    rates: RateLimits = section(
        RateKeys,
        make=RateKeys.limits,
        help="How fast mail leaves for this remote domain; all that a pattern covers counts "
        "together. The virtual server's own rates hold as well.",
    )
    security: OutboundSecurity | None = section(
        SecurityKeys,
        make=SecurityKeys.security,
        optional=True,
        help="How the hosts of this remote domain are met; left out: as the virtual server says.",
        iis="DOM-12 RouteAction",
    )
    hold: Holding | None = section(
        HoldKeys,
        make=HoldKeys.holding,
        help="Mail for this remote domain that waits to be asked for.",
    )

    def __attrs_post_init__(self) -> None:
        if not self.lmtp:
            return
        if not self.route:
            raise ValueError("lmtp: DNS names no host that speaks it; allowed: with hosts in route")
        if any(not hop.host.startswith("/") and hop.port in (None, 25) for hop in self.route):
            # RFC 2033 §5.
            raise ValueError("route: with lmtp no port is port 25; allowed: another port, named")
