"""Tests for `mailhost.spool.purge`, by way of Badmail."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import execute
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailhost.errors import DirectoryProblem
from mailhost.spool.badmail import Badmail, BadMessage
from mailhost.spool.purge import Purged
from mailhost.spool.steps import Step

NOW = 1016119918.0
_KINDS = ("BAD", "BDP", "BDR")


class PurgeCase(SynchronousTestCase):
    def setUp(self) -> None:
        home = mkdtemp()
        self.addCleanup(rmtree, home)
        self.directory = Path(home) / "Badmail"
        self.badmail = Badmail(self.directory, execute)
        self.badmail.start()

    def stored(self, number: int, age_seconds: float, octets: int = 1000) -> str:
        """The name of a triple that is *age_seconds* old."""
        message = BadMessage(f"{number:024x}", "for the exercise", None)
        content = b"x" * octets
        stem: str = self.successResultOf(self.badmail.store(message, content, NOW))
        for kind in _KINDS:
            os.utime(self.directory / f"{stem}.{kind}", (NOW - age_seconds,) * 2)
        return stem

    def octets(self) -> int:
        return sum(path.stat().st_size for path in self.directory.iterdir())

    def purged(self, keep_seconds: float | None, max_octets: int | None) -> int:
        purged: Purged = self.successResultOf(self.badmail.purge(keep_seconds, max_octets, NOW))
        self.assertEqual(0, purged.left)
        return purged.count

    def stems(self) -> set[str]:
        return {path.name[:24] for path in self.directory.iterdir()}


class PurgeTests(PurgeCase):
    def test_by_age(self) -> None:
        """What is older than the age goes, whole; what is as old stays."""
        self.stored(1, 101)
        kept = {self.stored(2, 100), self.stored(3, 0)}

        self.assertEqual(1, self.purged(100, None))
        self.assertEqual(kept, self.stems())
        self.assertEqual(6, len(list(self.directory.iterdir())))

    def test_by_size(self) -> None:
        """The oldest go until the rest is small enough, and no more."""
        self.stored(1, 30)
        two, three = self.stored(2, 20), self.stored(3, 10)
        size = self.octets()

        self.assertEqual(0, self.purged(None, size))
        self.assertEqual(1, self.purged(None, size - 1))
        self.assertEqual({two, three}, self.stems())
        self.assertEqual(2, self.purged(None, 0))
        self.assertEqual(set(), self.stems())

    def test_in_pieces(self) -> None:
        """So many at once and no more, the oldest first; what is only counted is named."""
        stems = [self.stored(number, 100 - number) for number in range(1, 6)]

        counted = self.successResultOf(self.badmail.purge(97, 0, NOW, dry_run=True, most=2))
        self.assertEqual(Purged(5, 0, tuple(stems)), counted)
        for left in (3, 1, 0):
            now = self.successResultOf(self.badmail.purge(None, 0, NOW, most=2))
            self.assertEqual(Purged(min(2, len(stems)), left), now)
            del stems[:2]
            self.assertEqual(set(stems), self.stems())
        self.assertEqual(Purged(0), self.successResultOf(self.badmail.purge(None, 0, NOW, most=2)))

    def test_by_both(self) -> None:
        """Age first, then size."""
        self.stored(1, 200)
        self.stored(2, 50, 5000)
        three = self.stored(3, 10)

        self.assertEqual(2, self.purged(100, 3000))
        self.assertEqual({three}, self.stems())

    def test_without_limits(self) -> None:
        """Nothing is asked for, nothing goes."""
        one = self.stored(1, 1e9)

        self.assertEqual(0, self.purged(None, None))
        self.assertEqual({one}, self.stems())

    def test_foreign_files(self) -> None:
        """Parts, directories, links and other names are not touched, nor counted."""
        self.stored(1, 10)
        names = ("notes.txt", f".{'0' * 24}.BAD.part", f"{'0' * 23}.BAD", f"{'1' * 24}.EML")
        for name in names:
            (self.directory / name).write_bytes(b"x" * 10_000)
        (self.directory / f"{'2' * 24}.BAD").mkdir()
        (self.directory / f"{'3' * 24}.BAD").symlink_to(self.directory / "notes.txt")

        self.assertEqual(1, self.purged(0, 0))
        left = {*names, f"{'2' * 24}.BAD", f"{'3' * 24}.BAD"}
        self.assertEqual(left, {path.name for path in self.directory.iterdir()})

    def test_interrupted(self) -> None:
        """What a purge that was cut off has left goes with the next one."""

        def fail(step: Step) -> None:
            if step is Step.TRIPLE_PURGED:
                raise OSError(5, "Input/output error")

        stem = self.stored(1, 10)
        failing = Badmail(self.directory, execute, fail)
        self.failureResultOf(failing.purge(0, None, NOW), DirectoryProblem)
        between = {path.name for path in self.directory.iterdir()}

        self.assertEqual({f"{stem}.BAD", f"{stem}.BDP"}, between)
        self.assertEqual(1, self.purged(0, None))
        self.assertEqual(set(), self.stems())


class ThreadTests(TestCase):
    async def test_in_a_thread(self) -> None:
        """The reactor does not wait for the directory (P9)."""
        threads: list[threading.Thread] = []
        pool = ThreadPool(0, 1)
        pool.start()
        self.addCleanup(pool.stop)

        def run(function: Any, *arguments: Any) -> Any:
            def noted() -> Any:
                threads.append(threading.current_thread())
                return function(*arguments)

            return deferToThreadPool(reactor, pool, noted)

        badmail = Badmail(Path(self.mktemp()), run)
        await badmail.store(BadMessage("0" * 24, "for the exercise", None), b"x", NOW)

        self.assertEqual(Purged(1), await badmail.purge(-1e12, None, NOW))
        self.assertNotIn(threading.main_thread(), threads)
