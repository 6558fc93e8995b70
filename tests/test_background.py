"""Tests for `mailhost.background`."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from mailhost import background
from mailhost.background import AppendedFile, Background

PATIENCE_SECONDS = 60.0


class BackgroundTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(background, "GATHER_SECONDS", 0.001)
        self.written: list[str] = []
        self.threads: set[int] = set()
        self.free = threading.Event()
        self.free.set()
        self.held = threading.Event()
        self.broken = False
        self.background = Background("test", self.write, "lost {}".format, most=10)
        self.addCleanup(self.background.stop)
        self.addCleanup(self.free.set)

    def write(self, items: Sequence[str]) -> None:
        self.held.set()
        self.free.wait(PATIENCE_SECONDS)
        if self.broken:
            raise OSError("disk")
        self.threads.add(threading.get_ident())
        self.written += items

    def stand_still(self) -> None:
        """The disk takes one item, and no more until it is free."""
        self.free.clear()
        self.held.clear()
        self.background.put("first")
        self.assertTrue(self.held.wait(PATIENCE_SECONDS))

    def test_order(self) -> None:
        """All that was put is written, in its order, by one other thread."""
        self.background.start()
        for number in range(10):
            self.background.put(str(number))
        self.background.stop()

        self.assertEqual([str(number) for number in range(10)], self.written)
        self.assertEqual(1, len(self.threads))
        self.assertNotIn(threading.get_ident(), self.threads)

    def test_before_and_after(self) -> None:
        """Without a thread whoever puts writes: nothing is lost at either end."""
        self.background.put("early")
        self.assertEqual(["early"], self.written)
        self.background.start()
        self.background.stop()
        self.background.put("late")

        self.assertEqual(["early", "late"], self.written)
        self.assertEqual({threading.get_ident()}, self.threads)

    def test_disk_that_stands_still(self) -> None:
        """Nobody waits for it; what does not fit is counted, and told of once."""
        self.background.start()
        self.stand_still()
        for number in range(25):
            self.background.put(str(number))
        self.assertEqual(15, self.background.dropped)
        self.free.set()
        self.background.stop()

        kept = [str(number) for number in range(10)]
        self.assertEqual(["first", *kept, "lost 15"], self.written)
        self.assertEqual(0, self.background.dropped)

    def test_disk_that_fails(self) -> None:
        """What it did not take is lost and told of when it works again."""
        self.broken = True
        self.background.put("a")
        self.background.put("b")
        self.broken = False
        self.background.put("c")

        self.assertEqual(["c", "lost 2"], self.written)

    def test_stop_that_takes_too_long(self) -> None:
        """A thread that is stuck does not keep the process from ending."""
        self.patch(background, "STOP_SECONDS", 0.01)
        self.background.start()
        self.stand_still()
        self.background.stop()
        self.background.put("after")  # returns
        self.free.set()


class AppendedFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "below" / "x.log"
        self.file = AppendedFile(self.path)
        self.addCleanup(self.file.close)

    def test_moved_away(self) -> None:
        """What comes after a rotation stands in a new file, without a signal."""
        self.file.write(b"one\n")
        moved = self.path.rename(self.path.with_suffix(".1"))
        self.file.write(b"two\n")
        moved.unlink()
        self.path.unlink()
        self.file.write(b"three\n")

        self.assertEqual(b"three\n", self.path.read_bytes())

    def test_replaced(self) -> None:
        """A new file of that name is written to, from its end."""
        self.file.write(b"one\n")
        other = self.path.with_suffix(".new")
        other.write_bytes(b"zero\n")
        other.rename(self.path)
        self.file.write(b"two\n")

        self.assertEqual(b"zero\ntwo\n", self.path.read_bytes())

    def test_for_few(self) -> None:
        """Not everybody may read it, and it is given to whom it was made for."""
        AppendedFile(self.path, (os.geteuid(), os.getegid())).write(b"x")
        found = self.path.stat()
        self.assertEqual((0, os.geteuid()), (found.st_mode & 0o007, found.st_uid))
