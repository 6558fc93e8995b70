"""Pickup with real threads, real time and the kernel's news."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SkipTest, TestCase

from mailhost.intake import directory_events, pickup
from mailhost.intake.desk import Desk
from mailhost.intake.pickup import Pickup
from mailhost.model.queue import QueuedMessage
from mailhost.routing.categorizer import make_categorizer
from mailhost.spool.badmail import Badmail
from mailhost.spool.memory import MemoryQueue
from tests.intake.pickup_house import MESSAGE
from tests.support.world import FakeNames, make_settings

_reactor: Any = reactor


class RealTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.home = Path(mkdtemp())
        self.addCleanup(rmtree, self.home)
        self.directory = self.home / "Pickup"
        self.accepted: list[QueuedMessage] = []
        self.wanted = 0
        self.enough: Deferred[None] = Deferred()
        self.pool = ThreadPool(0, 8)
        self.pool.start()
        self.addCleanup(self.pool.stop)
        settings = make_settings(home=self.home)
        store = MemoryQueue(_reactor.seconds)
        desk = Desk(settings, make_categorizer(settings), store, FakeNames(), _reactor, self.accept)
        run = partial(deferToThreadPool, _reactor, self.pool)
        badmail = Badmail(self.home / "Badmail", run)
        self.pickup = Pickup(desk, self.directory, badmail, _reactor, run)
        self.addCleanup(self.pickup.stop)

    def accept(self, message: QueuedMessage) -> None:
        self.accepted.append(message)
        if len(self.accepted) == self.wanted:
            self.enough.callback(None)

    async def until_accepted(self, count: int) -> None:
        """Wait until so many messages have come in all."""
        if len(self.accepted) < count:
            self.wanted, self.enough = count, Deferred()
            await self.enough

    async def begin(self) -> None:
        """Start it, and wait until it watches."""
        self.pickup.start()
        await self.pickup.look()

    def only_news(self) -> None:
        """No look by itself within the time of a test."""
        if directory_events.inotify is None or not IReactorFDSet.providedBy(_reactor):
            raise SkipTest("the kernel has no news here")
        self.patch(pickup, "LOOK_SECONDS", 3600.0)

    def move_in(self, name: str) -> None:
        """As programs should do it."""
        path = self.directory / f".{name}.tmp"
        path.write_bytes(MESSAGE)
        path.rename(self.directory / name)

    async def test_moved_in(self) -> None:
        """What is moved in is taken at once, because the kernel tells."""
        self.only_news()
        await self.begin()

        self.move_in("a.eml")

        await self.until_accepted(1)
        await self.pickup.stop()
        self.assertEqual([".work"], os.listdir(self.directory))

    async def test_written(self) -> None:
        """What is written in place is taken when it is whole."""
        await self.begin()
        with (self.directory / "a.eml").open("wb", buffering=0) as file:
            file.write(MESSAGE[:20])
            await self.pickup.look()
            file.write(MESSAGE[20:])

        await self.until_accepted(1)
        self.assertEqual(1, len(self.accepted))

    async def test_without_news(self) -> None:
        """Looking again and again is enough."""
        self.patch(directory_events, "inotify", None)
        self.patch(pickup, "LOOK_SECONDS", 0.02)
        await self.begin()

        self.move_in("a.eml")

        await self.until_accepted(1)

    async def test_no_room_for_watchers(self) -> None:
        """Nor is it a disaster if the kernel cannot watch one more directory."""

        def refuse(*arguments: object) -> None:
            raise OSError(28, "No space left on device")

        self.patch(directory_events, "DirectoryEvents", refuse)
        self.patch(pickup, "LOOK_SECONDS", 0.02)
        await self.begin()

        self.move_in("a.eml")

        await self.until_accepted(1)

    async def test_many(self) -> None:
        """Many at a time: each comes once, and all are gone."""
        await self.begin()
        for number in range(500):
            self.move_in(f"{number}.eml")

        await self.until_accepted(500)
        await self.pickup.look()
        await self.pickup.stop()

        self.assertEqual(500, len(self.accepted))
        self.assertEqual([".work"], os.listdir(self.directory))
        self.assertEqual([], os.listdir(self.directory / ".work"))

    async def test_directory_made_again(self) -> None:
        """A directory that is removed is made again, and watched again."""
        self.only_news()
        await self.begin()
        (self.directory / ".work").rmdir()
        self.directory.rmdir()
        await self.pickup.look()
        await self.pickup.look()

        self.move_in("a.eml")

        await self.until_accepted(1)

    async def test_stopped(self) -> None:
        """After the stop nothing is left in the reactor, whenever it comes."""
        self.pickup.start()
        await self.pickup.stop()
        await self.begin()
        self.move_in("a.eml")
        await self.pickup.stop()
        await self.pickup.stop()
