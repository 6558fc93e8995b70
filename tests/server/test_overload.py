"""Tests for `mailhost.server.overload`, and for what a session hears of it."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.settings.overload import OverloadSettings
from mailhost.model.access import AccessList
from mailhost.policy.overload import Level
from mailhost.policy.relaying import openness
from mailhost.server.overload import LOOK_SECONDS, OverloadWatch, used_octets
from mailhost.smtp import replies
from tests.support.world import World, make_settings

MIB = 1 << 20


class WatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.count, self.used, self.free = 0, 0, 1 << 40
        self.told: list[Level] = []

    def watch(self, **settings: Any) -> OverloadWatch:
        watch = OverloadWatch(
            make_settings(overload=OverloadSettings(**settings)),
            self.clock,
            lambda: (self.count, 10),
            self.told.append,
            lambda: self.used,
            lambda path: self.free,
        )
        watch.start()
        self.addCleanup(watch.stop)
        return watch

    def look(self, times: int = 1) -> None:
        self.clock.pump([LOOK_SECONDS] * times)

    def test_sessions(self) -> None:
        """Many of max_connections: silent clients have to hurry, no more than that."""
        watch = self.watch()
        self.count = 10
        self.look()
        self.assertEqual([Level.HASTY], self.told)
        assert watch.warning is not None
        self.assertEqual("overload.sessions", watch.warning[1])
        self.assertIn("sessions: 10 of 10", watch.warning[0])
        self.count = 1
        self.look(7)
        self.assertEqual([Level.HASTY, Level.NORMAL], self.told)
        self.assertIsNone(watch.warning)

    def test_memory_and_disk(self) -> None:
        """Each in three steps."""
        self.watch(memory=100 * MIB)
        for self.used, level in ((80 * MIB, 1), (90 * MIB, 2), (100 * MIB, 3)):
            self.look()
            self.assertEqual(level, self.told[-1])
        self.used = 0
        self.look(20)
        for self.free, level in ((128 * MIB, 1), (96 * MIB, 2), (64 * MIB, 3), (0, 3)):
            self.look()
            self.assertEqual(level, self.told[-1])

    def test_lag(self) -> None:
        """Late twice is late; a clock that is set is late once."""
        self.watch()
        self.clock.advance(LOOK_SECONDS + 3600)
        self.look(2)
        self.assertEqual([], self.told)
        self.clock.advance(LOOK_SECONDS + 3)
        self.clock.advance(LOOK_SECONDS + 3)
        self.assertEqual([Level.HASTY], self.told)
        self.clock.advance(LOOK_SECONDS + 9)
        self.clock.advance(LOOK_SECONDS + 9)
        self.assertEqual(Level.FULL, self.told[-1])

    def test_switched_off(self) -> None:
        """Nothing is looked at."""
        self.watch(enabled=False)
        self.count, self.free = 10, 0
        self.look(2)
        self.assertEqual([], self.told)

    def test_memory_of_this_process(self) -> None:
        """A Python that runs has some MiB."""
        self.assertGreater(used_octets(), MIB)


class SessionTests(SynchronousTestCase):
    def test_new_clients(self) -> None:
        """421 to strangers; sessions that are open go on, and so do the operator's own."""
        settings = make_settings()
        trusted = AccessList.build(False, ["192.0.2.8"]).networks
        world = World(evolve(settings, access=evolve(settings.access, trusted=trusted)))
        session = world.connect()
        world.desk.closed = True
        self.assertEqual(replies.BUSY.octets, world.connect().read())
        self.assertTrue(world.connect("192.0.2.8").read().startswith(b"220"))
        self.assertIn(b"250", session.send(b"EHLO x\r\n"))

    def test_patience(self) -> None:
        """Silent clients are left sooner, those that are here already as well."""
        world = World(make_settings(connection_timeout=600))
        session = world.connect()
        world.factory.hurry(30)
        world.clock.pump([1.0] * 32)
        self.assertIn(b"421 4.4.2", session.read())

    def test_no_new_mail(self) -> None:
        """452 to MAIL, nothing else."""
        world = World()
        world.desk.full = lambda: "overload"
        session = world.connect()
        session.send(b"EHLO x\r\n")
        self.assertTrue(session.send(b"MAIL FROM:<>\r\n").startswith(b"452 4.3.1"))


class OpennessTests(SynchronousTestCase):
    def test_open_relays(self) -> None:
        """Everybody, or a large part of the Internet; one's own networks are no such thing."""
        for relay, setting in (
            (AccessList(True), "access.relay.default"),
            (AccessList.build(False, ["0.0.0.0/0"]), "access.relay.except"),
            (AccessList.build(False, ["2000::/3"]), "access.relay.except"),
        ):
            self.assertEqual([setting], [one for _, one in openness(relay)])
        self.assertEqual([], openness(AccessList.build(False, ["10.0.0.0/8", "::1"])))
