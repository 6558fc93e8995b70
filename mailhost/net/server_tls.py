"""
What TLS needs where we are the server: certificates by name, and who the client is.

:Room: ``net``
:RFC: 3207, 6066 §3 (server name), 8446; attacks.md A22.
:IIS: ACC-10..13.
:Called by: `mailhost.net.inbound`; made by `mailhost.server.certificates`.

A context is never changed once a connection was made from it; a new one takes its place.
Sessions are not resumed: a ticket of one virtual server is of no use at another, nor one
from before a client's certificate was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, cast
from weakref import WeakSet

from attrs import define, field, frozen
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import AcceptableCiphers, CertificateOptions, TLSVersion
from twisted.logger import Logger
from zope.interface import implementer

from mailhost.net.certificates import (
    CertificateFiles,
    CertificateProblem,
    Loaded,
    client_names,
    covers,
    load,
    names_in,
)
from mailhost.net.tls import leaves_nothing, trusted_roots
from mailhost.secrets import file_stamp

#: So often the files are looked at, at most: when a client connects.
LOOK_AGAIN_SECONDS = 10.0

#: With TLS 1.2: the keys of a session are gone with it (RFC 9325 §4.1), AEAD before the rest.
#: The rest (CBC) stays for old clients, which would send in clear else (RFC 7435 §1.2).
_CIPHERS = AcceptableCiphers.fromOpenSSLCipherString(  # type: ignore[no-untyped-call]  # upstream
    "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:ECDHE+AES:DHE+AES"
    ":!aNULL:!eNULL:!aDSS:!AESCCM:!ARIA:!CAMELLIA"
)
MINIMUM = {"1.2": TLSVersion.TLSv1_2, "1.3": TLSVersion.TLSv1_3}


class ClientCertificates(Enum):
    """Whether clients are asked for a certificate (ACC-13)."""

    NONE = "not asked for"
    ASK = "asked for; who shows none, or another authority's, is a stranger"
    REQUIRE = "no connection without one"


@frozen
class Visitors:
    """
    :ivar ca: file with the authorities of clients.
    :ivar policy: whether they are asked.
    """

    ca: Path | None = None
    policy: ClientCertificates = ClientCertificates.NONE


_Find = Callable[[bytes | None], SSL.Context | None]


def _finder(known: Sequence[tuple[tuple[str, ...], SSL.Context | None]]) -> _Find:
    """
    What the server name that a client asks for stands for.

    :param known: contexts by the names in their certificates; `None`: the one in use.
    """

    def find(name: bytes | None) -> SSL.Context | None:
        wanted = (name or b"").decode("ascii", "replace")
        for names, context in known:
            if any(covers(one, wanted) for one in names):
                return context
        return None

    return find


@implementer(IOpenSSLServerConnectionCreator)
@frozen
class _Creator:
    context: SSL.Context
    visitors: Visitors
    strangers: WeakSet[SSL.Connection]

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """Called by Twisted for each connection."""
        leaves_nothing(tlsProtocol)
        connection = SSL.Connection(self.context, None)
        connection.set_app_data(tlsProtocol)
        if self.visitors.policy is ClientCertificates.ASK:
            connection.set_verify(SSL.VERIFY_PEER, self._judge)
        return connection

    def _judge(
        self, connection: SSL.Connection, certificate: Any, error: int, depth: int, good: int
    ) -> bool:
        if not good:
            self.strangers.add(connection)
        return True


def _several(files: CertificateFiles | Sequence[CertificateFiles]) -> tuple[CertificateFiles, ...]:
    return (files,) if isinstance(files, CertificateFiles) else tuple(files)


@define(eq=False)
class ServerTLS:
    """
    The certificates of a virtual server, in their newest form.

    Files that change are read anew when the next client comes; while the new
    ones cannot be used the last good ones are.

    :ivar files: where they lie, one or several; the first is for who asks for no name in
        another.
    :ivar minimum: the lowest version, ``"1.2"`` or ``"1.3"``.
    :ivar seconds: tells the time.
    :ivar visitors: whether clients show certificates, too.
    """

    files: tuple[CertificateFiles, ...] = field(converter=_several)
    minimum: str
    seconds: Callable[[], float]
    visitors: Visitors = Visitors()
    _creator: _Creator | None = field(default=None, init=False)
    _stamp: tuple[object, ...] = field(default=(), init=False)
    _looked_at: float = field(default=float("-inf"), init=False)
    # Connections whose client has shown a certificate that nobody we know has signed.
    _strangers: WeakSet[SSL.Connection] = field(factory=WeakSet, init=False)

    _log = Logger()

    def load(self) -> None:
        """
        Read the files now.

        :raises CertificateProblem: they cannot be used.
        """
        stamp = self._stamp_now()
        first, *others = map(load, self.files)
        # Who asks for a name in the first one gets that, also where another covers it.
        known: list[tuple[tuple[str, ...], SSL.Context | None]] = [(names_in(first.chain[0]), None)]
        known += [(names_in(one.chain[0]), self._context(one)) for one in others]
        default = self._context(first, _finder(known) if others else None)
        self._creator = _Creator(default, self.visitors, self._strangers)
        self._stamp = stamp

    def _context(self, loaded: Loaded, find: _Find | None = None) -> SSL.Context:
        # Upstream's annotations do not know the objects that it asks for.
        own, *others = cast("Any", loaded.chain)
        asked = self.visitors.policy is not ClientCertificates.NONE
        trust: Any = {"trustRoot": trusted_roots(self.visitors.ca)} if asked else {}
        options = CertificateOptions(
            privateKey=loaded.key,
            certificate=own,
            extraCertChain=others,
            raiseMinimumTo=MINIMUM[self.minimum] if self.minimum != "1.2" else None,
            contextForServerName=find,
            acceptableCiphers=_CIPHERS,
            **trust,
        )
        return options.getContext()

    def context_factory(self) -> IOpenSSLServerConnectionCreator | None:
        """For the next connection; `None` while there is nothing that can be used."""
        now = self.seconds()
        if now - self._looked_at >= LOOK_AGAIN_SECONDS:
            self._looked_at = now
            self._look_again()
        return self._creator

    def client_names(self, connection: SSL.Connection) -> tuple[str, ...]:
        """
        Whom the client of *connection* has proved to be, after the handshake.

        :returns: nothing where it was not asked, or is a stranger.
        """
        if self.visitors.policy is ClientCertificates.NONE or connection in self._strangers:
            return ()
        certificate = connection.get_peer_certificate()
        return client_names(certificate.to_cryptography()) if certificate is not None else ()

    def _look_again(self) -> None:
        if self._creator is not None and self._stamp_now() == self._stamp:
            return
        renewed = self._creator is not None
        try:
            self.load()
        except CertificateProblem as problem:
            self._log.error("{problem}", problem=str(problem))
            return
        if renewed:
            names = ", ".join(str(one.certificate) for one in self.files)
            self._log.info("{files}: read anew", files=names)

    def _stamp_now(self) -> tuple[object, ...]:
        # stat() follows links, such as those that certbot turns around.
        paths = [path for one in self.files for path in (one.certificate, one.key_file)]
        if self.visitors.ca is not None:
            paths.append(self.visitors.ca)
        return tuple(file_stamp(path) for path in paths)
