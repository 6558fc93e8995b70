"""Tests for `mailhost.policy.greylisting`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailhost.model.greylist import GreylistTerms
from mailhost.policy.greylisting import Triplet, judge

TERMS = GreylistTerms(True, delay_seconds=300, retry_seconds=3600, keep_seconds=10_000)


class JudgeTests(SynchronousTestCase):
    def test_waits(self) -> None:
        """New, too early, in time, too late; passed, and passed long ago; a clock set back."""
        waiting, passed = Triplet(100, 200), Triplet(100, 500, True)
        for known, now, wait in (
            (None, 100, 300),
            (waiting, 250, 150),
            (waiting, 400, 0),
            (waiting, 3700, 0),
            (waiting, 3701, 300),
            (passed, 501, 0),
            (passed, 10_500, 0),
            (passed, 10_501, 300),
            (waiting, 50, 300),
        ):
            self.assertEqual(wait, judge(known, TERMS, now)[0], (known, now))

    def test_what_is_remembered(self) -> None:
        """Coming too early does not begin the wait anew; being let in is kept."""
        self.assertEqual(Triplet(100, 250), judge(Triplet(100, 200), TERMS, 250)[1])
        self.assertEqual(Triplet(100, 400, True), judge(Triplet(100, 250), TERMS, 400)[1])
        self.assertEqual(Triplet(9000, 9000), judge(Triplet(100, 200), TERMS, 9000)[1])
