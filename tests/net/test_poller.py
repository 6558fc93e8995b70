"""
Tests for `mailhost.net.poller`.

What happens to a socket is compared with what Twisted's own reactor does to it, on real sockets.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone, ConnectionFdescWentAway, ConnectionLost
from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
    IReactorFDSet,
    IReadDescriptor,
)
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import globalLogPublisher
from twisted.python import log
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import alsoProvides, implementer
from zope.interface.verify import verifyObject

from mailhost.config.settings import ListenAddress
from mailhost.logs import TextLine
from mailhost.net.certificates import CertificateFiles
from mailhost.net.poller import Poller, poller_for
from mailhost.net.server_tls import ServerTLS
from mailhost.net.tls import ClientTLS
from mailhost.server.listening import accept_from, bind
from tests.support.certificates import Authority


class Broken(Exception):
    """Raised by a socket's own code."""


class End:
    """One end of a pair of sockets, as a reactor sees it; notes what is done to it."""

    def __init__(self, noted: list[Any], name: str, half: bool = False) -> None:
        self.socket, self.peer = socket.socketpair()
        self.socket.setblocking(False)
        self.noted, self.name = noted, name
        self.behaviour = "well"
        self.on_read: Callable[[], object] = lambda: None
        if half:
            alsoProvides(self, IHalfCloseableDescriptor)

    def fileno(self) -> int:
        if self.behaviour == "no number":
            raise Broken
        return self.socket.fileno()

    def logPrefix(self) -> str:
        if self.behaviour == "no name":
            raise Broken
        return f"end {self.name}"

    def note(self, *what: object) -> None:
        self.noted.append((self.name, *what))

    def _misbehave(self) -> Any:
        if self.behaviour in ("raises", "no name"):
            raise Broken
        if self.behaviour == "interrupted":
            raise KeyboardInterrupt
        return Broken() if self.behaviour == "returns" else None

    def doRead(self) -> Any:
        try:
            octets = self.socket.recv(100)
        except BlockingIOError:
            octets = None  # type: ignore[assignment]  # it was called for nothing
        except OSError as error:
            return error
        self.note("read", octets)
        self.on_read()
        return CONNECTION_DONE if octets == b"" else self._misbehave()

    def doWrite(self) -> Any:
        self.note("write")
        return self._misbehave()

    def readConnectionLost(self, reason: Failure) -> None:
        self.note("half", reason.type)

    def connectionLost(self, reason: Failure) -> None:
        self.note("lost", reason.type)
        self.socket.close()
        if self.behaviour == "lost badly":
            raise Broken

    def close(self) -> None:
        self.socket.close()
        self.peer.close()


class Bench:
    """Ends in front of a reactor; *through*: what they think the reactor is."""

    def __init__(self, through: Callable[[Any], Any]) -> None:
        self.reactor = EPollReactor()  # type: ignore[no-untyped-call]
        self.watching = through(self.reactor)
        self.noted: list[Any] = []
        self.ends: list[End] = []

    def end(self, half: bool = False) -> End:
        end = End(self.noted, str(len(self.ends)), half)
        self.ends.append(end)
        return end

    def turn(self) -> None:
        self.reactor.doPoll(0)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        for end in self.ends:
            end.close()
        waker: Any = self.reactor.waker
        waker.connectionLost(None)
        self.reactor._poller.close()


_BEHAVIOURS = ("well", "raises", "returns", "interrupted", "lost badly")
_STEPS = st.tuples(
    st.sampled_from(
        ("addReader", "addWriter", "removeReader", "removeWriter", "turn", "turn")
        + ("say", "hang up", "say no more", "fill", "close", "no number")
    ),
    st.integers(0, 1),
)


