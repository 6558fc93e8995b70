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

import os
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import service_identity.pyopenssl
from attrs import define, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate as TrustedCertificate
from twisted.internet.ssl import (
    CertificateOptions,
    TLSVersion,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.logger import Logger
from zope.interface import implementer

from mailhost.errors import MailhostError
from mailhost.model.security import TLSFacts

#: So often the files are looked at, at most: when a client connects.
LOOK_AGAIN_SECONDS = 10.0
#: Before this a certificate is said to be about to expire.
SOON_SECONDS = 14 * 86400

MINIMUM = {"1.2": TLSVersion.TLSv1_2, "1.3": TLSVersion.TLSv1_3}


class CertificateProblem(MailhostError):
    """A certificate or its key cannot be used; the words say which file and why."""


@frozen
class CertificateFiles:
    """
    Where a certificate lies, in PEM.

    :ivar certificate: the host's own first, then those between it and its authority.
    :ivar key: its private key; `None`: in the same file.
    """

    certificate: Path
    key: Path | None = None

    @property
    def key_file(self) -> Path:
        """The file with the private key."""
        return self.key or self.certificate


@frozen
class _Loaded:
    chain: tuple[x509.Certificate, ...]
    key: Any


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateProblem(f"{path} cannot be read: {error.strerror}") from error


def _load(files: CertificateFiles) -> _Loaded:
    try:
        chain = tuple(x509.load_pem_x509_certificates(_read(files.certificate)))
    except ValueError as error:
        raise CertificateProblem(f"{files.certificate} holds no certificate in PEM") from error
    try:
        key: Any = load_pem_private_key(_read(files.key_file), None)
    except (ValueError, TypeError) as error:
        raise CertificateProblem(
            f"{files.key_file} holds no private key in PEM without a password"
        ) from error
    if key.public_key() != chain[0].public_key():
        raise CertificateProblem(f"{files.key_file} is not the key of {files.certificate}")
    return _Loaded(chain, key)


def doubts(files: CertificateFiles, fqdn: str, now: float) -> Iterator[str]:
    """
    What peers, or the operator, will not like about a certificate.

    :param fqdn: the name peers know this server by.
    :param now: seconds since the epoch.
    :raises CertificateProblem: it cannot be used at all.
    """
    first = _load(files).chain[0]
    until = first.not_valid_after_utc
    at = datetime.fromtimestamp(now, UTC)
    if until <= at:
        yield f"{files.certificate} has expired on {until:%Y-%m-%d}"
    elif (until - at).total_seconds() < SOON_SECONDS:
        yield f"{files.certificate} expires on {until:%Y-%m-%d}"
    if first.not_valid_before_utc > at:
        yield f"{files.certificate} is not valid before {first.not_valid_before_utc:%Y-%m-%d}"
    names = names_in(first)
    if not any(_covers(name, fqdn) for name in names):
        yield f"{files.certificate} is for {', '.join(names) or 'nobody'}, not for {fqdn}"
    mode = files.key_file.stat().st_mode
    if os.name == "posix" and stat.S_IMODE(mode) & 0o007:
        yield f"{files.key_file} can be read by every user of this machine; advised: mode 0600"


def names_in(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names that *certificate* is for (RFC 6125 §6.4: subject alternative names)."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(extension.value.get_values_for_type(x509.DNSName))


def _covers(pattern: str, name: str) -> bool:
    pattern, name = pattern.lower(), name.lower()
    if pattern.startswith("*."):
        return name.partition(".")[2] == pattern[2:]
    return pattern == name


# ---- the server's side


@define(eq=False)
class ServerTLS:
    """
    The certificate of a virtual server, in its newest form.

    Files that change are read anew when the next client comes; while the new
    ones cannot be used the last good ones are.

    :ivar files: where it lies.
    :ivar minimum: the lowest version, ``"1.2"`` or ``"1.3"``.
    :ivar seconds: tells the time.
    """

    files: CertificateFiles
    minimum: str
    seconds: Callable[[], float]
    _options: CertificateOptions | None = field(default=None, init=False)
    _stamp: tuple[object, ...] = field(default=(), init=False)
    _looked_at: float = field(default=float("-inf"), init=False)

    _log = Logger()

    def load(self) -> None:
        """
        Read the files now.

        :raises CertificateProblem: they cannot be used.
        """
        stamp = self._stamp_now()
        loaded = _load(self.files)
        # Upstream's annotations do not know the objects that it asks for.
        first, *others = cast("Any", loaded.chain)
        self._options = CertificateOptions(
            privateKey=loaded.key,
            certificate=first,
            extraCertChain=others,
            raiseMinimumTo=MINIMUM[self.minimum] if self.minimum != "1.2" else None,
        )
        self._stamp = stamp

    def context_factory(self) -> CertificateOptions | None:
        """For the next connection; `None` while there is nothing that can be used."""
        now = self.seconds()
        if now - self._looked_at >= LOOK_AGAIN_SECONDS:
            self._looked_at = now
            self._look_again()
        return self._options

    def _look_again(self) -> None:
        if self._options is not None and self._stamp_now() == self._stamp:
            return
        renewed = self._options is not None
        try:
            self.load()
        except CertificateProblem as problem:
            self._log.error("{problem}", problem=str(problem))
            return
        if renewed:
            self._log.info("{file} is read anew", file=self.files.certificate)

    def _stamp_now(self) -> tuple[object, ...]:
        found: list[object] = []
        for path in (self.files.certificate, self.files.key_file):
            try:
                status = path.stat()
            except OSError:
                found.append(None)
            else:
                found.append((status.st_mtime_ns, status.st_ino, status.st_size))
        return tuple(found)


# ---- the client's side


@implementer(IOpenSSLClientConnectionCreator)
@frozen
class _Creator:
    context: SSL.Context
    server_name: str

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """Called by Twisted for each connection."""
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
        name = "" if _is_address(host) else host.rstrip(".")
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
        found = x509.load_pem_x509_certificates(_read(ca))
    except ValueError as error:
        raise CertificateProblem(f"{ca} holds no certificate in PEM") from error
    certificates = [_trusted(one) for one in found]
    return trustRootFromCertificates(certificates)  # type: ignore[no-untyped-call]  # upstream


def _trusted(certificate: x509.Certificate) -> Any:
    return TrustedCertificate.loadPEM(certificate.public_bytes(Encoding.PEM))


def _is_address(host: str) -> bool:
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
        if _is_address(host):
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


def facts_of(connection: Any) -> TLSFacts:
    """What the handshake of *connection* has agreed on."""
    name = connection.get_servername()
    return TLSFacts(
        connection.get_protocol_version_name(),
        connection.get_cipher_name() or "",
        name.decode("ascii", "replace") if name else "",
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
