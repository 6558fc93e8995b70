"""Mail that waits for its domain, fetched by clients that are not ours (RFC 1985, 2645)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from tests.peers.test_logins import SECRET, LoginCase
from tests.support.peer_case import Server, content


class HeldCase(LoginCase):
    def start_holding(self, **domain: Any) -> Server:
        """A server that holds the mail of branch.example for kim."""
        hold = {"enabled": True, "accounts": ["kim"]}
        access = {
            **self.tls_settings(),
            "users": str(self.users),
            "basic": {"enabled": True, "default_domain": "example.com"},
            "relay": {"default": "allow"},
        }
        held = {"name": "branch.example", "type": "remote", "hold": hold} | domain
        return self.start_server(access=access, domains=[held])


class StartTests(HeldCase):
    def test_etrn(self) -> None:
        """Whoever asks: it goes to the hosts of its domain."""
        sink = self.start_sink()
        server = self.start_holding(route=sink.next_hop)
        for name in ("one", "two"):
            server.submit("user@branch.example", content(name))
        with server.client() as client:
            client.ehlo()
            self.assertIn("etrn", client.esmtp_features)
            self.assertEqual(459, client.docmd("ETRN", "elsewhere.example")[0])
            self.assertEqual([], sink.taken())
            self.assertEqual(250, client.docmd("ETRN", "branch.example")[0])

        sink.wait_for("one", "two")
        server.wait_until_empty()


class TurnTests(HeldCase):
    def test_atrn_through_tls(self) -> None:
        """The session goes on in the same TLS, the other way round."""
        server = self.start_holding()
        for name in ("one", "two"):
            server.submit("user@branch.example", content(name))
        client = self.session(server)
        self.assertEqual(530, client.docmd("ATRN")[0])
        client.login("kim@example.com", SECRET)
        self.assertEqual(450, client.docmd("ATRN", "example.com")[0])
        self.assertEqual((250, b"2.0.0 OK now reversing the connection"), client.docmd("TURN"))

        taken: list[str] = []
        serve(client.sock, taken.append)

        self.assertEqual(["one", "two"], sorted(taken))
        server.wait_until_empty()
        self.assertEqual(453, self.again(server).docmd("ATRN")[0])

    def again(self, server: Server) -> Any:
        client = self.session(server)
        client.login("kim@example.com", SECRET)
        return client


class FetchTests(HeldCase):
    """We are the customer, and the provider is one of us as well."""

    def start_customer(self, provider: Server, **fetch: Any) -> Server:
        secret = self.path("secret")
        secret.write_text(SECRET)
        secret.chmod(0o600)
        port = provider.address.rpartition(":")[2]
        login = {
            "auth": "basic",
            "username": "kim@example.com",
            "password_file": str(secret),
            "tls": "verified",
            "ca": str(self.authority.file),
        }
        given = {"name": f"mail.example.com:{port}", "every": "1s", "security": login} | fetch
        host = provider.address.rpartition(":")[0]
        return self.start_server(
            resolver=self.start_dns({"mail.example.com": {"A": [host]}}),
            domain="branch.example",
            fqdn="mail.branch.example",
            access={"connections": {"default": "deny"}, "anonymous": False, **self.logins()},
            fetch=[given],
        )

    def logins(self) -> dict[str, Any]:
        return {"users": str(self.users), "basic": {"enabled": True, "require_tls": False}}

    def test_by_atrn(self) -> None:
        """Over the connection that we have made, whatever clients are let in; again and again."""
        provider = self.start_holding()
        provider.submit("user@branch.example", content("one"))
        customer = self.start_customer(provider)

        (first,) = customer.wait_for_drop("user@branch.example")
        provider.submit("user@branch.example", content("two"))

        self.assertEqual("one", first.test_id)
        self.assertIn(b" with ESMTPS id ", first.content)
        customer.wait_for_drop("user@branch.example", 2)
        provider.wait_until_empty()

    def test_by_etrn(self) -> None:
        """The provider connects to whom DNS names, which here is a sink."""
        sink = self.start_sink()
        provider = self.start_holding(route=sink.next_hop)
        provider.submit("user@branch.example", content("one"))
        self.start_customer(provider, by="etrn", domains=["branch.example"])

        sink.wait_for("one")
        provider.submit("user@branch.example", content("two"))
        sink.wait_for("one", "two")

    def test_refused(self) -> None:
        """It is told, and tried again at its time."""
        provider = self.start_holding()
        customer = self.start_customer(provider, domains=["other.example"])

        customer.process.wait_until(
            lambda: customer.process.said().count("450 4.7.1 ATRN request refused") > 1, "a refusal"
        )


def serve(connection: socket.socket | None, take: Callable[[str], None]) -> None:
    """
    A mail host, on a connection that is there already.

    :param take: told of the X-Test-ID of each message before it is acknowledged.
    """
    assert connection is not None
    reader = connection.makefile("rb")
    say = connection.sendall
    say(b"220 branch.example\r\n")
    while line := reader.readline():
        verb = line[:4].upper()
        if verb == b"DATA":
            say(b"354 go on\r\n")
            while (text := reader.readline()) not in (b".\r\n", b""):
                if text.startswith(b"X-Test-ID: "):
                    name = text.split()[1].decode()
            take(name)
        say(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
        if verb == b"QUIT":
            break
