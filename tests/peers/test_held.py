"""Mail that waits for its domain, fetched by clients that are not ours (RFC 1985, 2645)."""

from __future__ import annotations

import socket
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

        taken = serve(client.sock)

        self.assertEqual(["one", "two"], sorted(taken))
        server.wait_until_empty()
        self.assertEqual(453, self.again(server).docmd("ATRN")[0])

    def again(self, server: Server) -> Any:
        client = self.session(server)
        client.login("kim@example.com", SECRET)
        return client


def serve(connection: socket.socket | None) -> list[str]:
    """A mail host, on a connection that is there already; the X-Test-IDs of what it gets."""
    assert connection is not None
    reader = connection.makefile("rb")
    say = connection.sendall
    say(b"220 branch.example\r\n")
    found = []
    while line := reader.readline():
        verb = line[:4].upper()
        if verb == b"DATA":
            say(b"354 go on\r\n")
            while (text := reader.readline()) != b".\r\n":
                if text.startswith(b"X-Test-ID: "):
                    found.append(text.split()[1].decode())
        say(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
        if verb == b"QUIT":
            break
    return found
