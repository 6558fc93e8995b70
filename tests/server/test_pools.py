"""Tests for `mailhost.server.pools`."""

from __future__ import annotations

from threading import Event

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import TestCase

from mailhost.model.view import PoolView
from mailhost.server.pools import Pools


class PoolsTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.pools = Pools(reactor, "one")
        self.addCleanup(self.pools.stop)
        self.go_on = Event()
        self.addCleanup(self.go_on.set)

    async def test_busy(self) -> None:
        """Who works and what waits; afterwards nobody and nothing."""
        run = self.pools.open("delivery", 2)
        self.pools.open("greylist", 1)
        done = [run(self.go_on.wait, 20) for _ in range(5)]

        self.assertEqual(
            [PoolView("delivery", 2, 3, 2), PoolView("greylist", 0, 0, 1)],
            list(self.pools.views()),
        )
        self.go_on.set()
        await gatherResults(done)
        self.pools.stop()
        self.assertEqual([], list(self.pools.views()))

    def test_of_others(self) -> None:
        """Pools that somebody else looks after are told as well, those of the same name too."""
        self.pools.open("delivery", 1)
        commits = [{"commit": ThreadPool(0, 1)}, {"commit": ThreadPool(0, 1)}]

        found = [view.what for view in self.pools.views(*commits, {})]

        self.assertEqual(["delivery", "commit", "commit"], found)

    async def test_opened_again(self) -> None:
        """After a stop there are threads again."""
        self.pools.open("delivery", 1)
        self.pools.stop()
        self.pools.open("delivery", 1)

        self.assertEqual(7, await self.pools.run("delivery", lambda: 7))
