"""Tests for `mailhost.relay.slots`: who gets a connection."""

from __future__ import annotations

from attrs import define
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.relay.slots import Slots


@define(eq=False)
class Holder:
    """Somebody who wants slots."""

    slots: Slots
    held: int = 0

    def take(self, report: bool = False) -> bool:
        taken = self.slots.take(self, self.granted, report)
        self.held += taken
        return taken

    def granted(self) -> None:
        self.held += 1

    def give_back(self) -> None:
        self.held -= 1
        self.slots.give_back(self)


def fill(holder: Holder) -> int:
    while holder.take():
        pass
    return holder.held


class SlotsTests(SynchronousTestCase):
    def test_reserves(self) -> None:
        """Of twenty the last is for reports, the one before for who has none."""
        slots = Slots(20)
        busy, new, late = Holder(slots), Holder(slots), Holder(slots)

        self.assertEqual(18, fill(busy))
        self.assertTrue(new.take())
        self.assertFalse(late.take())
        self.assertTrue(late.take(report=True))
        self.assertEqual(20, slots.open_count)

    def test_few_slots_have_no_reserve(self) -> None:
        """One, two or three connections can all be used."""
        self.assertEqual([1, 2, 3], [fill(Holder(Slots(limit))) for limit in (1, 2, 3)])

    def test_granted_in_order(self) -> None:
        """A slot given back goes to the first in line, who need not ask again."""
        slots = Slots(1)
        first, second, third = Holder(slots), Holder(slots), Holder(slots)
        first.take(), second.take(), third.take()
        first.give_back()

        self.assertEqual((0, 1, 0, 1), (first.held, second.held, third.held, slots.open_count))
        self.assertTrue(slots.is_waiting(third))

    def test_reports_come_first(self) -> None:
        """Who has a report stands before who has none."""
        slots = Slots(1)
        first, second, third = Holder(slots), Holder(slots), Holder(slots)
        first.take(), second.take(), third.take(report=True)
        first.give_back()

        self.assertEqual((0, 1), (second.held, third.held))

    def test_who_leaves_gets_none(self) -> None:
        """A place in line that is given up is nobody's."""
        slots = Slots(1)
        first, second = Holder(slots), Holder(slots)
        first.take(), second.take()
        slots.leave(second)
        first.give_back()

        self.assertEqual((0, 0), (second.held, slots.open_count))

    def test_a_raised_limit(self) -> None:
        """Who waits gets what a new limit allows."""
        slots = Slots(1)
        first, second = Holder(slots), Holder(slots)
        first.take(), second.take()
        slots.limit = 2
        slots.serve()

        self.assertEqual(1, second.held)

    def test_over_share(self) -> None:
        """Only while somebody waits who has two fewer."""
        slots = Slots(3)
        busy, other = Holder(slots), Holder(slots)
        fill(busy)
        slots.leave(busy)
        alone = slots.is_over_share(busy)
        other.take()
        contended = slots.is_over_share(busy)
        busy.give_back()
        other.take()

        self.assertEqual((False, True), (alone, contended))
        self.assertEqual((2, 1), (busy.held, other.held))
        self.assertFalse(slots.is_over_share(busy))

    def test_pool(self) -> None:
        """A slot of one relay is a slot of the process; it is given on to the other."""
        pool = Slots(3)
        one, two = Slots(10, pool=pool), Slots(10, pool=pool)
        busy, other = Holder(one), Holder(two)
        fill(busy)
        other.take()
        self.assertEqual((3, 0), (busy.held, other.held))
        self.assertTrue(one.is_over_share(busy))
        busy.give_back()

        self.assertEqual((2, 1, 3), (one.open_count, two.open_count, pool.open_count))
        self.assertEqual(1, other.held)

    @given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=200))
    def test_counts(self, story: list[tuple[int, bool, bool]]) -> None:
        """No story takes more than the limits, and everything given back is free again."""
        pool = Slots(7)
        relays = [Slots(5, pool=pool), Slots(6, pool=pool)]
        holders = [Holder(relays[n % 2]) for n in range(4)]
        for which, take, report in story:
            holder = holders[which]
            if take:
                holder.take(report)
            elif holder.held:
                holder.give_back()
            self.assertEqual(sum(h.held for h in holders), pool.open_count)
            self.assertEqual(pool.open_count, sum(relay.open_count for relay in relays))
            self.assertLessEqual(pool.open_count, 7)
            self.assertLessEqual(relays[0].open_count, 5)
        for holder in holders:
            holder.slots.leave(holder)
        for holder in holders:
            while holder.held:
                holder.give_back()
        self.assertEqual(0, pool.open_count)
