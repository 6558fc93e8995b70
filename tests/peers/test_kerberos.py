"""Kerberos with a key server: clients that log in with a ticket, and our own logins."""

from __future__ import annotations

import os
import smtplib
from base64 import b64decode, b64encode
from typing import Any
from unittest.mock import patch

from mailhost.authentication.kerberos import initiator
from mailhost.smtp.sasl.base import Work
from mailhost.smtp.sasl.gssapi import GSSAPIClient
from tests.peers.test_logins import LoginCase
from tests.support.kdc import REALM, KeyServer
from tests.support.peer_case import Server, content
from tests.support.postfix_tools import installed_program
from tests.support.process import split_address


class KerberosCase(LoginCase):
    """
    Has a realm.

    :ivar spoken: what `log_in` has sent, tickets and all.
    """

    def setUp(self) -> None:
        super().setUp()
        folder = self.path("kdc")
        folder.mkdir()
        self.server = KeyServer(folder)
        self.server.start(self.addCleanup)
        environment = patch.dict(os.environ, self.server.environment)
        environment.start()
        self.addCleanup(environment.stop)
        self.service = self.server.keytab("smtp/mail.example.com")
        self.kim = self.server.keytab("kim")
        self.spoken: list[bytes] = []

    def log_in(self, client: smtplib.SMTP, keytab: Any, principal: str) -> int:
        ours = GSSAPIClient(initiator(keytab, f"{principal}@{REALM}", "mail.example.com"))
        step: Any = ours.first()
        code, said = client.docmd("AUTH", "GSSAPI")
        while code == 334:
            octets = ours.worked(step.run()) if isinstance(step, Work) else step
            self.spoken.append(octets)
            code, said = client.docmd(b64encode(octets).decode())
            if code == 334:
                step = ours.hear(b64decode(said))
        return code


class KerberosTests(KerberosCase):
    def start_accepting(self, **changes: Any) -> Server:
        return self.start_login_server(keytab=str(self.service), **changes)

    def test_ticket(self) -> None:
        """ACC-05: who has a ticket logs in, is held to his addresses, and may relay."""
        server = self.start_accepting(anonymous=False)
        clear = self.session(server, tls=False)
        self.assertNotIn("GSSAPI", clear.esmtp_features["auth"])
        client = self.session(server)
        self.assertEqual(235, self.log_in(client, self.kim, "kim"))
        self.assertEqual(553, client.mail("lee@example.com")[0])
        self.assertEqual(250, client.mail("kim@example.com")[0])
        self.assertEqual(250, client.rcpt("someone@example.net")[0])
        server.process.wait_for_words("as kim@example.com by GSSAPI")
        # Whom the realm knows, and the users file does not.
        client = self.session(server)
        self.assertEqual(235, self.log_in(client, self.server.keytab("max"), "max"))
        self.assertEqual(250, client.mail("any@example.com")[0])

    def test_curl(self) -> None:
        """curl shows a ticket from the usual place, for the name in the certificate."""
        curl = installed_program("curl")
        server = self.start_accepting()
        host, port = split_address(server.address)
        letter = self.path("letter")
        letter.write_bytes(content())
        cache = {**os.environ, "KRB5CCNAME": f"FILE:{self.path('cache')}"}
        self.run_peer([installed_program("kinit"), "-k", "-t", str(self.kim), "kim"], cache, 0)
        self.run_peer(
            [
                curl, "-sS", "--ssl-reqd", "--cacert", str(self.authority.file),
                "--resolve", f"mail.example.com:{port}:{host}",
                "--url", f"smtp://mail.example.com:{port}",
                "--user", f"kim@{REALM}:", "--login-options", "AUTH=GSSAPI",
                "--mail-from", "kim@example.com", "--mail-rcpt", "curl@example.com",
                "--upload-file", str(letter),
            ],
            cache,
            0,
        )  # fmt: skip
        server.wait_for_drop("curl@example.com")
        server.process.wait_for_words("as kim@example.com by GSSAPI")

    def test_nonsense(self) -> None:
        """What is no ticket is refused; without a keytab it is not now."""
        server = self.start_accepting()
        client = self.session(server)
        client.docmd("AUTH", "GSSAPI")
        self.assertEqual(535, client.docmd(b64encode(b"no ticket").decode())[0])
        self.service.chmod(0o644)
        self.assertEqual(454, self.log_in(self.session(server), self.kim, "kim"))
        server.process.wait_for_words("can be read by every user")

    def test_next_hop(self) -> None:
        """DEL-22: our own login by a ticket; a keytab that is gone delays the mail."""
        second = self.start_accepting(anonymous=False)
        host, port = split_address(second.address)
        relay = self.server.keytab("relay")
        first = self.start_server(
            domain="first.example",
            access={"relay": {"except": ["127.0.0.1"]}},
            delivery={
                "smart_host": f"mail.example.com:{port}",
                "security": {
                    "auth": "kerberos",
                    "username": f"relay@{REALM}",
                    "keytab": str(relay),
                    "tls": "verified",
                    "ca": str(self.authority.file),
                },
                "outbound": {"retry": ["1s"]},
            },
            resolver=self.start_dns({"mail.example.com": {"A": [host]}}),
        )
        octets = relay.read_bytes()
        relay.unlink()
        first.submit("user@example.com", content())
        self.assertIn("keytab", first.wait_for_attempts("user@example.com").words or "")
        relay.touch(0o600)
        relay.write_bytes(octets)
        second.wait_for_drop("user@example.com")
        second.process.wait_for_words(f"as relay@{REALM} by GSSAPI")
