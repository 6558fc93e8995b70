"""
The *LDAP Routing* page: the directory of those who have mailboxes.

:Room: ``config.settings``
:IIS: LDP-01..08.
:Read by: `mailhost.directory.making`.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from attrs import fields, frozen

from mailhost.config.faults import shown
from mailhost.config.keys import key, keys, section
from mailhost.config.units import (
    DOMAIN,
    PATH,
    SHORT_SPAN,
    TRUTH,
    Kind,
    choice,
    parse_domain,
    span,
    whole,
)
from mailhost.model.security import Secret

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_WORDS = re.compile(r"[A-Za-z0-9$:=_.;-]+(?: +[A-Za-z0-9$:=_.;-]+)*")

SCHEMA_NAMES = ("active_directory", "site_server", "exchange", "inetorgperson")
BINDINGS = ("anonymous", "plain_text", "sspi", "service_account")


def _parse_server(text: str) -> str:
    """:raises ValueError: *text* is no server of a directory."""
    given = text.strip()
    url = given if "://" in given else f"ldap://{given}"
    wrong = ValueError(f"{shown(given)} is not an LDAP server")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise wrong from None
    scheme = parts.scheme.lower()
    if scheme == "ldapi":
        if not parts.netloc.lower().startswith("%2f") or parts.path not in ("", "/"):
            raise wrong
        return url
    if scheme not in ("ldap", "ldaps") or port == 0 or parts.username is not None:
        raise wrong
    if not _HOST.fullmatch(parts.hostname or "") or parts.path not in ("", "/") or parts.query:
        raise wrong
    return url.rstrip("/")


_SERVER = Kind(
    _parse_server,
    "ldap://host, ldaps://host, each with or without :port, or ldapi:// and the path of a socket "
    "with %2F for /",
    check=_parse_server,
)


def _parse_line(text: str) -> str:
    _check_line(text.strip())
    return text.strip()


def _check_line(text: str) -> None:
    if not text or not text.isprintable() or len(text) > 1024:
        raise ValueError(f"{shown(text)} is not one line of text")


ONE_LINE = Kind(_parse_line, "one line of printable text", check=_check_line)


def _parse_base(text: str) -> str:
    base = _parse_line(text)
    _check_base(base)
    return base


def _check_base(base: str) -> None:
    if not re.match(r"[A-Za-z0-9.-]+ *=", base):
        raise ValueError(f"{shown(base)} is not the name of an entry")


_BASE = Kind(_parse_base, "the DN of an entry: dc=example,dc=com", check=_check_base)


def _parse_secret(text: str) -> Secret:
    if not text:
        # RFC 4513 §5.1.2: a name without a password succeeds, and is nobody.
        raise ValueError("an empty password is no password")
    if not text.startswith("env:"):
        return Secret(text, literal=True)
    variable = text.removeprefix("env:")
    if not _VARIABLE.fullmatch(variable):
        raise ValueError("there is no name of an environment variable behind env:")
    return Secret("", variable=variable)


SECRET = Kind(
    _parse_secret,
    "env: and the name of an environment variable, or the text itself; better, a file",
)


def _parse_words(text: str) -> str:
    if not _WORDS.fullmatch(text.strip()):
        raise ValueError(f"{shown(text)} are not names of attributes or classes")
    return text.strip()


_NAMES = Kind(
    _parse_words,
    "names separated by blanks; before an = the attribute, behind it what its values begin with",
)


def _parse_home(text: str) -> tuple[str, str]:
    name, equal, host = (part.strip() for part in text.partition("="))
    if not equal or not name:
        raise ValueError(f"{shown(text)} is not NAME=host")
    return name, parse_domain(host).lower()


_HOME = Kind(_parse_home, "NAME=host: the server's name in the directory, and its domain name")


def _names(help: str) -> str | None:
    found: str | None = key(_NAMES, "null", help=help)
    return found


@frozen
class AttributeKeys:
    """Where this directory differs from the schema that is named; null: it does not."""

    searched: str | None = _names("Where an address is looked for: mail proxyAddresses=smtp: .")
    objects: str | None = key(
        ONE_LINE, "null", help="A filter (RFC 4515) that every entry must meet."
    )
    primary: str | None = _names("Where the primary address stands, the first that has one.")
    contacts: str | None = _names("Object classes of contacts.")
    groups: str | None = _names("Object classes of groups.")
    target: str | None = _names("An address elsewhere that takes the mailbox's place.")
    forward_to_entry: str | None = _names("The DN of an entry that gets the mail.")
    forward_to_address: str | None = _names("Addresses that get the mail.")
    keep_copy: str | None = _names("Says whether the mailbox gets forwarded mail as well.")
    host: str | None = _names("The domain name of the home server.")
    routing_address: str | None = _names("The recipient on that server.")
    home: str | None = _names("The home server as a DN or an Exchange path.")
    member_entries: str | None = _names("DNs of a group's members.")
    member_addresses: str | None = _names("Addresses of a group's members.")
    member_filter: str | None = _names("A filter that finds a group's members.")
    member_base: str | None = _names("Where that filter is used.")
    member_url: str | None = _names("An LDAP URL that finds a group's members.")
    owner: str | None = _names("The DN of a group's owner.")
    report_to_owner: str | None = _names("Says whether the owner hears of failures.")
    report_to_originator: str | None = _names("Says whether the sender hears of failures.")
    disabled: str | None = _names("Says that an entry is switched off.")
    disabled_words: str | None = _names("Its values that say so.")
    login: str | None = _names("What a user logs in with.")
    delegates: str | None = _names("DNs of those who may send in an entry's name.")

    def given(self) -> dict[str, str]:
        """What is not null, by name."""
        return {
            one.name: value
            for one in fields(AttributeKeys)
            if (value := getattr(self, one.name)) is not None
        }


@frozen
class LDAPSettings:
    """LDAP routing."""

    enabled: bool = key(
        TRUTH,
        "false",
        help="Addresses of local domains are looked up in the directory: an unknown one is "
        "refused with 550 5.1.1, groups are expanded, forwarding is followed.",
        iis="LDP-01 SmtpDsUseCat",
    )
    server: tuple[str, ...] = keys(
        _SERVER,
        "null",
        help="The servers; the first that can be used is.",
        iis="LDP-02 SmtpDsHost, SmtpDsPort",
    )
    schema: str = key(
        choice({name: name for name in SCHEMA_NAMES}),
        "active_directory",
        help="How the directory is laid out; inetorgperson is OpenLDAP's way.",
        iis="LDP-03 SmtpDsSchemaType",
    )
    binding: str = key(
        choice({name: name for name in BINDINGS}),
        "anonymous",
        help="Who we are to it. plain_text: username, a DN, and password. sspi: username and "
        "password in the Windows domain. service_account: whoever this process is, by Kerberos "
        "or by a local socket.",
        iis="LDP-04 SmtpDsBindType",
    )
    domain: str | None = key(
        ONE_LINE, "null", help="The Windows domain for sspi.", iis="LDP-05 SmtpDsDomain"
    )
    username: str | None = key(
        ONE_LINE, "null", help="For plain_text and sspi.", iis="LDP-06 SmtpDsAccount"
    )
    password: Secret | None = key(SECRET, "null", help="Its password.", iis="LDP-07 SmtpDsPassword")
    password_file: Path | None = key(
        PATH,
        "null",
        help="A file whose first line is the password; read at each connection, refused where "
        "others may read it.",
    )
    base: str | None = key(
        _BASE,
        "null",
        help="The entry below which everybody is.",
        iis="LDP-08 SmtpDsNamingContext",
    )
    start_tls: bool = key(TRUTH, "false", help="Begin TLS on ldap:// connections.")
    ca: Path | None = key(
        PATH,
        "null",
        help="The certificates of the authorities we trust, in PEM; null: the system's. A "
        "server's certificate is always verified.",
    )
    timeout: float = key(SHORT_SPAN, "5s", help="How long a look-up may take; then 451 4.4.3.")
    cache: int = key(span(), "5m", help="How long an answer is used again.")
    cache_unknown: int = key(
        span(), "30s", help="How long the same holds for unknown; a new user waits no longer."
    )
    cache_size: int = key(whole(0, 10_000_000, unit="entries"), "10000", help="Answers kept.")
    connections: int = key(
        whole(1, 64, unit="connections"),
        "4",
        help="Connections for look-ups; up to four more serve groups and passwords.",
    )
    max_members: int = key(
        whole(1, 1_000_000, unit="recipients"),
        "20000",
        help="A larger group is refused whole, 5.5.3.",
    )
    rewrite_sender: bool = key(
        TRUTH, "false", help="A sender in the directory gets his primary address."
    )
    check_sender: bool = key(
        TRUTH,
        "false",
        help="Who has logged in by his password of the directory (access.ldap) sends from his own "
        "addresses only, and from those of entries that name him as a delegate: else 553 5.7.1.",
    )
    home_domain: str | None = key(
        DOMAIN,
        "null",
        help="Completes the name of a home server that is no domain name; null: all such "
        "servers are this one.",
    )
    home_servers: tuple[tuple[str, str], ...] = keys(
        _HOME, "", help="Home servers whose domain name is another: MAIL1=mail.example.com."
    )
    attributes: AttributeKeys = section(
        AttributeKeys, help="Where the directory differs from its schema."
    )

    def __attrs_post_init__(self) -> None:
        if self.enabled and not self.server:
            raise ValueError("server: nobody to ask; allowed: at least one server")
        if self.enabled and self.base is None:
            raise ValueError("base: where to look is missing; allowed: the DN of an entry")
        self._check_binding()

    def _check_binding(self) -> None:
        named = self.binding in ("plain_text", "sspi")
        if self.password is not None and self.password_file is not None:
            raise ValueError("password: there is a password_file too; allowed: one of them")
        has_password = self.password is not None or self.password_file is not None
        if not named and (self.username is not None or has_password):
            raise ValueError(
                f"binding: {self.binding} takes no username and no password; "
                "allowed: plain_text or sspi"
            )
        if named and not (self.username and has_password):
            raise ValueError(f"binding: {self.binding} needs username and password")
        if self.binding == "sspi" and self.domain is None:
            raise ValueError("binding: sspi needs domain")
