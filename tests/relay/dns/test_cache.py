"""Tests for `mailhost.relay.dns.cache`."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailhost.relay.dns.cache import (
    FAILURE_SECONDS,
    MAX_NEGATIVE_SECONDS,
    MAX_POSITIVE_SECONDS,
    AnswerCache,
    lifetime_seconds,
)
from mailhost.relay.dns.messages import A, Answer, Question, Verdict


def answer(name: str, ttl: int, verdict: Verdict = Verdict.ANSWERED, *records: Any) -> Answer:
    return Answer(Question(name, A), verdict, records=records, ttl_seconds=ttl)


class LifetimeTests(SynchronousTestCase):
    def test_ceilings(self) -> None:
        """A day for records, a quarter of an hour for their absence, seconds for a failure."""
        for ttl, verdict, records, wanted in (
            (0, Verdict.ANSWERED, ("r",), 0),
            (300, Verdict.ANSWERED, ("r",), 300),
            (10**6, Verdict.ANSWERED, ("r",), MAX_POSITIVE_SECONDS),
            (300, Verdict.ANSWERED, (), 300),
            (10**6, Verdict.ANSWERED, (), MAX_NEGATIVE_SECONDS),
            (10**6, Verdict.NO_DOMAIN, (), MAX_NEGATIVE_SECONDS),
            (0, Verdict.NO_DOMAIN, (), 0),
            (10**6, Verdict.FAILED, (), FAILURE_SECONDS),
            (0, Verdict.SILENT, (), FAILURE_SECONDS),
            (0, Verdict.ENDLESS, (), FAILURE_SECONDS),
        ):
            self.assertEqual(wanted, lifetime_seconds(answer("x", ttl, verdict, *records)))


class AnswerCacheTests(SynchronousTestCase):
    def test_clock_set_back(self) -> None:
        """An answer from the future is none."""
        cache, kept = AnswerCache(10), answer("a", 60, Verdict.ANSWERED, "r")
        cache.keep(kept, now=100_000.0)
        self.assertIsNone(cache.find(kept.question, now=13_600.0))

    def test_holds_for_its_lifetime(self) -> None:
        """An answer is given until its TTL is over, and forgotten then."""
        cache, kept = AnswerCache(10), answer("a", 60, Verdict.ANSWERED, "r")
        cache.keep(kept, now=100.0)
        self.assertIs(kept, cache.find(kept.question, 159.9))
        self.assertIsNone(cache.find(kept.question, 160.0))
        self.assertEqual(0, len(cache))

    def test_ttl_zero_is_not_kept(self) -> None:
        """TTL 0 is for the transaction in progress only (RFC 1035 §3.2.1)."""
        cache, passing = AnswerCache(10), answer("a", 0, Verdict.ANSWERED, "r")
        cache.keep(passing, now=100.0)
        self.assertIsNone(cache.find(passing.question, 100.0))

    def test_least_recently_used_goes_first(self) -> None:
        """A full cache drops what nobody has asked for the longest."""
        cache = AnswerCache(2)
        a, b, c = (answer(name, 60, Verdict.ANSWERED, "r") for name in "abc")
        cache.keep(a, 0)
        cache.keep(b, 0)
        cache.find(a.question, 1)
        cache.keep(c, 1)
        self.assertEqual([a, None, c], [cache.find(one.question, 2) for one in (a, b, c)])

    def test_counts(self) -> None:
        """What was remembered, and what was not, or no longer."""
        cache, kept = AnswerCache(10), answer("a", 60, Verdict.ANSWERED, "r")
        cache.find(kept.question, 99.0)
        cache.keep(kept, now=100.0)
        for now in (100.0, 101.0, 160.0):
            cache.find(kept.question, now)

        self.assertEqual((2, 2), (cache.hits, cache.misses))

    def test_clear(self) -> None:
        """Everything can be forgotten."""
        cache, kept = AnswerCache(2), answer("a", 60, Verdict.ANSWERED, "r")
        cache.keep(kept, 0)
        cache.clear()
        self.assertIsNone(cache.find(kept.question, 1))