class ComparedTests(SynchronousTestCase):
    """The same is done to a socket as by Twisted's own reactor."""

    def run_steps(
        self, through: Callable[[Any], Any], behaviours: tuple[str, str], steps: list[Any]
    ) -> list[Any]:
        bench = Bench(through)
        systems: list[Any] = []
        try:
            ends = [bench.end(), bench.end(half=True)]
            for end, end.behaviour in zip(ends, behaviours, strict=True):
                bench.watching.addReader(end)
            log.addObserver(hear := lambda event: systems.append(event.get("system")))
            for step, number in steps:
                self.take(step, bench, ends[number])
            bench.turn()
            log.removeObserver(hear)
            known = [
                sorted(one.name for one in getattr(bench.watching, which)() if one in ends)
                for which in ("getReaders", "getWriters")
            ]
            faults = [failure.type for failure in self.flushLoggedErrors()]
            return [bench.noted, known, systems, faults]
        finally:
            bench.close()

    def take(self, step: str, bench: Bench, end: End) -> None:
        if step == "turn":
            bench.turn()
        elif step == "no number":
            end.behaviour = step
        elif step == "close":
            end.socket.close()
        elif step.startswith(("add", "remove")):
            # What Twisted's transports never do: a closed socket is not watched any more.
            if end.socket.fileno() != -1 and end.behaviour != "no number":
                getattr(bench.watching, step)(end)
        elif end.peer.fileno() != -1:
            self.take_at_peer(step, end)

    def take_at_peer(self, step: str, end: End) -> None:
        if step == "hang up":
            end.peer.close()
        elif step == "say no more":
            end.peer.shutdown(socket.SHUT_WR)
        elif end.socket.fileno() != -1:
            try:
                sending = end.peer if step == "say" else end.socket
                sending.send(b"x" * (10 if step == "say" else 10_000), socket.MSG_DONTWAIT)
            except OSError:
                pass  # full, or shut down

    @settings(max_examples=300)
    @given(st.tuples(*[st.sampled_from(_BEHAVIOURS)] * 2), st.lists(_STEPS, max_size=30))
    @example(("well", "returns"), [("say", 1)])
    @example(("well", "well"), [("removeReader", 0), ("addWriter", 0), ("hang up", 0)])
    def test_the_same(self, behaviours: tuple[str, str], steps: list[Any]) -> None:
        """Whatever is done in whatever order: octets, ends, faults, and sources in the log."""
        self.assertEqual(
            self.run_steps(lambda reactor: reactor, behaviours, steps),
            self.run_steps(Poller, behaviours, steps),
        )


class PollerCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = Bench(Poller)
        self.addCleanup(self.bench.close)
        self.poller: Poller = self.bench.watching
        self.noted = self.bench.noted
        self.end = self.bench.end

    @property
    def is_registered(self) -> bool:
        return self.poller in self.bench.reactor.getReaders()  # type: ignore[no-untyped-call]


