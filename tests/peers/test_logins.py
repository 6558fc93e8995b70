"""AUTH with clients that are not ours: smtplib, swaks, curl and our own SCRAM client."""

from __future__ import annotations

import signal
import smtplib
import ssl
import subprocess
from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import spnego
from click.testing import CliRunner
from spnego.channel_bindings import GssChannelBindings

from mailhost.cli import main
from mailhost.smtp.sasl.scram import ScramClient, salted_password
from tests.peers.test_tls import TLSCase
from tests.support.peer_case import SENDER, Server, content
from tests.support.postfix_tools import installed_program
from tests.support.process import split_address

SECRET = "correct horse battery"


class LoginCase(TLSCase):
    """Has a users file with kim, who may send as himself, and lee, who may send as anybody."""

    def setUp(self) -> None:
        super().setUp()
        self.users = self.path("users")
        self.passwd("kim@example.com", SECRET, "-s", "kim@example.com")
        self.passwd("lee@example.com", SECRET, "--ntlm")

    def passwd(self, user: str, password: str, *options: str) -> None:
        """`mailhost passwd`, as an operator would type it."""
        ended = CliRunner().invoke(
            main, ["passwd", str(self.users), user, "-i", *options], input=f"{password}\n"
        )
        self.assertEqual(0, ended.exit_code, ended.output)

    def start_login_server(self, **changes: Any) -> Server:
        access: dict[str, Any] = {
            **self.tls_settings(),
            "users": str(self.users),
            "basic": {"enabled": True, "default_domain": "example.com"},
            "scram": True,
            **changes,
        }
        return self.start_server(access=access)

    def session(self, server: Server, tls: bool = True) -> smtplib.SMTP:
        client = server.client()
        self.addCleanup(client.close)
        client._host = "mail.example.com"  # type: ignore[attr-defined]  # what the certificate says
        client.ehlo()
        if tls:
            client.starttls(context=self.client)
            client.ehlo()
        return client

    def scram(self, client: smtplib.SMTP, bound: bytes, password: str = SECRET) -> int:
        mechanism = "SCRAM-SHA-256-PLUS" if bound else "SCRAM-SHA-256"
        ours = ScramClient("kim")
        if bound:
            ours.header = b"p=tls-server-end-point,," + bound
        first = ours.first()
        if bound:
            first = first.replace(b"n,,", b"p=tls-server-end-point,,", 1)
        code, said = client.docmd("AUTH", f"{mechanism} {b64encode(first).decode()}")
        self.assertEqual(334, code, said)
        salt = ours.hear_first(b64decode(said))
        final = ours.final(salted_password(password, salt.salt, salt.iterations))
        code, said = client.docmd(b64encode(final).decode())
        if code == 334:
            ours.hear_final(b64decode(said))
            code, said = client.docmd("")
        return code

    def ntlm(self, client: smtplib.SMTP, user: str, password: str = SECRET, **given: Any) -> int:
        """pyspnego's side of it."""
        ours = spnego.client(
            user, password, hostname="mail.example.com", protocol="ntlm",
            options=spnego.NegotiateOptions.use_ntlm, **given,
        )  # fmt: skip
        code, said = client.docmd("AUTH", "NTLM")
        answer = ours.step()
        while code == 334:
            code, said = client.docmd(b64encode(answer or b"").decode())
            if code == 334:
                answer = ours.step(b64decode(said))
        return code

    def msmtp(self, server: Server, mechanism: str, user: str, secret: str, *options: str) -> str:
        """A message to the mechanism's name; what msmtp complains of."""
        host, port = split_address(server.address)
        ended = subprocess.run(
            [
                installed_program("msmtp"), f"--host={host}", f"--port={port}",
                f"--auth={mechanism}", f"--user={user}", f"--passwordeval=echo {secret}",
                "--tls=on", "--tls-certcheck=off", f"--from={user}", *options,
                f"{mechanism}@example.com",
            ],
            input=content().decode(),
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )  # fmt: skip
        self.assertEqual(bool(ended.stderr), bool(ended.returncode), ended.stderr)
        return ended.stderr


