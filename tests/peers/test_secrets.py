"""
Nothing secret is told, by whatever is told: a day with every way to log in, in both directions.

Every password, token and key of it is looked for in the logs, in what commands show, in
reports and in what lies beside the queue.
"""

from __future__ import annotations

import contextlib
import re
import smtplib
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from mailhost.cli import main
from mailhost.smtp.sasl.ntlm_messages import nt_hash
from tests.peers.test_kerberos import KerberosCase
from tests.peers.test_oauth import OAuthCase
from tests.peers.test_proved import TokenCase
from tests.support import oauth
from tests.support.certificates import Authority
from tests.support.kdc import REALM
from tests.support.peer_case import Server, content
from tests.support.process import split_address

#: One for each place, so that a leak says where it comes from.
PASSWORDS = {
    "known": "inbound-Pass-Word-1",
    "wrong": "inbound-Wrong-Word-2",
    "typed as a name": "typed-As-A-Name-3",
    "relay": "outbound-Pass-Word-4",
    "relay, wrong": "outbound-Wrong-Word-5",
    "client": "client-Secret-6",
    "refresh": "refresh-Token-7",
    "environment": "environment-Word-8",
}
_COMMANDS = (
    *(("status", "--json"), ("sessions", "--json"), ("sites", "--json"), ("check",)),
    ("trace", "--since", "1h", "--limit", "1000", "--dialogue", "--json"),
)
_ID = re.compile(r"\b[0-9a-f]{24}\b")


def spellings(secret: str) -> Iterator[str]:
    """*secret* as it might be written."""
    octets = secret.encode()
    yield secret
    yield nt_hash(secret).hex()
    for one in (octets, secret.encode("utf-16-le")):
        yield one.hex()
        for shift in range(3):
            # Whatever stands before it in BASE64: these characters are the same.
            text = b64encode(b"\0" * shift + one).decode()
            yield text[4 if shift else 0 : -4]


def look_for(case: SynchronousTestCase, secrets: dict[str, str], told: dict[str, str]) -> None:
    """
    :param secrets: by what they are.
    :param told: what was told, by where.
    """
    for what, secret in secrets.items():
        for spelling in spellings(secret):
            for where, text in told.items():
                case.assertNotIn(spelling, text, f"{what} in {where}")


