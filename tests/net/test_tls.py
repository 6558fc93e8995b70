"""Tests for `mailhost.net.tls`; handshakes are in tests/peers/test_tls.py."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from tempfile import mkdtemp

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.net.certificates import CertificateFiles, CertificateProblem, doubts
from mailhost.net.server_tls import (
    LOOK_AGAIN_SECONDS,
    ServerTLS,
)
from tests.support.certificates import Authority

NAME = "mail.example.com"


class CertificateCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(mkdtemp(prefix="mailhost-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.authority = Authority(self.folder)

    def files(self, name: str = "one", *hosts: str, days: float = 60) -> CertificateFiles:
        return CertificateFiles(*self.authority.issue(name, *(hosts or (NAME,)), days=days))


class DoubtTests(CertificateCase):
    def said(self, files: CertificateFiles, later_seconds: float = 0) -> str:
        return "; ".join(doubts(files, NAME, time.time() + later_seconds))

    def test_none(self) -> None:
        """A certificate for this name, valid for weeks, with a key of our own."""
        self.assertEqual("", self.said(self.files()))
        self.assertEqual("", self.said(self.files("wild", "*.example.com")))

    def test_time(self) -> None:
        """Expired, about to expire, not valid yet."""
        files = self.files(days=20)
        self.assertIn("expires on", self.said(files, 10 * 86400))
        self.assertIn("has expired on", self.said(files, 21 * 86400))
        self.assertIn("is not valid before", self.said(files, -100 * 86400))

    def test_name(self) -> None:
        """For another host, or for one level more than a wildcard covers."""
        self.assertIn("is for other.example, not for", self.said(self.files("a", "other.example")))
        self.assertIn("not for", self.said(self.files("b", "*.com")))

    def test_key_for_everybody(self) -> None:
        """A key that every user of the machine can read."""
        files = self.files()
        files.key_file.chmod(0o644)
        self.assertIn("can be read by every user", self.said(files))

    def test_unusable(self) -> None:
        """Missing, nonsense, another certificate's key: in words that name the file."""
        files, other = self.files(), self.files("other")
        nonsense = self.folder / "nonsense"
        nonsense.write_text("nothing")
        for wrong, words in (
            (CertificateFiles(self.folder / "absent"), "absent cannot be read"),
            (CertificateFiles(nonsense, files.key), "nonsense holds no certificate"),
            (CertificateFiles(files.certificate, nonsense), "nonsense holds no private key"),
            (CertificateFiles(files.certificate, other.key), "other.key is not the key of"),
        ):
            problem = self.assertRaises(CertificateProblem, self.said, wrong)
            self.assertIn(words, str(problem))


class RenewalTests(CertificateCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.given = self.files()
        self.tls = ServerTLS(self.given, "1.2", self.clock.seconds)

    def replace(self, path: Path, octets: bytes) -> None:
        fresh = path.with_suffix(".new")
        fresh.write_bytes(octets)
        os.replace(fresh, path)

    def test_renewed(self) -> None:
        """Changed files are read when the next client comes, but not for each client."""
        first = self.tls.context_factory()
        self.assertIsNotNone(first)
        renewed = self.files("renewed")
        self.replace(self.given.certificate, renewed.certificate.read_bytes())
        self.replace(self.given.key_file, renewed.key_file.read_bytes())

        self.assertIs(first, self.tls.context_factory())
        self.clock.advance(LOOK_AGAIN_SECONDS)
        self.assertIsNot(first, self.tls.context_factory())

    def test_half_renewed(self) -> None:
        """While the new files do not fit together the last good ones serve."""
        first = self.tls.context_factory()
        renewed = self.files("renewed")
        self.replace(self.given.certificate, renewed.certificate.read_bytes())
        self.clock.advance(LOOK_AGAIN_SECONDS)
        self.assertIs(first, self.tls.context_factory())

        self.replace(self.given.key_file, renewed.key_file.read_bytes())
        self.clock.advance(LOOK_AGAIN_SECONDS)
        self.assertIsNot(first, self.tls.context_factory())

    def test_mended(self) -> None:
        """Nothing while there is nothing that can be used; then what the operator has mended."""
        octets = self.given.certificate.read_bytes()
        self.given.certificate.unlink()
        self.assertIsNone(self.tls.context_factory())
        self.replace(self.given.certificate, octets)

        self.clock.advance(LOOK_AGAIN_SECONDS)
        self.assertIsNotNone(self.tls.context_factory())
