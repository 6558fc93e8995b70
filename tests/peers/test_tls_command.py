"""`mailhost tls`: what is told of our own servers, and of others."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

from click.testing import CliRunner

from mailhost.cli import main
from tests.peers.test_tls import TLSCase
from tests.support.process import reserve_address


class CommandTests(TLSCase):
    def told(self, *arguments: str) -> tuple[int, Any]:
        ended = CliRunner().invoke(main, ["tls", *arguments, "--json"])
        return ended.exit_code, json.loads(ended.output)

    def test_virtual_server(self) -> None:
        """Each address: chain, names, versions, and whether who verifies would believe it."""
        server = self.make_server(access=self.tls_settings())
        implicit = reserve_address()
        server.configure(listen=[server.address, f"{implicit} tls"])
        server.start()
        config = str(server.mailhost.configuration)
        status, told = self.told("one", "-c", config, "--ca", str(self.authority.file))
        self.assertEqual(0, status, told)
        self.assertEqual([server.address, implicit], [one["address"] for one in told])
        for one in told:
            self.assertEqual(["TLSv1.2", "TLSv1.3"], one["versions"])
            self.assertEqual(["mail.example.com"], one["chain"][0]["names"])
            self.assertEqual("CN=Test authority", one["chain"][0]["issuer"])
            self.assertEqual([], one["doubts"])
        shown = CliRunner().invoke(main, ["tls", "one", "-c", config]).output
        self.assertIn("for mail.example.com", shown)
        self.assertIn(", issued by CN=Test authority", shown)
        self.assertIn("not believed: signed by an authority that is not known", shown)

    def test_doubts(self) -> None:
        """Expired, and for another name than the one that was asked for."""
        old = self.authority.issue("old", "old.example.com", days=-1)
        files = {"certificate": str(old[0]), "key": str(old[1])}
        server = self.start_server(access={"tls": files})
        ca = ["--ca", str(self.authority.file)]
        status, (one,) = self.told(server.address, *ca, "-n", "mail.example.com")
        self.assertEqual(1, status)
        wrong = ["expired", "its certificate is not for mail.example.com"]
        self.assertEqual(wrong, one["doubts"])

    def test_nothing_to_see(self) -> None:
        """No certificate, nobody there, no SMTP, and no such virtual server."""
        server = self.start_server()
        with socket.create_server(("127.0.0.1", 0)) as other:
            address = f"127.0.0.1:{other.getsockname()[1]}"
            threading.Thread(target=self.say_http, args=(other,), daemon=True).start()
            for what, words in (
                (server.address, "STARTTLS is not offered"),
                (reserve_address(), "refused"),
                (address, "no SMTP"),
            ):
                status, (one,) = self.told(what)
                self.assertEqual(1, status)
                self.assertIn(words, one["problem"])
        ended = CliRunner().invoke(main, ["tls", "two", "-c", str(server.mailhost.configuration)])
        self.assertEqual(1, ended.exit_code)
        self.assertIn("nor a virtual server: one", ended.output)

    def say_http(self, other: socket.socket) -> None:
        taken, _ = other.accept()
        with taken:
            taken.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    def test_minimum(self) -> None:
        """A server that wants TLS 1.3 shows it."""
        server = self.start_server(access=self.tls_settings(minimum="1.3"))
        _, (one,) = self.told(server.address, "-n", "mail.example.com")
        self.assertEqual(["TLSv1.3"], one["versions"])
