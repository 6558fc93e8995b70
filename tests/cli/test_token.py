"""Tests for `mailhost.cli.token`, and what `check` says of its files."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from mailhost.authentication.access_tokens import AccessTokens
from mailhost.cli import main
from mailhost.cli.probes import probe_remote_control
from mailhost.config.settings import RemoteControlSettings
from tests.support.certificates import Authority


class TokenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.file = self.folder / "tokens"

    def run_token(self, *words: str) -> Result:
        return CliRunner().invoke(main, ["token", str(self.file), *words])

    def test_made_and_taken_back(self) -> None:
        """It is shown once, works, and works no more."""
        token = self.run_token("monitor").output.strip()
        known = AccessTokens(self.file).find(token)
        gone = self.run_token("--delete", "monitor")
        again = self.run_token("--delete", "monitor")

        self.assertEqual(("monitor", None), (known, AccessTokens(self.file).find(token)))
        self.assertEqual((0, 1), (gone.exit_code, again.exit_code))
        self.assertIn("has no token in", again.output)

    def test_not_made(self) -> None:
        """A name that none can have, a file that others can read, a directory that is not there."""
        self.assertEqual(1, self.run_token("a:b").exit_code)
        self.assertEqual(1, self.run_token("a\x1b").exit_code)
        self.run_token("a")
        self.file.chmod(0o644)
        self.assertIn("mode 0600", self.run_token("b").output)
        self.file = self.folder / "nowhere" / "tokens"
        self.assertIn("cannot be written", self.run_token("a").output)

    def test_check(self) -> None:
        """What would keep people out is told before."""
        authority = Authority(self.folder)
        certificate, key = authority.issue("here", "mail.example.com")
        users = self.folder / "users"
        users.touch(0o600)
        self.run_token("a")
        good = RemoteControlSettings(("127.0.0.1", 8443), certificate, key, tokens=self.file)
        bad = RemoteControlSettings(
            ("127.0.0.1", 8443), self.folder / "none", users=users, tokens=self.folder / "none"
        )
        now = certificate.stat().st_mtime

        self.assertEqual([], list(probe_remote_control(good, now)))
        found = [name for name, _ in probe_remote_control(bad, now)]
        self.assertEqual(["certificate", "users", "tokens"], found)
