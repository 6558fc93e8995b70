"""Logins that rest on something else than a password that is sent."""

from __future__ import annotations

import json
import smtplib
import ssl
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.peers.test_logins import SECRET, LoginCase
from tests.support.certificates import Authority
from tests.support.oauth import Asked, TokenEndpoint, reply
from tests.support.peer_case import SENDER, Server, content
from tests.support.postfix_tools import installed_program

ISSUER = "https://login.example/"


class CertificateTests(LoginCase):
    def setUp(self) -> None:
        super().setUp()
        folder = self.path("clients")
        folder.mkdir()
        self.clients = Authority(folder)

    def start_asking(self, **changes: Any) -> Server:
        tls = {"client": "ask", "client_ca": str(self.clients.file), **changes.pop("tls", {})}
        return self.start_login_server(**self.tls_settings(**tls), **changes)

    def show(self, *files: Path) -> None:
        """The certificate of clients that connect from now on."""
        self.client = ssl.create_default_context(cafile=str(self.authority.file))
        if files:
            self.client.load_cert_chain(*files)

    def test_external(self) -> None:
        """ACC-13: who has shown a user's certificate logs in by it, and so may relay."""
        server = self.start_asking(external=True, anonymous=False)
        self.show(*self.clients.issue("kim", mailboxes=("kim@example.com",)))
        client = self.session(server)
        self.assertIn("EXTERNAL", client.esmtp_features["auth"])
        self.assertEqual(530, client.mail(SENDER)[0])
        self.assertEqual(235, client.docmd("AUTH", "EXTERNAL =")[0])
        self.assertEqual(250, client.mail("kim@example.com")[0])
        self.assertEqual(250, client.rcpt("someone@example.net")[0])
        client = self.session(server)
        self.assertEqual(334, client.docmd("AUTH", "EXTERNAL")[0])
        self.assertEqual(535, client.docmd("bGVlQGV4YW1wbGUuY29t")[0])  # lee@example.com

    def test_msmtp(self) -> None:
        """msmtp agrees: EXTERNAL."""
        server = self.start_asking(external=True)
        certificate, key = self.clients.issue("kim", mailboxes=("kim@example.com",))
        files = (f"--tls-cert-file={certificate}", f"--tls-key-file={key}")
        self.assertEqual("", self.msmtp(server, "external", "kim@example.com", "", *files))
        server.process.wait_for_words("as kim@example.com by EXTERNAL")

    def test_strangers(self) -> None:
        """No certificate, another authority's, or nobody's: the rest of the list is there."""
        server = self.start_asking(external=True)
        nobody = self.clients.issue("nobody", mailboxes=("nobody@example.com",))
        stranger = self.authority.issue("stranger", mailboxes=("kim@example.com",))
        for files in ((), stranger):
            self.show(*files)
            client = self.session(server)
            self.assertNotIn("EXTERNAL", client.esmtp_features["auth"])
            self.assertEqual(504, client.docmd("AUTH", "EXTERNAL =")[0])
            self.assertEqual(235, client.login("lee@example.com", SECRET)[0])
        self.show(*nobody)
        self.assertEqual(535, self.session(server).docmd("AUTH", "EXTERNAL =")[0])

    def test_mapped(self) -> None:
        """AccessSSLMapCert: without AUTH, and still tied to one's addresses."""
        server = self.start_asking(tls={"client_map": True}, anonymous=False)
        self.show(*self.clients.issue("kim", mailboxes=("kim@example.com",)))
        client = self.session(server)
        self.assertEqual(553, client.mail("lee@example.com")[0])
        client.sendmail("kim@example.com", "user@example.com", content())
        (delivered,) = server.wait_for_drop("user@example.com")
        self.assertIn(b" with ESMTPSA id ", delivered.content)
        self.show()
        self.assertEqual(530, self.session(server).mail("kim@example.com")[0])

    def test_required(self) -> None:
        """Who shows none is not heard."""
        server = self.start_asking(tls={"client": "require"})
        self.show()
        with self.assertRaises((OSError, smtplib.SMTPException)):
            self.session(server)
        self.show(*self.clients.issue("any", "any.example"))
        self.session(server).sendmail(SENDER, "user@example.com", content())


