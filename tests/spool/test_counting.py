"""Tests for `mailhost.spool.counting`, as the queue uses it."""

from __future__ import annotations

import sqlite3
from threading import Event
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import TestCase

from mailhost.errors import SpoolProblem
from mailhost.model.queue import QueueCounts, Result
from mailhost.spool import counting, group, schema
from tests.contracts.queue_store import BOB, CAROL, DAVE, DONE, LATER
from tests.spool.test_sqlite import SQLiteTestCase

#: A walk that takes as long as nobody interrupts it.
ENDLESS = """
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers)
SELECT count(*), 0 FROM numbers
"""


class CountingTests(SQLiteTestCase, TestCase):
    def count_walks(self) -> list[int]:
        """Grows with each walk through the queue."""
        walks: list[int] = []
        real = counting._walk

        def walk(connection: sqlite3.Connection) -> Any:
            walks.append(1)
            return real(connection)

        self.patch(counting, "_walk", walk)
        return walks

    async def test_walked_once(self) -> None:
        """What comes and goes later is known without looking."""
        message = await self.submit(BOB, CAROL)
        self.assertEqual(QueueCounts(1, 2), await self.store.counts())
        walks = self.count_walks()

        await self.submit(DAVE)
        self.assertEqual(QueueCounts(2, 3), await self.store.counts())
        await self.store.record(message, [Result(0, DONE), Result(1, LATER, 9.0)], [], self.now)
        self.assertEqual(QueueCounts(2, 2), await self.store.counts())
        await self.store.record(message, [Result(1, DONE)], [], self.now)
        self.assertEqual(QueueCounts(1, 1), await self.store.counts())
        self.assertEqual([], walks)

    async def test_changes_during_the_walk(self) -> None:
        """What is committed while it is walked is counted once."""
        await self.reopen()
        await self.store.counts()
        self.store._counts.doubt()
        first = await self.submit(BOB, CAROL)
        begun, goes_on = Event(), Event()
        real = counting._walk

        def walk(connection: sqlite3.Connection) -> Any:
            begun.set()
            goes_on.wait(10)
            return real(connection)

        self.patch(counting, "_walk", walk)
        counted = self.store.counts()
        again = self.store.counts()
        await self.store._run(begun.wait, 10)
        await self.submit(DAVE)
        await self.store.record(first, [Result(0, DONE), Result(1, DONE)], [], self.now)
        goes_on.set()

        self.assertEqual(QueueCounts(1, 1), await counted)
        self.assertEqual(QueueCounts(1, 1), await again)

    async def test_failed_commit(self) -> None:
        """Nobody knows what is left of it: the queue is walked again."""
        await self.store.counts()
        walks = self.count_walks()

        def fail(*given: Any) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        real = group._write_accepts
        self.patch(group, "_write_accepts", fail)
        with self.assertRaises(SpoolProblem):
            await self.submit(BOB)
        self.patch(group, "_write_accepts", real)

        self.assertEqual(QueueCounts(0, 0), await self.store.counts())
        self.assertEqual(QueueCounts(0, 0), await self.store.counts())
        self.assertEqual(1, len(walks))

    async def test_stopped(self) -> None:
        """Who asks is told so, also who waits for a long walk."""
        await self.store.counts()
        self.store._counts.doubt()
        self.patch(schema, "SELECT_COUNTS", ENDLESS)
        counted = self.store.counts()
        self.stopped = True

        stopping = ensureDeferred(self.store.stop())

        await self.assertFailure(counted, SpoolProblem)
        await stopping
        await self.assertFailure(self.store.counts(), SpoolProblem)
