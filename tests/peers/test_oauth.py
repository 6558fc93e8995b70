"""Mail that leaves with an access token: through mailhost to a host that wants one."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from tests.peers.test_tls import TLSCase
from tests.support import oauth
from tests.support.oauth import TokenEndpoint, TokenHost
from tests.support.peer_case import Server
from tests.support.process import LOOPBACK

SECRET, REFRESH = "cl1ent&secret", "refresh+0"
PRINTER = "printer@example.com"


class OAuthCase(TLSCase):
    """Has a token endpoint, and a mail host that takes its tokens."""

    def setUp(self) -> None:
        super().setUp()
        files = self.authority.issue("login", "localhost", "login.example.net")
        self.endpoint = TokenEndpoint("127.0.0.1", files)
        self.endpoint.start(self.addCleanup)
        # Those that the host has seen too often.
        self.taken_back: set[str] = set()
        self.host = self.start_host()

    def start_host(self, mechanisms: str = "XOAUTH2") -> TokenHost:
        host = TokenHost(LOOPBACK, (self.certificate, self.key), self.is_good, mechanisms)
        host.start(self.addCleanup)
        return host

    def is_good(self, token: str) -> bool:
        return token in self.endpoint.tokens and token not in self.taken_back

    def secret(self, name: str, text: str) -> Path:
        path = self.path(name)
        path.touch(0o600)
        path.write_text(f"{text}\n")
        return path

    def security(self, path: str = "/token", **oauth: Any) -> dict[str, Any]:
        known = {
            "token_url": self.endpoint.url(path),
            "client_id": "mailhost",
            "client_secret_file": str(self.secret("client", SECRET)),
            "scope": "https://outlook.example/.default",
            "ca": str(self.authority.file),
            **oauth,
        }
        return {
            "auth": "xoauth2",
            "username": PRINTER,
            "oauth": {name: value for name, value in known.items() if value is not None},
            "ca": str(self.authority.file),
        }

    def start_relay(self, security: dict[str, Any], retry: str = "1s", **changes: Any) -> Server:
        settings = {
            "domain": "first.example",
            "access": {"relay": {"except": ["127.0.0.1"]}},
            "delivery": {
                "smart_host": f"mail.example.com:{self.host.port}",
                "security": security,
                "outbound": {"retry": [retry]},
            },
            "resolver": self.start_dns(
                {
                    "mail.example.com": {"A": [LOOPBACK]},
                    "login.example.net": {"A": ["127.0.0.1"]},
                }
            ),
            **changes,
        }
        return self.start_server(**settings)

    def nothing_told(self, server: Server, *secrets: str) -> None:
        server.process.terminate()  # the last lines are written then
        said = server.process.said()
        for secret in (SECRET, REFRESH, *self.endpoint.tokens, *secrets):
            self.assertNotIn(secret, said)
            self.assertNotIn(secret[:12], said)


class OAuthTests(OAuthCase):
    def test_printer(self) -> None:
        """
        A printer, known by its address, sends; one token serves many connections.  The endpoint's
        name is asked of our name server.
        """
        where = self.endpoint.url("/token").replace("localhost", "login.example.net")
        relay = self.start_relay(
            self.security(token_url=where), messages={"max_messages_per_connection": 1}
        )
        for number in range(3):
            relay.submit(f"user{number}@example.net")
        relay.process.wait_until(lambda: len(self.host.taken) == 3, "three messages")
        (asked,) = self.endpoint.asked
        self.assertEqual(
            {
                "grant_type": "client_credentials",
                "client_id": "mailhost",
                "client_secret": SECRET,
                "scope": "https://outlook.example/.default",
            },
            asked.form,
        )
        self.assertEqual({(PRINTER, self.endpoint.tokens[0])}, set(self.host.logins))
        self.nothing_told(relay)

    def test_oauthbearer_and_refresh(self) -> None:
        """RFC 7628 where it is the only one; the refresh token that comes is kept in its file."""
        self.host = self.start_host("OAUTHBEARER PLAIN")
        self.endpoint.answers["/refresh"] = oauth.rotates
        file = self.secret("refresh", REFRESH)
        relay = self.start_relay(
            self.security(
                "/refresh",
                refresh_token_file=str(file),
                client_authentication="basic",
            )
        )
        relay.submit("user@example.net")
        relay.process.wait_until(lambda: self.host.taken, "a message")
        (asked,) = self.endpoint.asked
        self.assertEqual(REFRESH, asked.form["refresh_token"])
        self.assertTrue(asked.authorization.startswith("Basic "))
        self.assertEqual((f"{REFRESH}+\n", 0o600), (file.read_text(), file.stat().st_mode & 0o777))
        self.nothing_told(relay)

    def test_token_taken_back(self) -> None:
        """A host that refuses a token that was good gets a fresh one, in the same attempt."""
        relay = self.start_relay(self.security(), messages={"max_messages_per_connection": 1})
        relay.submit("user@example.net")
        relay.process.wait_until(lambda: self.host.taken, "a message")
        self.taken_back.add(self.endpoint.tokens[0])
        # As if the token were old; a new one is not replaced (tests/net/test_tokens.py).
        relay.submit("user@example.net")
        waiting = relay.wait_for_attempts("user@example.net")
        self.assertEqual("4.7.8", waiting.status)
        self.assertIn("535 5.7.8", waiting.words or "")
        self.assertIn("(invalid_token)", waiting.words or "")
        self.assertEqual(1, len(self.endpoint.asked))
        self.taken_back.clear()
        relay.process.wait_until(lambda: len(self.host.taken) == 2, "the second message")
        self.nothing_told(relay)

    def test_secret_in_the_environment(self) -> None:
        """``env:NAME``; a variable that is not set delays the mail and is named."""
        relay = self.start_relay(
            self.security(client_secret_file=None, client_secret="env:MAILHOST_NO_SUCH_THING")
        )
        relay.submit("user@example.net")
        waiting = relay.wait_for_attempts("user@example.net")
        self.assertEqual("4.3.5", waiting.status)
        self.assertIn("MAILHOST_NO_SUCH_THING is not set", waiting.words or "")

    def test_faulty_endpoints(self) -> None:
        """Whatever an endpoint does, mail waits, the words say why, and nothing leaks."""
        told = {"access_token": "leaked-token", "token_type": "mac"}
        cases: dict[str, tuple[oauth.Answer, str, str]] = {
            "refused": (
                oauth.says(400, {"error": "invalid_client", "error_description": f"{SECRET}?"}),
                "4.7.8",
                "400 invalid_client ***?",
            ),
            "down": (oauth.says(503, b"<html>", Retry_After="1"), "4.7.0", "503"),
            "moved": (oauth.says(307, b"", Location="https://localhost:9/"), "4.7.0", "307"),
            "broken": (oauth.says(200, b"{"), "4.7.0", "no access token"),
            "wrong": (oauth.says(200, told), "4.7.0", "not of the type Bearer"),
            "packed": (oauth.says(200, b"x", Content_Encoding="gzip"), "4.7.0", "is packed"),
            "slow": (oauth.is_slow, "4.7.0", "no answer within 0.5 s"),
            "huge": (oauth.never_ends, "4.7.0", "more than 262144 octets"),
            "gone": (oauth.goes, "4.7.0", "in the middle of the answer"),
        }
        domains = []
        for name, (answer, _, _) in cases.items():
            self.endpoint.answers[f"/{name}"] = answer
            timeout = "0.5s" if name == "slow" else "10s"
            domains.append(self.domain(name, self.security(f"/{name}", timeout=timeout)))
        # Nobody who is what he says he is, and nobody at all.
        domains.append(self.domain("forged", self.security(ca=str(self.another_authority()))))
        nobody = self.security(token_url="https://localhost:9/token")
        domains.append(self.domain("nobody", nobody))
        relay = self.start_relay(self.security(), domains=domains)
        for name in (*cases, "forged", "nobody"):
            relay.submit(f"user@{name}.example")
        for name, (_, status, words) in cases.items():
            waiting = relay.wait_for_attempts(f"user@{name}.example")
            self.assertEqual(status, waiting.status, name)
            self.assertIn(words, waiting.words or "", name)
        for name, words in (("forged", "certificate verify failed"), ("nobody", "refused")):
            waiting = relay.wait_for_attempts(f"user@{name}.example")
            self.assertIn(words, waiting.words or "", name)
        self.assertEqual([], self.host.logins)
        self.nothing_told(relay, "leaked-token")

    def domain(self, name: str, security: dict[str, Any]) -> dict[str, Any]:
        return {
            "name": f"{name}.example",
            "type": "remote",
            "route": [f"mail.example.com:{self.host.port}"],
            "security": security,
        }

    def another_authority(self) -> Path:
        folder = self.path("another")
        folder.mkdir()
        return type(self.authority)(folder).file

    def test_reload(self) -> None:
        """An account that is mended by a reload is used from the next attempt on."""
        self.endpoint.answers["/refused"] = oauth.says(401, {"error": "invalid_client"})
        relay = self.start_relay(self.security("/refused"))
        relay.submit("user@example.net")
        self.assertIn("invalid_client", relay.wait_for_attempts("user@example.net").words or "")
        relay.configure(delivery={**relay.settings["delivery"], "security": self.security()})
        relay.process.send_signal(signal.SIGHUP)
        relay.process.wait_until(lambda: self.host.taken, "the message")
