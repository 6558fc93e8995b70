"""
Kill -9 at any moment: every message that got its 250 arrives (promise P1).

``python -m tests.crash.kill --rounds N --workers W --seed S`` kills by hand as often as
wanted; the suite does a few rounds.  What a kill may cause is a second copy, and only of a
message that lay in Queue when its process died: the outcome was not written down yet.  So
after each kill the queue is read as the dead process has left it, and every further copy
must be explained by it.

With several workers a kill is of one worker, of the supervisor, or of all at once.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from pathlib import Path

from attrs import define, field

from tests.crash.submitters import Errand, Submitters, wait_for
from tests.support.mailroot import Mailroot
from tests.support.process import LOOPBACK, Mailhost, reserve_address, split_address, wait_until
from tests.support.recording_sink import RecordingSink
from tests.workers.house import House, is_alive, wait_until_gone

#: The sink makes its clients wait, so that kills fall into the gap before its reply.
SINK_LATENCY_SECONDS = 0.02
_PATIENCE_SECONDS = 40.0
_QUEUED = """
SELECT printf('%x', key), reverse_path, local, domain, due_at - unixepoch(), attempts, words
FROM recipients JOIN messages USING (key)
"""


@define(eq=False)
class KillLoop:
    """
    A server, its next hop, its clients, and a way to kill it.

    :ivar folder: for all files.
    :ivar clean: told what is to be called at the end.
    :ivar kills: processes killed, by what they were.
    :ivar left: messages found in the queues of the dead.
    :ivar again: how often each message may come once more.
    """

    folder: Path
    clean: Callable[[Callable[[], object]], object]
    seed: int
    workers: int = 1
    kills: Counter[str] = field(factory=Counter, init=False)
    left: int = field(default=0, init=False)
    again: Counter[str] = field(factory=Counter, init=False)
    sink: RecordingSink = field(init=False)
    house: House = field(init=False)
    submitters: Submitters = field(init=False)
    random: random.Random = field(init=False)
    _taken: Counter[str] = field(factory=Counter, init=False)
    _deck: list[Callable[[], None]] = field(factory=list, init=False)

    def start(self) -> None:
        """Run the server and its next hop."""
        self.random = random.Random(self.seed)
        self.sink = RecordingSink(LOOPBACK, SINK_LATENCY_SECONDS)
        self.sink.start()
        self.clean(self.sink.stop)
        host, port = split_address(self.sink.address)
        settings = {
            "access": {"relay": {"default": "allow"}},
            "messages": {"max_session_size": "unlimited"},
            "delivery": {"smart_host": f"[{host}]:{port}", "outbound": {"retry": ["1s"]}},
        }
        mailhost = Mailhost(self.clean, self.folder / "mailhost.yaml")
        root = Mailroot(self.folder / "home")
        self.house = House(mailhost, reserve_address(), root, settings, workers=self.workers)
        self.house.configure()
        self.house.start()

    def begin(self) -> None:
        """Let the clients come."""
        self.submitters = Submitters(self.house.address)
        self.submitters.start()

    # ---- a round

    def round(self) -> None:
        """Wait for a moment, kill, and see to it that the server runs again."""
        self._wait_for_moment()
        self.kill_something()

    def _wait_for_moment(self) -> None:
        """Some acknowledgements later, with much or with little under way."""
        acknowledged = self.submitters.acknowledged
        wanted = len(acknowledged) + self.random.randint(5, 35)
        if not wait_for(lambda: len(acknowledged) >= wanted, _PATIENCE_SECONDS):
            raise AssertionError(
                f"nothing is acknowledged any more {self.submitters.problems}\n"
                + self.house.process.said()
            )
        time.sleep(self.random.uniform(0, self.random.choice((0.03, 0.5))))

    def kill_something(self) -> None:
        """One of several workers, the supervisor, or all there is."""
        if self.workers == 1:
            self._kill_and_restart()
            return
        if not self._deck:
            self._deck = [self._kill_worker] * 3 + [self._kill_and_restart, self._kill_supervisor]
            self.random.shuffle(self._deck)
        self._deck.pop()()

    def _kill_and_restart(self) -> None:
        """One time in three the next process is killed too, while it starts."""
        self._kill_all()
        if self.random.random() < 0.34:
            self.house.mailhost.launch()
            time.sleep(self.random.uniform(0.1, 0.6))
            self._kill_all()
        self.house.start()

    def _kill_all(self) -> None:
        process = self.house.process
        process.send_signal(signal.SIGSTOP)  # else it would replace who dies first
        children = children_of(process.pid)
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        process.kill()
        wait_until_gone(*children)
        self.kills["all" if self.workers > 1 else "the server"] += 1
        wait_until(lambda: not self.sink.open_sessions, "the end of the sink's sessions")
        taken = Counter(copy.test_id for copy in list(self.sink.copies))
        for test_id, places in Counter(self.left_behind()).items():
            # What is left in several places will be sent from each of them, and what is left
            # though the sink has a new copy of it will be sent from all of them in vain.
            self.left += 1
            self.again[test_id] += places if taken[test_id] > self._taken[test_id] else places - 1
        self._taken = taken

    def _kill_worker(self) -> None:
        """The others go on, so what the dead one was doing counts as sent already."""
        alive = [pid for pid in self.house.worker_pids() if is_alive(pid)]
        if not alive:
            return
        pid = self.random.choice(alive)
        number = self.house.worker_pids().index(pid)
        supervisor = self.house.process
        supervisor.send_signal(signal.SIGSTOP)  # it would start the next one at once
        try:
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not is_alive(pid), f"the end of {pid}")
            self.kills["one worker"] += 1
            for test_id in self.left_in(self.house.queues()[number]):
                self.left += 1
                self.again[test_id] += 1
        finally:
            supervisor.send_signal(signal.SIGCONT)

    def _kill_supervisor(self) -> None:
        """Its workers end by themselves, in good order."""
        children = children_of(self.house.process.pid)
        self.house.process.kill()
        self.kills["the supervisor"] += 1
        self.house.start()
        wait_until_gone(*children)

    # ---- what the dead leave

    def left_behind(self) -> list[str]:
        """The X-Test-IDs of what all have left in Queue."""
        return [one for queue in self.house.queues() for one in self.left_in(queue)]

    def left_in(self, queue: Path) -> list[str]:
        """The X-Test-IDs in one queue whose process is dead, read from a copy."""
        copy = Path(tempfile.mkdtemp(dir=self.folder)) / "queue"
        ignored = shutil.ignore_patterns("ballast", "worker-*")
        shutil.copytree(queue, copy, ignore=ignored)
        try:
            if not (copy / "queue.sqlite").exists():
                return []
            return ids_in(_bodies(copy))
        finally:
            shutil.rmtree(copy.parent)

    # ---- the account

    def finish(self) -> list[str]:
        """Let all that is queued arrive; what is wrong, empty when nothing is."""
        self.submitters.stop()
        wait_for(lambda: not any(self.house.waiting()), _PATIENCE_SECONDS)
        return [*self._queued(), *self._missing(), *self._unexplained(), *self._left_over()]

    def summary(self) -> str:
        """The figures."""
        copies, files, reports = self._copies(), self._files(), self._reports()
        killed = ", ".join(f"{count} x {what}" for what, count in sorted(self.kills.items()))
        return (
            f"seed {self.seed}, {self.workers} workers: {len(self.submitters.submitted)} "
            f"submitted, {len(self.submitters.acknowledged)} acknowledged; killed {killed}; "
            f"{self.left} found in the queues of the dead, {self.again.total()} perhaps in "
            f"flight; {copies.total()} relayed, {copies.total() - len(copies)} of them again; "
            f"{files.total()} files in Drop, {reports.total()} reports; "
            f"{len(self._unacknowledged())} arrived without their acknowledgement"
        )

    def _copies(self) -> Counter[str]:
        return Counter(copy.test_id for copy in list(self.sink.copies))

    def _files(self) -> Counter[str]:
        return Counter(one.test_id for one in self.house.root.drop_for("here@example.com"))

    def _reports(self) -> Counter[str]:
        reports = (one for one in self.house.root.drop() if one.sender == "<>")
        return Counter(receiver for one in reports for receiver in one.receivers)

    def _unacknowledged(self) -> set[str]:
        return (set(self._copies()) | set(self._files())) - self.submitters.acknowledged

    def _queued(self) -> list[str]:
        """What should have left by now."""
        found = []
        for queue in self.house.queues():
            with closing(sqlite3.connect(queue / "queue.sqlite")) as connection:
                rows = connection.execute(_QUEUED).fetchall()
            found += [f"still in {queue.name}: {row}" for row in rows]
        return found

    def _missing(self) -> list[str]:
        """What was acknowledged and has not come to all of its places, octet by octet."""
        root = self.house.root
        relayed = {copy.test_id: copy.content for copy in self.sink.copies}
        dropped = {one.test_id: one.content for one in root.drop_for("here@example.com")}
        reports = [one for one in root.drop() if one.sender == "<>"]
        returned = {path: one for one in reports for path in one.receivers}
        found: list[str] = []
        for test_id in sorted(self.submitters.acknowledged):
            one: Errand = self.submitters.submitted[test_id]
            report = returned.get(one.sender)
            if one.relayed and not relayed.get(test_id, b"").endswith(one.octets):
                found.append(f"{test_id} was not relayed")
            if one.dropped and not dropped.get(test_id, b"").endswith(one.octets):
                found.append(f"{test_id} is not in Drop")
            if one.returned and test_id not in ids_in([report.content] if report else []):
                found.append(f"{test_id} was not returned")
        return found

    def _unexplained(self) -> list[str]:
        """Copies beyond the first are of messages in flight at a kill, one for each kill."""
        copies, files, reports = self._copies(), self._files(), self._reports()
        wrong = [
            f"{test_id} came {count} times, {1 + self.again[test_id]} are explained"
            for test_id, count in copies.items()
            if count > 1 + self.again[test_id]
        ]
        # Drop and reports are exact: a file's name, and a transaction, see to it.
        wrong += [f"{one} is in Drop {n} times" for one, n in files.items() if n > 1]
        wrong += [f"{one} got {n} reports" for one, n in reports.items() if n > 1]
        strange = (set(copies) | set(files)) - set(self.submitters.submitted)
        wrong += [f"{one} is nobody's message" for one in strange]
        # Each session can have one message under way when the server dies, and no more.
        if len(self._unacknowledged()) > self.submitters.sessions * self.kills.total():
            wrong.append(f"{len(self._unacknowledged())} arrived without acknowledgement")
        return wrong

    def _left_over(self) -> list[str]:
        root = self.house.root
        wrong = [f"{name} is left over" for name in root.left_over()]
        for name in ("Badmail", "SortTemp"):
            files = (path for path in (root.home / name).rglob("*") if path.is_file())
            wrong += [f"{path} is left over" for path in files]
        bodies = re.compile(r"\.(eml|part)$")
        queue = (root.home / "Queue").rglob("*")
        return wrong + [f"{path} is left over" for path in queue if bodies.search(path.name)]


def children_of(pid: int) -> list[int]:
    """The processes that *pid* has started, and that have not been waited for."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(one) for path in lists for one in path.read_text("ascii").split()]


