"""
Security contexts of Kerberos, by the package ``gssapi``.

:Room: ``authentication``
:RFC: 4121; 4752 §3.
:Implements: `mailhost.smtp.sasl.gssapi.Context`.
:Called by: `mailhost.server.logins` (clients that log in) and `mailhost.relay.line` (our own
    logins).

Nothing of it depends on variables of the process: several virtual servers have several
keytabs.  A step may ask a key server or read a file, so it belongs in a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

from attrs import define

from mailhost.errors import AuthenticationProblem, SyntaxProblem
from mailhost.secrets import SecretProblem, is_open_to_others

_numbers = count(1)


def is_installed() -> bool:
    """Whether the extra ``kerberos`` is."""
    return find_spec("gssapi") is not None


def check_keytab(path: Path) -> None:
    """:raises SecretProblem: it cannot be read, or others may read it."""
    try:
        with path.open("rb") as file:
            beginning = file.read(2)
        mode = path.stat().st_mode
    except OSError as error:
        raise SecretProblem(f"{path} cannot be read: {error.strerror}") from error
    if is_open_to_others(mode):
        raise SecretProblem(
            f"{path} can be read by every user of this machine; allowed: mode 0600 or 0640"
        )
    if beginning[:1] != b"\x05":
        raise SecretProblem(f"{path} is no keytab")


@define
class _Context:
    """One context; made when its first step is taken, in that step's thread."""

    make: Callable[[], Any]
    _made: Any = None

    @property
    def complete(self) -> bool:
        return self._made is not None and bool(self._made.complete)

    @property
    def peer(self) -> str:
        """
        The client, of our own realm.

        A realm that trusts ours may name whomever it likes.
        """
        name, ours = str(self._made.initiator_name), str(self._made.target_name)
        if name.rpartition("@")[2] != ours.rpartition("@")[2]:
            raise SyntaxProblem("the client is of another realm")
        return name

    def step(self, token: bytes) -> bytes:
        from gssapi.exceptions import GSSError

        if self._made is None:
            self._made = self.make()
        try:
            return self._made.step(token or None) or b""
        except GSSError as error:
            raise SyntaxProblem(f"Kerberos: {_words(error)}") from error

    def wrap(self, octets: bytes) -> bytes:
        wrapped: bytes = self._made.wrap(octets, False).message
        return wrapped

    def unwrap(self, octets: bytes) -> bytes:
        from gssapi.exceptions import GSSError

        try:
            found: bytes = self._made.unwrap(octets).message
        except GSSError as error:
            raise SyntaxProblem(f"Kerberos: {_words(error)}") from error
        return found


def acceptor(keytab: Path) -> _Context:
    """For a client that logs in, who has a ticket for a principal in *keytab*."""

    def make() -> Any:
        import gssapi

        try:
            check_keytab(keytab)
            store = {"keytab": f"FILE:{keytab}"}
            credentials = gssapi.Credentials(usage="accept", store=store)
        except (SecretProblem, gssapi.exceptions.GSSError) as error:
            words = str(error) if isinstance(error, SecretProblem) else _words(error)
            raise AuthenticationProblem(f"Kerberos: {words}") from error
        return gssapi.SecurityContext(creds=credentials, usage="accept")

    return _Context(make)


def initiator(keytab: Path, principal: str, host: str) -> _Context:
    """For a login at *host*, as *principal*, by its key in *keytab*."""

    def make() -> Any:
        import gssapi

        try:
            check_keytab(keytab)
            store = {
                "client_keytab": f"FILE:{keytab}",
                "ccache": f"MEMORY:mailhost-{next(_numbers)}",
            }
            name = gssapi.Name(principal, gssapi.NameType.kerberos_principal)
            credentials = gssapi.Credentials(name=name, usage="initiate", store=store)
        except (SecretProblem, gssapi.exceptions.GSSError) as error:
            words = str(error) if isinstance(error, SecretProblem) else _words(error)
            raise SyntaxProblem(f"Kerberos: {words}") from error
        flags = gssapi.RequirementFlag
        return gssapi.SecurityContext(
            name=gssapi.Name(f"smtp@{host}", gssapi.NameType.hostbased_service),
            creds=credentials,
            mech=gssapi.MechType.kerberos,
            flags=flags.mutual_authentication | flags.integrity,
            usage="initiate",
        )

    return _Context(make)


def _words(error: Any) -> str:
    """The last of what a library says is what is wrong."""
    return " ".join(str(error).split())[-200:]
