"""
A power cut at any instant: what was acknowledged before it is there, and whole (P1).

A process that runs the real store is recorded; its disk is rebuilt as a power cut would
leave it, at every sync and at every acknowledgement, and opened by the real store.
``MAILHOST_CRASH_SEED`` chooses what else survives.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

from twisted.internet import reactor
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from mailhost.errors import SpoolProblem
from tests.crash.disk_model import Directory, Disk, File, Truncate, Write
from tests.crash.ledger import Ledger, digest
from tests.crash.recorded import can_record, record
from tests.crash.recovery import faults_of
from tests.crash.replay import Replay, Stop

SEED = int(os.environ.get("MAILHOST_CRASH_SEED", "5321"))
#: A disk in memory makes the real store's own syncs cheap.
MEMORY = Path("/dev/shm")
_traces: dict[str, tuple[Path, bytes]] = {}


class PowerCase(TestCase):
    timeout = 120

    def folder(self) -> Path:
        folder = Path(mkdtemp(dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
        self.addCleanup(shutil.rmtree, folder)
        return folder

    def replay(self, control: str = "") -> Replay:
        """A replay from the beginning; each process is recorded once."""
        if control not in _traces:
            why_not = can_record()
            if why_not:
                raise SkipTest(f"no system calls can be recorded: {why_not}")
            folder = self.folder()
            _traces[control] = folder, record(folder, control)
        top, trace = _traces[control]
        return Replay(trace, Disk(top), top / "ledger")

    async def faults(self, replay: Replay, chance: random.Random | None) -> list[str]:
        """What a power cut now would cost."""
        target = self.folder()
        replay.disk.survive(target, chance)
        try:
            return await faults_of(reactor, target / "home", Ledger().read(replay.ledger))
        except SpoolProblem as problem:
            return [f"the queue cannot be opened: {problem}"]
        finally:
            self.flushLoggedErrors()


def acknowledgements(replay: Replay) -> Iterator[Stop]:
    """Play on to each acknowledgement."""
    for stop in replay.stops():
        if stop.line.startswith((b'["accepted"', b'["settled"')):
            yield stop


class PowerTests(PowerCase):
    async def test_nothing_unsynced_survives(self) -> None:
        """The worst case, at every sync and every acknowledgement."""
        replay, cuts = self.replay(), Counter[str]()
        for stop in replay.stops():
            if stop.kind == "sync" or stop.line.startswith((b'["accepted"', b'["settled"')):
                cuts[stop.kind] += 1
                self.assertEqual([], await self.faults(replay, None), f"cut {cuts}")

        print(f"\n{cuts['sync']} cuts at syncs, {cuts['line']} at acknowledgements")
        self.assertGreater(cuts["sync"], 60)
        self.assertEqual(84, cuts["line"])

    async def test_some_of_it_survives(self) -> None:
        """Any part of what was not synced, torn between sectors, may be there as well."""
        replay, cuts = self.replay(), 0
        for number, _ in enumerate(replay.stops()):
            for variant in range(2):
                cuts += 1
                chance = random.Random(SEED + 1000 * number + variant)
                self.assertEqual(
                    [],
                    await self.faults(replay, chance),
                    f"seed {SEED}, stop {number}, variant {variant}",
                )

        print(f"\nseed {SEED}: {cuts} cuts")
        self.assertGreater(cuts, 400)


class OrderTests(PowerCase):
    def test_synced_before_the_reply(self) -> None:
        """Each large content, its name, and the database's names are synced before the 250."""
        replay, large = self.replay(), 0
        for stop in acknowledgements(replay):
            queue = replay.disk.find(str(replay.disk.top / "home" / "Queue"))
            assert isinstance(queue, Directory)
            self.assertLessEqual({"queue.sqlite", "queue.sqlite-wal"}, set(queue.synced))
            ledger = Ledger().read(stop.line)
            for queue_id, content in ledger.accepted.items():
                body = queue.names.get(f"{queue_id}.eml")
                if body is None:
                    continue  # A small one, in its row.
                large += 1
                assert isinstance(body, File)
                self.assertIs(body, queue.synced.get(f"{queue_id}.eml"))
                self.assertEqual([], body.pending)
                self.assertEqual(content, digest(bytes(body.synced)))

        print(f"\n{large} large contents")
        self.assertGreaterEqual(large, 12)


