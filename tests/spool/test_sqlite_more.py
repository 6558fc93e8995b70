"""More tests for `mailhost.spool.sqlite`: what overlaps, and what a restart must not forget."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.trial.unittest import TestCase

from mailhost.errors import SpoolProblem
from mailhost.model.envelope import Envelope
from mailhost.model.listing import QueueFilter
from mailhost.model.queue import Postponement, QueueCounts, Result
from mailhost.spool import group, schema
from mailhost.spool.database import connect
from mailhost.spool.reader import QueueReader
from mailhost.spool.sqlite import SQLiteQueue
from tests.contracts.queue_store import BOB, CAROL, DONE, LATER, whole
from tests.spool.test_sqlite import LARGE, SQLiteTestCase


class OverlapTests(SQLiteTestCase, TestCase):
    def fail_first_group(self, words: str = "disk I/O error") -> None:
        """The next group is not committed, those behind it are."""
        real, left = group._write_records, 1

        def failing(connection: Any, records: Any) -> None:
            nonlocal left
            left -= 1
            if left >= 0:
                raise sqlite3.OperationalError(words)
            real(connection, records)

        self.patch(group, "_write_records", failing)

    async def test_failed_record_beside_a_good_one(self) -> None:
        """One recipient's outcome is not recorded by the record of another's (P2)."""
        message = await self.submit(BOB, CAROL)
        self.fail_first_group()

        first = self.store.record(message, [Result(0, DONE)], [], self.now)
        second = self.store.record(message, [Result(1, DONE)], [], self.now)
        await self.assertFailure(first, SpoolProblem)
        await second

        self.assertEqual([0], list(message.recipients))
        self.assertEqual(QueueCounts(1, 1), await self.store.counts())

    async def test_failed_record_restores_only_its_own(self) -> None:
        """What another record has counted meanwhile stays counted."""
        message = await self.submit(BOB, CAROL)
        self.fail_first_group()

        first = self.store.record(message, [Result(0, DONE)], [], self.now)
        second = self.store.record(message, [Result(1, LATER, self.now + 60)], [], self.now)
        await self.assertFailure(first, SpoolProblem)
        await second

        counted = [(n, one.attempts) for n, one in message.recipients.items()]
        self.assertEqual([(0, 0), (1, 1)], counted)

    async def test_failed_postponement(self) -> None:
        """The recipients are due when they were, here and on the disk."""
        message = await self.submit(BOB, CAROL)
        self.fail_first_group()

        postponed = self.store.postpone([Postponement(message, (0, 1), self.now + 60)])
        await self.assertFailure(postponed, SpoolProblem)

        (found,) = await self.due()
        for one in (message, found):
            self.assertEqual([self.now] * 2, [r.due_at for r in one.recipients.values()])

    async def test_order_of_recipients(self) -> None:
        """They stay in the order of the envelope."""
        message = await self.submit(BOB, CAROL)

        await self.store.record(message, [Result(0, LATER, self.now + 60)], [], self.now)

        self.assertEqual([0, 1], list(message.recipients))

    async def test_record_during_a_probe(self) -> None:
        """The probe opens the database anew; what is recorded meanwhile is recorded."""
        message = await self.submit(BOB, CAROL)
        self.fail_first_group()
        failed = self.store.record(message, [Result(0, DONE)], [], self.now)
        await self.assertFailure(failed, SpoolProblem)
        self.now += 6
        self.assertRaises(SpoolProblem, self.store.check_room, 10)

        await self.store.record(message, [Result(0, DONE), Result(1, DONE)], [], self.now)

        self.assertEqual(QueueCounts(0, 0), await self.store.counts())

    async def test_listed_while_it_leaves(self) -> None:
        """A message that leaves between two looks at the queue is not listed; the others are."""
        leaving, staying = await self.submit(), await self.submit()
        found = self.store._reader._wanted_rows(QueueFilter(), 0, 10)
        await self.store.record(leaving, [Result(0, DONE)], [], self.now)

        self.patch(QueueReader, "_wanted_rows", lambda *given: found)
        page = await self.store.look_through(QueueFilter(), 0, 10)

        self.assertEqual([staying.queue_id], [one.queue_id for one in page.messages])

    async def test_stop_waits_for_large_contents(self) -> None:
        """A content that is being synced when the stop comes is committed (P1)."""
        committed = ensureDeferred(self.submit(content=LARGE * 100))
        self.stopped = True
        await self.store.stop()  # not `stop`, which counts first: nothing may be under way then

        message = await committed
        self.store = self.open()
        (found,) = await self.due()
        self.assertEqual(message.queue_id, found.queue_id)

    async def test_stopped(self) -> None:
        """After the stop a commit fails, rather than never to be answered."""
        incoming = self.store.new_message(b"", None)
        queue_id = self.store.new_queue_id()
        await self.stop()

        committed: Deferred[Any] = self.store.commit(
            incoming, queue_id, Envelope(None, (BOB,)), "", 0.0
        )

        self.failureResultOf(committed, SpoolProblem)


class PlanTests(SQLiteTestCase, TestCase):
    async def test_a_start_walks_through_no_queue(self) -> None:
        """What is asked at a start is found by an index that has few, however much is queued."""
        await self.stop()
        with closing(connect(self.home / "Queue")) as connection:
            for statement, values, index in (
                (schema.WAKE, (0.0, 1, 0.0, 1.0), "PRIMARY KEY (key>?)"),
                (schema.SELECT_LARGE, (), "messages_large"),
                (schema.SELECT_DUE, (0.0, 1, 0), "recipients_due (due_at<?)"),
                (schema.SELECT_NEXT_DUE, (0.0,), "recipients_due (due_at>?)"),
            ):
                plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
                self.assertIn(index, plan[0][3], statement)


class LeavingTests(SQLiteTestCase, TestCase):
    """Messages of 100 KB, whose contents are in their rows."""

    content = LARGE * 100

    def open(self, **given: Any) -> SQLiteQueue:
        return super().open(**{"small_octets": 131072, **given})

    async def test_a_content_that_goes_is_not_written_once_more(self) -> None:
        log = self.home / "Queue" / "queue.sqlite-wal"
        before = log.stat().st_size
        messages = [await self.submit(content=self.content) for _ in range(10)]
        taken = log.stat().st_size - before

        for message in messages:
            await self.store.record(message, [Result(0, DONE)], [], self.now)

        gone = log.stat().st_size - before - taken
        self.assertGreater(taken, 10 * len(self.content))
        self.assertLess(gone, taken / 2)

    async def test_no_file_is_looked_for(self) -> None:
        """It is known that there is none, as long as the content is in memory."""
        asked: list[object] = []
        self.patch(self.store, "_unlink", asked.append)
        first, second = [await self.submit(content=self.content) for _ in range(2)]
        self.store._held.let_go(second.key)

        await self.store.record(first, [Result(0, DONE)], [], self.now)
        self.assertEqual([], asked)
        await self.store.record(second, [Result(0, DONE)], [], self.now)
        self.assertEqual([self.home / "Queue" / f"{second.queue_id}.eml"], asked)


class RestartTests(SQLiteTestCase, TestCase):
    async def test_ids_of_messages_that_have_left(self) -> None:
        """No id is given twice, even if its message has left and the clock jumps back."""
        message = await self.submit()
        await self.store.record(message, [Result(0, DONE)], [], self.now)
        self.now -= 86400

        await self.reopen()

        self.assertGreater(self.store.new_queue_id(), message.queue_id)

    async def test_half_made(self) -> None:
        """Killed while the database was being made: the next start makes it."""
        await self.stop()
        connection = sqlite3.connect(self.home / "Queue" / "queue.sqlite")
        connection.execute("DELETE FROM meta")
        connection.commit()
        connection.close()

        self.store = self.open()
        await self.submit()

    async def test_full_at_commit(self) -> None:
        """A large body for which there is no row at last gives its room back at once."""
        real = group._write_accepts

        def full(*given: Any) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        self.patch(group, "_write_accepts", full)
        await self.assertFailure(ensureDeferred(self.submit(content=LARGE * 100)), SpoolProblem)
        self.patch(group, "_write_accepts", real)
        message = await self.submit(content=LARGE * 100)

        self.assertEqual(
            [f"{message.queue_id}.eml"], [path.name for path in (self.home / "Queue").glob("*.eml")]
        )
        self.assertEqual(
            b"Received: x\r\n" + LARGE * 100, await whole(self.store.open_content(message))
        )
