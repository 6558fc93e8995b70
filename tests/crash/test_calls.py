"""
Every call of Pickup, Drop and Badmail to the system, and at each: a kill, errors, a delay.

Whatever was in Pickup or in the queue comes to its place once, whole, and nothing else does: not a
report because our disk was in trouble, not a part of a file.  What a kill may do twice is told.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from tests.crash.calls import Calls
from tests.crash.house import House

SEED = int(os.environ.get("MAILHOST_CRASH_SEED", "5321"))
#: A disk in memory makes syncs cheap.
_MEMORY = Path("/dev/shm")
#: A disk that is in trouble for some time refuses so many calls.
_LONG = 15
#: A second kill strikes among so many calls of the next process.
_SOON = 60
#: What can find no room, or too little of it.
_GROWING = frozenset({"open", "write", "fsync", "rename", "mkdir", "makedirs"})
_DROPPED = [
    "report about comes back large",
    "report about comes back small",
    "to drop large",
    "to drop small",
]
_BAD = [
    "bad large, out of Pickup",
    "bad small, out of Pickup",
    "cannot come back large, out of the queue",
    "cannot come back small, out of the queue",
]


class CallsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.trials = 0

    def tearDown(self) -> None:
        # Trouble is logged, and foreseen.
        self.flushLoggedErrors()

    def house(self, folder: str) -> House:
        house = House(Path(folder))
        house.fill()
        return house

    def lived(self, calls: Calls, *later: Calls, slow: int = 0) -> House:
        """A life, further ones, and at last one without a fault; what came of it is looked at."""
        self.trials += 1
        with TemporaryDirectory(dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None) as folder:
            house = self.house(folder)
            house.slow = slow
            for one in (calls, *later, Calls()):
                house.live(one)
            self.judge(house, f"{calls.names[-3:]}, {len(calls.names)} calls, run {slow}")
            return house

    def judge(self, house: House, what: str) -> None:
        self.assertEqual({}, house.store.messages, what)
        self.assertEqual([], house.waiting(), what)
        dropped = house.dropped()
        if house.was_killed:
            # A kill between the queue's commit and the end of the file in Pickup.
            dropped = sorted(set(dropped))
        self.assertEqual(_DROPPED, dropped, what)
        self.assertEqual(_BAD, house.bad(), what)

    def undisturbed(self) -> tuple[list[str], int]:
        """The calls that there are, and the pieces of work for threads."""
        calls = Calls()
        house = self.lived(calls)
        self.trials = 0
        return calls.names, house.runs

    def told(self) -> None:
        print(f"\n{self.id().rpartition('.')[2]}: {self.trials} trials")


class KillTests(CallsCase):
    def test_before_each_call(self) -> None:
        """P1, P2: each instant of each file."""
        names, _ = self.undisturbed()
        for number, _ in enumerate(names, 1):
            calls = Calls(number, Calls.die)
            self.lived(calls)
            self.assertTrue(calls.dead)

        self.told()
        self.assertGreater(self.trials, 180)

    def test_again_in_the_next_life(self) -> None:
        """A process that takes up what the last one left is killed as well."""
        names, _ = self.undisturbed()
        for number, _ in enumerate(names, 1):
            second = random.Random(f"{SEED} {number}").randint(1, _SOON)
            self.lived(Calls(number, Calls.die), Calls(second, Calls.die))

        self.told()


class ErrorTests(CallsCase):
    def each_fails(self, number: int, concerns: Callable[[str], bool], span: int = 1) -> None:
        names, _ = self.undisturbed()
        for place, name in enumerate(names, 1):
            # Long trouble that begins one call earlier is nearly the same.
            if concerns(name) and (span == 1 or place % 2):
                self.lived(Calls(place, Calls.failing(number), span))

        self.told()
        self.assertGreater(self.trials, 50)

    def test_eio(self) -> None:
        """P4: once, at each call."""
        self.each_fails(errno.EIO, lambda name: True)

    def test_enospc(self) -> None:
        """P4: no room, once, wherever there may be none."""
        self.each_fails(errno.ENOSPC, _GROWING.__contains__)

    def test_edquot(self) -> None:
        """P4: over quota."""
        self.each_fails(errno.EDQUOT, _GROWING.__contains__)

    def test_for_some_time(self) -> None:
        """P4: from each call on a disk that answers nothing, when we clean up as well."""
        self.each_fails(errno.EIO, lambda name: True, _LONG)

    def test_then_a_kill(self) -> None:
        """What an error has left, a kill leaves to the next process."""
        names, _ = self.undisturbed()
        for place, _ in enumerate(names, 1):

            def act(calls: Calls, place: int = place) -> None:
                if len(calls.names) > place:
                    calls.die()
                raise OSError(errno.EIO, os.strerror(errno.EIO))

            gap = random.Random(f"{SEED} {place}").randint(1, 6)
            calls = Calls(place, act)
            calls.also = place + gap
            self.lived(calls)

        self.told()


class DelayTests(CallsCase):
    def test_each_work(self) -> None:
        """A thread that takes long while everything else goes on."""
        _, runs = self.undisturbed()
        for number in range(1, runs + 1):
            self.lived(Calls(), slow=number)

        self.told()
        self.assertGreater(self.trials, 30)
