"""
*Outbound Security*: of a virtual server, and of a remote domain.

:Room: ``config.settings``
:IIS: DEL-20, DEL-21, DEL-23, DOM-12, ACC-14.
"""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from mailhost.config.keys import key
from mailhost.config.settings.ldap import ONE_LINE, SECRET
from mailhost.config.units import PATH, TRUTH, choice
from mailhost.model.security import Login, OutboundSecurity, Secret, TLSLevel

_AUTH = choice(
    {
        "anonymous": (),
        "basic": ("SCRAM-SHA-256", "PLAIN", "LOGIN"),
        "scram": ("SCRAM-SHA-256",),
    }
)
_LEVEL = choice({level.name.lower(): level for level in TLSLevel})


@frozen
class SecurityKeys:
    """How the next hop is met."""

    auth: tuple[str, ...] = key(
        _AUTH,
        "anonymous",
        help="Whether to log in at the next hop. basic: by SCRAM-SHA-256 where the host offers it, "
        "else by PLAIN or LOGIN. scram: by SCRAM-SHA-256 only. Never over clear text, but with tls "
        "none; opportunistic means required then. Under delivery it is for smart_host, never for "
        "hosts that DNS names.",
        iis="DEL-20, DEL-21 RouteAction",
    )
    username: str | None = key(
        ONE_LINE, "null", help="The account at the next hop.", iis="DEL-21 RouteUserName"
    )
    password: Secret | None = key(SECRET, "null", help="Its password.", iis="DEL-21 RoutePassword")
    password_file: Path | None = key(
        PATH,
        "null",
        help="A file whose first line is the password; read at each login, refused where others "
        "may read it.",
    )
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
        self._check_login()

    def _check_login(self) -> None:
        passwords = [one for one in (self.password, self.password_file) if one is not None]
        if len(passwords) > 1:
            raise ValueError("password: there is a password_file too; allowed: one of them")
        if self.auth and not (self.username and passwords):
            raise ValueError("auth: a login needs username, and password or password_file")
        if not self.auth and (self.username is not None or passwords):
            raise ValueError(
                "auth: anonymous takes no username and no password; allowed: basic or scram"
            )

    def security(self) -> OutboundSecurity:
        """What these keys mean."""
        level = TLSLevel.VERIFIED if self.verify else self.tls
        if not self.auth or self.username is None:
            return OutboundSecurity(level, self.ca)
        if level is TLSLevel.OPPORTUNISTIC:
            level = TLSLevel.REQUIRED
        login = Login(self.username, self.password, self.password_file, self.auth)
        return OutboundSecurity(level, self.ca, login)
