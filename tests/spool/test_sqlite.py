"""Tests for `mailhost.spool.sqlite`: the contract, and what a disk can do to it."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from mailhost.errors import ContentDamaged, SpoolFull, SpoolInUse, SpoolProblem, SpoolTooNew
from mailhost.model.envelope import Handling
from mailhost.model.parameters import MailParameters
from mailhost.model.queue import Postponement, QueueCounts, QueuedMessage, Result
from mailhost.spool import files, group, schema
from mailhost.spool.database import database_path
from mailhost.spool.held import HeldContents
from mailhost.spool.space import DiskSpace
from mailhost.spool.sqlite import SQLiteQueue
from tests.contracts.queue_store import (
    BOB,
    CAROL,
    DAVE,
    DONE,
    LATER,
    OWNER,
    START,
    QueueStoreContract,
    members,
    owned,
    whole,
)

#: Contents beyond it are files.
SMALL = 65536
LARGE = b"x" * 998 + b"\r\n"


class SQLiteTestCase(QueueStoreContract):
    """A queue below a temporary directory."""

    timeout = 30
    free = 1 << 40

    def make_store(self) -> SQLiteQueue:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = Path(folder.name)
        return self.open()

    def open(self, **given: Any) -> SQLiteQueue:
        space = DiskSpace(self.home / "Queue", 1 << 20, 0, lambda path: self.free)
        store = SQLiteQueue(
            reactor,
            self.home / "Queue",
            self.home / "SortTemp",
            self.clock,
            **{"space": space, "small_octets": SMALL, **given},
        )
        store.start()
        # From now on what is told is what was added to it; see `stop`.
        store.counts().addErrback(lambda failure: failure.trap(SpoolProblem))
        self.stopped = False
        self.addCleanup(self.stop)
        return store

    async def stop(self) -> None:
        if not self.stopped:
            self.stopped = True
            await self.check_counts()
            await self.store.stop()

    async def check_counts(self) -> None:
        """What is told from memory is what is in the database."""
        await self.store._writer.idle()
        try:
            told = await self.store.counts()
        except SpoolProblem:
            return  # a queue that cannot be read has nothing to tell
        with closing(sqlite3.connect(database_path(self.home / "Queue"))) as connection:
            there = connection.execute(schema.SELECT_COUNTS).fetchone()
        self.assertEqual(there, (told.messages, told.recipients))

    async def reopen(self) -> None:
        await self.stop()
        self.store = self.open()


class SQLiteQueueTests(SQLiteTestCase, TestCase):
    async def test_survives_a_restart(self) -> None:
        """Messages, attempts and times are what they were; ids go on rising."""
        message = await self.submit(content=LARGE * 100)
        await self.store.record(message, [Result(0, LATER, self.now + 60)], [], self.now)
        self.now -= 86400

        await self.reopen()
        fresh = self.store.new_queue_id()
        self.now += 86400
        (found,) = await self.due(before=self.now + 61)

        self.assertGreater(fresh, message.queue_id)
        self.assertEqual((message.queue_id, 1), (found.queue_id, found.recipients[0].attempts))
        self.assertEqual(
            b"Received: x\r\n" + LARGE * 100, await whole(self.store.open_content(found))
        )

    async def test_body_file_goes_with_its_message(self) -> None:
        """A large body is a file as long as its message is queued."""
        message = await self.submit(content=LARGE * 100)
        before = list((self.home / "Queue").glob("*.eml"))
        await self.store.record(message, [Result(0, DONE)], [], self.now)
        await self.stop()

        self.assertEqual([f"{message.queue_id}.eml"], [path.name for path in before])
        self.assertEqual([], list((self.home / "Queue").glob("*.eml")))

    async def test_orphans_are_swept(self) -> None:
        """What a crash left without a row is removed at start; foreign files are not."""
        message = await self.submit(content=LARGE * 100)
        await self.stop()
        queue, sort_temp = self.home / "Queue", self.home / "SortTemp"
        foreign = f"{'0' * 24}.eml"
        (queue / f"{'0' * 16}{message.queue_id[16:]}.eml").write_text("orphan", "utf-8")
        (queue / "notes.eml").write_text("the operator's", "utf-8")
        (queue / foreign).write_text("another database's", "utf-8")
        (sort_temp / "x.part").write_text("the operator's", "utf-8")
        (sort_temp / f"{'0' * 24}.part").write_text("half", "utf-8")

        self.store = self.open()

        self.assertEqual(["x.part"], [path.name for path in sort_temp.iterdir()])
        names = {path.name for path in queue.glob("*.eml")}
        self.assertEqual({f"{message.queue_id}.eml", "notes.eml", foreign}, names)

    async def test_private(self) -> None:
        """Nobody else may read what is queued."""
        await self.submit(content=LARGE * 100)

        modes = {path.name: path.stat().st_mode & 0o077 for path in (self.home / "Queue").iterdir()}
        self.assertEqual({0}, set(modes.values()), modes)

    async def test_one_process_at_a_time(self) -> None:
        """The second opener is refused, and told whose it is."""
        second = SQLiteQueue(reactor, self.home / "Queue", self.home / "SortTemp", self.clock)

        problem = self.assertRaises(SpoolInUse, second.start)

        self.assertIn(str(os.getpid()), str(problem))

    async def test_older_format(self) -> None:
        """A queue of format 1 gets the newer columns, and keeps its mail."""
        message = await self.submit(BOB)
        await self.stop()
        connection = sqlite3.connect(self.home / "Queue" / "queue.sqlite")
        connection.executescript(
            "ALTER TABLE recipients DROP COLUMN in_doubt; DROP INDEX messages_large; "
            "ALTER TABLE recipients DROP COLUMN host; "
            "ALTER TABLE recipients DROP COLUMN group_name; "
            "ALTER TABLE messages DROP COLUMN next_number; DROP TABLE served; "
            "ALTER TABLE messages DROP COLUMN parameters; "
            "ALTER TABLE recipients DROP COLUMN parameters; "
            "PRAGMA user_version = 1"
        )
        connection.close()
        self.store = self.open()

        (found,) = await self.store.load_due(START + 1, 10, frozenset())

        self.assertEqual(message.queue_id, found.queue_id)
        self.assertFalse(found.recipients[0].in_doubt)
        self.assertEqual((None, ""), (found.recipients[0].host, found.recipients[0].group))
        team = await self.submit(BOB, special={0: Handling(group="cn=team")})
        await self.store.expand(team, 0, (), (), START)
        self.assertEqual(1, (await self.store.counts()).messages)
        await self.submit(BOB, asked=MailParameters(envid="id"))
        kept = [
            one.parameters.envid for one in await self.store.load_due(START + 1, 10, frozenset())
        ]
        self.assertEqual(["", "id"], kept)

    async def test_nothing_is_left_of_groups(self) -> None:
        """Neither rows of those who were served, nor files of the copies."""
        special = {0: Handling(group="cn=team"), 1: Handling(group="cn=board")}
        for failing in (False, True):
            message = await self.submit(BOB, CAROL, content=b"x" * 300_000, special=special)
            copies = await self.store.expand(message, 0, [members(DAVE), owned(OWNER)], [], START)
            await self.store.record(message, [Result(2, DONE)], [], START)
            if failing:
                await self.store.record(message, [Result(1, DONE)], [], START)
            else:
                await self.store.expand(message, 1, [members(DAVE)], [], START)
            await self.store.record(copies.made[0], [Result(0, DONE)], [], START)
        await self.stop()

        connection = sqlite3.connect(self.home / "Queue" / "queue.sqlite")
        self.addCleanup(connection.close)
        for table in ("messages", "recipients", "served"):
            self.assertEqual([(0,)], list(connection.execute(f"SELECT count(*) FROM {table}")))
        self.assertEqual([], list((self.home / "Queue").glob("*.eml")))

    async def test_newer_format(self) -> None:
        """A queue of a newer program is left alone."""
        await self.stop()
        connection = sqlite3.connect(self.home / "Queue" / "queue.sqlite")
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        store = SQLiteQueue(reactor, self.home / "Queue", self.home / "SortTemp", self.clock)

        problem = self.assertRaises(SpoolTooNew, store.start)

        self.assertIn("format 99", str(problem))

    async def test_no_database(self) -> None:
        """A file that is no database is a problem with a name, not a traceback."""
        await self.stop()
        for name in ("queue.sqlite-wal", "queue.sqlite-shm"):
            (self.home / "Queue" / name).unlink(missing_ok=True)
        (self.home / "Queue" / "queue.sqlite").write_bytes(b"nonsense" * 1000)
        store = SQLiteQueue(reactor, self.home / "Queue", self.home / "SortTemp", self.clock)

        self.assertRaises(SpoolProblem, store.start)


class DamageTests(SQLiteTestCase, TestCase):
    async def damaged(self, message: QueuedMessage) -> None:
        self.store._held = HeldContents(0)

        async def read() -> bytes:
            return await whole(self.store.open_content(message))

        await self.assertFailure(ensureDeferred(read()), ContentDamaged)
        await self.store.quarantine(message, "damaged")
        self.flushLoggedErrors()
        kept = {path.suffix for path in (self.home / "Queue" / "corrupt").iterdir()}
        self.assertIn(".json", kept)

    async def test_row(self) -> None:
        """A flipped octet in a row is noticed."""
        message = await self.submit()
        connection = sqlite3.connect(self.home / "Queue" / "queue.sqlite")
        connection.execute("UPDATE messages SET octets = replace(octets, 'text', 'texd')")
        connection.commit()
        connection.close()

        await self.damaged(message)

    async def test_truncated_body(self) -> None:
        """A body file that lost its end is noticed before anything is sent."""
        message = await self.submit(content=LARGE * 100)
        path = self.home / "Queue" / f"{message.queue_id}.eml"
        os.truncate(path, path.stat().st_size - 1)

        await self.damaged(message)

    async def test_flipped_body(self) -> None:
        """A changed octet is noticed before the last block is handed out."""
        message = await self.submit(content=LARGE * 600)
        with open(self.home / "Queue" / f"{message.queue_id}.eml", "r+b") as file:
            file.write(b"X")

        await self.damaged(message)

    async def test_missing_body(self) -> None:
        """A body file that is gone is noticed."""
        message = await self.submit(content=LARGE * 100)
        (self.home / "Queue" / f"{message.queue_id}.eml").unlink()

        await self.damaged(message)


class ShortageTests(SQLiteTestCase, TestCase):
    async def test_below_the_floor(self) -> None:
        """No new message below the floor; open ones count."""
        self.free = (1 << 20) + 200_000
        self.store.check_room(100_000)
        held = self.store.new_message(b"", 150_000)

        self.assertRaises(SpoolFull, self.store.check_room, 100_000)
        held.discard()
        self.store.check_room(100_000)

    async def test_full_while_writing(self) -> None:
        """ENOSPC in a body: SpoolFull, nothing left, and the next small message works."""

        real = os.writev

        def full(fd: int, blocks: Any) -> int:
            if sum(map(len, blocks)) >= 100_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(fd, blocks)

        self.patch(files.os, "writev", full)
        await self.assertFailure(ensureDeferred(self.submit(content=LARGE * 1000)), SpoolFull)
        self.flushLoggedErrors()

        self.assertEqual(QueueCounts(0, 0), await self.store.counts())

    async def test_failed_sync(self) -> None:
        """A failed sync is that message's end; nothing is accepted until a probe succeeds."""
        real = os.fdatasync

        def fail(fd: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        self.patch(files.os, "fdatasync", fail)
        await self.assertFailure(ensureDeferred(self.submit(content=LARGE * 100)), SpoolProblem)
        self.patch(files.os, "fdatasync", real)
        self.assertRaises(SpoolProblem, self.store.check_room, 10)
        self.now += 6
        self.assertRaises(SpoolProblem, self.store.check_room, 10)  # the probe is under way
        while self.store._writer._probing:
            await deferLater(reactor, 0.01)

        self.store.check_room(10)
        await self.submit()
        self.assertEqual(QueueCounts(1, 1), await self.store.counts())

    async def test_failed_commit(self) -> None:
        """All of a group fail together, with nothing of it in the queue."""

        def fail(*given: Any) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        self.patch(group, "_write_records", fail)
        waiting = [ensureDeferred(self.submit()) for _ in range(5)]
        for one in waiting:
            await self.assertFailure(one, SpoolProblem)

        self.assertEqual(QueueCounts(0, 0), await self.store.counts())

    async def test_ballast(self) -> None:
        """On a full disk the ballast goes, so that outcomes are still recorded."""
        message = await self.submit()
        self.store._space.ballast_octets = 4096
        self.store._space.load_ballast()
        ballast = self.home / "Queue" / "ballast"
        there = ballast.exists()
        real = group._write_accepts

        def full(connection: Any, accepts: list[Any]) -> None:
            if ballast.exists():
                raise sqlite3.OperationalError("database or disk is full")
            real(connection, accepts)

        self.patch(group, "_write_accepts", full)
        await self.store.record(message, [Result(0, DONE)], [], self.now)

        self.assertEqual((True, False), (there, ballast.exists()))
        self.assertEqual(QueueCounts(0, 0), await self.store.counts())


class GroupTests(SQLiteTestCase, TestCase):
    async def test_messages_share_a_commit(self) -> None:
        """What gathers while a group is on its way to the disk is one transaction."""
        statements: list[str] = []
        self.store._writer.connection.set_trace_callback(statements.append)

        messages: Any = await gatherResults([ensureDeferred(self.submit()) for _ in range(100)])
        await gatherResults(
            [self.store.record(one, [Result(0, DONE)], [], self.now) for one in messages]
        )

        commits = sum(statement == "COMMIT" for statement in statements)
        self.assertLessEqual(commits, 6)
        self.assertEqual(QueueCounts(0, 0), await self.store.counts())

    async def test_held_contents_are_bounded(self) -> None:
        """P7: what is kept for the first attempt has a budget; the rest is read back."""
        self.store._held = HeldContents(1000)
        messages = [await self.submit(content=b"\r\n" + b"x" * 300 + b"\r\n") for _ in range(20)]

        self.assertLessEqual(sum(map(len, self.store._held._contents.values())), 1000)
        for message in messages:
            self.assertEqual(message.size, len(await whole(self.store.open_content(message))))

    async def test_nothing_is_held_of_what_is_put_off(self) -> None:
        """P7: with the next hop down all mail is; of some recipients others may be tried now."""
        content = b"\r\n" + b"x" * 300 + b"\r\n"
        some, whole_one = [await self.submit(BOB, CAROL, content=content) for _ in range(2)]
        await self.store.postpone(
            [
                Postponement(some, (0,), self.now + 60),
                Postponement(whole_one, (0, 1), self.now + 60),
            ]
        )

        self.assertEqual([some.key], list(self.store._held._contents))
        read_back = await whole(self.store.open_content(whole_one))
        self.assertEqual(whole_one.size, len(read_back))
        self.assertTrue(read_back.endswith(content))


CHILD = """
import sys
from contextlib import closing
from pathlib import Path
from time import time
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from mailhost.model.address import Mailbox
from mailhost.model.envelope import Envelope
from mailhost.spool.sqlite import SQLiteQueue

home = Path(sys.argv[1])
store = SQLiteQueue(reactor, home / "Queue", home / "SortTemp", time, ballast_octets=0)
store.start()

async def go(number):
    while True:
        size = 200_000 if number % 5 == 0 else 2_000
        incoming = store.new_message(b"", size)
        waiting = incoming.write(b"x" * size)
        if waiting is not None:
            await waiting
        queue_id = store.new_queue_id()
        envelope = Envelope(None, (Mailbox("a", "b.example"),))
        await store.commit(incoming, queue_id, envelope, "", time())
        sys.stdout.write(queue_id + chr(10))
        sys.stdout.flush()

for number in range(10):
    Deferred.fromCoroutine(go(number))
reactor.run()
"""


class KillTests(SQLiteTestCase, TestCase):
    timeout = 60

    async def test_kill_during_commits(self) -> None:
        """P1: after kill -9 every id that was told is in the queue, with its content."""
        await self.stop()
        for count in (1, 40, 300):
            child = subprocess.Popen(
                [sys.executable, "-c", CHILD, str(self.home)],
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parents[2],
            )
            assert child.stdout is not None
            told = [child.stdout.readline().strip() for _ in range(count)]
            child.send_signal(signal.SIGKILL)
            told += child.stdout.read().split("\n")[:-1]
            child.wait()
            child.stdout.close()

            self.store = self.open()
            self.now = 1e11
            found = {m.queue_id: m for m in await self.due(limit=100_000)}
            self.assertEqual(set(), set(told) - set(found))
            for queue_id in told[-20:]:
                await whole(self.store.open_content(found[queue_id]))
            await self.stop()