class RegistrationTests(PollerCase):
    def test_interfaces(self) -> None:
        verifyObject(IReactorFDSet, self.poller)
        verifyObject(IReadDescriptor, self.poller)

    def test_everything_else_is_the_reactors(self) -> None:
        self.assertEqual(self.bench.reactor.seconds, self.poller.seconds)
        self.assertEqual(self.bench.reactor.callLater, self.poller.callLater)
        self.assertRaises(AttributeError, getattr, self.poller, "no_such_thing")

    def test_nothing_to_do(self) -> None:
        """While it watches nothing the reactor has nothing of it."""
        one, two = self.end(), self.end()
        self.assertFalse(self.is_registered)
        self.poller.addReader(one)
        self.poller.addWriter(one)
        self.poller.addWriter(two)
        self.poller.removeReader(one)
        self.poller.removeWriter(one)
        self.assertTrue(self.is_registered)
        self.poller.removeWriter(two)
        self.assertFalse(self.is_registered)

    def test_many_are_one(self) -> None:
        """The reactor knows one descriptor, whatever is behind it."""
        for _ in range(5):
            self.poller.addReader(self.end())
        ours = [
            one
            for one in self.bench.reactor.getReaders()  # type: ignore[no-untyped-call]
            if one is not self.bench.reactor.waker
        ]
        self.assertEqual([self.poller], ours)
        self.assertEqual(5, len(self.poller.getReaders()))

    def test_somebody_took_all_readers(self) -> None:
        """What is watched next brings it back."""
        self.poller.addReader(self.end())
        self.bench.reactor.removeAll()  # type: ignore[no-untyped-call]
        two = self.end()
        self.poller.addReader(two)
        two.peer.send(b"x")
        self.bench.turn()
        self.assertEqual([("1", "read", b"x")], self.noted)

    def test_where_there_is_none(self) -> None:
        """Reactors without descriptors, and systems without epoll, are left as they are."""
        for other in (Clock(), MemoryReactorClock()):
            self.assertIs(other, poller_for(other))
        self.assertIsInstance(poller_for(self.bench.reactor), Poller)
        self.patch(select, "epoll", None)
        del select.epoll
        self.assertIs(self.bench.reactor, poller_for(self.bench.reactor))

    def test_what_epoll_does_not_take(self) -> None:
        """A file on a disk goes to the reactor behind, which asks it again and again."""
        end = self.end()
        with TemporaryFile() as file:
            end.fileno = file.fileno  # type: ignore[method-assign]
            self.poller.addReader(end)
            self.poller.addWriter(end)
            self.assertEqual(([], False), (self.poller.getReaders(), self.is_registered))
            self.assertIn(end, self.bench.reactor.getReaders())  # type: ignore[no-untyped-call]
            self.poller.removeReader(end)
            self.poller.removeWriter(end)
            self.assertNotIn(end, self.bench.reactor.getReaders())  # type: ignore[no-untyped-call]
            self.assertNotIn(end, self.bench.reactor.getWriters())  # type: ignore[no-untyped-call]

    def test_closed_before_it_is_removed(self) -> None:
        """It is found by what it is; its number, which another has by now, is left alone."""
        one, two = self.end(), self.end()
        self.poller.addReader(one)
        self.poller.addWriter(one)
        one.socket.close()
        self.poller.removeReader(one)
        self.poller.removeWriter(one)
        self.poller.removeWriter(two)
        self.assertEqual(([], []), (self.poller.getReaders(), self.poller.getWriters()))


