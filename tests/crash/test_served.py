"""
A power cut at any instant of a whole server: what it has said 250 to, and what lay in Pickup, is
in Queue, Drop or Badmail, or the next hop has said that it has it (P1).

``twistd -n mailhost`` is recorded while it serves (`served`); its disk is rebuilt as a power cut
would leave it, at every sync and at every word over a socket that somebody relies on.
``MAILHOST_CRASH_SEED`` chooses what else survives.
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

from attrs import define, field
from twisted.internet import reactor

from tests.crash.disk_model import Directory, Disk, File
from tests.crash.places import missing
from tests.crash.recorded import can_record
from tests.crash.replay import Replay
from tests.crash.served import PICKED, Served, Trace
from tests.crash.test_power import MEMORY, SEED, PowerCase

_QUEUED = re.compile(rb"250 2\.6\.0 .* \[([0-9a-f]{24})\]\r\n\Z")
_TAKEN = re.compile(rb"250 2\.0\.0 taken (\S+)\r\n")
_PICKED = frozenset(test_id for test_id, _ in PICKED)
_SYNC = re.compile(rb"f(?:data)?sync\(\d+<((?:\\x[0-9a-f]{2})*)>")
#: Nothing of a message depends on them: what nobody syncs on purpose.
_NOT_MAIL = re.compile(
    r"mailhost.yaml|home/log(/.*)?"
    r"|home/one/(Trace(/.*)?|Queue/(worker-\d+/)?(lock|[^/]*-shm|ballast|greylist[^/]*))"
)


@define(eq=False)
class Story:
    """
    How far a recorded server has come.

    :ivar promised: test ids of what was answered 250.
    :ivar taken: those that the next hop has taken.
    """

    served: Served
    replay: Replay
    promised: set[str] = field(factory=set)
    taken: set[str] = field(factory=set)

    def moments(self) -> Iterator[str]:
        """Play on to each moment that is worth a power cut; its name."""
        for stop in self.replay.stops():
            if stop.kind == "sent" and (queued := _QUEUED.search(stop.line)):
                self.promised.add(self.served.queue_ids[queued[1].decode()])
                yield "acknowledgement"
            elif stop.kind == "heard" and (taken := _TAKEN.search(stop.line)):
                self.taken.add(taken[1].decode())
                yield "taken"
            elif stop.kind == "sync":
                yield "sync"

    @property
    def wanted(self) -> set[str]:
        picked = _PICKED if self.served.picked and self.replay.disk.atomic_renames else set()
        return (self.promised | picked) - self.taken


class ServedCase(PowerCase):
    timeout = 240
    _recorded: ClassVar[dict[tuple[bool, int], tuple[Served, Trace, Disk]]] = {}

    def story(
        self, *, picked: bool, workers: int = 1, atomic: bool = True, unsynced: str | None = None
    ) -> Story:
        """
        From the beginning; each server is recorded once.

        :param unsynced: what is not synced, although the server has done it: a pattern of paths
            behind the folder's own.
        """
        why_not = can_record()
        if why_not:
            self.skipTest(f"no system calls can be recorded: {why_not}")
        if (picked, workers) not in self._recorded:
            served = Served(self.folder(), self.addCleanup, picked, workers)
            served.prepare()
            before = Disk(served.folder)
            before.load(served.folder)
            self._recorded[picked, workers] = served, served.record(), before
        served, trace, before = self._recorded[picked, workers]
        disk = deepcopy(before)
        disk.atomic_renames = atomic
        lines = trace.lines
        if unsynced is not None:
            lines = without_syncs(lines, re.compile(re.escape(str(served.folder)) + unsynced))
        ledger = served.folder / "ledger"
        return Story(served, Replay(lines, disk, ledger, processes=trace.processes))

    async def cost(self, story: Story, chance: random.Random | None) -> tuple[list[str], list[str]]:
        """What a power cut now would cost, and leave in pieces."""
        with TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as folder:
            target = Path(folder)
            story.replay.disk.survive(target, chance)
            home = target / "home" / "one"
            pickup = story.replay.disk.atomic_renames
            lost, wrong = await missing(reactor, home, story.wanted, pickup)
        self.flushLoggedErrors()
        return lost, wrong


class ServedTests(ServedCase):
    async def cut_everywhere(self, story: Story, seed: str = "") -> Counter[str]:
        cuts: Counter[str] = Counter()
        for number, moment in enumerate(story.moments()):
            cuts[moment] += 1
            chance = random.Random(f"{seed} {number}") if seed else None
            cost = await self.cost(story, chance)
            self.assertEqual(([], []), cost, f"{seed}, {moment} {cuts[moment]}")
        print(f"\n{self.id().rpartition('.')[2]}: {dict(cuts)}")
        self.assertEqual(len(story.served.queue_ids), cuts["acknowledgement"])
        self.assertGreater(cuts["sync"], 50)
        return cuts

    async def test_nothing_unsynced_survives(self) -> None:
        """The worst case, with a home that is made at the start."""
        await self.cut_everywhere(self.story(picked=False))

    async def test_nothing_unsynced_survives_of_two_workers(self) -> None:
        """
        The worst case of two queues, of which the first worker's has files in Pickup, where
        renames are whole or not at all.
        """
        await self.cut_everywhere(self.story(picked=True, workers=2))

    async def test_some_of_it_survives(self) -> None:
        """Any part of what was not synced may be there as well, one name of two too."""
        await self.cut_everywhere(self.story(picked=False, atomic=False), str(SEED))

    async def test_some_of_it_survives_of_pickup(self) -> None:
        """The same with files in Pickup."""
        await self.cut_everywhere(self.story(picked=True), str(SEED))

    async def test_some_of_it_survives_of_two_workers(self) -> None:
        """The same with two queues that are made at the start."""
        await self.cut_everywhere(self.story(picked=False, workers=2, atomic=False), str(SEED))


class OrderTests(ServedCase):
    def test_all_that_is_mail_is_synced_at_the_end(self) -> None:
        """When nothing is left to do every file and every name that matters is durable."""
        for picked, workers in ((False, 1), (True, 2)):
            story = self.story(picked=picked, workers=workers)
            for _ in story.moments():
                pass
            found = list(_unsynced(story.replay.disk.root, ""))
            self.assertEqual([], [one for one in found if not _NOT_MAIL.fullmatch(one)])


#: Which message is accepted first differs from recording to recording.
_ANY_MAIL = "dropped|relayed|returned|bad"


class ControlTests(ServedCase):
    """A server that leaves out a sync, and nothing else, is found out."""

    async def assert_loses(
        self, what: str, unsynced: str, *, picked: bool = False, workers: int = 1
    ) -> None:
        story = self.story(picked=picked, workers=workers, unsynced=unsynced)
        for _ in story.moments():
            lost, wrong = await self.cost(story, None)
            if lost or wrong:
                self.assertRegex(f"{lost} {wrong}", what)
                return
        self.fail(f"nothing is lost without syncs of {unsynced}")

    async def test_home(self) -> None:
        """The name of a directory that somebody else has made."""
        await self.assert_loses(_ANY_MAIL, "")

    async def test_names_in_drop(self) -> None:
        """The outcome is written down, and the file has no name."""
        await self.assert_loses("dropped", "/home/one/Drop")

    async def test_files_in_drop(self) -> None:
        """It has a name, and no content."""
        await self.assert_loses("is not whole", "/home/one/Drop/.*")

    async def test_names_in_badmail(self) -> None:
        """The same for a triple."""
        await self.assert_loses("bad", "/home/one/Badmail")

    async def test_names_in_queue(self) -> None:
        """A large content."""
        await self.assert_loses(_ANY_MAIL, "/home/one/Queue")

    async def test_names_in_the_other_queue(self) -> None:
        """The same of the second worker: nobody else's mail is lost."""
        unsynced = "/home/one/Queue/worker-1"
        await self.assert_loses(r"^\['\w+-1-(small|large)'", unsynced, workers=2)

    async def test_files_out_of_badmail(self) -> None:
        """It is put into Pickup again, has a name there, and no content."""
        unsynced = r"/home/one/Pickup/\.[0-9a-f]{24}\.eml"
        await self.assert_loses(r"Pickup/\w+\.eml is not whole", unsynced, picked=True)


def without_syncs(trace: bytes, path: re.Pattern[str]) -> bytes:
    """*trace* as if whatever has such a *path* had not been synced."""
    left, resumed = [], set()
    for line in trace.splitlines(keepends=True):
        thread, text = line.split(maxsplit=1)  # short numbers are padded
        found = _SYNC.match(text)
        if found and path.fullmatch(bytes.fromhex(found[1].decode().replace("\\x", "")).decode()):
            resumed |= {thread} if b"<unfinished" in text else set()
        elif b"sync resumed" in text and thread in resumed:
            resumed.remove(thread)
        else:
            left.append(line)
    return b"".join(left)


def _unsynced(node: Directory, path: str) -> Iterator[str]:
    for name, one in node.names.items():
        below = f"{path}{name}"
        if node.synced.get(name) is not one or (isinstance(one, File) and one.pending):
            yield below
        if isinstance(one, Directory):
            yield from _unsynced(one, f"{below}/")
