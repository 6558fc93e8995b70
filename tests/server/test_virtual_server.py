"""Tests for `mailhost.server.virtual_server`: real sockets and a real queue on loopback."""

from __future__ import annotations

import smtplib
import socket
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mailhost.config.settings import DomainSettings, ListenAddress, VirtualServerSettings
from mailhost.errors import SpoolFull
from mailhost.model.access import AccessList
from mailhost.policy.overload import Level
from mailhost.server.virtual_server import CannotStart, VirtualServer
from tests.support.world import FakeNames, make_settings


class VirtualServerTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = Path(folder.name)

    def settings(self, name: str = "one", **changes: Any) -> VirtualServerSettings:
        return make_settings(name=name, home=self.home / name, **changes)

    def make(self, settings: VirtualServerSettings) -> VirtualServer:
        server = VirtualServer(settings, reactor, FakeNames())
        self.addCleanup(server.stop)
        return server

    def send(self, server: VirtualServer, *to: str, text: str = "\r\ntext\r\n") -> Deferred[Any]:
        """A message by smtplib, in a thread."""
        host, port = server.addresses[0]

        def client() -> None:
            with smtplib.SMTP(host, port, "client.example", timeout=10) as smtp:
                smtp.sendmail("alice@example.org", list(to), text)

        return deferToThread(client)

    async def appears(self, directory: Path, count: int) -> list[Path]:
        """Wait until *directory* has *count* whole files."""
        while True:
            found = [path for path in directory.iterdir() if not path.name.startswith(".")]
            if len(found) >= count:
                return found
            await deferLater(reactor, 0.02)

    async def test_overload(self) -> None:
        """A full disk: no new clients and no new mail, and operators are told; then it is over."""
        relay = AccessList(True)
        access = evolve(make_settings().access, relay=relay)
        server = self.make(self.settings(access=access))
        server.start()
        watch = server._watch
        watch.stop()
        watch.free = lambda path: 0
        watch._look(reactor.seconds())

        self.assertTrue(server._desk.closed)
        with self.assertRaises(SpoolFull):
            server._desk.check_room(None)
        (open_relay, setting), (words, cause) = server.warnings()
        self.assertEqual(("access.relay.default", "overload.disk"), (setting, cause))
        self.assertIn("open relay", open_relay)
        self.assertIn("452", words)
        watch._overload.level = Level.HASTY
        server._load_changed(Level.HASTY)
        self.assertFalse(server._desk.closed)
        server._desk.check_room(None)

    async def test_mail_to_drop(self) -> None:
        """From a socket through a durable queue into Drop."""
        server = self.make(self.settings())
        server.start()

        await self.send(server, "bob@example.com", "carol@example.com")
        (file,) = await self.appears(server.settings.drop_directory, 1)

        text = file.read_text("ascii")
        self.assertTrue(text.startswith("x-sender: alice@example.org\n"))
        self.assertIn("x-receiver: bob@example.com\nx-receiver: carol@example.com\n", text)

    async def test_taken_port(self) -> None:
        """GEN-04: a server whose address is taken says which, and others run."""
        first, second = self.make(self.settings()), None
        first.start()
        address = ListenAddress(*first.addresses[0])
        second = self.make(self.settings("two", listen=(address,)))

        problem = self.assertRaises(CannotStart, second.start)

        self.assertIn(f"'two' cannot listen on {address}", str(problem))
        self.assertEqual(("running", "stopped"), (first.state, second.state))
        await self.send(first, "bob@example.com")

    async def test_all_addresses_or_none(self) -> None:
        """One address that cannot be had leaves none of the others open."""
        first = self.make(self.settings())
        first.start()
        taken = ListenAddress(*first.addresses[0])
        second = self.make(self.settings("two", listen=(ListenAddress("127.0.0.1", 0), taken)))

        self.assertRaises(CannotStart, second.start)

        self.assertEqual((), second.addresses)

    async def test_both_families_on_one_port(self) -> None:
        """`0.0.0.0` and `[::]` stand side by side."""
        probe = socket.socket()
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        listen = (ListenAddress("127.0.0.1", port), ListenAddress("::", port))
        server = self.make(self.settings(listen=listen))
        server.start()

        self.assertEqual(2, len(server.addresses))

    async def test_pause(self) -> None:
        """SES-04: no new session; the present one goes on, and so does delivery."""
        server = self.make(self.settings())
        server.start()
        host, port = server.addresses[0]
        client = await deferToThread(smtplib.SMTP, host, port, "client.example", 10)

        server.pause()
        await deferLater(reactor, 0)  # the port closes in the reactor's next turn
        refused = deferToThread(smtplib.SMTP, host, port, "client.example", 10)
        await self.assertFailure(refused, ConnectionRefusedError)
        await deferToThread(client.sendmail, "a@example.org", ["b@example.com"], "\r\n")
        await self.appears(server.settings.drop_directory, 1)
        await deferToThread(client.quit)
        state = server.state
        server.start()
        await self.send(server, "bob@example.com")

        self.assertEqual(("paused", "running"), (state, server.state))

    async def test_stop_tells_sessions(self) -> None:
        """SES-05: sessions hear 421; the server can be started again."""
        server = self.make(self.settings())
        server.start()
        client = await deferToThread(smtplib.SMTP, *server.addresses[0], "client.example", 10)
        sessions = server.sessions

        stopping = server.stop()
        code, words = await deferToThread(client.getreply)
        client.close()
        await stopping
        server.start()
        await self.send(server, "bob@example.com")

        self.assertEqual(["127.0.0.1"], [session.peer for session in sessions])
        self.assertEqual((421, True), (code, words.startswith(b"4.3.2")))

    async def test_configure_keeps_sessions(self) -> None:
        """New settings hold for an open session, and no connection is dropped."""
        server = self.make(self.settings())
        server.start()
        client = await deferToThread(smtplib.SMTP, *server.addresses[0], "client.example", 10)
        await deferToThread(client.ehlo)
        before = await deferToThread(client.docmd, "MAIL FROM:<a@example.org>")
        early = await deferToThread(client.docmd, "RCPT TO:<x@new.example>")

        domains = (DomainSettings(name="new.example", type="alias"),)
        kept = server.configure(evolve(server.settings, domains=domains))
        late = await deferToThread(client.docmd, "RCPT TO:<x@new.example>")
        await deferToThread(client.quit)

        self.assertEqual((), kept)
        self.assertEqual((250, 550, 250), (before[0], early[0], late[0]))

    async def test_configure_addresses(self) -> None:
        """Addresses that are new are opened, others closed; what a restart needs is said."""
        server = self.make(self.settings())
        server.start()
        (old,) = server.addresses
        second = ListenAddress("127.0.0.2", 0)

        kept = server.configure(
            evolve(server.settings, listen=(second,), home=self.home / "elsewhere")
        )

        self.assertEqual(["127.0.0.2"], [host for host, _ in server.addresses])
        self.assertTrue(any("home" in words for words in kept))
        self.assertNotEqual(old, server.addresses[0])

    async def test_one_home_one_server(self) -> None:
        """A queue in use is refused with a clear message."""
        server = self.make(self.settings())
        server.start()
        other = self.make(self.settings(listen=(ListenAddress("127.0.0.1", 0),)))

        problem = self.assertRaises(CannotStart, other.start)

        self.assertIn("is in use by process", str(problem))
