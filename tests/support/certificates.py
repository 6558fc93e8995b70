"""An authority of the tests' own, and certificates from it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path

from attrs import define, field
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


class Key(Enum):
    """The sort of a private key. RSA's signatures cost the server far more than its client."""

    P256 = "ECDSA P-256"
    RSA2048 = "RSA-2048"
    RSA4096 = "RSA-4096"

    def made(self) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
        """A new one."""
        if self is Key.P256:
            return ec.generate_private_key(ec.SECP256R1())
        return rsa.generate_private_key(65537, 2048 if self is Key.RSA2048 else 4096)


@define(eq=False)
class Authority:
    """
    Issues certificates into a folder.

    :ivar folder: where the files go.
    :ivar file: its own certificate, in PEM.
    """

    folder: Path
    file: Path = field(init=False)
    _key: ec.EllipticCurvePrivateKey = field(
        factory=lambda: ec.generate_private_key(ec.SECP256R1()), init=False
    )

    def __attrs_post_init__(self) -> None:
        self.file = self.folder / "authority.pem"
        basic = x509.BasicConstraints(ca=True, path_length=None)
        own = self._builder("Test authority", self._key.public_key(), 1)
        signed = own.add_extension(basic, critical=True).sign(self._key, hashes.SHA256())
        self.file.write_bytes(signed.public_bytes(Encoding.PEM))

    def _builder(
        self,
        common: str,
        key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
        days: float,
        issuer: str = "Test authority",
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(_name(common))
            .issuer_name(_name(issuer))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=40))
            .not_valid_after(now + timedelta(days=days))
        )

    def _between(self) -> tuple[ec.EllipticCurvePrivateKey, bytes]:
        """The key of a new authority below this one, and its certificate in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        basic = x509.BasicConstraints(ca=True, path_length=0)
        builder = self._builder("Test authority between", key.public_key(), 1)
        signed = builder.add_extension(basic, True).sign(self._key, hashes.SHA256())
        return key, signed.public_bytes(Encoding.PEM)

    def issue(
        self,
        name: str,
        *hosts: str,
        days: float = 60,
        key: Key = Key.P256,
        mailboxes: tuple[str, ...] = (),
        through: bool = False,
    ) -> tuple[Path, Path]:
        """
        A certificate for *hosts*, and its key.

        :param name: of the files.
        :param days: how long it is valid from now; it has been for 40 days.
        :param key: of which sort.
        :param mailboxes: addresses that it is for as well.
        :param through: an authority below this one signs it; the file has its certificate too.
        """
        made = key.made()
        names = x509.SubjectAlternativeName(
            [*map(x509.DNSName, hosts), *map(x509.RFC822Name, mailboxes)]
        )
        between = self._between() if through else None
        issuer = "Test authority" if between is None else "Test authority between"
        signing, chain = (self._key, b"") if between is None else between
        builder = self._builder((*hosts, *mailboxes)[0], made.public_key(), days, issuer)
        signed = builder.add_extension(names, False).sign(signing, hashes.SHA256())
        certificate, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(signed.public_bytes(Encoding.PEM) + chain)
        key_file.touch(0o600)
        key_file.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate, key_file