def ids_in(contents: Iterable[bytes]) -> list[str]:
    """The X-Test-ID of each, wherever in it the field stands."""
    found = (re.search(rb"^X-Test-ID: (\S+)\r$", octets, re.MULTILINE) for octets in contents)
    return [match[1].decode() for match in found if match]


def _bodies(queue: Path) -> list[bytes]:
    with closing(sqlite3.connect(queue / "queue.sqlite")) as connection:
        try:
            rows = connection.execute("SELECT key, octets FROM messages").fetchall()
        except sqlite3.OperationalError:
            return []  # killed before there were tables
    return [_body(queue, key) if octets is None else octets for key, octets in rows]


def _body(queue: Path, key: int) -> bytes:
    """A large body; a row without it would break promise P1 by itself."""
    (path,) = queue.glob(f"{key:016x}*.eml")
    return path.read_bytes()


def main() -> int:
    """Kill as often as was asked for; 1 when anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.kill", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=5321)
    parser.add_argument("--keep", action="store_true", help="keep the server's home and logs")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="mailhost-"))
        if given.keep:
            print(f"everything is below {folder}")
        else:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        loop = KillLoop(folder, stack.callback, given.seed, given.workers)
        loop.start()
        loop.begin()
        for number in range(1, given.rounds + 1):
            loop.round()
            if number % 10 == 0:
                acknowledged = len(loop.submitters.acknowledged)
                print(f"{number} rounds, {acknowledged} acknowledged", flush=True)
        wrong = loop.finish()
        print(loop.summary())
        print("\n".join(wrong[:50]) or "nothing is wrong")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
