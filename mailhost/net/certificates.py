"""
Certificates as they lie in files: what is in them, and what peers will not like about them.

:Room: ``net``
:RFC: 6125 (names in certificates).
:IIS: ACC-10.
:Called by: `mailhost.net.server_tls`, `mailhost.net.tls`, `mailhost.server`, `mailhost.cli`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from mailhost.errors import MailhostError
from mailhost.secrets import is_open_to_others

#: Before this a certificate is said to be about to expire.
SOON_SECONDS = 14 * 86400


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
class Loaded:
    """A certificate with those between it and its authority, and its private key."""

    chain: tuple[x509.Certificate, ...]
    key: Any


def read_certificate_file(path: Path) -> bytes:
    """:raises CertificateProblem: *path* cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateProblem(f"{path} cannot be read: {error.strerror}") from error


def load(files: CertificateFiles) -> Loaded:
    """:raises CertificateProblem: it cannot be used."""
    try:
        chain = tuple(x509.load_pem_x509_certificates(read_certificate_file(files.certificate)))
    except ValueError as error:
        raise CertificateProblem(f"{files.certificate} holds no certificate in PEM") from error
    try:
        key: Any = load_pem_private_key(read_certificate_file(files.key_file), None)
    except (ValueError, TypeError) as error:
        raise CertificateProblem(
            f"{files.key_file} holds no private key in PEM without a password"
        ) from error
    if key.public_key() != chain[0].public_key():
        raise CertificateProblem(f"{files.key_file} is not the key of {files.certificate}")
    return Loaded(chain, key)


def doubts(files: CertificateFiles, fqdn: str | None, now: float) -> Iterator[str]:
    """
    What peers, or the operator, will not like about a certificate.

    :param fqdn: the name peers know this server by; `None`: they ask for one of its names.
    :param now: seconds since the epoch.
    :raises CertificateProblem: it cannot be used at all.
    """
    first = load(files).chain[0]
    until = first.not_valid_after_utc
    at = datetime.fromtimestamp(now, UTC)
    if until <= at:
        yield f"{files.certificate} has expired on {until:%Y-%m-%d}"
    elif (until - at).total_seconds() < SOON_SECONDS:
        yield f"{files.certificate} expires on {until:%Y-%m-%d}"
    if first.not_valid_before_utc > at:
        yield f"{files.certificate} is not valid before {first.not_valid_before_utc:%Y-%m-%d}"
    names = names_in(first)
    if fqdn is None and not names:
        yield f"{files.certificate} has no name that a client could ask for"
    if fqdn is not None and not any(covers(name, fqdn) for name in names):
        yield f"{files.certificate} is for {', '.join(names) or 'nobody'}, not for {fqdn}"
    mode = files.key_file.stat().st_mode
    if is_open_to_others(mode):
        yield f"{files.key_file} can be read by every user of this machine; advised: mode 0600"


def names_in(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names that *certificate* is for (RFC 6125 §6.4: subject alternative names)."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(extension.value.get_values_for_type(x509.DNSName))


def covers(pattern: str, name: str) -> bool:
    """Whether a name in a certificate is meant for the host *name* (RFC 6125 §6.4.3)."""
    pattern, name = pattern.lower(), name.lower()
    if pattern.startswith("*."):
        return name.partition(".")[2] == pattern[2:]
    return pattern == name


def client_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """
    Whom a client's certificate may speak of, the best first.

    Mail addresses and DNS names of its subject alternative names, then its common name.
    """
    found: list[str] = []
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        pass
    else:
        found += extension.value.get_values_for_type(x509.RFC822Name)
        found += extension.value.get_values_for_type(x509.DNSName)
    for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        found.append(str(attribute.value))
    return tuple(dict.fromkeys(found))