class TokenCase(LoginCase):
    """Has an issuer of tokens."""

    def setUp(self) -> None:
        super().setUp()
        self.signer = ec.generate_private_key(ec.SECP256R1())
        self.endpoint = TokenEndpoint("127.0.0.1", self.authority.issue("login", "localhost"))
        self.endpoint.answers["/keys"] = self.tell_keys
        self.endpoint.start(self.addCleanup)

    def tell_keys(
        self, owner: TokenEndpoint, asked: Asked, handler: BaseHTTPRequestHandler
    ) -> None:
        known = ECAlgorithm.to_jwk(self.signer.public_key(), as_dict=True) | {"kid": "one"}
        reply(handler, 200, json.dumps({"keys": [known]}).encode())

    def token(self, **claims: Any) -> str:
        told = {"iss": ISSUER, "aud": "us", "exp": 4_000_000_000, "email": "kim@example.com"}
        return jwt.encode(told | claims, self.signer, "ES256", {"kid": "one"})

    def token_settings(self) -> dict[str, str]:
        return {
            "issuer": ISSUER,
            "audience": "us",
            "keys_url": self.endpoint.url("/keys"),
            "ca": str(self.authority.file),
        }


class TokenTests(TokenCase):
    def start_taking_tokens(self) -> Server:
        return self.start_login_server(oauth=self.token_settings())

    def test_smtplib(self) -> None:
        """XOAUTH2, as the large providers have it; the user's addresses hold."""
        server = self.start_taking_tokens()
        clear = self.session(server, tls=False)
        self.assertNotIn("XOAUTH2", clear.esmtp_features["auth"])
        client, token = self.session(server), self.token()
        response = f"user=kim@example.com\x01auth=Bearer {token}\x01\x01"
        self.assertEqual(235, client.auth("XOAUTH2", lambda challenge=None: response)[0])
        self.assertEqual(553, client.mail("lee@example.com")[0])
        self.assertEqual(250, client.mail("kim@example.com")[0])
        self.assertNotIn(token[-40:], server.process.said())

    def test_msmtp(self) -> None:
        """msmtp agrees, by both mechanisms."""
        server = self.start_taking_tokens()
        for mechanism in ("xoauth2", "oauthbearer"):
            self.assertEqual("", self.msmtp(server, mechanism, "kim@example.com", self.token()))
            server.process.wait_for_words(f"as kim@example.com by {mechanism.upper()}")

    def test_refused(self) -> None:
        """RFC 7628 §3.2.3: another's token, or for another; the log has nothing of it."""
        server = self.start_taking_tokens()
        for user, token in (
            ("lee@example.com", self.token()),
            ("kim@example.com", self.token(aud="them")),
        ):
            client = self.session(server)
            said: list[bytes] = []

            def answer(challenge: bytes | None = None, user: str = user, token: str = token) -> str:
                if challenge is None:
                    return f"n,a={user},\x01auth=Bearer {token}\x01\x01"
                said.append(challenge)  # noqa: B023  # this turn's
                return "\x01"

            with self.assertRaises(smtplib.SMTPAuthenticationError) as caught:
                client.auth("OAUTHBEARER", answer)
            self.assertEqual(535, caught.exception.smtp_code)
            self.assertIn(b"invalid_token", said[0])
            self.assertNotIn(token[-40:], server.process.said())

    def test_curl(self) -> None:
        """curl shows a token as well."""
        program = installed_program("curl")
        server = self.start_taking_tokens()
        letter = self.path("letter")
        letter.write_bytes(content())
        self.run_peer(
            [
                program, "-sS", "--ssl-reqd", "-k", "--url", f"smtp://{server.address}",
                "--user", "kim@example.com", "--oauth2-bearer", self.token(),
                "--mail-from", "kim@example.com", "--mail-rcpt", "curl@example.com",
                "--upload-file", str(letter),
            ],
            None,
            0,
        )  # fmt: skip
        server.wait_for_drop("curl@example.com")
        server.process.wait_for_words("as kim@example.com by OAUTHBEARER")


class CramTests(LoginCase):
    def test_cram_md5(self) -> None:
        """smtplib and swaks; only who has a password kept for it, and only where it is on."""
        self.passwd("old@example.com", SECRET, "--cram-md5")
        server = self.start_login_server(cram_md5=True)
        client = self.session(server, tls=False)
        client.user, client.password = "old", SECRET
        self.assertEqual(235, client.auth("CRAM-MD5", client.auth_cram_md5)[0])
        said = self.swaks(
            server.address, "--auth", "CRAM-MD5", "--auth-user", "old@example.com",
            "--auth-password", SECRET, "--from", SENDER, "--to", "s@example.com",
        )  # fmt: skip
        self.assertIn("235 2.7.0", said)
        client = self.session(server)
        client.user, client.password = "lee", SECRET
        with self.assertRaises(smtplib.SMTPAuthenticationError):
            client.auth("CRAM-MD5", client.auth_cram_md5)
        self.assertNotIn(SECRET, server.process.said())
