"""Tests for `mailhost.relay.site_window`: feedback on the number of connections."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.relay.site_window import SiteWindow


def grown(to: int) -> SiteWindow:
    """A window that has grown to *to*."""
    window = SiteWindow(5, None)
    while window.size < to:
        window.succeeded(window.size)
    return window


class SiteWindowTests(SynchronousTestCase):
    def test_begins_small(self) -> None:
        """Five connections, or the operator's limit."""
        self.assertEqual([5, 5, 2], [SiteWindow(5, limit).size for limit in (None, 100, 2)])

    def test_a_window_of_successes_is_one_more(self) -> None:
        """From 10 to 11 takes ten successes."""
        window = grown(10)
        for _ in range(9):
            window.succeeded(10)
        before = window.size
        window.succeeded(10)

        self.assertEqual((10, 11), (before, window.size))

    def test_not_beyond_the_limit_nor_beyond_use(self) -> None:
        """The operator's limit holds; connections that nobody uses are not granted."""
        limited, idle = SiteWindow(5, 7), SiteWindow(5, None)
        for _ in range(1000):
            limited.succeeded(7)
            idle.succeeded(1)

        self.assertEqual((7, 6), (limited.size, idle.size))

    def test_one_failure_in_a_hundred(self) -> None:
        """It costs less than the successes bring."""
        window = grown(20)
        dead = False
        for turn in range(1, 1001):
            if turn % 100:
                window.succeeded(window.size)
            else:
                dead = window.failed() or dead

        self.assertFalse(dead)
        self.assertGreater(window.size, 20)

    def test_first_failure_counts_at_once(self) -> None:
        """Then a window's worth of failures is needed for the next step down."""
        window = grown(20)
        sizes = []
        for _ in range(10):
            window.failed()
            sizes.append(window.size)

        self.assertEqual([19] * 10, sizes)

    def test_cohort_is_dead(self) -> None:
        """Five failures in a row of an unknown site; with one connection, one."""
        window = SiteWindow(5, None)
        self.assertEqual([False] * 4 + [True], [window.failed() for _ in range(5)])
        window.close()
        self.assertEqual((1, True), (window.size, window.failed()))

    def test_success_between_failures(self) -> None:
        """Failures before a success are not counted to those after it."""
        window = SiteWindow(5, None)
        for _ in range(50):
            self.assertFalse(window.failed() and window.size > 1)
            window.succeeded(window.size)

    def test_no_more_probes_than_decide(self) -> None:
        """While they fail, those that are tried are as many as it takes to be sure."""
        window = SiteWindow(5, None)
        probes = [window.probes]
        for _ in range(4):
            window.failed()
            probes.append(window.probes)

        self.assertEqual([5, 4, 3, 2, 1], probes)

    @given(st.lists(st.booleans(), max_size=300), st.integers(1, 30), st.integers(1, 30))
    def test_bounds(self, story: list[bool], first: int, limit: int) -> None:
        """Whatever happens there is one connection at least, and never more than allowed."""
        window = SiteWindow(first, limit)
        for good in story:
            if good:
                window.succeeded(window.allowed)
            elif window.failed():
                window.close()
            self.assertTrue(1 <= window.allowed <= limit)
            self.assertTrue(1 <= window.probes <= limit)
