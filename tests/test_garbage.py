"""When the garbage collector works."""

from __future__ import annotations

import gc
import sys

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.garbage import Caretaker


class CaretakerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        self.addCleanup(gc.unfreeze)
        self.addCleanup(gc.enable)
        gc.disable()  # only the collections of the test are counted
        self.clock = Clock()
        self.caretaker = Caretaker(self.clock)
        self.collections = 0
        self.caretaker.collect = self.collect
        self.caretaker.startService()

    def collect(self, generation: int = 2) -> int:
        self.collections += 1
        return gc.collect(generation)

    def test_set_apart_after_the_start(self) -> None:
        """What the services have made when all of them have started is looked at no more."""
        self.assertEqual(0, gc.get_freeze_count())
        self.clock.advance(0)
        self.assertGreater(gc.get_freeze_count(), 1_000)
        self.assertLess(len(gc.get_objects()), gc.get_freeze_count())

    def test_full_collection_at_a_quiet_time(self) -> None:
        """As long as much is made, nothing stops for it."""
        self.clock.advance(0)
        for _ in range(3):
            gc.collect(1)
            self.clock.advance(5)
            self.assertEqual(0, self.collections)
        self.clock.advance(5)
        self.assertEqual(1, self.collections)

    def test_nothing_made(self) -> None:
        """An idle service does not look again and again."""
        self.clock.advance(0)
        self.clock.pump([5] * 10)
        self.assertEqual(0, self.collections)

    def test_stopped(self) -> None:
        """No timer is left, stopped before the first look or after it."""
        self.clock.advance(0)
        self.caretaker.stopService()
        self.assertEqual([], self.clock.getDelayedCalls())
        early = Caretaker(self.clock)
        early.startService()
        early.stopService()
        self.assertEqual([], self.clock.getDelayedCalls())
