"""Tests for `mailhost.workers.supervisor`, `worker`, `commands` and `sockets`."""

from __future__ import annotations

import os
import pickle
import signal
import smtplib
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import define, evolve, field
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.internet.error import ProcessTerminated
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailhost.config.reader import load_settings
from mailhost.config.settings import ListenAddress, Settings
from mailhost.logs import event_facts, event_text
from mailhost.model.view import ServerView, WorkerView, merged
from mailhost.service import MailhostService
from mailhost.systemd import ServiceManager
from mailhost.workers.commands import (
    CannotSteer,
    LongOctets,
    Orders,
    decode_states,
    decode_views,
    encode_states,
    encode_views,
)
from mailhost.workers.sockets import InheritedSockets, KeptSockets, place_of
from mailhost.workers.supervisor import Supervisor
from mailhost.workers.worker import Worker, child_environment
from tests.support.process import reserve_port
from tests.support.world import make_settings

HOST = "127.0.0.2"


def can_connect(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), 1).close()
    except ConnectionRefusedError:
        return False
    return True


class CommandTests(SynchronousTestCase):
    def test_octets_of_any_length(self) -> None:
        """What does not fit into one value of AMP goes in pieces."""
        argument: Any = LongOctets()
        for octets in (b"", b"a", bytes(range(256)) * 1000):
            box: dict[bytes, bytes] = {}
            argument.toBox(b"x", box, {"x": octets}, None)
            self.assertLess(max(map(len, box.values())), 65536)
            found: dict[str, bytes] = {}
            argument.fromBox(b"x", box, found, None)
            self.assertEqual(({"x": octets}, {}), (found, box))

    def test_orders(self) -> None:
        """Every setting there is can be told to a worker."""
        settings = load_settings(Path(__file__).parents[2] / "etc/mailhost.yaml")
        orders = Orders(settings, {("one", HOST, 25): 98}, {"one": "paused"})

        self.assertEqual(orders, Orders.decode(orders.encode()))
        with self.assertRaises(AssertionError):
            Orders.decode(pickle.dumps(settings))

    def test_reports_are_plain(self) -> None:
        """What a worker says is JSON, and nothing else is understood."""
        view = ServerView("one", "running", ((HOST, 25),), 1, 2, 3)

        self.assertEqual((view,), decode_views(encode_views((view,))))
        self.assertEqual({"one": "paused"}, decode_states(encode_states({"one": "paused"})))
        for wrong in (
            b"",
            b"[1]",
            b"{}}",
            b'[{"name": "one", "state": "?", "addresses": []}]',
            pickle.dumps(view),
        ):
            self.assertRaises(ValueError, decode_views, wrong)


class ViewTests(SynchronousTestCase):
    def test_merged_without_knowing(self) -> None:
        """What one worker does not know, nobody does; why it does not is told once."""
        lost = ServerView("one", "running", (), 1, None, None, "no disk")
        known = ServerView("one", "running", (), 2, 5, 6)
        views = ((known,), (lost,), (lost,))
        (found,) = merged(tuple(WorkerView(n, n, view) for n, view in enumerate(views))).servers
        self.assertEqual(ServerView("one", "running", (), 4, None, None, "no disk"), found)

    def test_merged(self) -> None:
        """Counts are added; a server runs where any worker runs it."""
        one = ServerView("a", "stopped")
        two = ServerView("a", "running", ((HOST, 25),), 1, 2, 3)
        three = ServerView("a", "running", ((HOST, 25), (HOST, 26)), 10, 20, 30)
        workers = tuple(
            WorkerView(number, 100 + number, (view,))
            for number, view in enumerate((one, two, three))
        )

        found = merged(workers)

        expected = ServerView("a", "running", ((HOST, 25), (HOST, 26)), 11, 22, 33)
        self.assertEqual(((expected,), workers), (found.servers, found.workers))


class SocketTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.sockets = KeptSockets()
        self.addCleanup(self.sockets.close)
        self.port = reserve_port(HOST)
        self.address = ListenAddress(HOST, self.port)
        self.place = place_of("one", self.address)

    def test_a_port_that_rests(self) -> None:
        """Nobody can connect while nobody accepts, and the port stays ours."""
        self.sockets.hold([self.place])
        taken = self.sockets.take("one", self.address)
        self.assertTrue(can_connect(self.port))
        taken.close()
        self.sockets.leave("one", self.address)
        self.assertFalse(can_connect(self.port))

        again = self.sockets.take("one", self.address)

        self.assertTrue(can_connect(self.port))
        again.close()

    def test_fails_alone(self) -> None:
        """An address that is taken says why; others are bound."""
        with socket.create_server((HOST, 0)) as other:
            taken = ("one", HOST, other.getsockname()[1])
            made = self.sockets.hold([taken, self.place])

        self.assertEqual([self.place], list(made))
        self.assertEqual([taken], list(self.sockets.faults))

    def test_inherited(self) -> None:
        """A worker listens on what it was given, and knows why it was given nothing."""
        held = self.sockets.hold([self.place])[self.place]
        inherited = InheritedSockets()
        inherited.faults = {("two", HOST, 1): 98}
        inherited.add(self.place, os.dup(held.fileno()))
        inherited.take("one", self.address).close()

        with self.assertRaises(OSError) as raised:
            inherited.take("two", ListenAddress(HOST, 1))
        self.assertEqual(98, raised.exception.errno)
        inherited.keep_only(())
        self.assertRaises(OSError, inherited.take, "one", self.address)


@define
class FakeTransport:
    pid: int
    signals: list[tuple[int, str]]

    def signalProcess(self, name: str) -> None:
        self.signals.append((self.pid, name))


@define(eq=False)
class FakeReactor(Clock):
    """Spawns nothing, and remembers it."""

    protocols: list[Any] = field(factory=list)
    signals: list[tuple[int, str]] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        Clock.__init__(self)  # type: ignore[no-untyped-call]  # upstream has no annotations

    def spawnProcess(self, protocol: Any, *arguments: object, **more: object) -> Any:
        self.protocols.append(protocol)
        return FakeTransport(len(self.protocols), self.signals)

    def callWhenRunning(self, function: Any, *arguments: object) -> None:
        function(*arguments)

    def adoptStreamConnection(self, *arguments: object) -> None:
        pass


