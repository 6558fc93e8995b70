"""Tests for `mailhost.net.prompt`, on real sockets."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol, ServerFactory
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import TestCase

from mailhost.net.prompt import write_promptly


class Collector(Protocol):
    """Counts what it gets."""

    def __init__(self) -> None:
        self.got = b""
        self.lost: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: object = None) -> None:  # type: ignore[override]  # upstream's default
        self.lost.callback(self.got)


class PromptTests(TestCase):
    timeout = 20

    async def connect(self) -> tuple[Collector, Collector]:
        """A client's and a server's end."""
        server, client = Collector(), Collector()
        factory = ServerFactory()
        factory.buildProtocol = lambda addr: server  # type: ignore[method-assign]  # one connection
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]  # IReactorTCP
        self.addCleanup(port.stopListening)
        factory_out = Factory.forProtocol(lambda: client)  # type: ignore[arg-type]  # a callable will do
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        await endpoint.connect(factory_out)
        return client, server

    async def test_order_and_volume(self) -> None:
        """Whatever mixture of ways, everything arrives once and in order."""
        client, server = await self.connect()
        sent = b""
        for number in range(400):
            block = b"%d " % number * (1 + number * 37 % 4000)
            sent += block
            if number % 7 == 3:
                client.transport.write(block)
            else:
                write_promptly(client.transport, block)
        client.transport.loseConnection()

        self.assertEqual(sent, await server.lost)
        await client.lost

    async def test_an_idle_socket_takes_it_now(self) -> None:
        """Nothing is left for the reactor to write."""
        client, server = await self.connect()

        write_promptly(client.transport, b"250 OK\r\n")

        self.assertEqual(b"", client.transport.dataBuffer)
        self.assertEqual([], client.transport._tempDataBuffer)
        client.transport.loseConnection()
        self.assertEqual(b"250 OK\r\n", await server.lost)
        await client.lost

    async def test_a_lost_connection_is_told_later(self) -> None:
        """Writing to a connection that is gone raises nothing; the protocol is told."""
        client, server = await self.connect()
        server.transport.abortConnection()
        await server.lost
        for _ in range(10):
            write_promptly(client.transport, b"x" * 1000)

        self.assertEqual(b"", await client.lost)

    def test_other_transports(self) -> None:
        """A transport that is no TCP connection is simply written to."""
        transport = StringTransport()

        write_promptly(transport, b"x")

        self.assertEqual(b"x", transport.value())