class ControlTests(PowerCase):
    """The same harness, on a store that is wrong, finds it."""

    async def lost(self, control: str) -> int:
        """Cuts at acknowledgements that lose something."""
        replay, count = self.replay(control), 0
        for _ in acknowledgements(replay):
            count += bool(await self.faults(replay, None))
            if count == 3:
                break
        return count

    async def test_without_sync_of_the_log(self) -> None:
        """``PRAGMA synchronous = NORMAL`` loses acknowledged mail."""
        self.assertEqual(3, await self.lost("synchronous=NORMAL"))

    async def test_without_sync_of_bodies(self) -> None:
        """Without ``fdatasync`` large contents are lost."""
        self.assertEqual(3, await self.lost("no fdatasync"))

    async def test_without_sync_of_names(self) -> None:
        """Without a sync of the directory large contents are lost."""
        self.assertEqual(3, await self.lost("no directory sync"))


class ModelTests(SynchronousTestCase):
    """The model itself."""

    def test_unsynced_write(self) -> None:
        """A write without a sync is gone, one with a sync is not."""
        file = File()
        file.do(Write(0, b"one"))
        file.sync(file.done)
        file.do(Write(3, b"two"))

        self.assertEqual(b"one", file.survivor(None))
        self.assertEqual(6, file.size)

    def test_sync_covers_what_came_before(self) -> None:
        """What is written while a sync is under way is not covered by it."""
        file = File()
        file.do(Write(0, b"one"))
        covered = file.done
        file.do(Truncate(1))
        file.sync(covered)

        self.assertEqual(b"one", file.survivor(None))

    def test_torn(self) -> None:
        """A write is torn between sectors, never within one."""
        parts = list(Write(500, b"x" * 2000).torn(random.Random(SEED)))

        self.assertTrue(parts)
        for part in parts:
            self.assertTrue(part.offset % 512 == 0 or part.offset == 500)
            self.assertLessEqual(len(part.octets), 512)

    def test_names(self) -> None:
        """A renamed file has its old name until the directories are synced."""
        disk = Disk(Path("/top"))
        before, after, file = Directory(), Directory(), File()
        disk.root.give("before", before)
        disk.root.give("after", after)
        before.give("a", file)
        before.sync(before.done)
        after.give("b", before.take("a"))

        self.assertEqual({"a": file}, before.survivor(None))
        self.assertEqual({}, after.survivor(None))
        after.sync(after.done)
        self.assertEqual({"b": file}, after.survivor(None))
        self.assertEqual({"b"}, set(after.names))


class ReplayTests(SynchronousTestCase):
    """What the lines of a trace are taken to mean."""

    def test_number_of_a_file_that_is_being_closed(self) -> None:
        """A close that returns late does not close the file that got its number meanwhile."""

        def path(name: str) -> str:
            return "".join(f"\\x{octet:02x}" for octet in f"/top/{name}".encode())

        one, two = path("one"), path("two")
        trace = f"""\
1 openat(3, "{one}", O_RDWR|O_CREAT) = 7<{one}>
1 close(7<{one}> <unfinished ...>
2 openat(3, "{two}", O_RDWR|O_CREAT) = 7<{two}>
1 <... close resumed>) = 0
2 write(7<{two}>, "\\x61\\x62", 2) = 2
2 fdatasync(7<{two}>) = 0
2 close(7<{two}>) = 0
"""
        disk = Disk(Path("/top"))
        stops = list(Replay(trace.encode(), disk, Path("/ledger")).stops())

        self.assertEqual([Stop("sync")], stops)
        written = disk.find("/top/two")
        assert isinstance(written, File)
        self.assertEqual(b"ab", written.survivor(None))
