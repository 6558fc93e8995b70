"""
Kill -9 at any moment: every message that got its 250 arrives (promise P1).

What a kill may cause is a second copy, and only of a message that lay in Queue when the
process died though its copy was taken: the outcome was not written down yet.  So after
each kill the queue is read as the dead process has left it, and every further copy must
be explained by it.  ``MAILHOST_CRASH_SEED`` chooses other moments.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from tests.crash.submitters import Errand, Submitters, wait_for
from tests.support.peer_case import PeerCase, content
from tests.support.process import LOOPBACK, split_address, wait_until
from tests.support.recording_sink import RecordingSink

SEED = int(os.environ.get("MAILHOST_CRASH_SEED", "5321"))
ROUNDS = 10
DELIVERIES = 200
#: The sink makes its clients wait, so that kills fall into the gap before its reply.
SINK_LATENCY_SECONDS = 0.02


class CrashCase(PeerCase):
    def setUp(self) -> None:
        super().setUp()
        self.random = random.Random(SEED)
        self.kills = self.left = 0
        self.taken: Counter[str] = Counter()
        self.again: Counter[str] = Counter()
        self.sink = RecordingSink(LOOPBACK, SINK_LATENCY_SECONDS)
        self.sink.start()
        self.addCleanup(self.sink.stop)
        host, port = split_address(self.sink.address)
        self.server = self.start_server(
            access={"relay": {"default": "allow"}},
            messages={"max_session_size": "unlimited"},
            delivery={"smart_host": f"[{host}]:{port}", "outbound": {"retry": ["1s"]}},
        )

    def kill_and_restart(self) -> None:
        """Kill, read what is left, start again; one time in three kill that start too."""
        self.kill()
        if self.random.random() < 0.34:
            self.server.mailhost.launch()
            time.sleep(self.random.uniform(0.1, 0.6))
            self.kill()
        self.server.start()

    def kill(self) -> None:
        """
        Kill, and count what may come once more because of it.

        What is left in several places will be sent from each of them, and what is left
        though the sink has a new copy of it will be sent from all of them in vain.
        """
        self.server.process.kill()
        wait_until(lambda: not self.sink.open_sessions, "the end of the sink's sessions")
        taken = Counter(copy.test_id for copy in self.sink.copies)
        for test_id, places in Counter(self.left_behind()).items():
            self.left += 1
            self.again[test_id] += places if taken[test_id] > self.taken[test_id] else places - 1
        self.taken = taken
        self.kills += 1

    def left_behind(self) -> list[str]:
        """The X-Test-IDs of what the dead process has left in Queue, read from a copy."""
        copy = self.path("queue")
        queue = self.server.root.home / "Queue"
        shutil.copytree(queue, copy, ignore=shutil.ignore_patterns("ballast"))
        with closing(sqlite3.connect(copy / "queue.sqlite")) as connection:
            rows = connection.execute("SELECT key, octets FROM messages").fetchall()
        return _test_ids(_body(copy, key) if octets is None else octets for key, octets in rows)


class KillTests(CrashCase):
    def test_every_acknowledged_message_arrives(self) -> None:
        """200 deliveries and more of all sorts, the server killed ten times and more."""
        submitters = Submitters(self.server.address)
        submitters.start()
        for _ in range(ROUNDS):
            self.wait_for_moment(submitters)
            self.kill_and_restart()
        wait_for(lambda: len(submitters.acknowledged) >= DELIVERIES, 20)
        submitters.stop()
        self.server.wait_until_empty()

        self.assertGreaterEqual(len(submitters.acknowledged), DELIVERIES)
        missing = self.missing(submitters)
        self.assertEqual([], missing, f"lost of {len(submitters.acknowledged)}, seed {SEED}")
        self.assert_copies_explained(submitters)
        self.assert_nothing_left()

    def wait_for_moment(self, submitters: Submitters) -> None:
        """Some acknowledgements later, with much or with little under way."""
        wanted = len(submitters.acknowledged) + self.random.randint(5, 35)
        if not wait_for(lambda: len(submitters.acknowledged) >= wanted, 20):
            raise AssertionError(
                f"nothing is acknowledged any more {submitters.problems}\n"
                + self.server.process.said()
            )
        time.sleep(self.random.uniform(0, self.random.choice((0.03, 0.5))))

    def missing(self, submitters: Submitters) -> list[str]:
        """What was acknowledged and has not come to all of its places, octet by octet."""
        relayed = {copy.test_id: copy.content for copy in self.sink.copies}
        dropped = {
            one.test_id: one.content for one in self.server.root.drop_for("here@example.com")
        }
        found: list[str] = []
        for test_id in sorted(submitters.acknowledged):
            one = submitters.submitted[test_id]
            if one.relayed and not relayed.get(test_id, b"").endswith(one.octets):
                found.append(f"{test_id} was not relayed")
            if one.dropped and not dropped.get(test_id, b"").endswith(one.octets):
                found.append(f"{test_id} is not in Drop")
            if one.returned and not self.is_returned(one):
                found.append(f"{test_id} was not returned")
        return found

    def is_returned(self, one: Errand) -> bool:
        reports = self.server.root.reports_for(one.sender)
        return bool(reports) and f"X-Test-ID: {one.test_id}" in reports[0].returned

    def assert_copies_explained(self, submitters: Submitters) -> None:
        """Copies beyond the first are of messages in flight at a kill, one for each kill."""
        copies = Counter(copy.test_id for copy in self.sink.copies)
        files = Counter(one.test_id for one in self.server.root.drop_for("here@example.com"))
        reports = Counter(
            receiver
            for one in self.server.root.drop()
            if one.sender == "<>"
            for receiver in one.receivers
        )
        unacknowledged = (set(copies) | set(files)) - submitters.acknowledged
        print(
            f"\nseed {SEED}: {len(submitters.submitted)} submitted, "
            f"{len(submitters.acknowledged)} acknowledged, {self.kills} kills, "
            f"{self.left} found in the queue at them, {self.again.total()} in flight; "
            f"{copies.total()} relayed, {copies.total() - len(copies)} of them again; "
            f"{files.total()} files in Drop, {reports.total()} reports; "
            f"{len(unacknowledged)} arrived without their acknowledgement"
        )
        for test_id, count in copies.items():
            self.assertLessEqual(count, 1 + self.again[test_id], f"{test_id} was not in flight")
        # Drop and reports are exact: a file's name, and a transaction, see to it.
        self.assertEqual({}, {one: count for one, count in files.items() if count > 1})
        self.assertEqual({}, {one: count for one, count in reports.items() if count > 1})
        self.assertLessEqual(set(copies) | set(files), set(submitters.submitted))
        # Each session can have one message under way when the server dies, and no more.
        self.assertLessEqual(len(unacknowledged), submitters.sessions * ROUNDS)

    def assert_nothing_left(self) -> None:
        root = self.server.root
        self.assertEqual([], root.left_over())
        self.assertEqual([], list((root.home / "Badmail").iterdir()))
        queue = {path.name for path in (root.home / "Queue").iterdir()}
        self.assertEqual(set(), {name for name in queue if re.search(r"\.(eml|part)$", name)})
        self.assertEqual([], list((root.home / "SortTemp").iterdir()))


class PickupKillTests(CrashCase):
    def test_every_file_arrives(self) -> None:
        """Files in Pickup are sent though the server is killed five times meanwhile."""
        ids = {f"file{number}" for number in range(60)}
        self.pickup = self.server.root.home / "Pickup"
        wait_until(self.pickup.is_dir, "the Pickup directory")
        for test_id in sorted(ids):
            part = self.path("part")
            part.write_bytes(content(test_id, To="there@example.org"))
            part.rename(self.pickup / f"{test_id}.eml")

        for taken in range(5, 55, 10):
            self.wait_for_copies(taken)
            self.kill_and_restart()
        self.server.process.wait_until(lambda: not self.files(), "an empty Pickup")
        self.server.wait_until_empty()

        copies = Counter(copy.test_id for copy in self.sink.copies)
        print(
            f"\nseed {SEED}: {len(ids)} files, {self.kills} kills, {self.left} found claimed or "
            f"in the queue at them; {copies.total() - len(copies)} copies sent again"
        )
        self.assertEqual(ids, set(copies))
        for test_id, count in copies.items():
            self.assertLessEqual(count, 1 + self.again[test_id], f"{test_id} was not in flight")
        self.assertEqual([], list((self.server.root.home / "Badmail").iterdir()))

    def wait_for_copies(self, count: int) -> None:
        self.server.process.wait_until(
            lambda: len(self.sink.copies) >= count, f"{count} copies in the sink"
        )

    def files(self) -> list[Path]:
        return [path for path in self.pickup.rglob("*") if path.is_file()]

    def left_behind(self) -> list[str]:
        """
        A claimed file counts too: nobody can tell whether it is in the queue by now.

        Both may be true, and then both will send it.
        """
        claimed = [path for path in self.files() if path.parent != self.pickup]
        return super().left_behind() + _test_ids(path.read_bytes() for path in claimed)


def _body(queue: Path, key: int) -> bytes:
    """A large body; a row without it would break promise P1 by itself."""
    (path,) = queue.glob(f"{key:016x}*.eml")
    return path.read_bytes()


def _test_ids(contents: Iterable[bytes]) -> list[str]:
    found = (re.search(rb"^X-Test-ID: (\S+)\r$", octets, re.MULTILINE) for octets in contents)
    return [match[1].decode() for match in found if match]
