"""A connection that was turned round, on its way through several queues."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from attrs import define, evolve, field
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase

from mailhost.config.settings import DomainSettings
from mailhost.errors import SpoolProblem
from mailhost.model.held import HeldDomains, Holding
from mailhost.net.turned import FIRST_WORD_SECONDS, SILENT_SECONDS
from mailhost.relay.manager import RelayManager
from mailhost.server.held import SharedHeldMail
from mailhost.server.turned import Tour
from mailhost.spool.memory import MemoryQueue
from tests.relay.test_held import REMOTE, HeldCase
from tests.support.hosts import HANG_UP, Host, connected
from tests.support.world import make_settings


class AdoptedTests(HeldCase):
    """Two queues in one process, and nobody else."""

    def setUp(self) -> None:
        super().setUp()
        self.first = self.relay, self.store
        self.store = MemoryQueue(self.clock.seconds)
        held = DomainSettings("remote.example", "remote", hold=Holding())
        self.relay = self.make_relay(evolve(make_settings(), domains=(held,)))
        self.second = self.relay, self.store

    def put(self, where: tuple[RelayManager, Any], *recipients: str) -> None:
        self.relay, self.store = where
        self.submit(*recipients)

    def turn(self, host: Host) -> None:
        queues = (self.first[0].held, self.second[0].held)
        shared = SharedHeldMail(queues[0], "one", lambda: queues, None, self.clock)
        self.assertTrue(self.successResultOf(Deferred.fromCoroutine(shared.waits(REMOTE))))
        connected(host, self.clock, shared.session(REMOTE, "192.0.2.99", 40000))
        for _ in range(10):
            self.run_for(1)

    def recipients(self, host: Host) -> list[str]:
        return [one.partition("<")[2][:-1] for _, given, _ in host.envelopes for one in given]

    def test_one_after_the_other(self) -> None:
        """What both have, in one session, which begins anew for each and ends once."""
        said: list[str] = []

        class Listening(Host):
            def reply(self, verb: str, line: str) -> str:
                said.append(verb)
                return Host.reply(self, verb, line)

        host = Listening()
        self.put(self.first, "a@remote.example")
        self.put(self.second, "b@remote.example")
        self.put(self.second, "c@remote.example")

        self.turn(host)

        self.assertEqual([f"{n}@remote.example" for n in "abc"], self.recipients(host))
        self.assertEqual((1, 0), (host.connections, host.open))
        self.assertEqual((3, 1), (said.count("EHLO"), said.count("QUIT")))
        self.assertEqual(({}, {}), (self.first[1].messages, self.second[1].messages))

    def test_nothing_of_its_own(self) -> None:
        """Who has the session has no mail for it."""
        host = Host()
        self.put(self.second, "b@remote.example")

        self.turn(host)

        self.assertEqual((["b@remote.example"], 0), (self.recipients(host), host.open))

    def test_it_goes_away(self) -> None:
        """The other queue keeps what it has; no attempt is counted there."""
        host = Host({"DATA": HANG_UP})
        self.put(self.first, "a@remote.example")
        self.put(self.second, "b@remote.example")

        self.turn(host)

        ((_, waiting),) = self.second[1].messages.items()
        self.assertEqual([0], [one.attempts for one in waiting.recipients.values()])
        self.assertEqual((1, 0), (len(self.first[1].messages), host.open))

    def test_a_queue_that_cannot_be_read(self) -> None:
        """It is passed over."""
        host = Host()
        self.put(self.first, "a@remote.example")
        self.put(self.second, "b@remote.example")

        select = MemoryQueue.select

        async def broken(store: Any, *given: Any) -> Any:
            if store is self.second[1]:
                raise SpoolProblem("disk")
            return await select(store, *given)

        self.patch(MemoryQueue, "select", broken)
        self.turn(host)

        self.assertEqual((["a@remote.example"], 0), (self.recipients(host), host.open))

    def test_stopped_in_between(self) -> None:
        """Goodbye is said, and the next queue does not begin."""
        host = Host()
        self.put(self.first, "a@remote.example")
        self.put(self.second, "b@remote.example")
        queues = (self.first[0].held, self.second[0].held)
        shared = SharedHeldMail(queues[0], "one", lambda: queues, None, self.clock)
        connected(host, self.clock, shared.session(REMOTE, "192.0.2.99", 40000))
        self.run_for(0.5)

        stopping = [relay.stop(1) for relay, _ in (self.first, self.second)]
        for _ in range(5):
            self.run_for(1)

        for one in stopping:
            self.successResultOf(one)
        self.assertEqual((["a@remote.example"], 0), (self.recipients(host), host.open))
        self.assertEqual(1, len(self.second[1].messages))


@define(eq=False)
class FakeReactor:
    """Sockets of the real one, and a time of its own."""

    clock: Clock = field(factory=Clock)

    def adoptStreamConnection(self, descriptor: int, family: Any, factory: Factory) -> Any:
        real: Any = reactor
        return real.adoptStreamConnection(descriptor, family, factory)

    def seconds(self) -> float:
        return self.clock.seconds()

    def callLater(self, *given: Any) -> Any:
        return self.clock.callLater(*given)


class End(Protocol):
    """One end of a pair of sockets."""

    def __init__(self) -> None:
        self.heard = b""
        self.over = False

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Any = None) -> None:
        self.over = True

    def say(self, octets: bytes) -> None:
        transport: Any = self.transport
        transport.write(octets)


class LentTests(TestCase):
    """Another process has the connection for a while."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.tour = Tour(self.reactor, HeldDomains(("a.example",)), "192.0.2.9", 25)
        ours, theirs = socket.socketpair()
        self.server = End()
        for end, protocol in ((ours, self.tour.rest), (theirs, self.server)):
            self.adopt(end, protocol)
        self.answer: Deferred[bool] = Deferred()
        self.other = End()
        self.lent = Deferred.fromCoroutine(self.tour.lend(self.ask))

    def adopt(self, end: socket.socket, protocol: Protocol) -> None:
        with end:
            end.setblocking(False)
            factory = Factory.forProtocol(lambda: protocol)
            self.reactor.adoptStreamConnection(end.fileno(), end.family, factory)
        transport: Any = protocol.transport
        self.addCleanup(self.until, lambda: transport.disconnected or transport.disconnecting)
        self.addCleanup(transport.loseConnection)

    def ask(self, descriptor: int) -> Deferred[bool]:
        self.adopt(socket.socket(fileno=os.dup(descriptor)), self.other)
        return self.answer

    async def until(self, condition: Callable[[], Any]) -> None:
        while not condition():
            await deferLater(reactor, 0.005)

    async def test_passed_on(self) -> None:
        """Both ways, until the other process has nothing more; then it has it no longer."""
        self.other.say(b"EHLO x\r\n")
        await self.until(lambda: self.server.heard == b"EHLO x\r\n")
        much = b"250 ok\r\n" * 100_000
        self.server.say(much)
        await self.until(lambda: self.other.heard == much)
        self.answer.callback(True)

        self.assertTrue(await self.lent)
        await self.until(lambda: self.other.over)
        self.assertFalse(self.server.over)
        self.server.say(b"421 nobody has asked\r\n")
        await self.until(lambda: self.server.over)

    async def test_in_the_midst_of_something(self) -> None:
        """Nobody can go on there."""
        self.other.say(b"DATA\r\n")
        await self.until(lambda: self.server.heard)
        self.answer.callback(False)

        self.assertFalse(await self.lent)
        await self.until(lambda: self.server.over)

    async def test_without_a_word(self) -> None:
        """A process that does nothing with it does not get it, and has done no harm."""
        self.reactor.clock.advance(FIRST_WORD_SECONDS - 1)
        self.assertFalse(self.lent.called)
        self.reactor.clock.advance(2)

        self.assertTrue(await self.lent)
        await self.until(lambda: self.other.over)
        self.assertFalse(self.server.over)

    async def test_silent(self) -> None:
        """It has begun, and stands still."""
        self.other.say(b"MAIL FROM:<>\r\n")
        await self.until(lambda: self.server.heard)
        self.reactor.clock.advance(SILENT_SECONDS - 1)
        self.assertFalse(self.lent.called)
        self.reactor.clock.advance(2)

        self.assertFalse(await self.lent)
        await self.until(lambda: self.server.over)

    async def test_the_server_goes(self) -> None:
        """The other process sees the connection end."""
        transport: Any = self.server.transport
        transport.loseConnection()

        await self.until(lambda: self.other.over)
        self.assertFalse(await self.lent)
