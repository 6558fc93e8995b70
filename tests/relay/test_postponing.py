"""Tests for `mailhost.relay.postponing`, `mailhost.relay.active` and the store's ``postpone``."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.model.address import Mailbox
from mailhost.model.envelope import Envelope
from mailhost.model.outcome import Fate, Outcome
from mailhost.model.queue import Postponement, QueuedMessage, QueuedRecipient, Result
from mailhost.model.schedule import RetrySchedule
from mailhost.relay.active import ActiveMessage, ActiveWindow
from mailhost.relay.postponing import Overflow, Pace, Postponer, bounded, must_be_tried
from mailhost.spool.memory import MemoryQueue
from tests.support.world import START

PATHS = tuple(Mailbox(name, "example.net") for name in "abc")
SCHEDULE = RetrySchedule((900,), 1000, 2000)


def message(key: int, recipients: int = 1, sender: Mailbox | None = PATHS[0]) -> QueuedMessage:
    people: Any = dict.fromkeys(range(recipients))
    return QueuedMessage(key, str(key), sender, "7BIT", 10, START, "", people)


class StoreTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.store = MemoryQueue(self.clock.seconds)

    def submit(self) -> QueuedMessage:
        incoming = self.store.new_message(b"", None)
        incoming.write(b"\r\n")
        queue_id = self.store.new_queue_id()
        envelope = Envelope(PATHS[0], PATHS, "7BIT")
        found: QueuedMessage = self.successResultOf(
            self.store.commit(incoming, queue_id, envelope, "", START)
        )
        return found


class StoreTests(StoreTestCase):
    def test_due_later_without_an_attempt(self) -> None:
        """Only the recipients named, and only their time."""
        queued = self.submit()

        self.successResultOf(self.store.postpone([Postponement(queued, (0, 2), START + 60)]))

        found = [(r.attempts, r.due_at - START) for r in queued.recipients.values()]
        self.assertEqual([(0, 60), (0, 0), (0, 60)], found)
        self.assertEqual(START + 60, self.successResultOf(self.store.next_due_at(START)))

    def test_those_that_are_gone(self) -> None:
        """A recipient that was served meanwhile stays gone."""
        queued = self.submit()
        done = Result(1, Outcome(Fate.RELAYED, "2.0.0", "ok"))
        self.successResultOf(self.store.record(queued, [done], (), START))

        self.successResultOf(self.store.postpone([Postponement(queued, (0, 1), START + 60)]))

        self.assertEqual([0, 2], list(queued.recipients))


class PostponerTests(StoreTestCase):
    def test_together(self) -> None:
        """What is put off in one turn of the reactor is one question to the store."""
        asked: list[int] = []
        real = self.store.postpone
        self.patch(
            MemoryQueue, "postpone", lambda store, parts: asked.append(len(parts)) or real(parts)
        )
        done: list[ActiveMessage] = []
        postponer = Postponer(self.store, self.clock, done.append)
        for _ in range(2500):
            active = ActiveMessage(self.submit())
            postponer.add(active, list(active.message.recipients.values()), START + 9, "", "")
        self.clock.advance(0)

        self.assertEqual([1000, 1000, 500], asked)
        self.assertEqual(2500, len(done))
        self.assertEqual({1}, {active.jobs for active in done})


class TimeTests(SynchronousTestCase):
    def test_pace(self) -> None:
        """Transactions of the last ten seconds or so."""
        pace = Pace(START)
        for number in range(200):
            pace.note(START + number / 10)

        self.assertApproximates(10, pace.per_second(START + 20), 1)

    def test_overflow_is_spread(self) -> None:
        """Mail comes again at twice the pace at which the site takes it, within ten minutes."""
        overflow = Overflow()
        due = [overflow.next_due_at(500, 50.0, START) - START for _ in range(1000)]

        self.assertEqual(5.0, due[0])
        self.assertApproximates(15.0, due[-1], 0.1)
        late = [overflow.next_due_at(500, 0.0, START) - START for _ in range(20_000)]
        self.assertEqual(600, late[-1])

    def test_senders_are_told_in_time(self) -> None:
        """Nobody is put off beyond a report that is to be made."""
        queued = message(1)
        self.assertEqual(START + 1000, bounded(START + 5000, queued, False, SCHEDULE))
        self.assertEqual(START + 2000, bounded(START + 5000, queued, True, SCHEDULE))
        self.assertEqual(START + 50, bounded(START + 50, queued, False, SCHEDULE))

    def test_must_be_tried(self) -> None:
        """At the time of a delay report that was not made, and at the expiry."""
        queued = message(1)
        new = QueuedRecipient(0, PATHS[0])
        told = QueuedRecipient(0, PATHS[0], notified=True)
        found = [
            must_be_tried(queued, recipient, SCHEDULE, START + at)
            for recipient in (new, told)
            for at in (999, 1000, 1999, 2000)
        ]

        self.assertEqual([False, True, True, True, False, False, False, True], found)


class ActiveWindowTests(SynchronousTestCase):
    def test_room_and_share(self) -> None:
        """A twentieth is for reports; a site may have as much as is free."""
        window = ActiveWindow(100)
        shares = []
        for key in range(95):
            shares.append(window.share)
            self.assertTrue(window.admits(message(key)))
            window.add(message(key))

        self.assertEqual([95, 94, 93], shares[:3])
        self.assertEqual(10, shares[-1])
        self.assertFalse(window.admits(message(200)))
        self.assertTrue(window.admits(message(200, sender=None)))

    def test_recipients_count_too(self) -> None:
        """A few messages with very many recipients fill it as well."""
        window = ActiveWindow(100)
        first = window.add(message(1, 900))
        room = window.room
        window.add(message(2, 100))

        self.assertEqual((94, 0, 1000, 20), (room, window.room, window.recipients, window.octets))
        window.remove(first)
        self.assertEqual((94, 100, 10), (window.room, window.recipients, window.octets))
