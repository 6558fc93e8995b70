"""Tests for `mailhost.workers.lender` and `mailhost.workers.backoff`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailhost.workers.backoff import Backoff
from mailhost.workers.lender import Lender


class LenderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lender = Lender()
        self.lender.set_spares({"out": 2})

    def test_no_more_than_there_is(self) -> None:
        """What is lent out has to come back before it is lent again, in the order of asking."""
        first, second = (self.lender.borrow("out", 0) for _ in range(2))
        third, fourth = self.lender.borrow("out", 1), self.lender.borrow("out", 0)
        self.successResultOf(first), self.successResultOf(second)
        self.assertNoResult(third)

        self.lender.give_back("out", 0)

        self.successResultOf(third)
        self.assertNoResult(fourth)
        self.assertEqual(2, self.lender.lent("out"))

    def test_now_or_not(self) -> None:
        """Who cannot wait is refused; who waits already comes before him."""
        self.assertTrue(self.lender.borrow_now("out", 0))
        self.assertTrue(self.lender.borrow_now("out", 1))
        self.assertFalse(self.lender.borrow_now("out", 0))
        waiting = self.lender.borrow("out", 1)

        self.lender.give_back("out", 0)

        self.successResultOf(waiting)
        self.assertFalse(self.lender.borrow_now("out", 0))

    def test_a_dead_worker_has_nothing(self) -> None:
        """Its loans come back, and what it waited for is given to others."""
        for _ in range(2):
            self.lender.borrow("out", 0)
        dead, living = self.lender.borrow("out", 0), self.lender.borrow("out", 1)

        self.lender.forget(0)

        self.assertNoResult(dead)
        self.successResultOf(living)
        self.assertEqual(1, self.lender.lent("out"))

    def test_back_what_was_never_lent(self) -> None:
        """A worker cannot make room by giving back more than it has."""
        self.lender.give_back("out", 0)
        self.lender.give_back("unknown", 0)

        self.assertEqual([True, True, False], [self.lender.borrow_now("out", 0) for _ in "123"])

    def test_changed_limits(self) -> None:
        """More serves those who wait; less is lent no more; what is not named is not lent."""
        for _ in range(2):
            self.lender.borrow("out", 0)
        waiting = self.lender.borrow("out", 1)
        self.lender.set_spares({"out": 3})
        self.successResultOf(waiting)

        self.lender.set_spares({"in": 1})
        self.lender.give_back("out", 0)

        self.assertFalse(self.lender.borrow_now("out", 0))
        self.assertTrue(self.lender.borrow_now("in", 0))

    def test_of_an_unknown_key_nothing(self) -> None:
        """A key without a spare is waited for in vain."""
        self.assertNoResult(self.lender.borrow("else", 0))
        self.assertFalse(self.lender.borrow_now("else", 0))

    def test_families(self) -> None:
        """A spare of a family is that of each member, and unused ones are forgotten."""
        self.lender.set_spares({"site one\n": 1})
        self.assertTrue(self.lender.borrow_now("site one\nexample.net", 0))
        self.assertTrue(self.lender.borrow_now("site one\nexample.org", 0))
        self.assertFalse(self.lender.borrow_now("site one\nexample.net", 1))
        self.assertFalse(self.lender.borrow_now("site two\nexample.net", 1))
        waiting = self.lender.borrow("site one\nexample.net", 1)

        self.lender.forget(0)
        self.successResultOf(waiting)
        self.lender.give_back("site one\nexample.net", 1)

        self.assertEqual(0, self.lender.lent("site one\nexample.net"))
        self.assertTrue(self.lender.borrow_now("site one\nexample.net", 0))


class BackoffTests(SynchronousTestCase):
    def test_doubles_up_to_the_longest(self) -> None:
        """0.1 s, twice as long each time, 30 s at most."""
        backoff = Backoff()

        waits = [backoff.wait_after(1.0) for _ in range(11)]

        self.assertEqual([0.1, 0.2, 0.4, 0.8], waits[:4])
        self.assertEqual([25.6, 30.0, 30.0], waits[8:])

    def test_begins_again(self) -> None:
        """A worker that lived for a minute was well."""
        backoff = Backoff()
        for _ in range(5):
            backoff.wait_after(59.9)

        self.assertEqual((0.1, 0.2), (backoff.wait_after(60.0), backoff.wait_after(0.0)))
