"""
Kill -9 at any moment: every message that got its 250 arrives (promise P1).

A few rounds of `tests.crash.kill`, whose command does as many as wanted.
``MAILHOST_CRASH_SEED`` chooses other moments.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from tests.crash.kill import KillLoop, ids_in
from tests.support.peer_case import PeerCase, content
from tests.support.process import wait_until

SEED = int(os.environ.get("MAILHOST_CRASH_SEED", "5321"))
ROUNDS = 30
ROUNDS_WITH_WORKERS = 10


class KillTests(PeerCase):
    def run_rounds(self, count: int, workers: int) -> KillLoop:
        loop = KillLoop(self.directory, self.addCleanup, SEED, workers)
        loop.start()
        loop.begin()
        for _ in range(count):
            loop.round()
        wrong = loop.finish()
        print(f"\n{loop.summary()}")
        self.assertEqual([], wrong, loop.summary())
        self.assertGreaterEqual(len(loop.submitters.acknowledged), 5 * count)
        return loop

    def test_one_process(self) -> None:
        """Messages of all sorts, the server killed twenty times and more."""
        loop = self.run_rounds(ROUNDS, 1)

        self.assertGreaterEqual(loop.kills["the server"], ROUNDS)

    def test_workers(self) -> None:
        """One of two workers killed, both, or who looks after them."""
        loop = self.run_rounds(ROUNDS_WITH_WORKERS, 2)

        self.assertGreaterEqual(loop.kills["one worker"], ROUNDS_WITH_WORKERS / 2)
        self.assertGreater(loop.kills["all"], 0)
        self.assertGreater(loop.kills["the supervisor"], 0)


class PickupLoop(KillLoop):
    """Its mail comes from Pickup."""

    @property
    def pickup(self) -> Path:
        return self.house.root.home / "Pickup"

    def files(self) -> list[Path]:
        return [path for path in self.pickup.rglob("*") if path.is_file()]

    def left_behind(self) -> list[str]:
        """
        A claimed file counts too: nobody can tell whether it is in the queue by now.

        Both may be true, and then both will send it.
        """
        claimed = [path for path in self.files() if path.parent != self.pickup]
        return super().left_behind() + ids_in(path.read_bytes() for path in claimed)


class PickupKillTests(PeerCase):
    def test_every_file_arrives(self) -> None:
        """Files in Pickup are sent though the server is killed five times meanwhile."""
        ids = {f"file{number}" for number in range(60)}
        loop = PickupLoop(self.directory, self.addCleanup, SEED)
        loop.start()
        wait_until(loop.pickup.is_dir, "the Pickup directory")
        for test_id in sorted(ids):
            part = self.path("part")
            part.write_bytes(content(test_id, To="there@example.org"))
            part.rename(loop.pickup / f"{test_id}.eml")

        for taken in range(5, 55, 10):
            loop.house.process.wait_until(
                lambda n=taken: len(loop.sink.copies) >= n, f"{taken} copies in the sink"
            )
            loop.kill_something()
        loop.house.process.wait_until(lambda: not loop.files(), "an empty Pickup")
        loop.house.wait_until_empty()

        copies = Counter(copy.test_id for copy in loop.sink.copies)
        print(
            f"\nseed {SEED}: {len(ids)} files, {loop.kills.total()} kills, {loop.left} found "
            f"claimed or in the queue at them; {copies.total() - len(copies)} copies sent again"
        )
        self.assertEqual(ids, set(copies))
        for test_id, count in copies.items():
            self.assertLessEqual(count, 1 + loop.again[test_id], f"{test_id} was not in flight")
        self.assertEqual([], list((loop.house.root.home / "Badmail").iterdir()))
