"""
Fetching mail from a provider that holds it.

:Room: ``config.settings``
:RFC: 1985 (ETRN), 2645 (ATRN, on-demand mail relay).
:IIS: none: it could be asked, and could not ask.
"""

from __future__ import annotations

from typing import Literal

from attrs import evolve, frozen

from mailhost.config.keys import key, keys, section
from mailhost.config.settings.security import SecurityKeys
from mailhost.config.units import DOMAIN, NEXT_HOP, choice, span
from mailhost.model.route import NextHop
from mailhost.model.security import OutboundSecurity

#: RFC 2645 §3.
_ODMR_PORT = 366


@frozen
class FetchSettings:
    """A provider that holds mail for this server, and is asked for it from time to time."""

    name: NextHop = key(
        NEXT_HOP,
        stand_in="invalid",
        help="Its host; without a port it is 366 for ATRN, 25 for ETRN.",
    )
    by: Literal["atrn", "etrn"] = key(
        choice({"atrn": "atrn", "etrn": "etrn"}),
        "atrn",
        help="atrn: the mail comes over the connection that is made to ask for it, so that no "
        "other host has to reach this one; needs a login. etrn: the provider connects to this one.",
    )
    domains: tuple[str, ...] = keys(
        DOMAIN,
        "",
        help="Whose mail is asked for; none with atrn: all that the login may have.",
    )
    every: int = key(span(), "15m", help="So often.")
    security: OutboundSecurity = section(
        SecurityKeys, make=SecurityKeys.security, help="How the provider is met."
    )

    def __attrs_post_init__(self) -> None:
        if self.by == "etrn" and not self.domains:
            raise ValueError("domains: ETRN names one; allowed: one domain or more")
        if self.by == "atrn" and self.security.login is None:
            raise ValueError("security: ATRN needs a login (RFC 2645 §5.2.1); allowed: with auth")

    @property
    def hop(self) -> NextHop:
        """Where to connect."""
        port = _ODMR_PORT if self.by == "atrn" else 25
        return evolve(self.name, port=self.name.port or port)

    @property
    def commands(self) -> tuple[str, ...]:
        """What it is asked, one after the other."""
        if self.by == "etrn":
            return tuple(f"ETRN {domain}" for domain in self.domains)
        return (f"ATRN {','.join(self.domains)}".rstrip(),)
