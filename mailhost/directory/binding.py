"""
Who we are to a directory, and which servers it has.

:Room: ``directory``
:IIS: LDP-02, LDP-04..07.
:RFC: 4513 §5.1 (simple bind), 4516 (URLs), 4511 §4.2.
:Called by: `mailhost.directory.link`, `mailhost.directory.resolver`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from urllib.parse import unquote

from attrs import field, frozen

from mailhost.directory.filters import parse_url
from mailhost.errors import LookupProblem
from mailhost.secrets import SecretProblem, read_password


class BindingKind(Enum):
    """LDP-04, by the words of the configuration."""

    ANONYMOUS = "anonymous"
    PLAIN_TEXT = "plain_text"
    SSPI = "sspi"
    SERVICE_ACCOUNT = "service_account"


@frozen
class Binding:
    """
    How we say who we are.

    :ivar kind: LDP-04.  SERVICE_ACCOUNT is the account this process runs as: by the socket
        on ``ldapi``, by Kerberos elsewhere.
    :ivar username: a DN, or a name of the Windows domain *domain*.
    :ivar password: its password, where no *password_file* has it.
    :ivar password_file: read at each connection, so that a new password is found.
    :raises ValueError: something is missing, or has no use.
    """

    kind: BindingKind = BindingKind.ANONYMOUS
    username: str = ""
    password: str = field(default="", repr=False)
    password_file: Path | None = None
    domain: str = ""

    def __attrs_post_init__(self) -> None:
        by_name = self.kind in (BindingKind.PLAIN_TEXT, BindingKind.SSPI)
        if not by_name:
            if self.username or self.password or self.password_file:
                raise ValueError(f"binding {self.kind.value} takes no user name and no password")
            return
        if not self.username:
            raise ValueError(f"binding {self.kind.value} needs a user name")
        if self.password and self.password_file:
            raise ValueError("a password and a password file: one of them")
        if not self.password and self.password_file is None:
            # RFC 4513 §5.1.2: a name without a password succeeds, and is nobody.
            raise ValueError(f"binding {self.kind.value} needs a password")
        if self.kind is BindingKind.SSPI and not self.domain:
            raise ValueError("binding sspi needs a domain")

    def secret(self) -> str:
        """
        The password; reads the file.

        :raises LookupProblem: 4.3.5, it cannot be had.
        """
        if self.password_file is None:
            return self.password
        try:
            return read_password(self.password_file)
        except SecretProblem as problem:
            raise LookupProblem(f"password file: {problem}", "4.3.5") from problem


def has_kerberos() -> bool:
    """Whether the ``gssapi`` package is installed, which ldap3 needs for Kerberos."""
    return importlib.util.find_spec("gssapi") is not None


@frozen
class DirectoryServer:
    """
    One server of the directory.

    :ivar scheme: ``ldap``, ``ldaps``, or ``ldapi`` for a local socket.
    :ivar host: name or IP address; the socket's path for ``ldapi``.
    :ivar port: TCP port; 0 for ``ldapi``.
    """

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        if self.scheme == "ldapi":
            return f"ldapi:{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> DirectoryServer:
        """
        *text* as an operator writes it: a URL, or only a host.

        :raises ValueError: it is no such thing.
        """
        text = text.strip()
        if text.lower().startswith("ldapi://"):
            path = unquote(text[8:]).rstrip("/")
            if not path.startswith("/"):
                raise ValueError(f"{text!r}: ldapi:// wants the path of a socket")
            return cls("ldapi", path, 0)
        url = parse_url(text if "://" in text else f"ldap://{text}")
        if url is None or not url.host or url.base or url.filter or set(url.host) & set(" /\\@"):
            raise ValueError(f"{text!r} is not ldap://host or ldaps://host")
        return cls(url.scheme, url.host, url.port)


def check_possible(kind: BindingKind, servers: Iterable[DirectoryServer]) -> None:
    """:raises ValueError: this machine cannot bind in this way."""
    if kind is not BindingKind.SERVICE_ACCOUNT or has_kerberos():
        return
    if any(server.scheme != "ldapi" for server in servers):
        raise ValueError(
            "binding service_account needs the Python package gssapi, or servers on ldapi"
        )


@frozen
class Terms:
    """
    What holds for every connection.

    :ivar start_tls: begin TLS on ``ldap`` connections (RFC 4511 §4.14).
    :ivar ca: authorities we trust, in PEM; `None`: the system's.
    :ivar connect_seconds: for each of connecting, TLS and binding.
    """

    binding: Binding = Binding()
    start_tls: bool = False
    ca: Path | None = None
    connect_seconds: float = 3.0
