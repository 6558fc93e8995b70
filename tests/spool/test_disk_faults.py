"""What disks, operators and clocks do to a queue while it lives."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.task import LoopingCall
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailhost.errors import ContentDamaged, SpoolFull, SpoolProblem
from mailhost.model.queue import QueueCounts, QueuedMessage, Result
from mailhost.spool import files
from mailhost.spool.content import FileContent
from mailhost.spool.files import BodyReader
from mailhost.spool.incoming import _SPILL_OCTETS, IncomingMessage
from mailhost.spool.space import DiskSpace
from mailhost.spool.sqlite import SQLiteQueue
from mailhost.spool.steps import Step
from tests.contracts.queue_store import BOB, CAROL, DONE, LATER, whole
from tests.spool.test_sqlite import LARGE, SQLiteTestCase


class FaultCase(SQLiteTestCase, TestCase):
    def write_to_database(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.home / "Queue" / "queue.sqlite")) as connection:
            connection.execute(statement, values)
            connection.commit()

    def unstarted(self) -> SQLiteQueue:
        return SQLiteQueue(reactor, self.home / "Queue", self.home / "SortTemp", self.clock)

    async def with_steps(self, passed: Any) -> None:
        """The same queue again, and *passed* is told of each step."""
        await self.stop()
        self.store = self.open(passed=passed)


class SlowDiskTests(FaultCase):
    async def test_one_second_for_each_sync(self) -> None:
        """The reactor goes on, and acknowledgements come in order."""

        def slow(step: Step) -> None:
            if step in (Step.OUTCOMES_WRITTEN, Step.BODY_WRITTEN):
                self.assertNotEqual(threading.main_thread(), threading.current_thread())
                time.sleep(1)

        await self.with_steps(slow)
        turns: list[float] = []
        ticker = LoopingCall(lambda: turns.append(time.monotonic()))
        ticking = ticker.start(0.01)
        begun = time.monotonic()
        order: list[int] = []
        waiting = [
            ensureDeferred(self.submit(content=LARGE * (100 if number == 4 else 1)))
            for number in range(5)
        ]
        for number, one in enumerate(waiting):
            one.addCallback(lambda message, number=number: order.append(number))
        await gatherResults(waiting)
        ticker.stop()
        await ticking

        self.assertEqual([0, 1, 2, 3, 4], order)
        self.assertGreater(time.monotonic() - begun, 1)
        longest = max(after - before for before, after in zip(turns, turns[1:], strict=False))
        self.assertLess(longest, 0.3)


class ReadOnlyTests(FaultCase):
    async def test_becomes_read_only(self) -> None:
        """EROFS is trouble that may pass: refused, and taken again after a probe."""
        real, real_open = os.writev, os.open

        def refuse(path: Any, flags: int, *given: Any, **named: Any) -> int:
            if flags & os.O_CREAT:
                raise OSError(errno.EROFS, "Read-only file system")
            return real_open(path, flags, *given, **named)

        self.patch(files.os, "open", refuse)
        await self.assertFailure(ensureDeferred(self.submit(content=LARGE * 100)), SpoolProblem)
        self.assertRaises(SpoolProblem, self.store.check_room, 10)
        self.patch(files.os, "open", real_open)
        self.flushLoggedErrors()

        self.assertIs(real, os.writev)
        self.now += 6
        self.assertRaises(SpoolProblem, self.store.check_room, 10)
        await self.store._writer.idle()
        await self.submit(content=LARGE * 100)
        self.assertEqual(QueueCounts(1, 1), await self.store.counts())


class DamagedRowTests(FaultCase):
    async def assert_set_aside(self, damaged: QueuedMessage, sound: QueuedMessage) -> None:
        """The sound message is found, the damaged one is kept and told of."""
        found = [message.queue_id for message in await self.due(limit=1)]
        again = [message.queue_id for message in await self.due()]

        self.assertEqual([sound.queue_id], found)
        self.assertEqual([sound.queue_id], again)
        facts = self.home / "Queue" / "corrupt" / f"{damaged.queue_id}.json"
        self.assertIn("hexadecimal", facts.read_text("ascii"))
        self.assertEqual(2, (await self.store.counts()).messages)

    async def pair(self) -> tuple[QueuedMessage, QueuedMessage]:
        damaged = await self.submit(BOB, CAROL)
        self.now += 1
        return damaged, await self.submit()

    async def test_text_that_is_none(self) -> None:
        """A sender that is no UTF-8 stops no other message."""
        damaged, sound = await self.pair()
        self.write_to_database(
            "UPDATE messages SET reverse_path = CAST(x'ff40ff' AS TEXT) WHERE key = ?", damaged.key
        )

        await self.assert_set_aside(damaged, sound)

    async def test_value_of_another_type(self) -> None:
        """A recipient that is a blob stops no other message."""
        damaged, sound = await self.pair()
        self.write_to_database(
            "UPDATE recipients SET local = x'00' WHERE key = ? AND number = 1", damaged.key
        )

        await self.assert_set_aside(damaged, sound)

    async def test_recipient_of_no_message(self) -> None:
        """Recipients whose message is gone do not fill the place of others for ever."""
        damaged, sound = await self.pair()
        self.write_to_database("DELETE FROM messages WHERE key = ?", damaged.key)

        found = [message.queue_id for message in await self.due(limit=1)]

        self.assertEqual([sound.queue_id], found)

    async def test_length_that_is_none(self) -> None:
        """A large content whose row has lost its digest is damage, not a traceback."""
        message = await self.submit(content=LARGE * 100)
        self.write_to_database("UPDATE messages SET digest = 'x' WHERE key = ?", message.key)

        async def read() -> bytes:
            return await whole(self.store.open_content(message))

        await self.assertFailure(ensureDeferred(read()), ContentDamaged)

    async def test_quarantine_keeps_the_message(self) -> None:
        """Until its failure is recorded a quarantined message is as it was."""
        message = await self.submit(content=LARGE * 100)
        await self.store.quarantine(message, "for the exercise")
        await self.store.quarantine(message, "for the exercise")
        self.flushLoggedErrors()
        await self.reopen()
        (found,) = await self.due()

        self.assertEqual(message.size, len(await whole(self.store.open_content(found))))
        await self.store.record(found, [Result(0, DONE)], [], self.now)
        await self.stop()
        kept = self.home / "Queue" / "corrupt" / f"{message.queue_id}.eml"
        self.assertEqual(message.size, kept.stat().st_size)
        self.assertEqual([], list((self.home / "Queue").glob("*.eml")))


class DamagedDatabaseTests(FaultCase):
    def contents(self) -> dict[str, bytes]:
        """All of Queue but the lock, whose writer changes."""
        return {
            path.name: path.read_bytes()
            for path in (self.home / "Queue").iterdir()
            if path.name != "lock"
        }

    async def assert_refused(self, words: str) -> None:
        before = self.contents()
        problem = self.assertRaises(SpoolProblem, self.unstarted().start)

        self.assertIn(words, str(problem))
        self.assertIn("queue.sqlite", str(problem))
        self.assertEqual(before, self.contents())

    async def test_another_file(self) -> None:
        """What is no database is refused by name, and nothing is written or removed."""
        await self.submit(content=LARGE * 100)
        await self.stop()
        (self.home / "Queue" / "queue.sqlite").write_bytes(b"nonsense" * 1000)

        await self.assert_refused("damaged")

    async def test_emptied_beside_its_log(self) -> None:
        """SQLite would throw the log away, with the mail in it; we refuse."""
        await self.stop()
        (self.home / "Queue" / "queue.sqlite").write_bytes(b"")
        (self.home / "Queue" / "queue.sqlite-wal").write_bytes(b"mail")

        await self.assert_refused("damaged")

    async def test_newer_format(self) -> None:
        """A queue of a newer program keeps its tables, its files and its format."""
        await self.submit(content=LARGE * 100)
        await self.stop()
        self.write_to_database("PRAGMA user_version = 99")
        names = set(self.contents()) - {"queue.sqlite-wal", "queue.sqlite-shm"}
        problem = self.assertRaises(SpoolProblem, self.unstarted().start)

        self.assertIn("format 99", str(problem))
        self.assertLessEqual(names, set(self.contents()))
        with closing(sqlite3.connect(self.home / "Queue" / "queue.sqlite")) as connection:
            self.assertEqual([(99,)], connection.execute("PRAGMA user_version").fetchall())
            self.assertEqual([(1,)], connection.execute("SELECT count(*) FROM messages").fetchall())

    async def test_database_gone(self) -> None:
        """Where the database was lost a new one does not sweep its large contents away."""
        message = await self.submit(content=LARGE * 100)
        await self.stop()
        for path in (self.home / "Queue").glob("queue.sqlite*"):
            path.unlink()

        self.store = self.open()

        self.assertTrue((self.home / "Queue" / f"{message.queue_id}.eml").exists())
        self.assertEqual(QueueCounts(0, 0), await self.store.counts())


SECOND = """
import sys, time
from pathlib import Path
from twisted.internet import reactor
from mailhost.errors import SpoolInUse
from mailhost.spool.sqlite import SQLiteQueue
home = Path(sys.argv[1])
try:
    SQLiteQueue(reactor, home / "Queue", home / "SortTemp", time.time).start()
