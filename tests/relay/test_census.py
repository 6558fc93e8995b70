"""Tests for `mailhost.relay.census`."""

from __future__ import annotations

from collections.abc import Sequence, Set

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import SpoolProblem
from mailhost.model.address import Mailbox
from mailhost.model.queue import AgeCounts, QueueCensus, QueueCounts, QueuedMessage
from mailhost.relay.active import ActiveWindow
from mailhost.relay.census import AGE_BOUNDS, PATIENCE_SECONDS, Census, Counted

NOW = 1_000_000_000.0


@define(eq=False)
class SlowStore:
    """Counts when it is told to."""

    asked: list[Deferred[QueueCensus]] = field(factory=list)

    def census(self, now: float, bounds: Sequence[float], local: Set[str]) -> Deferred[QueueCensus]:
        self.asked.append(Deferred())
        return self.asked[-1]


def census(messages: int) -> QueueCensus:
    ages = (AgeCounts(due=messages), *[AgeCounts()] * len(AGE_BOUNDS))
    return QueueCensus(QueueCounts(messages, messages), ages, 0, 0)


class CensusTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.store = SlowStore()
        self.window = ActiveWindow(100)
        self.census = Census(self.store, self.clock, self.window, frozenset)  # type: ignore[arg-type]  # counts, and that is all

    def ask(self) -> Deferred[Counted | None]:
        return Deferred.fromCoroutine(self.census.latest())

    def count(self, seconds: float, messages: int) -> None:
        """The store takes so long, and finds so many."""
        self.clock.advance(seconds)
        self.store.asked[-1].callback(census(messages))

    def messages(self, asked: Deferred[Counted | None]) -> int:
        found = self.successResultOf(asked)
        assert found is not None
        return found.census.counts.messages

    def test_cheap(self) -> None:
        """A queue that is counted at once is counted each time."""
        for messages in (1, 2, 3):
            asked = self.ask()
            self.count(0.01, messages)
            self.assertEqual(messages, self.messages(asked))
        self.assertEqual(0, len(self.clock.getDelayedCalls()))

    def test_dear(self) -> None:
        """A twentieth of the time at most; those who ask at the same time hear the same."""
        first, second = self.ask(), self.ask()
        self.count(1.0, 7)
        self.assertEqual([7, 7], [self.messages(first), self.messages(second)])
        self.clock.advance(17.0)
        self.assertEqual(7, self.messages(self.ask()))
        self.assertEqual(1, len(self.store.asked))
        self.clock.advance(1.5)
        again = self.ask()
        self.assertNoResult(again)
        self.count(0.5, 8)
        self.assertEqual(8, self.messages(again))

    def test_patience(self) -> None:
        """Nobody waits longer than that: the last one is told, or nothing."""
        early = self.ask()
        self.clock.advance(PATIENCE_SECONDS)
        self.assertIsNone(self.successResultOf(early))
        self.count(3.0, 5)
        self.assertEqual(5, self.messages(self.ask()))
        self.clock.advance(1000.0)
        late = self.ask()
        self.clock.advance(PATIENCE_SECONDS)
        self.assertEqual(5, self.messages(late))

    def test_clock_set_back(self) -> None:
        """What was counted in the future is counted again."""
        self.ask()
        self.count(1.0, 5)
        self.clock.rightNow -= 3600
        again = self.ask()
        self.count(0.0, 6)
        self.assertEqual(6, self.messages(again))

    def test_unreadable(self) -> None:
        """Not what was there before: the queue cannot be read."""
        asked = self.ask()
        self.count(0.01, 1)
        self.messages(asked)
        again = self.ask()
        self.store.asked[-1].errback(SpoolProblem("no disk"))
        self.assertIsNone(self.successResultOf(again))

    def test_active(self) -> None:
        """What is in work, by its age."""
        for key, age in enumerate((0.0, 300.0, 301.0, 90_000.0)):
            sender, accepted = Mailbox("a", "b.example"), NOW - age
            self.window.add(QueuedMessage(key, f"{key:024x}", sender, "7BIT", 1, accepted, ""))
        asked = self.ask()
        self.count(0.0, 4)
        found = self.successResultOf(asked)
        assert found is not None
        self.assertEqual((2, 1, 0, 1), found.active)
