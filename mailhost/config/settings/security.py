"""
*Outbound Security*: of a virtual server, and of a remote domain.

:Room: ``config.settings``
:IIS: DEL-23, DOM-12, ACC-14.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from attrs import frozen

from mailhost.config.keys import NotYet, key
from mailhost.config.units import PATH, TRUTH, choice
from mailhost.model.security import OutboundSecurity, TLSLevel

_LEVEL = choice({level.name.lower(): level for level in TLSLevel})


@frozen
class SecurityKeys:
    """How the next hop is met."""

    not_yet: ClassVar[NotYet] = NotYet("auth", "username", "password", "password_file")

    tls: TLSLevel = key(
        _LEVEL,
        "opportunistic",
        help="none: clear text. opportunistic: TLS where it is offered, else clear text. required: "
        "mail waits rather than go in clear. verified: required, and with a certificate for that "
        "host from an authority we trust.",
        iis="DEL-23 AlwaysUseSsl",
    )
    verify: bool = key(
        TRUTH,
        "false",
        help="true makes required mean verified.",
        iis="ACC-14 SmtpSSLRequireTrustedCA",
    )
    ca: Path | None = key(
        PATH,
        "null",
        help="The certificates of the authorities we trust, in PEM; null: the system's.",
    )

    def __attrs_post_init__(self) -> None:
        if self.verify and not self.tls.is_required:
            raise ValueError(
                f"verify: there is nothing to verify with tls {self.tls.name.lower()}; "
                "allowed: tls required or verified"
            )

    def security(self) -> OutboundSecurity:
        """What these keys mean."""
        return OutboundSecurity(TLSLevel.VERIFIED if self.verify else self.tls, self.ca)