class Heard(ServiceManager):
    """Remembers when it heard that all was ready."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Mapping[str, str]] = []

    def ready(self, states: Mapping[str, str]) -> None:
        self.told.append(states)


@define(eq=False)
class FakeLink:
    """A worker that answers to everything as *answer* does."""

    answer: Callable[[], Deferred[Any]]

    def callRemote(self, *asked: object, **arguments: object) -> Deferred[Any]:
        return self.answer()


@define(eq=False)
class FakeBoss:
    ends: int = 0

    def linked(self, worker: Worker) -> None: ...
    def ended(self, worker: Worker) -> None:
        self.ends += 1

    def told(self, worker: Worker, states: Mapping[str, str]) -> None: ...
    def borrow(self, key: str, worker: int) -> Deferred[None]:
        return succeed(None)

    def borrow_now(self, key: str, worker: int) -> bool:
        return True

    def give_back(self, key: str, worker: int) -> None: ...
    def ask_held(self, asked: bytes, worker: int) -> Deferred[list[bool | None]]:
        return succeed([])

    def lend(self, number: int, tour: bytes, descriptor: int) -> Deferred[bool]:
        return succeed(False)


class WorkerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor, self.boss = FakeReactor(), FakeBoss()
        self.worker = Worker(0, 2, self.reactor, self.boss)
        self.worker.start()

    def end(self) -> None:
        self.reactor.protocols[-1].processEnded(Failure(ProcessTerminated(None, 9, None)))

    def test_started_again(self) -> None:
        """After 0.1 s, 0.2 s, ...; the wait is short again after a long life."""
        for wait in (0.1, 0.2, 0.4):
            count = len(self.reactor.protocols)
            self.end()
            self.reactor.advance(wait * 0.9)
            self.assertEqual(count, len(self.reactor.protocols))
            self.reactor.advance(wait * 0.2)
            self.assertEqual(count + 1, len(self.reactor.protocols))
        self.reactor.advance(60)
        self.end()
        self.reactor.advance(0.1)

        self.assertEqual((5, 4), (len(self.reactor.protocols), self.boss.ends))

    def test_not_when_stopping(self) -> None:
        """Who is to stop does not come back, whenever he ends."""
        self.end()
        self.worker.stop()
        self.reactor.advance(60)

        self.assertEqual(1, len(self.reactor.protocols))

    def test_what_it_says(self) -> None:
        """Its log is ours, line by line however it is cut, and so is what is no log."""
        events: list[Any] = []
        from twisted.logger import globalLogPublisher

        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        process = self.reactor.protocols[0]
        process.childDataReceived(1, b'["warn", "a.b", 12.5, "one\\ntwo", {"id": "a1"}]\n["in')
        process.childDataReceived(1, b'fo", "c", 13, "three", {"worker": 7}]\n{"x": 1}\n')
        process.childDataReceived(2, b"Segmentation fault")
        self.end()

        found = [
            (event["log_level"].name, event["log_namespace"], event_text(event))
            for event in events
            if event_text(event).startswith("worker 0: ")
        ]
        self.assertEqual(("warn", "a.b", "worker 0: one\n\ttwo"), found[0])
        self.assertEqual(("info", "c", "worker 0: three"), found[1])
        others = ['worker 0: {"x": 1}', "worker 0: Segmentation fault"]
        self.assertEqual(others, [text for _, _, text in found[2:]])
        facts = [event_facts(event) for event in events if event.get("log_text")]
        self.assertEqual([{"id": "a1", "worker": 0}, {"worker": 0}], facts)
        self.assertEqual(12.5, next(one for one in events if one.get("id") == "a1")["log_time"])

    def test_environment(self) -> None:
        """A child finds the package that runs here, before any other."""
        found = child_environment({"PYTHONPATH": "/elsewhere", "A": "b"})

        first, rest = found["PYTHONPATH"].split(os.pathsep)
        self.assertEqual(("/elsewhere", "b"), (rest, found["A"]))
        self.assertTrue((Path(first) / "mailhost" / "workers" / "child.py").exists())


class SupervisorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))
        self.reactor = FakeReactor()
        self.port = reserve_port(HOST)
        settings = Settings(
            workers=2,
            virtual_servers=(make_settings(listen=(ListenAddress(HOST, self.port),)),),
        )
        self.supervisor = Supervisor(settings, self.reactor, lambda: settings)

    def end(self, number: int) -> None:
        self.reactor.protocols[number].processEnded(Failure(ProcessTerminated(None, 9, None)))

    def test_who_does_not_stop_is_killed(self) -> None:
        """After the grace that sessions and deliveries have; then it is over."""
        self.supervisor.startService()
        stopped = self.supervisor.stopService()
        self.end(0)
        self.reactor.advance(44)
        self.assertNotIn((2, "KILL"), self.reactor.signals)
        self.reactor.advance(2)
        self.assertEqual([(2, "KILL")], [one for one in self.reactor.signals if one[1] == "KILL"])
        self.assertNoResult(stopped)

        self.end(1)

        self.successResultOf(stopped)
        self.assertFalse(can_connect(self.port))
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_addresses_that_become_free(self) -> None:
        """Workers of an earlier supervisor may have them for a moment."""
        with socket.create_server((HOST, self.port)):
            self.supervisor.startService()
            self.reactor.advance(1)
            self.assertEqual([], self.reactor.protocols)
        self.reactor.advance(0.3)

        self.assertEqual(2, len(self.reactor.protocols))
        self.assertTrue(can_connect(self.port))
        self.supervisor.stopService()

    def test_addresses_that_stay_taken(self) -> None:
        """After three seconds the workers are started without them."""
        with socket.create_server((HOST, self.port)):
            self.supervisor.startService()
            self.reactor.pump([0.25] * 13)

            self.assertEqual(2, len(self.reactor.protocols))
        self.supervisor.stopService()

    def test_workers_that_do_not_answer(self) -> None:
        """Where systemd watches us we watch them: who is silent is killed, and comes back."""
        self.supervisor.manager = ServiceManager({"WATCHDOG_USEC": "20000000"})
        self.supervisor.startService()
        silent, well = self.supervisor.workers
        silent.link, well.link = FakeLink(Deferred), FakeLink(lambda: succeed({"answer": b"{}"}))  # type: ignore[assignment]
        self.reactor.advance(10)
        self.assertEqual([], self.reactor.signals)
        self.reactor.advance(10)
        self.assertEqual([(1, "KILL")], self.reactor.signals)
        self.end(0)
        self.reactor.advance(1)
        self.assertEqual(3, len(self.reactor.protocols))
        well.link = None
        self.supervisor.stopService()
        self.flushLoggedErrors()

    def test_operators_hear_who_is_missing(self) -> None:
        """Who is not there, and who does not answer in time; nobody is waited for without end."""
        settings = evolve(self.supervisor.settings, workers=3)
        supervisor = Supervisor(settings, self.reactor, lambda: settings)
        view = ServerView("test", "running", (), 1, 2, 3)
        told = {"answer": b"[]", "views": encode_views((view,))}
        supervisor.workers[0].link = FakeLink(lambda: succeed(told))  # type: ignore[assignment]
        supervisor.workers[1].link = FakeLink(Deferred)  # type: ignore[assignment]
        for asking, seconds in (
            (supervisor.view(), 5),
            (supervisor.ask("sites", {"server": None}), 10),
        ):
            found: Any = ensureDeferred(asking)
            self.reactor.advance(seconds - 0.1)
            self.assertNoResult(found)
            self.reactor.advance(0.2)
            self.assertEqual((1, 2), self.successResultOf(found).missing)
        stopping = ensureDeferred(supervisor.stop("test"))
        self.reactor.advance(44)
        self.assertNoResult(stopping)
        self.reactor.advance(2)

        self.successResultOf(stopping)
        self.assertEqual(["test"], supervisor.names())
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_held_mail_is_asked_for(self) -> None:
        """All but the asker are asked; who is not there, fails or is silent is not waited for."""
        settings = evolve(self.supervisor.settings, workers=6)
        supervisor = Supervisor(settings, self.reactor, lambda: settings)
        answers: list[Any] = [
            lambda: succeed({"answer": b"true"}),
            lambda: fail(CannotSteer("disk")),
            Deferred,
            lambda: succeed({"answer": b"false"}),
            lambda: succeed({"answer": b'"maybe"'}),
        ]
        for worker, answer in zip(supervisor.workers, answers, strict=False):
            worker.link = FakeLink(answer)  # type: ignore[assignment]
        asked = supervisor.ask_held(b"{}", 0)
        self.reactor.advance(1.9)
        self.assertNoResult(asked)
        self.reactor.advance(0.2)

        self.assertEqual([None, None, False, None, None], self.successResultOf(asked))
        self.assertEqual([], self.reactor.getDelayedCalls())
        found = supervisor.ask_held(b"{}", 2)
        self.assertEqual([True, None, False, None, None], self.successResultOf(found))

    def test_a_session_is_lent(self) -> None:
        """Whatever comes of it, its descriptor is closed when it is over."""
        for link, expected in (
            (None, True),  # nobody has touched it
            (FakeLink(lambda: succeed({"in_order": True})), True),
            (FakeLink(lambda: succeed({"in_order": False})), False),
            (FakeLink(lambda: fail(ConnectionError("killed"))), False),
        ):
            self.supervisor.workers[1].link = link  # type: ignore[assignment]
            descriptor = os.open(os.devnull, os.O_RDONLY)
            lent = self.supervisor.lend(1, b"{}", descriptor)
            self.assertIs(expected, self.successResultOf(lent))
            with self.assertRaises(OSError):
                os.fstat(descriptor)

    def test_ready(self) -> None:
        """It is ready when every worker has told its states; where they differ all are told."""
        self.supervisor.manager = Heard()
        self.supervisor.startService()
        one, two = self.supervisor.workers
        self.supervisor.told(one, {"test": "running"})
        self.assertEqual([], self.supervisor.manager.told)
        self.supervisor.told(two, {"test": "waiting"})
        self.supervisor.told(two, {"test": "running"})
        self.assertEqual([{"test": "running/waiting"}], self.supervisor.manager.told)
        self.supervisor.stopService()

    def test_stopped_before_it_began(self) -> None:
        """Nothing is started after a stop."""
        with socket.create_server((HOST, self.port)):
            self.supervisor.startService()
            self.successResultOf(self.supervisor.stopService())
        self.reactor.advance(10)

        self.assertEqual([], self.reactor.protocols)


class OperatorTests(TestCase):
    """One service in one process, and in two: the same questions, the same answers."""

    timeout = 40

    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.port = reserve_port(HOST)
        server = make_settings(
            name="one", home=Path(folder.name) / "one", listen=(ListenAddress(HOST, self.port),)
        )
        self.settings = Settings(virtual_servers=(server,))
        hang_up = signal.getsignal(signal.SIGHUP)
        self.addCleanup(signal.signal, signal.SIGHUP, hang_up)

    async def until(self, condition: Any) -> Any:
        while not (found := await condition()):
            await deferLater(reactor, 0.02)
        return found

    async def steer(self, service: MailhostService | Supervisor, workers: int) -> None:
        """Mail, pause, start, stop and start, seen from outside and in the view."""

        async def running() -> bool:
            view = await service.view()
            servers = [one for worker in view.workers for one in worker.servers]
            return [one.state for one in servers] == ["running"] * workers

        async def refused() -> bool:
            return not can_connect(self.port)

        await self.until(running)
        await deferToThread(self.send)
        view = await service.view()
        self.assertEqual([(HOST, self.port)], list(view.servers[0].addresses))
        self.assertEqual(list(range(workers)), [worker.number for worker in view.workers])
        self.assertEqual(workers, len({worker.pid for worker in view.workers}))

        await service.pause("one")
        await self.until(refused)
        self.assertEqual("paused", (await service.view()).servers[0].state)
        await service.start("one")
        await deferToThread(self.send)
        await service.stop("one")
        await self.until(refused)
        self.assertEqual("stopped", (await service.view()).servers[0].state)
        await service.start("one")
        await deferToThread(self.send)
        with self.assertRaises(KeyError):
            await service.pause("two")

    def send(self) -> None:
        with smtplib.SMTP(HOST, self.port, timeout=10) as client:
            client.sendmail("a@example.com", ["b@example.com"], "\r\n")

    async def test_one_process(self) -> None:
        """The service of a single process."""
        service = MailhostService(self.settings, reactor, lambda: self.settings)
        service.startService()
        self.addCleanup(service.stopService)

        await self.steer(service, 1)

    async def test_two_workers(self) -> None:
        """The supervisor of two; a worker that comes back while the server rests, rests too."""
        settings = evolve(self.settings, workers=2)
        supervisor = Supervisor(settings, reactor, lambda: settings)
        supervisor.startService()
        self.addCleanup(supervisor.stopService)
        await self.steer(supervisor, 2)
        await supervisor.pause("one")

        pid = supervisor.workers[1].pid
        os.kill(pid, signal.SIGKILL)

        async def back() -> bool:
            worker = supervisor.workers[1]
            return worker.pid != pid and worker.states.get("one") == "paused"

        async def refused() -> bool:
            return not can_connect(self.port)

        await self.until(back)
        await self.until(refused)
