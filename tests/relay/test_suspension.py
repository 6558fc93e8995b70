"""Tests for `mailhost.relay.suspension`."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from mailhost.model.outcome import Fate, Outcome
from mailhost.relay import suspension
from mailhost.relay.suspension import Suspensions

DOWN = Outcome(Fate.DELAYED, "4.4.1", "no answer", peer="mx.example")


class SuspensionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.suspensions = Suspensions(60, 3600, Random(1))

    def test_grows_and_is_bounded(self) -> None:
        """One minute, two, four, ... an hour, each up to a tenth less."""
        now, waits = 0.0, []
        for _ in range(100):
            waits.append(self.suspensions.suspend("site", DOWN, now).until - now)
            now += waits[-1]

        for wait, full in zip(waits, (60, 120, 240, 480, 960, 1920, 3600), strict=False):
            self.assertTrue(0.9 * full <= wait <= full, (wait, full))
        self.assertLessEqual(max(waits), 3600)

    def test_in_force(self) -> None:
        """Until its time; afterwards it is remembered, until it is lifted."""
        known = self.suspensions.suspend("site", DOWN, 0)

        self.assertIs(known, self.suspensions.in_force("site", known.until - 1))
        self.assertIsNone(self.suspensions.in_force("site", known.until))
        self.assertIsNone(self.suspensions.in_force("other", 0))
        self.assertIs(known, self.suspensions.find("site"))
        self.suspensions.lift("site")
        self.assertIsNone(self.suspensions.find("site"))

    def test_what_a_recipient_hears(self) -> None:
        """The last connection's status and words, and the time."""
        outcome = self.suspensions.suspend("site", DOWN, 1_000_000_000).outcome()

        self.assertEqual((Fate.DELAYED, "4.4.1"), (outcome.fate, outcome.status))
        self.assertRegex(outcome.words, r"^no answer; no attempt before 2001-09-09 01:47:3\d UTC$")

    def test_pace_afterwards(self) -> None:
        """A thousand messages come again within two seconds of the end, one after the other."""
        known = self.suspensions.suspend("site", DOWN, 0)
        due = [known.next_due_at() for _ in range(1000)]

        self.assertEqual(known.until, due[0])
        self.assertEqual(due, sorted(due))
        self.assertApproximates(known.until + 2, due[-1], 0.01)

    def test_memory_is_bounded(self) -> None:
        """The site that was suspended longest ago is forgotten first; old ones in any case."""
        self.patch(suspension, "MAX_REMEMBERED", 10)
        for number in range(50):
            self.suspensions.suspend(f"site {number}", DOWN, number)
        count, first = len(self.suspensions), self.suspensions.find("site 39")
        self.suspensions.suspend("late", DOWN, 100_000)

        self.assertEqual((10, None, 1), (count, first, len(self.suspensions)))
