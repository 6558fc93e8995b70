"""Tests for `mailhost.service` and `mailhost.tap`."""

from __future__ import annotations

import socket
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.application.service import IService, IServiceCollection, IServiceMaker
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailhost import service as service_module
from mailhost.config.reader import load_settings
from mailhost.control.door import Door
from mailhost.control.exposition import Outlook
from mailhost.net.poller import Poller
from mailhost.service import MailhostService
from mailhost.spool.lock import QueueLock
from mailhost.tap import Options, makeService
from mailhost.workers.supervisor import Supervisor

SERVER = """
  - name: {name}
    home: {home}
    fqdn: mail.example.com
    domain: {domain}
    listen: ["{listen}"]
"""


class ServiceTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.file = self.folder / "mailhost.yaml"

        ports = [self.free_port(f"127.0.0.{n}") for n in (1, 2, 3)]
        self.one, self.two, self.three = [f"127.0.0.{n}:{p}" for n, p in enumerate(ports, 1)]

    def free_port(self, host: str) -> int:
        with socket.socket() as probe:
            probe.bind((host, 0))
            port: int = probe.getsockname()[1]
        return port

    def write(self, *servers: tuple[str, str, str]) -> None:
        text = "".join(
            SERVER.format(name=name, home=self.folder / name, domain=domain, listen=listen)
            for name, domain, listen in servers
        )
        self.file.write_text(f"virtual_servers:{text}", "utf-8")

    def start(self) -> MailhostService:
        service = MailhostService(
            load_settings(self.file), reactor, lambda: load_settings(self.file)
        )
        service.startService()
        self.addCleanup(service.stopService)
        return service

    async def test_reload(self) -> None:
        """Servers come, change and go; what is not concerned stays as it is."""
        self.write(("one", "one.example", self.one), ("two", "two.example", self.two))
        service = self.start()
        one = service.virtual_servers["one"]

        self.write(("one", "uno.example", self.one), ("three", "x.example", self.three))
        service.reload()

        self.assertEqual({"one", "three"}, set(service.virtual_servers))
        self.assertIs(one, service.virtual_servers["one"])
        self.assertEqual("uno.example", one.settings.domain)
        self.assertEqual("running", service.virtual_servers["three"].state)

    async def test_sockets_of_the_process(self) -> None:
        """All that is listened to, and what connects, is watched by one poller."""
        self.write(("one", "one.example", self.one), ("two", "two.example", self.two))
        before = set(reactor.getReaders())  # type: ignore[attr-defined]  # IReactorFDSet
        service = self.start()
        added = set(reactor.getReaders()) - before  # type: ignore[attr-defined]  # IReactorFDSet
        (poller,) = [one for one in added if isinstance(one, Poller)]
        hosts = [port.getHost() for port in poller.getReaders()]
        ports = {f"{host.host}:{host.port}" for host in hosts}
        self.assertEqual({self.one, self.two}, ports)
        for server in service.virtual_servers.values():
            assert server.relay is not None
            self.assertIs(poller, server.relay.line.poller)
        await service.stopService()
        self.assertNotIn(poller, reactor.getReaders())  # type: ignore[attr-defined]  # IReactorFDSet

    async def test_faulty_reload_changes_nothing(self) -> None:
        """A file with faults is refused whole."""
        self.write(("one", "one.example", self.one))
        service = self.start()
        before = service.virtual_servers["one"].settings

        self.file.write_text("virtual_servers: [{name: one, hoem: x}]", "utf-8")
        service.reload()

        self.assertIs(before, service.virtual_servers["one"].settings)
        self.assertEqual("running", service.virtual_servers["one"].state)

    async def test_queue_that_becomes_free(self) -> None:
        """A server whose queue is in use is tried again, without being asked."""
        self.write(("one", "one.example", self.one))
        queue = self.folder / "one" / "Queue"
        queue.mkdir(parents=True)
        lock = QueueLock(queue / "lock")
        service = self.start()
        self.assertEqual({"one": "waiting"}, service.states())

        lock.release()

        while service.states() != {"one": "running"}:
            await deferLater(reactor, 0.05)
        self.assertEqual([], list(service._again))

    async def test_queue_that_stays_in_use(self) -> None:
        """It is not tried for ever, and not any more when the service stops."""
        self.patch(service_module, "PATIENCE_SECONDS", 0.6)
        self.write(("one", "one.example", self.one))
        queue = self.folder / "one" / "Queue"
        queue.mkdir(parents=True)
        lock = QueueLock(queue / "lock")
        self.addCleanup(lock.release)
        service = self.start()

        while service.states() != {"one": "stopped"}:
            await deferLater(reactor, 0.05)

    async def test_one_fails_alone(self) -> None:
        """A server that cannot bind leaves the other running."""
        self.write(("one", "one.example", self.one), ("two", "two.example", self.one))
        service = self.start()

        states = {name: server.state for name, server in service.virtual_servers.items()}
        self.assertEqual({"one": "running", "two": "stopped"}, states)


class TapTests(SynchronousTestCase):
    def test_plugin(self) -> None:
        """`twistd mailhost` is there."""
        found = [maker for maker in getPlugins(IServiceMaker) if maker.tapname == "mailhost"]

        self.assertEqual(["mailhost.tap"], [maker.module for maker in found])

    def test_faults_are_a_usage_error(self) -> None:
        """Every fault of the file is on the screen, with its line."""
        with TemporaryDirectory() as folder:
            file = Path(folder) / "mailhost.yaml"
            file.write_text("virtual_servers:\n  - naem: x\n    listne: []\n", "utf-8")

            problem = self.assertRaises(UsageError, Options().parseOptions, ["--config", str(file)])

        self.assertIn(f"{file}:2:", str(problem))
        self.assertIn(f"{file}:3:", str(problem))

    def test_make_service(self) -> None:
        """The shipped configuration makes a service."""
        options = Options()
        options.parseOptions(["--config", str(Path(__file__).parents[1] / "etc/mailhost.yaml")])

        self.assertTrue(IService.providedBy(makeService(options)))

    def test_metrics(self) -> None:
        """Where they are told an address is opened with the socket; else there is none."""
        found = []
        with TemporaryDirectory() as folder:
            for text in ("", "metrics: 127.0.0.1:9125\n"):
                file = Path(folder) / "mailhost.yaml"
                file.write_text(f"{text}virtual_servers: [{{fqdn: a.example}}]\n", "utf-8")
                options = Options()
                options.parseOptions(["--config", str(file)])
                service, _ = IServiceCollection(makeService(options))  # type: ignore[call-arg]
                found.append(service.control)

        self.assertEqual([[Door], [Door, Outlook]], [[*map(type, one.each)] for one in found])
        outlook = found[1].each[1]
        self.assertEqual(("127.0.0.1", 9125), (outlook.host, outlook.port))

    def test_several_workers(self) -> None:
        """More than one worker has a supervisor."""
        with TemporaryDirectory() as folder:
            file = Path(folder) / "mailhost.yaml"
            file.write_text("workers: 3\nvirtual_servers: [{fqdn: a.example}]\n", "utf-8")
            options = Options()
            options.parseOptions(["--config", str(file)])

        service, _ = IServiceCollection(makeService(options))  # type: ignore[call-arg]  # adapts

        assert isinstance(service, Supervisor)
        self.assertEqual([0, 1, 2], [worker.number for worker in service.workers])
