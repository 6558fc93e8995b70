"""
A day in the life of a queue that passes every step of `mailhost.spool.steps`.

Played whole by a process that is killed at a step, or by the tests themselves with
one step that fails or is slow.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, ensureDeferred, execute, gatherResults
from twisted.internet.task import deferLater

from mailhost.errors import DirectoryProblem, SpoolProblem
from mailhost.model.address import Mailbox
from mailhost.model.directory import Destination, EnvelopePart, ReportTo
from mailhost.model.envelope import Envelope, Handling
from mailhost.model.outcome import Fate, Outcome
from mailhost.model.queue import QueuedMessage, Result, Submission
from mailhost.spool.badmail import Badmail, BadMessage
from mailhost.spool.space import DiskSpace
from mailhost.spool.sqlite import SQLiteQueue
from mailhost.spool.steps import Step
from tests.contracts.queue_store import whole
from tests.crash.ledger import LedgerWriter, digest

#: Contents beyond it are files.
THRESHOLD = 65536
SMALL, LARGE, LARGER = 2_000, 100_000, 600_000
BALLAST_OCTETS = 16384
DONE = Outcome(Fate.FAILED, "5.1.1", "550 5.1.1 no such user")
LATER = Outcome(Fate.DELAYED, "4.4.1", "no answer")
ENVELOPE = Envelope(Mailbox("alice", "example.com"), (Mailbox("bob", "example.net"),))
LIST = Envelope(
    Mailbox("alice", "example.com"),
    (Mailbox("list", "example.com"),),
    special={0: Handling(group="cn=list")},
)
OWNED = EnvelopePart(
    ReportTo.OWNER, Mailbox("owner", "example.com"), (Destination(Mailbox("bob", "example.net")),)
)
QUEUE_ID = "0123456789abcdef01234567"
#: Steps of the reactor's thread: what follows them is no system call that could fail.
NOTHING_FOLLOWS = frozenset({Step.REPLYING, Step.REPLIED})


def content(number: int, octets: int) -> bytes:
    """Every one another, so that a mixture is noticed."""
    line = digest(b"%d" % number).encode() + b"\r\n"
    return (line * (octets // len(line) + 1))[:octets]


@define
class Watch:
    """
    Passed every step; something happens at one of them.

    :ivar step: where; `None` for nowhere.
    :ivar pass_number: the how manieth time it is passed.
    :ivar act: what.
    :ivar counts: how often each step was passed.
    """

    step: Step | None = None
    pass_number: int = 1
    act: Callable[[], None] = lambda: None
    counts: Counter[Step] = field(factory=Counter)
    #: Troubles that belong to the day: the errno of the next pass of a step.
    troubles: dict[Step, int] = field(factory=dict)

    def __call__(self, step: Step) -> None:
        self.counts[step] += 1
        if step is self.step and self.counts[step] == self.pass_number:
            self.act()
        number = self.troubles.pop(step, None)
        if number is not None:
            raise OSError(number, os.strerror(number))


def failing(number: int) -> Callable[[], None]:
    """The next system call says *number*."""

    def act() -> None:
        raise OSError(number, os.strerror(number))

    return act


def dying() -> None:
    """No last words."""
    os.kill(os.getpid(), signal.SIGKILL)


def slow() -> None:
    """A disk that takes its time."""
    time.sleep(0.03)


@define(eq=False)
class Day:
    """
    :ivar watch: passed each step.
    :ivar failures: what was refused, in words.
    """

    reactor: Any
    home: Path
    ledger: LedgerWriter
    watch: Watch
    now: float = 1_000_000_000.0
    failures: list[str] = field(factory=list)
    store: SQLiteQueue = field(init=False)
    _number: int = 0

    def clock(self) -> float:
        return self.now

    async def play(self) -> None:
        """All of it."""
        await self._first_life()
        self._leave_orphans()
        await self._badmail_left()
        self._start()
        await self._mail()
        for octets in (SMALL, LARGE):
            await self._list(octets)
            await self._retry(octets)
        await self._damage()
        await self._full_disk()
        await self._failing_disk()
        await self._badmail()
        await self.submit(SMALL)
        await self.store.stop()

    # ---- lives

    def _start(self) -> None:
        """What cannot be opened is opened once more: the trouble comes once."""
        try:
            self.store = self._made()
            self.store.start()
        except SpoolProblem as problem:
            self.failures.append(str(problem))
            self.store = self._made()
            self.store.start()

    def _made(self) -> SQLiteQueue:
        queue = self.home / "Queue"
        space = DiskSpace(queue, 0, BALLAST_OCTETS, lambda path: 1 << 40, None, self.watch)
        return SQLiteQueue(
            self.reactor,
            queue,
            self.home / "SortTemp",
            self.clock,
            small_octets=THRESHOLD,
            space=space,
            passed=self.watch,
        )

    async def _first_life(self) -> None:
        self._start()
        await self.submit(SMALL)
        await self.store.stop()

    def _leave_orphans(self) -> None:
        """What a crash would have left, and something of the operator's."""
        name = self.store.new_queue_id()
        (self.home / "Queue" / f"{name}.eml").write_bytes(b"no row speaks of it")
        (self.home / "SortTemp" / f"{name}.part").write_bytes(b"half")
        (self.home / "Queue" / "notes.txt").write_bytes(b"the operator's")
        badmail = self.home / "Badmail"
        badmail.mkdir(exist_ok=True)
        (badmail / f".{name}.BAD.part").write_bytes(b"half")

    # ---- mail

    async def submit(self, octets: int, envelope: Envelope = ENVELOPE) -> QueuedMessage | None:
        """One message; the ledger has it when it was acknowledged."""
        self._number += 1
        octets_of_it = content(self._number, octets)
        self.ledger.note("try", digest(octets_of_it))
        await self._work()
        try:
            message = await self._commit(octets_of_it, envelope)
        except SpoolProblem as problem:
            self.failures.append(str(problem))
            return None
        self.ledger.note("accepted", message.queue_id, digest(octets_of_it))
        return message

    async def _commit(self, octets: bytes, envelope: Envelope) -> QueuedMessage:
        incoming = self.store.new_message(b"", len(octets))
        try:
            for start in range(0, len(octets), 50_000):
                waiting = incoming.write(octets[start : start + 50_000])
                if waiting is not None:
                    await waiting
            queue_id = self.store.new_queue_id()
            return await self.store.commit(incoming, queue_id, envelope, "", self.now)
        except SpoolProblem:
            incoming.discard()
            raise

    async def settle(self, message: QueuedMessage | None, *, report: bool = False) -> None:
        """A terminal outcome, until it is recorded."""
        if message is None:
            return
        told = b"Report on " + message.queue_id.encode() + b"\r\n"
        reports = [Submission(ENVELOPE, told)] if report else []
        self.ledger.note("settle", message.queue_id, digest(told) if report else "")
        if not await self._recorded(message, [Result(0, DONE)], reports):
            await self._work()
            await self.store.record(message, [Result(0, DONE)], reports, self.now)
        self.ledger.note("settled", message.queue_id)

    async def _recorded(
        self, message: QueuedMessage, results: list[Result], reports: list[Submission]
    ) -> bool:
        try:
            await self.store.record(message, results, reports, self.now)
        except SpoolProblem as problem:
            self.failures.append(str(problem))
            return False
        return True

    async def _mail(self) -> None:
        sizes = (SMALL, SMALL, SMALL, LARGE, LARGER, LARGE)
        small, other, kept, large, larger, _ = await gatherResults(
            [ensureDeferred(self.submit(size)) for size in sizes]
        )
        if kept is not None:
            await self._recorded(kept, [Result(0, LATER, self.now + 60)], [])
        await gatherResults(
            [
                ensureDeferred(self.settle(small)),
                ensureDeferred(self.settle(other, report=True)),
                ensureDeferred(self.settle(large, report=True)),
            ]
        )
        await self._work()
        await self._change_of_mind()
        await self.settle(larger)

    async def _list(self, octets: int) -> None:
        """A group makes way for a message in its owner's name, and a report."""
        message = await self.submit(octets, LIST)
        if message is None:
            return
        told = b"Report on " + message.queue_id.encode() + b"\r\n"
        self.ledger.note("expand", message.queue_id, digest(told))
        for _ in range(3):
            try:
                await self.store.expand(message, 0, [OWNED], [Submission(ENVELOPE, told)], self.now)
                break
            except SpoolProblem as problem:
                self.failures.append(str(problem))
                await self._work()
        self.ledger.note("settled", message.queue_id)

    async def _retry(self, octets: int) -> None:
        """Attempts that fail, each with the content read anew; a report in the end."""
        message = await self.submit(octets)
        if message is None:
            return
        for attempt in range(2):
            await whole(self.store.open_content(message))
            later = [Result(0, LATER, self.now + 60 * attempt)]
            if not await self._recorded(message, later, []):
                await self._work()
        await self.settle(message, report=True)

    async def _change_of_mind(self) -> None:
        incoming = self.store.new_message(b"", LARGER)
        try:
            waiting = incoming.write(content(0, LARGER))
            if waiting is not None:
                await waiting
        except SpoolProblem as problem:
            self.failures.append(str(problem))
        incoming.discard()

    async def _damage(self) -> None:
        for octets in (SMALL, LARGE):
            message = await self.submit(octets)
            if message is None:
                continue
            self.ledger.note("settle", message.queue_id, "")
            for _ in range(2):
                try:
                    await self.store.quarantine(message, "for the exercise")
                    break
                except SpoolProblem as problem:
                    self.failures.append(str(problem))
            await self.settle(message)

    # ---- troubles

    async def _work(self) -> None:
        """Let the store come back after a failure."""
        for _ in range(4):
            try:
                self.store.check_room(None)
                return
            except SpoolProblem:
                self.now += 6
                await self._probed()
        self.store.check_room(None)

    async def _probed(self) -> None:
        try:
            self.store.check_room(None)
        except SpoolProblem:
            await self.store._writer.idle()

    async def _full_disk(self) -> None:
        """An outcome for which there is room only without the ballast."""
        message = await self.submit(SMALL)
        self.watch.troubles[Step.OUTCOMES_WRITTEN] = errno.ENOSPC
        await self.settle(message)
        self.watch.troubles.clear()
        self.now += 61
        await self.submit(SMALL)

    async def _failing_disk(self) -> None:
        self.watch.troubles[Step.OUTCOMES_WRITTEN] = errno.EIO
        await self.submit(SMALL)
        self.watch.troubles.clear()
        await self.submit(LARGE)

    async def _badmail_left(self) -> None:
        for _ in range(2):
            try:
                Badmail(self.home / "Badmail", execute, self.watch).start()
                break
            except DirectoryProblem as problem:
                self.failures.append(str(problem))

    async def _badmail(self) -> None:
        badmail = Badmail(self.home / "Badmail", execute, self.watch)
        old = BadMessage(QUEUE_ID, "for the exercise", None)
        new = BadMessage(QUEUE_ID[::-1], "for the exercise", None)
        try:
            stem = await badmail.store(old, content(0, SMALL), self.now)
            # Half of its age is enough, and the second one's is not.
            await badmail.purge(0.0, None, time.time() + 3600)
            for octets in (LARGE, LARGE, SMALL):
                # Once more as after a crash before its outcome was written down.
                stem = await badmail.store(new, content(0, octets), self.now)
                self.ledger.note("bad", stem)
        except DirectoryProblem as problem:
            self.failures.append(str(problem))


async def life(reactor: Any, home: Path, watch: Watch) -> Day:
    """A whole day below *home*."""
    ledger = LedgerWriter(home / "ledger")
    day = Day(reactor, home, ledger, watch)
    try:
        await day.play()
    finally:
        ledger.close()
    return day


def live_in_child(home: str, step: str, pass_number: int) -> None:
    """In a process of its own that dies at *step*, if any; it ends well when that never comes."""
    from twisted.internet import reactor

    watch = Watch(Step[step], pass_number, dying) if step else Watch()
    status: list[int] = []

    def over(result: object) -> None:
        status.append(0 if isinstance(result, Day) else 1)
        reactor.stop()  # type: ignore[attr-defined]  # the module stands for the reactor

    def begin() -> None:
        Deferred.fromCoroutine(life(reactor, Path(home), watch)).addBoth(over)

    deferLater(reactor, 0, begin)
    reactor.run()  # type: ignore[attr-defined]  # as above
    os._exit(status[0])