class SecretTests(OAuthCase, TokenCase, KerberosCase):
    def setUp(self) -> None:
        super().setUp()
        self.passwd("kim@example.com", PASSWORDS["known"], "--ntlm", "--cram-md5")
        self.passwd("relay@example.com", PASSWORDS["relay"], "--ntlm")
        folder = self.path("clients")
        folder.mkdir()
        self.clients = Authority(folder)
        self.shown = self.clients.issue("kim", mailboxes=("kim@example.com",))
        self.client.load_cert_chain(*self.shown)
        self.endpoint.answers["/keys"] = self.tell_keys
        self.relay_key = self.server.keytab("relay")

    def start_inbound(self) -> Server:
        tls = {"client": "ask", "client_ca": str(self.clients.file)}
        return self.start_login_server(
            oauth=self.token_settings(),
            integrated=True,
            cram_md5=True,
            external=True,
            keytab=str(self.service),
            **self.tls_settings(**tls),
        )

    def log_in_everyhow(self, server: Server) -> list[str]:
        """Each mechanism, with the right password and with a wrong one; the tokens shown."""
        tokens = [self.token(), self.token(aud="them")]
        # The right one comes behind each wrong one: it forgets the failure.
        words = (PASSWORDS["wrong"], PASSWORDS["known"])
        for password in words:
            self.ntlm(self.session(server), "kim@example.com", password)
        for password in words:
            secure: Any = self.session(server)
            digest = sha256(secure.sock.getpeercert(binary_form=True)).digest()
            self.scram(secure, digest, password)
        for mechanism in ("plain", "login", "cram_md5"):
            for password in words:
                client = self.session(server)
                client.user, client.password = "kim@example.com", password
                with contextlib.suppress(smtplib.SMTPAuthenticationError):
                    client.auth(mechanism.replace("_", "-"), getattr(client, f"auth_{mechanism}"))
        client = self.session(server)
        client.docmd("AUTH", f"PLAIN {b64encode(PASSWORDS['known'].encode()).decode()}")
        with contextlib.suppress(smtplib.SMTPAuthenticationError):
            client.login(PASSWORDS["typed as a name"], PASSWORDS["wrong"])
        for token in tokens:
            client = self.session(server)
            response = f"user=kim@example.com\x01auth=Bearer {token}\x01\x01"
            with contextlib.suppress(smtplib.SMTPAuthenticationError):
                client.auth("XOAUTH2", lambda challenge=None, said=response: said)
        self.session(server).docmd("AUTH", "EXTERNAL =")
        self.session(server).docmd("AUTH", f"GSSAPI {b64encode(b'no ticket').decode()}")
        self.log_in(self.session(server), self.kim, "kim")
        return tokens

    def ways_out(self, server: Server) -> Iterator[dict[str, Any]]:
        """Remote domains, each with a login of its own."""
        _, port = split_address(server.address)
        known: dict[str, dict[str, Any]] = {
            "basic": {"auth": "basic"},
            "scram": {"auth": "scram"},
            "integrated": {"auth": "integrated"},
        }
        for name, security in known.items():
            for kind in ("relay", "relay, wrong"):
                file = self.secret(name, PASSWORDS[kind])
                word = "good" if kind == "relay" else "bad"
                yield {
                    "name": f"{name}.{word}.example",
                    "type": "remote",
                    "route": [f"mail.example.com:{port}"],
                    "security": {
                        **security,
                        "username": "relay@example.com",
                        "password_file": str(file),
                        "tls": "verified",
                        "ca": str(self.authority.file),
                    },
                }
        yield {
            "name": "kerberos.good.example",
            "type": "remote",
            "route": [f"mail.example.com:{port}"],
            "security": {
                "auth": "kerberos",
                "username": f"relay@{REALM}",
                "keytab": str(self.relay_key),
                "tls": "verified",
                "ca": str(self.authority.file),
            },
        }
        told = {"error": "invalid_grant", "error_description": f"not {PASSWORDS['client']}"}
        self.endpoint.answers["/no"] = oauth.says(400, told)
        for path in ("/token", "/no"):
            yield {
                "name": f"oauth{path.strip('/')}.example",
                "type": "remote",
                "route": [f"mail.example.com:{self.host.port}"],
                "security": self.security(
                    path,
                    client_secret_file=str(self.secret("client", PASSWORDS["client"])),
                    refresh_token_file=str(self.secret("refresh", PASSWORDS["refresh"])),
                ),
            }

    def test_nothing_is_told(self) -> None:
        """Logs, commands, reports, Badmail: none of it has a secret, in any spelling."""
        inbound = self.start_inbound()
        tokens = self.log_in_everyhow(inbound)
        domains = list(self.ways_out(inbound))
        outbound = self.start_relay(
            self.security(client_secret_file=None, client_secret="env:MAILHOST_NO_SUCH_THING"),
            domains=domains,
            retry="1h",
        )
        for domain in domains:
            outbound.submit(f"user@{domain['name']}", content(body="Hello.\r\n"))
        refused = [one["name"] for one in domains if "bad" in one["name"] or "no" in one["name"]]
        for name in refused:
            self.assertEqual("4.7.8", outbound.wait_for_attempts(f"user@{name}").status, name)
        outbound.process.wait_until(
            lambda: len(outbound.root.queue()) == len(refused), "the rest relayed"
        )
        told = {}
        for one in (inbound, outbound):
            listed = self.run_command(one, "queue", "list", "--json")
            told[f"queue list at {one.address}"] = listed
            for words in (*_COMMANDS, *(("queue", "show", n) for n in _ID.findall(listed))):
                told[f"{' '.join(words)} at {one.address}"] = self.run_command(one, *words)
            one.process.terminate()  # the last lines are written then
            told[f"log of {one.address}"] = one.process.said()
        self.assertEqual(len(refused), sum("queue show" in where for where in told))
        traced = " ".join(text for where, text in told.items() if where.startswith("trace"))
        self.assertIn("(login)", traced)
        for needed in (
            "by PLAIN",
            "by NTLM",
            "by CRAM-MD5",
            "by XOAUTH2",
            "by EXTERNAL",
            "by GSSAPI",
        ):
            self.assertIn(needed, told[f"log of {inbound.address}"])
        self.look_through(told, [*tokens, *self.endpoint.tokens])

    def run_command(self, server: Server, *words: str) -> str:
        configuration = server.mailhost.configuration
        where = ["-c", str(configuration)]
        if words[0] != "check":
            where += ["--control", str(configuration.with_name("mailroot") / "control.sock")]
        ended = CliRunner().invoke(main, [*words, *where])
        self.assertEqual(0, ended.exit_code, ended.output)
        return ended.output

    def look_through(self, told: dict[str, str], tokens: list[str]) -> None:
        secrets = dict(PASSWORDS)
        secrets |= {f"token {number}": token[-60:] for number, token in enumerate(tokens)}
        for keytab in (self.service, self.kim, self.relay_key):
            secrets |= {f"{keytab.name} {n}": key for n, key in enumerate(self.server.keys(keytab))}
        ticket = max(self.spoken, key=len)
        self.assertGreater(len(ticket), 500)
        secrets["ticket"] = b64encode(ticket).decode()[-60:].rstrip("=")
        kept = self.users.read_text().split("\n")
        for number, line in enumerate(kept):
            parts = line.split(":")
            secrets |= {
                f"users {number}.{place}": one for place, one in enumerate(parts[1:]) if one
            }
        for path in (self.key, self.shown[1]):
            secrets[path.name] = Path(path).read_text().splitlines()[1]
        look_for(self, secrets, told)


class SpellingTests(SynchronousTestCase):
    def test_looking(self) -> None:
        """Whoever looks finds: each spelling, in the middle of anything."""
        secret = PASSWORDS["client"]
        for octets in (b"", b"a", b"ab", b"abc", b"\0kim\0"):
            for text in (
                f"<{secret}>",
                b64encode(octets + secret.encode() + octets).decode(),
                b64encode(octets + secret.encode("utf-16-le") + octets).decode(),
                (octets + secret.encode()).hex(),
                nt_hash(secret).hex(),
            ):
                with self.assertRaises(self.failureException):
                    look_for(self, PASSWORDS, {"somewhere": f"words {text} words"})
