"""Tests for `mailhost.secrets`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.settings.ldap import SECRET
from mailhost.model.security import Secret
from mailhost.secrets import SecretProblem, replace_file, reveal


class RevealTests(SynchronousTestCase):
    def test_literal(self) -> None:
        """What stands in the configuration itself."""
        self.assertEqual("pencil", reveal(SECRET.parse("pencil")))

    def test_variable(self) -> None:
        """``env:NAME``; the value is not in the words when something is wrong."""
        secret = SECRET.parse("env:RELAY")
        self.assertEqual("pencil", reveal(secret, None, {"RELAY": "pencil"}))
        for environment in ({}, {"RELAY": ""}):
            problem = self.assertRaises(SecretProblem, reveal, secret, None, environment)
            self.assertEqual("the environment variable RELAY is not set", str(problem))
        for text in ("env:", "env:9", "env:A B", "env:A=B"):
            self.assertRaises(ValueError, SECRET.parse, text)

    def test_file(self) -> None:
        """Its first line, of a file that is for its owner and group."""
        with TemporaryDirectory() as folder:
            file = Path(folder) / "secret"
            self.assertRaises(SecretProblem, reveal, None, file)
            file.write_bytes("p\u00e4ss word\r\nmore\n".encode())
            file.chmod(0o640)
            self.assertEqual("p\u00e4ss word", reveal(None, file))
            for mode, octets in ((0o644, b"x"), (0o600, b""), (0o600, b"\nx"), (0o600, b"\xff")):
                file.write_bytes(octets)
                file.chmod(mode)
                self.assertRaises(SecretProblem, reveal, None, file)

    def test_not_seen_by_chance(self) -> None:
        """Neither in words nor in a representation."""
        secret = Secret("pencil", literal=True)
        self.assertNotIn("pencil", f"{secret} {secret!r}")


class ReplaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.file = self.folder / "secret"

    def test_mode(self) -> None:
        """A new file is its owner's; the mode of an old one stays."""
        replace_file(self.file, "one\n")
        self.assertEqual(0o600, self.file.stat().st_mode & 0o777)
        self.file.chmod(0o640)
        replace_file(self.file, "two\n")
        self.assertEqual(
            (0o640, "two\n"), (self.file.stat().st_mode & 0o777, self.file.read_text())
        )

    def test_link(self) -> None:
        """What a link leads to is replaced, not the link."""
        link = self.folder / "link"
        self.file.write_text("one\n")
        link.symlink_to(self.file)
        replace_file(link, "two\n")
        self.assertTrue(link.is_symlink())
        self.assertEqual("two\n", self.file.read_text())

    def test_failure(self) -> None:
        """The old file stays, and nothing is left beside it."""
        self.file.write_text("one\n")
        with patch("mailhost.secrets.os.fsync", side_effect=OSError(28, "No space left")):
            self.assertRaises(OSError, replace_file, self.file, "two\n")
        self.assertEqual("one\n", self.file.read_text())
        self.assertEqual([self.file], list(self.folder.iterdir()))