class InboundTests(LoginCase):
    def test_smtplib(self) -> None:
        """A login by PLAIN and by LOGIN; Received says so (RFC 3848)."""
        server = self.start_login_server()
        for number, mechanism in enumerate(("plain", "login")):
            client = self.session(server)
            client.user, client.password = "kim", SECRET
            client.auth(mechanism, getattr(client, f"auth_{mechanism}"))
            client.sendmail("kim@example.com", f"user{number}@example.com", content())
            (delivered,) = server.wait_for_drop(f"user{number}@example.com")
            self.assertIn(b" with ESMTPSA id ", delivered.content)

    def test_wrong_password(self) -> None:
        """535, for a known name and for an unknown one; nothing of it is in the log."""
        server = self.start_login_server()
        for name in ("kim", "nobody"):
            client = self.session(server)
            with self.assertRaises(smtplib.SMTPAuthenticationError) as caught:
                client.login(name, "Tr0ub4dor&3")
            self.assertEqual(535, caught.exception.smtp_code)
        server.process.wait_for_words("could not log in", 2)
        said = server.process.said()
        for secret in ("Tr0ub4dor", SECRET, b64encode(b"Tr0ub4dor&3").decode()):
            self.assertNotIn(secret, said)

    def test_nothing_in_clear(self) -> None:
        """ACC-03: without TLS passwords are neither offered nor heard."""
        client = self.session(self.start_login_server(), tls=False)
        self.assertEqual("SCRAM-SHA-256", client.esmtp_features["auth"].strip())
        self.assertEqual(538, client.docmd("AUTH", "PLAIN AGEAYg==")[0])

    def test_relay_and_senders(self) -> None:
        """ACC-32: a login may relay; who is tied to addresses writes no others."""
        client = self.session(self.start_login_server())
        client.mail(SENDER)
        self.assertEqual(550, client.rcpt("someone@example.net")[0])
        client.rset()
        client.login("kim", SECRET)
        self.assertEqual(553, client.mail("lee@example.com")[0])
        self.assertEqual(250, client.mail("Kim@example.com")[0])
        self.assertEqual(250, client.rcpt("someone@example.net")[0])

    def test_anonymous_off(self) -> None:
        """ACC-01: 530 before a login, mail after it."""
        client = self.session(self.start_login_server(anonymous=False))
        self.assertEqual(530, client.mail(SENDER)[0])
        client.login("lee@example.com", SECRET)
        self.assertEqual(250, client.mail(SENDER)[0])

    def test_swaks(self) -> None:
        """swaks agrees with each mechanism that it knows."""
        server = self.start_login_server()
        for number, mechanism in enumerate(("PLAIN", "LOGIN")):
            said = self.swaks(
                server.address, "--tls", "--auth", mechanism, "--auth-user", "lee",
                "--auth-password", SECRET, "--from", SENDER, "--to", f"s{number}@example.com",
            )  # fmt: skip
            self.assertIn("235 2.7.0", said)
            server.wait_for_drop(f"s{number}@example.com")

    def test_curl(self) -> None:
        """curl logs in, by PLAIN and by NTLM."""
        server = self.start_login_server(integrated=True)
        for mechanism in ("PLAIN", "NTLM"):
            self.curl(server, mechanism)
            server.process.wait_for_words(f"as lee@example.com by {mechanism}")

    def curl(self, server: Server, mechanism: str) -> None:
        program = installed_program("curl")
        letter = self.path("letter")
        letter.write_bytes(content())
        self.run_peer(
            [
                program, "-sS", "--ssl-reqd", "-k", "--url", f"smtp://{server.address}",
                "--user", f"lee@example.com:{SECRET}", "--login-options", f"AUTH={mechanism}",
                "--mail-from", SENDER, "--mail-rcpt", f"{mechanism}@example.com",
                "--upload-file", str(letter),
            ],
            None,
            0,
        )  # fmt: skip
        server.wait_for_drop(f"{mechanism}@example.com")

    def test_msmtp(self) -> None:
        """msmtp agrees, by GNU SASL; its NTLM is of version 1, and refused (A18)."""
        self.passwd("all@example.com", SECRET, "--ntlm", "--cram-md5")
        server = self.start_login_server(integrated=True, cram_md5=True)
        for mechanism in ("plain", "login", "cram-md5", "scram-sha-256"):
            self.assertEqual("", self.msmtp(server, mechanism, "all@example.com", SECRET))
            server.wait_for_drop(f"{mechanism}@example.com")
            server.process.wait_for_words(f"as all@example.com by {mechanism.upper()}")
        self.assertIn("535 5.7.8", self.msmtp(server, "ntlm", "all@example.com", SECRET))

    def test_scram(self) -> None:
        """RFC 5802: in clear, with TLS, and bound to the connection by its certificate."""
        server = self.start_login_server()
        self.assertEqual(235, self.scram(self.session(server, tls=False), b""))
        self.assertEqual(235, self.scram(self.session(server), b""))
        secure: Any = self.session(server)
        digest = sha256(secure.sock.getpeercert(binary_form=True)).digest()
        self.assertEqual(235, self.scram(secure, digest))
        self.assertEqual(535, self.scram(self.session(server), b"another certificate"))
        self.assertEqual(535, self.scram(self.session(server), b"", "wrong"))

    def test_ntlm(self) -> None:
        """ACC-05: with TLS, bound to its certificate or not; only who has a hash for it."""
        server = self.start_login_server(integrated=True)
        clear = self.session(server, tls=False)
        self.assertNotIn("NTLM", clear.esmtp_features["auth"])
        self.assertEqual(538, clear.docmd("AUTH", "NTLM")[0])
        for user in ("lee", "lee@example.com", "EXAMPLE\\lee"):
            self.assertEqual(235, self.ntlm(self.session(server), user), user)
        secure: Any = self.session(server)
        for octets, code in ((sha256(secure.sock.getpeercert(True)).digest(), 235), (b"x", 535)):
            bound = GssChannelBindings(application_data=b"tls-server-end-point:" + octets)
            self.assertEqual(code, self.ntlm(self.session(server), "lee", channel_bindings=bound))
        for user, password in (("lee", "wrong"), ("kim", SECRET), ("nobody", SECRET)):
            self.assertEqual(535, self.ntlm(self.session(server), user, password))
            self.assertEqual(235, self.ntlm(self.session(server), "lee"))  # forgets the failure

    def test_ntlm_off(self) -> None:
        """A18: where it is off nothing of it answers."""
        client = self.session(self.start_login_server())
        self.assertNotIn("NTLM", client.esmtp_features["auth"])
        self.assertEqual(504, client.docmd("AUTH", "NTLM TlRMTVNTUAABAAAAB4IIAAAAAAA=")[0])

    def test_ntlm_version_1(self) -> None:
        """swaks speaks version 1 only, and is refused with the right password."""
        server = self.start_login_server(integrated=True)
        said = self.swaks(
            server.address, "--tls", "--auth", "NTLM", "--auth-user", "lee",
            "--auth-password", SECRET, "--from", SENDER, "--to", "s@example.com", status=28,
        )  # fmt: skip
        self.assertIn("535 5.7.8", said)

    def test_new_user(self) -> None:
        """Who is added while the server runs can log in, without a reload."""
        server = self.start_login_server()
        self.passwd("new@example.com", SECRET)

        def logged_in() -> bool:
            client = self.session(server)
            try:
                return client.login("new@example.com", SECRET)[0] == 235
            except smtplib.SMTPAuthenticationError:
                return False

        server.process.wait_until(logged_in, "the new user")

    def test_file_that_others_may_read(self) -> None:
        """Nobody logs in by such a file, and `mailhost check` says so."""
        Path(self.users).chmod(0o644)
        server = self.start_login_server()
        client = self.session(server)
        with self.assertRaises(smtplib.SMTPAuthenticationError) as caught:
            client.login("kim", SECRET)
        self.assertEqual(454, caught.exception.smtp_code)
        server.process.wait_for_words("can be read by every user")

    def test_implicit_tls(self) -> None:
        """Port 465: a login where TLS comes first."""
        context = ssl.create_default_context(cafile=str(self.authority.file))
        context.check_hostname = False
        server = self.make_server()
        access = {**self.tls_settings(), "users": str(self.users), "basic": {"enabled": True}}
        server.configure(access=access, listen=[f"{server.address} tls"])
        server.start()
        host, _, port = server.address.rpartition(":")
        with smtplib.SMTP_SSL(host, int(port), context=context) as client:
            client.login("kim@example.com", SECRET)
            self.assertEqual(250, client.mail("kim@example.com")[0])


