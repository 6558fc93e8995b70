"""Tests for `mailhost.relay.fair_queue`: whose turn it is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.model.address import Mailbox
from mailhost.model.queue import QueuedMessage
from mailhost.relay.fair_queue import FairQueue
from mailhost.relay.job import Destination, Job

SITE = Destination("mx.example", ())
SPOT = ("192.0.2.1", 25)


def job(key: int, sender: str = "alice") -> Job:
    path = Mailbox(sender, "example.com") if sender else None
    return Job(QueuedMessage(key, f"{key}", path, "7BIT", 1, 0.0), [], SITE)


def order(queue: FairQueue, count: int) -> list[int]:
    found = [queue.pop_for(SPOT) for _ in range(count)]
    return [one.message.key for one in found if one is not None]


class FairQueueTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.queue = FairQueue()

    def fill(self, *jobs: Job) -> None:
        for one in jobs:
            self.queue.add(one)

    def test_messages_take_turns(self) -> None:
        """A message with many jobs has one turn at a time."""
        self.fill(*[job(1) for _ in range(4)], job(2), job(3))

        self.assertEqual([1, 2, 3, 1, 1, 1], order(self.queue, 6))

    def test_senders_take_turns(self) -> None:
        """A sender with many messages has one turn at a time."""
        self.fill(*[job(key) for key in range(1, 5)], job(9, "bob"))

        self.assertEqual([1, 9, 2, 3, 4], order(self.queue, 5))

    def test_every_fourth_turn_is_for_reports(self) -> None:
        """Neither kind waits for the other to end."""
        self.fill(*[job(key) for key in range(1, 9)], *[job(100 + n, "") for n in range(4)])

        self.assertEqual([1, 2, 3, 100, 4, 5, 6, 101, 7, 8, 102, 103], order(self.queue, 12))

    def test_a_turn_that_came_to_nothing(self) -> None:
        """Who is put back first is the next."""
        self.fill(job(1), job(2), job(3))
        first = self.queue.pop_for(SPOT)
        assert first is not None
        self.queue.add(first, first=True)

        self.assertEqual([1, 2, 3], order(self.queue, 3))

    def test_not_where_it_was_refused(self) -> None:
        """A job that was refused waits for another host; a new connection takes it first."""
        refused = job(1)
        refused.tried.add(SPOT)
        self.fill(refused, job(2))

        self.assertEqual([2], order(self.queue, 2))
        self.assertIs(refused, self.queue.pop())
        self.fill(refused)
        self.assertIs(refused, self.queue.pop_for(("192.0.2.2", 25)))

    @given(
        st.lists(st.tuples(st.integers(1, 9), st.sampled_from(["", "alice", "bob"])), max_size=60)
    )
    def test_nothing_is_lost(self, given_jobs: list[tuple[int, str]]) -> None:
        """Everything comes out once, in the order of its message, and the counts are right."""
        queue = FairQueue()
        jobs = [job(key + 10 * len(sender), sender) for key, sender in given_jobs]
        for one in jobs:
            queue.add(one)
        self.assertEqual(len({one.message.key for one in jobs}), queue.message_count)
        self.assertEqual((len(jobs), len(list(queue))), (len(queue), len(jobs)))
        found = [queue.pop() for _ in jobs]
        self.assertEqual(set(map(id, jobs)), set(map(id, found)))
        self.assertEqual((0, 0, None), (len(queue), queue.message_count, queue.pop()))
