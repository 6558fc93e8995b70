"""Tests for `mailhost.systemd`: what systemd would hear."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from unittest.mock import patch

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.systemd import ServiceManager
from tests.support.process import PATIENCE_SECONDS, takes_connections
from tests.workers.house import HouseCase


class Ear:
    """A socket that hears what it is told."""

    def __init__(self, case: SynchronousTestCase, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        case.addCleanup(self._socket.close)
        self._socket.settimeout(PATIENCE_SECONDS)
        self._socket.bind(address)

    def heard(self) -> list[str]:
        """The next notification, line by line."""
        return self._socket.recv(4096).decode().split("\n")


class ManagerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = f"\0mailhost-{os.getpid()}-{id(self)}"
        self.ear = Ear(self, self.path)

    def manager(self, **environment: str) -> ServiceManager:
        told = {"NOTIFY_SOCKET": f"@{self.path[1:]}", **environment}
        return ServiceManager(told, lambda: 1234567)

    def test_words(self) -> None:
        """What sd_notify(3) says; a name cannot begin a line of its own."""
        manager = self.manager()
        manager.ready({"one": "running", "two\nSTOPPING=1": "stopped"})
        self.assertEqual(
            ["READY=1", "STATUS=one running, two STOPPING=1 stopped"], self.ear.heard()
        )
        manager.reloading()
        self.assertEqual(["RELOADING=1", "MONOTONIC_USEC=1234567"], self.ear.heard())
        manager.stopping()
        self.assertEqual("STOPPING=1", self.ear.heard()[0])

    def test_monotonic(self) -> None:
        """The kernel's clock, in microseconds, as systemd reads it."""
        manager = ServiceManager({"NOTIFY_SOCKET": f"@{self.path[1:]}"})
        manager.reloading()
        _, _, told = self.ear.heard()[1].partition("=")
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        self.assertLess(abs(int(told) / 1e6 - uptime), 60)

    def test_watchdog(self) -> None:
        """Twice in the time that it gives, while the reactor turns; not when it is another's."""
        clock, looked = Clock(), []
        manager = self.manager(WATCHDOG_USEC="20000000", WATCHDOG_PID=str(os.getpid()))
        manager.watch(clock, looked.append)
        for _ in range(2):
            self.assertEqual(["WATCHDOG=1"], self.ear.heard())
            clock.advance(10)
        self.assertEqual([10.0] * 3, looked)
        manager.rest()
        self.assertEqual([], clock.getDelayedCalls())
        for wrong in ({"WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}):
            manager = self.manager(**{"WATCHDOG_USEC": "20000000", **wrong})
            manager.watch(clock)
            self.assertEqual([], clock.getDelayedCalls(), wrong)

    def test_nobody_listens(self) -> None:
        """A manager that has gone stops nothing."""
        manager = ServiceManager({"NOTIFY_SOCKET": "/no/such/socket"})
        manager.ready({})
        ServiceManager().ready({})
        self.assertEqual([], self.flushLoggedErrors())


class ProcessTests(HouseCase):
    def test_life(self) -> None:
        """Ready when it listens, ready again after a reload, also of a faulty file; stopping."""
        for workers in (1, 2):
            path = self.path("notify")
            ear = Ear(self, str(path))
            house = self.make_house(workers=workers)
            # As systemd would start it; the watchdog is patient, as this machine may be slow.
            asked = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "60000000"}
            with patch.dict(os.environ, asked):
                house.mailhost.launch()
            self.assertEqual(["WATCHDOG=1"], ear.heard())
            self.assertEqual(["READY=1", "STATUS=one running"], ear.heard())
            self.assertTrue(takes_connections(house.address))
            house.process.send_signal(signal.SIGHUP)
            self.assertEqual("RELOADING=1", ear.heard()[0])
            self.assertEqual("READY=1", ear.heard()[0])
            house.mailhost.configuration.write_text("nonsense: true\n")
            house.process.send_signal(signal.SIGHUP)
            self.assertEqual("RELOADING=1", ear.heard()[0])
            ready, status = ear.heard()
            self.assertEqual("READY=1", ready)
            self.assertTrue(status.startswith("STATUS=one running; the new configuration has"))
            house.process.send_signal(signal.SIGTERM)
            self.assertEqual("STOPPING=1", ear.heard()[0])
            house.process.wait()