except SpoolInUse as problem:
    print(problem)
"""


class TwoProcessesTests(FaultCase):
    async def test_second_process(self) -> None:
        """It is refused, told by whom, and sweeps nothing away."""
        incoming = self.store.new_message(b"", None)
        waiting = incoming.write(LARGE * 600)
        if waiting is not None:
            await waiting

        done = subprocess.run(
            [sys.executable, "-c", SECOND, str(self.home)],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )

        self.assertIn(f"in use by process {os.getpid()}", done.stdout)
        queue_id = self.store.new_queue_id()
        from mailhost.model.envelope import Envelope

        message = await self.store.commit(incoming, queue_id, Envelope(None, (BOB,)), "", self.now)
        self.assertEqual(LARGE * 600, await whole(self.store.open_content(message)))


class ClockTests(FaultCase):
    async def test_back_by_a_day(self) -> None:
        """After a restart mail that was never tried does not wait for the old time."""
        message = await self.submit()
        tried = await self.submit()
        await self.store.record(tried, [Result(0, LATER, self.now + 900)], [], self.now)
        self.now -= 86400

        await self.reopen()

        self.assertEqual([message.queue_id], [one.queue_id for one in await self.due()])
        # What was tried keeps its time: nobody knows which clock was right.
        self.assertEqual(self.now + 86400 + 900, await self.store.next_due_at(self.now + 1))

    async def test_forward_by_a_day(self) -> None:
        """All is due, once, in its order; ids stay unique when the clock returns."""
        first = await self.submit()
        await self.store.record(first, [Result(0, LATER, self.now + 900)], [], self.now)
        self.now += 86400
        second = await self.submit()
        self.now -= 86400
        third = await self.submit()
        self.now += 86400

        found = [message.queue_id for message in await self.due()]

        self.assertEqual([third.queue_id, first.queue_id, second.queue_id], found)
        self.assertEqual(sorted({first.queue_id, second.queue_id, third.queue_id}), sorted(found))

    async def test_back_while_the_disk_fails(self) -> None:
        """A probe does not wait until the clock has caught up."""

        def fail(fd: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        real = os.fdatasync
        self.patch(files.os, "fdatasync", fail)
        await self.assertFailure(ensureDeferred(self.submit(content=LARGE * 100)), SpoolProblem)
        self.patch(files.os, "fdatasync", real)
        self.now -= 86400
        self.assertRaises(SpoolProblem, self.store.check_room, 10)
        await self.store._writer.idle()

        self.store.check_room(10)


class SpaceTests(SynchronousTestCase):
    def test_measured_once_a_second(self) -> None:
        """What is stored between two measures is counted without asking the disk."""
        now, asked = [0.0], []

        def free(path: Path) -> int:
            asked.append(path)
            return 1000

        space = DiskSpace(Path(), 100, 0, free, lambda: now[0])
        space.check(900)
        space.reserve(500)
        self.assertRaises(SpoolFull, space.check, 401)
        space.check(400)
        space.release(500)
        self.assertRaises(SpoolFull, space.check, 401)
        self.assertEqual(1, len(asked))

        now[0] += 1
        space.check(900)
        now[0] -= 86400
        space.check(900)
        self.assertEqual(3, len(asked))


class Threads:
    """Runs nothing until it is told to; then what was asked, in order."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, tuple[Any, ...], Deferred[Any]]] = []

    def run(self, function: Any, *arguments: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.asked.append((function, arguments, done))
        return done

    def work(self) -> None:
        """The oldest question is answered."""
        function, arguments, done = self.asked.pop(0)
        try:
            result = function(*arguments)
        except SpoolProblem:
            done.errback()
        else:
            done.callback(result)


class OverlapCase(TestCase):
    def setUp(self) -> None:
        self.threads = Threads()
        self.part = Path(self.mktemp())


class DoubleBufferTests(OverlapCase):
    def incoming(self) -> IncomingMessage:
        return IncomingMessage(1000, lambda: self.part, self.threads.run, lambda: None)

    def test_gathers_while_it_writes(self) -> None:
        """One step is written while the next gathers; the sender waits when both are full."""
        incoming = self.incoming()
        self.assertIsNone(incoming.write(b"a" * _SPILL_OCTETS))
        self.assertIsNone(incoming.write(b"b" * (_SPILL_OCTETS - 1)))
        waiting = incoming.write(b"c")
        assert waiting is not None

        self.assertNoResult(waiting)
        self.assertEqual(1, len(self.threads.asked))
        self.threads.work()
        self.successResultOf(waiting)
        self.assertEqual(1, len(self.threads.asked))
        self.threads.work()
        self.assertEqual(2 * _SPILL_OCTETS, self.part.stat().st_size)

    def test_finish_waits(self) -> None:
        """The last step is written after the one that is under way, and the whole is right."""
        incoming = self.incoming()
        incoming.write(b"a" * _SPILL_OCTETS)
        incoming.write(b"b" * 10)
        final = self.part.with_name("final")
        finished = ensureDeferred(incoming.finish(final))

        self.assertEqual(1, len(self.threads.asked))
        self.threads.work()
        self.assertNoResult(finished)
        self.threads.work()
        self.assertEqual(_SPILL_OCTETS + 10, self.successResultOf(finished).size)
        self.assertEqual(b"a" * _SPILL_OCTETS + b"b" * 10, final.read_bytes())

    def test_failure_nobody_waited_for(self) -> None:
        """It is told with the next block, and at the end."""
        incoming = self.incoming()
        self.part.write_bytes(b"somebody else's")
        incoming.write(b"a" * _SPILL_OCTETS)
        self.threads.work()

        self.assertRaises(SpoolProblem, incoming.write, b"b")
        self.failureResultOf(ensureDeferred(incoming.finish(self.part)), SpoolProblem)

    def test_discarded_while_it_writes(self) -> None:
        """The file goes after the step that has it, and no step begins any more."""
        incoming = self.incoming()
        incoming.write(b"a" * _SPILL_OCTETS)
        incoming.write(b"b" * _SPILL_OCTETS)
        incoming.discard()
        self.threads.work()
        self.threads.work()

        self.assertEqual([], self.threads.asked)
        self.assertFalse(self.part.exists())


class ReadAheadTests(OverlapCase):
    def content(self, octets: bytes) -> FileContent:
        import hashlib

        self.part.write_bytes(octets)
        digest = hashlib.sha256(octets).digest()
        return FileContent.opened(self.part, len(octets), digest, self.threads.run)

    def test_fetches_ahead(self) -> None:
        """The next block is on its way while its reader has the first."""
        octets = os.urandom(600_000)
        content = self.content(octets)
        first = content.read()
        assert isinstance(first, bytes)
        self.assertEqual(1, len(self.threads.asked))
        self.threads.work()
        second = content.read()
        assert isinstance(second, bytes)
        third = content.read()
        assert isinstance(third, Deferred)
        self.threads.work()

        self.assertEqual(octets, first + second + self.successResultOf(third))
        self.assertEqual((b"", []), (content.read(), self.threads.asked))
        content.close()

    def test_closed_while_a_block_is_read(self) -> None:
        """The descriptor stays until the thread has done with it: it may be another's by then."""
        content = self.content(os.urandom(600_000))
        content.read()
        content.close()
        reader: BodyReader = content._reader
        self.assertGreaterEqual(reader._fd, 0)
        self.threads.work()

        self.assertEqual(-1, reader._fd)
        self.assertRaises(SpoolProblem, content.read)
        content.close()
