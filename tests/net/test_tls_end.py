"""What a session with TLS leaves behind, at both ends: nothing for the garbage collector."""

from __future__ import annotations

import gc
import time
import weakref
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import define, field
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mailhost.intake.reception import Reception
from mailhost.net import server_tls
from mailhost.net.certificates import CertificateFiles
from mailhost.net.factory import ESMTPFactory
from mailhost.net.server_tls import ServerTLS
from mailhost.net.tls import ClientTLS, leaves_nothing
from mailhost.server.logins import rules_of
from tests.support.certificates import Authority
from tests.support.world import World

HOST = "mail.example.com"


@define(eq=False)
class Client(Protocol):
    """
    Says one thing after another, each when the last was answered.

    :ivar creator: of its TLS, which it begins behind ``STARTTLS``.
    :ivar says: what it says then; afterwards the connection is cut off.
    """

    creator: Any
    says: list[bytes]
    first: list[bytes] = field(factory=lambda: [b"EHLO c.example\r\n", b"STARTTLS\r\n"])
    heard: bytearray = field(factory=bytearray)
    ended: Deferred[None] = field(factory=Deferred)
    secured: bool = False

    def dataReceived(self, data: bytes) -> None:
        """Replies; each ends with a line that has a blank behind its code."""
        self.heard += data
        *_, last = bytes(self.heard).rstrip(b"\r\n").split(b"\r\n")
        if not self.heard.endswith(b"\r\n") or last[3:4] == b"-":
            return
        self.heard.clear()
        transport: Any = self.transport
        if self.first:
            transport.write(self.first.pop(0))
        elif not self.secured:
            self.secured = True
            transport.startTLS(self.creator)
            self.go_on(transport)
        else:
            self.go_on(transport)

    def go_on(self, transport: Any) -> None:
        if self.says:
            transport.write(self.says.pop(0))
        else:
            transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Whoever ended it."""
        self.ended.callback(None)


class EndTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.authority = Authority(Path(folder.name))
        files = CertificateFiles(*self.authority.issue("one", HOST))
        world = World()
        tls = ServerTLS(files, "1.2", time.time)
        tls.load()
        self.patch(server_tls, "leaves_nothing", self.remember_tls)
        self.known: list[weakref.ref[Any]] = []
        rules = rules_of(world.settings, starttls=True)
        self.factory = ESMTPFactory(
            lambda session: Reception(world.desk, session), reactor, rules, 60, tls=tls
        )
        self.build, self.factory.buildProtocol = self.factory.buildProtocol, self.remember
        listening = reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        self.port = listening.getHost().port

    def remember(self, address: Any) -> Any:
        protocol = self.build(address)
        self.known.append(weakref.ref(protocol))
        return protocol

    def remember_tls(self, tls_protocol: Any) -> None:
        leaves_nothing(tls_protocol)
        self.known.append(weakref.ref(tls_protocol))

    async def talk(self, creator: Any, says: list[bytes]) -> None:
        """Until the connection is lost at both ends, and what was to be done then is done."""
        client = Client(creator, says)
        factory: Any = ClientFactory()
        factory.buildProtocol = lambda address: client
        reactor.connectTCP("127.0.0.1", self.port, factory)
        await client.ended
        while self.factory.sessions:
            await deferLater(reactor, 0)
        await deferLater(reactor, 0)

    def connections(self) -> int:
        """What OpenSSL has of sessions, at either end."""
        return sum(isinstance(one, SSL.Connection) for one in gc.get_objects())

    async def assert_nothing_left(self, creator: Any, *says: bytes) -> None:
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        before = self.connections()
        await self.talk(creator, list(says))
        self.assertEqual(2, len(self.known))
        self.assertEqual([], [one() for one in self.known if one() is not None])
        self.assertEqual(before, self.connections())

    async def test_quit(self) -> None:
        """A session that ends as it should."""
        creator = ClientTLS().creator(HOST, True, self.authority.file)
        await self.assert_nothing_left(creator, b"EHLO c.example\r\n", b"QUIT\r\n")

    async def test_cut_off(self) -> None:
        """One that the client cuts off behind a reply."""
        await self.assert_nothing_left(ClientTLS().creator(HOST, False), b"EHLO c.example\r\n")

    async def test_cut_off_at_once(self) -> None:
        """One that is cut off before the handshake is done."""
        await self.assert_nothing_left(ClientTLS().creator(HOST, False))

    async def test_not_trusted(self) -> None:
        """A client that does not know the authority ends the handshake."""
        with TemporaryDirectory() as folder:
            stranger = Authority(Path(folder))
            creator = ClientTLS().creator(HOST, True, stranger.file)
        await self.assert_nothing_left(creator, b"EHLO c.example\r\n")