class TurnTests(PollerCase):
    def watch(self, *ends: End) -> None:
        """Have something to read at all of them."""
        for end in ends:
            self.poller.addReader(end)
            end.peer.send(b"x")

    def test_removed_by_an_earlier_one(self) -> None:
        """Who is not watched any more is not called, even if the poll has named it."""
        one, two = self.end(), self.end()
        one.on_read = lambda: self.poller.removeReader(two)
        two.on_read = lambda: self.poller.removeReader(one)
        self.watch(one, two)
        self.bench.turn()
        self.assertEqual(1, len(self.noted))

    def test_its_number_is_anothers(self) -> None:
        """An event of a socket that is gone is not given to who has its number now."""
        one, two, heir = self.end(), self.end(), self.end()

        def replace() -> None:
            number = two.socket.fileno()
            self.poller.removeReader(two)
            two.socket.close()
            os.dup2(heir.socket.fileno(), number)
            heir.socket.close()
            heir.socket = socket.socket(fileno=number)
            self.poller.addReader(heir)

        one.on_read = replace
        self.watch(one, two)
        two.peer.close()
        self.bench.turn()
        self.assertEqual([("0", "read", b"x")], self.noted)

    def test_closed_by_an_earlier_one(self) -> None:
        """Who has closed a socket behind everybody's back has ended its connection."""
        one, two = self.end(), self.end()
        one.on_read, two.on_read = two.socket.close, one.socket.close
        self.watch(one, two)
        self.bench.turn()
        self.assertEqual([("0", "read", b"x"), ("1", "lost", ConnectionFdescWentAway)], self.noted)
        self.assertEqual([one], self.poller.getReaders())

    def test_no_name(self) -> None:
        """Who cannot say its name is disconnected all the same, and both faults are told."""
        end = self.end()
        end.behaviour = "no name"
        self.watch(end)
        self.bench.turn()
        self.assertEqual([("0", "read", b"x"), ("0", "lost", Broken)], self.noted)
        self.assertEqual({Broken}, {failure.type for failure in self.flushLoggedErrors()})

    def test_a_signal(self) -> None:
        """A poll that a signal has interrupted is made anew by the next turn."""
        self.watch(self.end())
        self.assertEqual([], self.turn_with(InterruptedError()))
        self.assertEqual([("0", "read", b"x")], self.noted)

    def test_a_fault_of_the_poll(self) -> None:
        """It is told, and ends no connection."""
        self.watch(self.end())
        self.assertEqual([MemoryError], self.turn_with(MemoryError()))
        self.assertEqual([("0", "read", b"x")], self.noted)

    def turn_with(self, error: Exception) -> list[Any]:
        """A turn whose poll fails, then a good one; the faults that are told."""
        epoll = self.poller._epoll

        class Failing:
            fileno = epoll.fileno

            def poll(self, timeout: float, maxevents: int) -> Any:
                raise error

        self.poller._epoll = Failing()
        self.bench.turn()
        self.assertEqual([], self.noted)
        self.poller._epoll = epoll
        self.bench.turn()
        return [failure.type for failure in self.flushLoggedErrors()]

    def test_the_reactor_disconnects_all(self) -> None:
        """At the end each is told, also where one of them fails."""
        one, two, three = self.end(), self.end(), self.end()
        two.behaviour = "lost badly"
        for end in (one, two, three):
            self.poller.addReader(end)
        self.poller.addWriter(three)
        self.bench.reactor.disconnectAll()
        self.assertEqual([(name, "lost", ConnectionLost) for name in "012"], self.noted)
        self.assertEqual([Broken], [failure.type for failure in self.flushLoggedErrors()])
        self.assertFalse(self.is_registered)

    def test_sources_in_the_log(self) -> None:
        """A line says where it comes from: of a fault its socket, of our own events their part."""
        lines: list[str] = []
        text = TextLine()
        hear = lambda event: lines.append(text(event).split("[", 1)[1])  # noqa: E731
        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)
        one, two = self.end(), self.end()
        one.behaviour = "raises"
        two.on_read = lambda: log.msg("said by old code")
        self.watch(two)
        self.bench.turn()
        self.watch(one)
        self.bench.turn()
        self.flushLoggedErrors()
        self.assertEqual("sockets] said by old code\n", lines[0])
        self.assertTrue(lines[1].startswith("end 0] Unhandled Error"), lines[1])


