"""
Every step of the queue's work, and at each: a kill, three errors, a delay; in its first pass and
in later ones, which are other messages, attempts, reports and triples.

After each the queue is opened again: everything that was acknowledged is there and whole,
everything else is there whole or not at all, nothing is left over, and mail is taken.
"""

from __future__ import annotations

import errno
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from mailhost.spool.steps import Step
from tests.crash.day import NOTHING_FOLLOWS, Day, Watch, failing, life, live_in_child, slow
from tests.crash.ledger import Ledger
from tests.crash.recovery import faults_of
from tests.support.forked import forked

_CHILD_SECONDS = 30
_passes: Counter[Step] = Counter()


def passes_of(last: int) -> list[int]:
    """
    The passes at which something happens, of a step that is passed *last* times in a day.

    :returns: the first, the second, one half-way and a late one.  How many groups there are in
        all depends on what the disk lets gather, so that the last of many may never come.
    """
    return sorted({1, min(2, last), (last + 1) // 2, last if last < 5 else last * 4 // 5})


class StepCase(TestCase):
    timeout = 120

    def home(self) -> Path:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return Path(folder.name)

    async def passes(self) -> Counter[Step]:
        """How often an undisturbed day passes each step."""
        if not _passes:
            day = await self.lived(self.home(), Watch())
            _passes.update(day.watch.counts)
        return _passes

    async def lived(self, home: Path, watch: Watch) -> Day:
        day = await life(reactor, home, watch)
        self.flushLoggedErrors()
        return day

    async def assert_recovers(self, home: Path, what: str) -> Ledger:
        path = home / "ledger"
        ledger = Ledger().read(path.read_bytes() if path.exists() else b"")
        wrong = await faults_of(reactor, home, ledger)
        self.flushLoggedErrors()
        self.assertEqual([], wrong, what)
        return ledger


class DayTests(StepCase):
    async def test_passes_every_step(self) -> None:
        """A day without a fault passes every step there is, and loses nothing."""
        home = self.home()
        day = await self.lived(home, Watch())

        ledger = await self.assert_recovers(home, "nothing happened")
        self.assertEqual(set(Step), set(day.watch.counts))
        self.assertGreaterEqual(len(ledger.accepted), 10)
        self.assertGreaterEqual(len(ledger.settled), 6)
        # The two troubles that belong to the day.
        self.assertEqual(1, len(day.failures), day.failures)


class KillTests(StepCase):
    """A process of its own dies at the step, the first time and half-way through the day."""

    async def kill_at(self, step: Step) -> None:
        last = (await self.passes())[step]
        children = []
        for pass_number in passes_of(last):
            home = self.home()
            child = forked(live_in_child, str(home), step.name, pass_number)
            child.start()
            children.append((pass_number, home, child))
        for pass_number, home, child in children:
            child.join(_CHILD_SECONDS)
            self.assertEqual(-signal.SIGKILL, child.exitcode, f"{step}, {pass_number}")
            await self.assert_recovers(home, f"killed at {step}, pass {pass_number} of {last}")


class ErrorTests(StepCase):
    """The system call after the step fails, once in a day."""

    async def fail_at(self, step: Step, number: int) -> None:
        last = (await self.passes())[step]
        for pass_number in passes_of(last):
            home = self.home()
            day = await self.lived(home, Watch(step, pass_number, failing(number)))

            self.assertGreaterEqual(day.watch.counts[step], pass_number)
            await self.assert_recovers(
                home,
                f"{errno.errorcode[number]} at {step}, pass {pass_number} of {last}: "
                f"{day.failures}",
            )


class DelayTests(StepCase):
    """The system call after the step takes its time."""

    async def delay_at(self, step: Step) -> None:
        for pass_number in passes_of((await self.passes())[step]):
            home = self.home()
            day = await self.lived(home, Watch(step, pass_number, slow))

            ledger = await self.assert_recovers(home, f"slow at {step}, pass {pass_number}")
            self.assertEqual(1, len(day.failures), day.failures)
            self.assertGreaterEqual(len(ledger.accepted), 10)


def _named(case: type[StepCase], name: str, doc: str, run: Callable[[StepCase], object]) -> None:
    def test(self: StepCase) -> object:
        return run(self)

    test.__name__, test.__doc__ = name, doc
    setattr(case, name, test)


def _write_tests() -> None:
    from twisted.internet.defer import ensureDeferred

    for step in Step:
        word = step.name.lower()
        _named(
            KillTests,
            f"test_{word}",
            f"Killed when: {step.value}",
            lambda case, step=step: ensureDeferred(case.kill_at(step)),  # type: ignore[misc]  # bound now
        )
        _named(
            DelayTests,
            f"test_{word}",
            f"Slow when: {step.value}",
            lambda case, step=step: ensureDeferred(case.delay_at(step)),  # type: ignore[misc]  # bound now
        )
        for number in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
            if step in NOTHING_FOLLOWS:
                continue
            _named(
                ErrorTests,
                f"test_{word}_{errno.errorcode[number].lower()}",
                f"{errno.errorcode[number]} when: {step.value}",
                lambda case, step=step, number=number: ensureDeferred(  # type: ignore[misc]  # bound now
                    case.fail_at(step, number)
                ),
            )


_write_tests()
