"""
*Outbound Security*: of a virtual server, and of a remote domain.

:Room: ``config.settings``
:IIS: DEL-20..DEL-23, DOM-12, ACC-14.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from attrs import frozen

from mailhost.config.faults import shown
from mailhost.config.keys import key, section
from mailhost.config.settings.ldap import ONE_LINE, SECRET
from mailhost.config.units import PATH, SHORT_SPAN, TRUTH, Kind, choice
from mailhost.model.security import Login, OutboundSecurity, Secret, TLSLevel, TokenGrant

_BY_TOKEN = ("XOAUTH2", "OAUTHBEARER")
_BY_TICKET = ("GSSAPI",)
_AUTH = choice(
    {
        "anonymous": (),
        "basic": ("SCRAM-SHA-256", "PLAIN", "LOGIN"),
        "scram": ("SCRAM-SHA-256",),
        "integrated": ("NTLM",),
        "kerberos": _BY_TICKET,
        "xoauth2": _BY_TOKEN,
    }
)
_LEVEL = choice({level.name.lower(): level for level in TLSLevel})


def check_https(text: str) -> None:
    """:raises ValueError: *text* is not an address of HTTPS."""
    wrong = ValueError(f"{shown(text)} is not an address of HTTPS")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise wrong from None
    plain = text.isascii() and text.isprintable() and " " not in text
    if parts.scheme != "https" or not parts.hostname or port == 0 or not plain:
        raise wrong
    if parts.username is not None or parts.fragment:
        raise wrong


def _parse_https(text: str) -> str:
    check_https(text.strip())
    return text.strip()


HTTPS = Kind(_parse_https, "https://, a host, and a path", check=check_https)


@frozen
class OAuthKeys:
    """Where access tokens come from: any token endpoint of OAuth 2.0."""

    token_url: str | None = key(
        HTTPS, "null", help="The token endpoint. Its certificate is always verified."
    )
    client_id: str | None = key(ONE_LINE, "null", help="Who we are to the endpoint.")
    client_secret: Secret | None = key(
        SECRET, "null", help="How we prove it; may be left out with a refresh token."
    )
    client_secret_file: Path | None = key(
        PATH, "null", help="A file whose first line it is; refused where others may read it."
    )
    client_authentication: bool = key(
        choice({"post": False, "basic": True}),
        "post",
        help="Where the client's secret goes: post: into the form. basic: into the header.",
    )
    refresh_token: Secret | None = key(
        SECRET,
        "null",
        help="Makes it the refresh-token grant; left out, with refresh_token_file, it is the "
        "client-credentials grant.",
    )
    refresh_token_file: Path | None = key(
        PATH,
        "null",
        help="A file whose first line it is. Where the endpoint gives a new refresh token, that "
        "is written into the file.",
    )
    scope: str | None = key(
        ONE_LINE, "null", help="What is asked for, with spaces between several."
    )
    ca: Path | None = key(
        PATH,
        "null",
        help="The certificates of the authorities we trust for the endpoint, in PEM; null: the "
        "system's.",
    )
    timeout: float = key(SHORT_SPAN, "10s", help="How long the endpoint may take to answer.")

    def __attrs_post_init__(self) -> None:
        for name in ("client_secret", "refresh_token"):
            if getattr(self, name) is not None and getattr(self, f"{name}_file") is not None:
                raise ValueError(f"{name}: there is a {name}_file too; allowed: one of them")
        if (self.token_url is None) != (self.client_id is None):
            raise ValueError("token_url: goes with client_id; allowed: both, or neither")
        given = [self.client_secret, self.client_secret_file]
        given += [self.refresh_token, self.refresh_token_file]
        if self.token_url is None:
            if any(one is not None for one in given):
                raise ValueError("token_url: there is nobody to show a secret to; allowed: a URL")
        elif all(one is None for one in given):
            raise ValueError(
                "client_secret: nothing proves who we are; allowed: a client secret, or a "
                "refresh token"
            )

    def grant(self) -> TokenGrant | None:
        """What these keys mean."""
        if self.token_url is None or self.client_id is None:
            return None
        return TokenGrant(
            self.token_url,
            self.client_id,
            self.client_secret,
            self.client_secret_file,
            self.refresh_token,
            self.refresh_token_file,
            self.scope or "",
            self.client_authentication,
            self.ca,
            self.timeout,
        )


@frozen
class SecurityKeys:
    """How the next hop is met."""

    auth: tuple[str, ...] = key(
        _AUTH,
        "anonymous",
        help="Whether to log in at the next hop. basic: by SCRAM-SHA-256 where the host offers it, "
        "else by PLAIN or LOGIN. scram: by SCRAM-SHA-256 only. integrated: by NTLM, version 2, "
        "with the username DOMAIN\\user or user@domain. kerberos: by GSSAPI, with keytab. "
        "xoauth2: by an access token from oauth, with XOAUTH2 or OAUTHBEARER. Never over clear "
        "text, but with tls none; opportunistic means required then, and verified with xoauth2. "
        "Under delivery it is for smart_host, never for hosts that DNS names.",
        iis="DEL-20, DEL-21, DEL-22 RouteAction",
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
    keytab: Path | None = key(
        PATH,
        "null",
        help="For kerberos: the keytab with the key of the principal username; refused where "
        "others may read it.",
        iis="DEL-22",
    )
    oauth: TokenGrant | None = section(
        OAuthKeys, make=OAuthKeys.grant, help="Where the access tokens of xoauth2 come from."
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
        if self.auth == _BY_TOKEN:
            self._check_tokens()
        elif self.auth == _BY_TICKET:
            self._check_tickets()
        else:
            self._check_login()

    def _check_login(self) -> None:
        passwords = [one for one in (self.password, self.password_file) if one is not None]
        if len(passwords) > 1:
            raise ValueError("password: there is a password_file too; allowed: one of them")
        if self.keytab is not None:
            raise ValueError("keytab: only kerberos asks for tickets; allowed: auth kerberos")
        if self.oauth is not None:
            raise ValueError("oauth: only xoauth2 asks for tokens; allowed: auth xoauth2")
        if self.auth and not (self.username and passwords):
            raise ValueError("auth: a login needs username, and password or password_file")
        if not self.auth and (self.username is not None or passwords):
            raise ValueError(
                "auth: anonymous takes no username and no password; allowed: basic, scram or "
                "integrated"
            )

    def _check_tickets(self) -> None:
        if self.password is not None or self.password_file is not None or self.oauth is not None:
            raise ValueError("password: kerberos takes none; allowed: keytab")
        if not self.username or self.keytab is None:
            raise ValueError("auth: kerberos needs username, a principal, and keytab")

    def _check_tokens(self) -> None:
        if self.password is not None or self.password_file is not None:
            raise ValueError("password: xoauth2 takes none; allowed: oauth")
        if not self.username or self.oauth is None:
            raise ValueError("auth: xoauth2 needs username and oauth")

    def security(self) -> OutboundSecurity:
        """What these keys mean."""
        level = TLSLevel.VERIFIED if self.verify else self.tls
        if not self.auth or self.username is None:
            return OutboundSecurity(level, self.ca)
        if level is TLSLevel.OPPORTUNISTIC:
            # RFC 6750 §5.3: who bears a token makes sure whom he shows it to.
            level = TLSLevel.REQUIRED if self.oauth is None else TLSLevel.VERIFIED
        login = Login(
            self.username, self.password, self.password_file, self.auth, self.oauth, self.keytab
        )
        return OutboundSecurity(level, self.ca, login)