class Talker(Protocol):
    """Notes what it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self.connected_now: Deferred[Talker] = Deferred()
        self.lost: Deferred[Any] = Deferred()
        self.waiting: list[tuple[bytes, Deferred[bytes]]] = []

    def connectionMade(self) -> None:
        self.connected_now.callback(self)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        self._tell()

    def until(self, words: bytes) -> Deferred[bytes]:
        """Fires when *words* were heard."""
        self.waiting.append((words, found := Deferred()))
        self._tell()
        return found

    def _tell(self) -> None:
        for one in list(self.waiting):
            if one[0] in self.heard:
                self.waiting.remove(one)
                one[1].callback(self.heard)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(reason.type)


@implementer(IHalfCloseableProtocol)
class Patient(Talker):
    """Goes on writing when the other says that it has said all."""

    def readConnectionLost(self) -> None:
        self.transport.write(b"and good bye")  # type: ignore[union-attr]
        self.transport.loseConnection()  # type: ignore[union-attr]

    def writeConnectionLost(self) -> None:
        """It is never we who close one direction."""


class ConnectionTests(TestCase):
    """On Twisted's TCP transports, through a socket of our own."""

    timeout = 20

    async def connect(
        self, server: Talker, host: str = "127.0.0.1"
    ) -> tuple[Talker, Talker, Poller]:
        poller = poller_for(reactor)
        factory: Any = Factory.forProtocol(lambda: server)  # type: ignore[arg-type]
        port: Any = accept_from(poller, bind(ListenAddress(host, 0)), factory)
        self.addCleanup(port.stopListening)
        client = Talker()
        calling: Any = Factory.forProtocol(lambda: client)  # type: ignore[arg-type]
        await TCP4ClientEndpoint(poller, host, port.getHost().port).connect(calling)
        await server.connected_now
        return client, server, poller

    async def test_there_and_back(self) -> None:
        """Much goes both ways, with waiting for room, and the end is heard."""
        client, server, poller = await self.connect(Talker())
        self.assertEqual(3, len(poller.getReaders()))
        much = b"x" * 3_000_000
        client.transport.write(much + b"!")  # type: ignore[union-attr]
        await server.until(b"!")
        server.transport.write(b"well")  # type: ignore[union-attr]
        await client.until(b"well")
        client.transport.loseConnection()  # type: ignore[union-attr]
        self.assertEqual([ConnectionDone] * 2, [await client.lost, await server.lost])
        self.assertEqual(len(much) + 1, len(server.heard))
        self.assertEqual(1, len(poller.getReaders()))

    async def test_half_closed(self) -> None:
        """Who has said all is still answered."""
        client, _, _ = await self.connect(Patient())
        client.transport.loseWriteConnection()  # type: ignore[union-attr]
        await client.until(b"and good bye")
        self.assertEqual(ConnectionDone, await client.lost)

    async def test_reset(self) -> None:
        client, server, _ = await self.connect(Talker())
        server.transport.abortConnection()  # type: ignore[union-attr]
        self.assertEqual(ConnectionLost, await client.lost)
        await server.lost

    async def test_refused(self) -> None:
        """A connection that is not taken fails as ever, and nothing of it is watched."""
        poller = poller_for(reactor)
        with bind(ListenAddress("127.0.0.1", 0)) as closed:
            number = closed.getsockname()[1]
        with self.assertRaises(Exception) as caught:
            await TCP4ClientEndpoint(poller, "127.0.0.1", number).connect(Factory())
        self.assertIn("refused", str(caught.exception))
        self.assertEqual(([], []), (poller.getReaders(), poller.getWriters()))

    async def test_the_reactor_ends(self) -> None:
        """Twisted disconnects all it knows at the end: connections and ports are among it."""
        ending = EPollReactor()  # type: ignore[no-untyped-call]
        talker, factory = Talker(), Factory()
        factory.buildProtocol = lambda addr: talker  # type: ignore[method-assign]
        port: Any = accept_from(poller_for(ending), bind(ListenAddress("127.0.0.1", 0)), factory)
        with socket.create_connection(("127.0.0.1", port.getHost().port)):
            while not talker.connected:
                ending.doPoll(1)  # type: ignore[no-untyped-call]
            self.assertEqual((1, True), (factory.numPorts, port.connected))
            ending.disconnectAll()
            self.assertEqual(ConnectionLost, await talker.lost)
            self.assertEqual((0, False), (factory.numPorts, bool(port.connected)))
        self.assertEqual({ending.waker}, set(ending.getReaders()))  # type: ignore[no-untyped-call]
        ending.waker.connectionLost(None)
        ending._poller.close()

    async def test_starttls(self) -> None:
        """TLS begins amid a connection that is watched here."""
        client, server, _ = await self.connect(Talker())
        server.transport.startTLS(self.server_tls().context_factory())  # type: ignore[union-attr]
        client.transport.startTLS(ClientTLS().creator("mail.example.com", False))  # type: ignore[union-attr]
        client.transport.write(b"secret" * 100_000 + b"!")  # type: ignore[union-attr]
        await server.until(b"!")
        server.transport.loseConnection()  # type: ignore[union-attr]
        self.assertEqual([ConnectionDone] * 2, [await client.lost, await server.lost])

    def server_tls(self) -> ServerTLS:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        issued = Authority(Path(folder.name)).issue("one", "mail.example.com")
        return ServerTLS((CertificateFiles(*issued),), "1.2", poller_for(reactor).seconds)
