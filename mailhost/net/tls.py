"""
Certificates and contexts: what TLS needs, both ways.

:Room: ``net``
:RFC: 3207, 5929 §4, 6066 §3 (server name), 6125 (names in certificates), 8314, 9266.
:IIS: ACC-10 (the certificate of a virtual server), ACC-14.
:Called by: `mailhost.server` (a `Certificate` for each virtual server), `mailhost.relay`
    (`Trust` for what leaves), `mailhost.cli` (what a certificate is good for).

A context is never changed once a connection was made from it; a new one takes
its place.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import service_identity.pyopenssl
from attrs import define, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import connectionDone
from twisted.internet.ssl import Certificate as TrustedCertificate
from twisted.internet.ssl import (
    CertificateOptions,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.protocols.tls import BufferingTLSTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhost.model.security import TLSFacts
from mailhost.net.certificates import CertificateProblem, read_certificate_file

# ---- what stays of a connection


class _TidyTLS(BufferingTLSTransport):
    """
    Twisted's TLS of one connection, which is in no cycle when the connection is gone.

    What stays in one waits for the garbage collector, and with it what OpenSSL has of the
    session (ADR 0015).
    """

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        """
        See `BufferingTLSTransport`.

        Its caller's frame knows the failure, and the failure the frame.
        """
        if reason is not None:
            reason.cleanFailure()  # type: ignore[no-untyped-call]  # upstream
        super()._tlsShutdownFinished(reason)  # type: ignore[no-untyped-call]  # upstream

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See `BufferingTLSTransport`."""
        super().connectionLost(reason)
        self._producer = None
        if not self._connectWrapped:
            # `startTLS` has given methods of ours to the transport, which is left to itself now.
            self.transport = None


def leaves_nothing(tls_protocol: Any) -> None:
    """
    Let *tls_protocol* leave nothing in a cycle when its connection is gone.

    Twisted makes it, and asks nobody of which class; but it is given to who makes the
    connection of pyOpenSSL before it has done anything.
    """
    if type(tls_protocol) is BufferingTLSTransport:
        tls_protocol.__class__ = _TidyTLS


# ---- the client's side


@implementer(IOpenSSLClientConnectionCreator)
@frozen
class _Creator:
    context: SSL.Context
    server_name: str

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """Called by Twisted for each connection."""
        leaves_nothing(tlsProtocol)
        connection = SSL.Connection(self.context, None)
        connection.set_app_data(tlsProtocol)
        if self.server_name:
            connection.set_tlsext_host_name(self.server_name.encode("ascii"))
        return connection


@define(eq=False)
class ClientTLS:
    """Contexts for connections that leave, each made when it is first wanted."""

    _open: SSL.Context | None = field(default=None, init=False)
    _verifying: dict[Path | None, SSL.Context] = field(factory=dict, init=False)

    def creator(self, host: str, verified: bool, ca: Path | None = None) -> _Creator:
        """
        :param host: whom we mean to talk to; an IP address is not named to the peer.
        :param verified: its certificate has to come from an authority we trust.
        :param ca: file with these authorities; `None`: the system's.
        :raises CertificateProblem: there are no authorities to be read.
        """
        name = "" if is_address(host) or host.startswith("/") else host.rstrip(".")
        return _Creator(self._verifying_context(ca) if verified else self._open_context(), name)

    def _open_context(self) -> SSL.Context:
        if self._open is None:
            self._open = CertificateOptions(verify=False).getContext()
        return self._open

    def _verifying_context(self, ca: Path | None) -> SSL.Context:
        context = self._verifying.get(ca)
        if context is None:
            context = CertificateOptions(trustRoot=trusted_roots(ca)).getContext()
            self._verifying[ca] = context
        return context


def trusted_roots(ca: Path | None) -> Any:
    """
    The authorities in the file *ca*, or the system's; what Twisted calls a trust root.

    :raises CertificateProblem: there are none to be read.
    """
    if ca is None:
        return platformTrust()  # type: ignore[no-untyped-call]  # upstream
    try:
        found = x509.load_pem_x509_certificates(read_certificate_file(ca))
    except ValueError as error:
        raise CertificateProblem(f"{ca} holds no certificate in PEM") from error
    certificates = [_trusted(one) for one in found]
    return trustRootFromCertificates(certificates)  # type: ignore[no-untyped-call]  # upstream


def _trusted(certificate: x509.Certificate) -> Any:
    return TrustedCertificate.loadPEM(certificate.public_bytes(Encoding.PEM))


def is_address(host: str) -> bool:
    """Whether *host* is an IP address, and no name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def check_identity(connection: Any, host: str) -> str | None:
    """
    Why the peer's certificate is not one for *host*; `None` when it is (RFC 6125).

    :param connection: the pyOpenSSL connection after its handshake.
    """
    pyopenssl = service_identity.pyopenssl
    try:
        if is_address(host):
            pyopenssl.verify_ip_address(connection, host)
        else:
            pyopenssl.verify_hostname(connection, host.rstrip("."))
    except (CertificateError, VerificationError):
        return f"its certificate is not for {host}"
    return None


# ---- both


def connection_of(transport: Any) -> Any:
    """The pyOpenSSL connection of a transport that has started TLS."""
    return transport.protocol.getHandle()


def facts_of(connection: Any, client_names: tuple[str, ...] = ()) -> TLSFacts:
    """What the handshake of *connection* has agreed on, and whom it has shown the client to be."""
    name = connection.get_servername()
    return TLSFacts(
        connection.get_protocol_version_name(),
        connection.get_cipher_name() or "",
        name.decode("ascii", "replace") if name else "",
        client_names,
    )


def channel_binding(connection: Any, name: str) -> bytes | None:
    """
    What both ends of *connection* know and nobody in between (RFC 5056).

    :param name: ``tls-exporter`` or ``tls-server-end-point``, for the server's side.
    :returns: `None` where this connection does not have it.
    """
    if name == "tls-exporter":
        # RFC 9266 §3: before 1.3 it is safe under conditions that we cannot see.
        if connection.get_protocol_version_name() != "TLSv1.3":
            return None
        exported: bytes = connection.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
        return exported
    if name == "tls-server-end-point":
        certificate = connection.get_certificate()
        return None if certificate is None else _end_point(certificate.to_cryptography())
    return None


def _end_point(certificate: x509.Certificate) -> bytes:
    """The hash of the server's certificate, never by a hash that is broken (RFC 5929 §4.1)."""
    signed_by = certificate.signature_hash_algorithm
    weak = signed_by is None or isinstance(signed_by, hashes.MD5 | hashes.SHA1)
    return certificate.fingerprint(hashes.SHA256() if weak or signed_by is None else signed_by)