class OutboundTests(LoginCase):
    """mailhost as the client, and mailhost as the smart host that takes mail from logins only."""

    def start_pair(
        self,
        basic: dict[str, Any] | None = None,
        scram: bool = False,
        integrated: bool = False,
        **security: Any,
    ) -> tuple[Server, Server]:
        second = self.start_login_server(
            anonymous=False,
            scram=scram,
            integrated=integrated,
            basic={"enabled": True, **(basic or {})},
        )
        host, port = split_address(second.address)
        first = self.start_server(
            domain="first.example",
            access={"relay": {"except": ["127.0.0.1"]}},
            delivery={
                "smart_host": f"mail.example.com:{port}",
                "security": security,
                "outbound": {"retry": ["1s"]},
            },
            resolver=self.start_dns({"mail.example.com": {"A": [host]}}),
        )
        return first, second

    def security(self, **changes: Any) -> dict[str, Any]:
        secret = self.path("secret")
        secret.write_text(f"{SECRET}\n")
        secret.chmod(0o600)
        return {
            "auth": "basic",
            "username": "lee@example.com",
            "password_file": str(secret),
            "tls": "verified",
            "ca": str(self.authority.file),
            **changes,
        }

    def test_plain(self) -> None:
        """DEL-21: the password, through verified TLS."""
        first, second = self.start_pair(**self.security())
        first.submit("user@example.com")
        (delivered,) = second.wait_for_drop("user@example.com")
        self.assertIn(b" with ESMTPSA id ", delivered.content)
        second.process.wait_for_words("as lee@example.com by PLAIN")
        self.assertNotIn(SECRET, first.process.said())

    def test_scram(self) -> None:
        """SCRAM where it is offered."""
        first, second = self.start_pair(scram=True, **self.security(auth="scram"))
        first.submit("user@example.com")
        second.wait_for_drop("user@example.com")
        second.process.wait_for_words("as lee@example.com by SCRAM-SHA-256")

    def test_ntlm(self) -> None:
        """DEL-22: integrated authentication, of ourselves by ourselves."""
        first, second = self.start_pair(integrated=True, **self.security(auth="integrated"))
        first.submit("user@example.com")
        second.wait_for_drop("user@example.com")
        second.process.wait_for_words("as lee@example.com by NTLM")

    def test_wrong_password(self) -> None:
        """A refused login delays the mail, and the queue says why; mended, the mail goes."""
        security = self.security()
        secret = Path(security["password_file"])
        secret.write_text("wrong\n")
        first, second = self.start_pair(**security)
        first.submit("user@example.com")
        waiting = first.wait_for_attempts("user@example.com")
        self.assertEqual("4.7.8", waiting.status)
        self.assertIn("535 5.7.8", waiting.words or "")
        secret.write_text(f"{SECRET}\n")
        second.wait_for_drop("user@example.com")

    def test_password_that_others_may_read(self) -> None:
        """Such a password is not used."""
        security = self.security()
        Path(security["password_file"]).chmod(0o644)
        first, _ = self.start_pair(**security)
        first.submit("user@example.com")
        waiting = first.wait_for_attempts("user@example.com")
        self.assertEqual("4.3.5", waiting.status)

    def test_never_in_clear(self) -> None:
        """A66: whoever takes STARTTLS out of the list gets no password."""
        clear = {"enabled": True, "require_tls": False}
        second = self.start_server(
            access={"users": str(self.users), "basic": clear, "anonymous": False}
        )
        host, port = split_address(second.address)
        first = self.start_server(
            domain="first.example",
            access={"relay": {"except": ["127.0.0.1"]}},
            delivery={
                "smart_host": f"[{host}]:{port}",
                "security": self.security(tls="opportunistic"),
                "outbound": {"retry": ["1s"]},
            },
        )
        first.submit("user@example.com")
        self.assertEqual("4.7.4", first.wait_for_attempts("user@example.com").status)
        self.assertNotIn("logged in", second.process.said())
        first.configure(
            delivery={**first.settings["delivery"], "security": self.security(tls="none")}
        )
        first.process.send_signal(signal.SIGHUP)
        second.wait_for_drop("user@example.com")
