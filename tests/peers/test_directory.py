"""mailhost as a process, and slapd beside it; both die."""

from __future__ import annotations

import signal
import smtplib
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.peer_case import PeerCase, Server
from tests.support.slapd import AD, MISSING, Slapd

DOMAIN = "ad.example.com"


class DirectoryTests(PeerCase):
    if MISSING:
        skip = MISSING

    def setUp(self) -> None:
        super().setUp()
        folder = TemporaryDirectory(prefix="slapd")
        self.addCleanup(folder.cleanup)
        self.slapd = Slapd(Path(folder.name))
        self.slapd.load(people=200, groups=5)
        self.slapd.start(self.addCleanup)
        ldap = {"enabled": True, "server": self.slapd.url, "base": AD, "timeout": "2s"}
        self.server = self.start_server(
            domain=DOMAIN, ldap=ldap, delivery={"outbound": {"retry": ["1s"]}}
        )

    def receivers(self, server: Server) -> Counter[str]:
        """How often each is in Drop."""
        return Counter(path for one in server.root.drop() for path in one.receivers)

    def test_group_survives_both(self) -> None:
        """A group whose members nobody could tell, kill -9, a restart: each member gets it once."""
        server, to = self.server, f"team0001@{DOMAIN}"
        with server.client() as client:
            client.ehlo()
            client.mail("sender@example.org")
            self.assertEqual(250, client.rcpt(to)[0])
            self.slapd.process.kill()
            self.assertEqual(250, client.data(b"Subject: x\r\n\r\ntext\r\n")[0])
        server.wait_for_attempts(to)
        with self.assertRaises(smtplib.SMTPRecipientsRefused) as refused:
            server.submit(f"clerk@{DOMAIN}")
        self.assertEqual(451, refused.exception.recipients[f"clerk@{DOMAIN}"][0])

        server.process.kill()
        server.start()
        server.wait_for_attempts(to, 2)
        self.slapd.start(self.addCleanup)
        server.process.wait_until(lambda: len(self.receivers(server)) == 10, "ten members")
        server.wait_until_empty()

        self.assertEqual({1}, set(self.receivers(server).values()))
        self.assertEqual([], server.root.badmail())

    def test_logins(self) -> None:
        """Who binds with his password is logged in; a directory that is down is 454, not 535."""
        server = self.server
        clear = {"enabled": True, "require_tls": False}
        server.configure(access={"basic": clear, "ldap": True, "anonymous": False})
        server.process.send_signal(signal.SIGHUP)

        def offered() -> bool:
            with server.client() as client:
                return b"AUTH PLAIN LOGIN" in client.ehlo()[1]

        server.process.wait_until(offered, "AUTH in the answer to EHLO")
        with server.client() as client:
            with self.assertRaises(smtplib.SMTPAuthenticationError) as caught:
                client.login("clerk", "another password")
            self.assertEqual(535, caught.exception.smtp_code)
            client.login("clerk", "the clerk's password")
            self.assertEqual(250, client.mail(f"clerk@{DOMAIN}")[0])
        self.slapd.process.kill()
        with server.client() as client:
            with self.assertRaises(smtplib.SMTPAuthenticationError) as caught:
                client.login("clerk", "the clerk's password")
            self.assertEqual(454, caught.exception.smtp_code)
