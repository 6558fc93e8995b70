"""
Room on the disk: what is free, what is promised, and what is kept back.

:Room: ``spool``
:RFC: 1870 §6.1 (452 when there is no room), promise P4.
:Called by: the SQLite store.

Two sessions that see the same free space must not both be promised it, so each
open message reserves its share here.  The ballast is a file whose only use is
to be deleted: when the disk is full, giving it back lets outcomes and deletions
commit, and the queue drains.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

from attrs import define, field

from mailhost.durable import sync_directory
from mailhost.errors import SpoolFull
from mailhost.spool.steps import Passed, Step, unwatched

_MEASURED_SECONDS = 1.0


def free_octets(path: Path) -> int:
    """What an unprivileged process may still write below *path*."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


@define
class DiskSpace:
    """
    :ivar directory: any place on the disk in question.
    :ivar floor_octets: so much stays free of messages.
    :ivar ballast_octets: size of the ballast file; 0 for none.
    :ivar free: the measure, replaced in tests.
    :ivar clock: seconds; with it the disk is measured once in
        `_MEASURED_SECONDS`, and what is stored meanwhile is counted here.
    :ivar passed: told of each step.
    """

    directory: Path
    floor_octets: int
    ballast_octets: int
    free: Callable[[Path], int] = free_octets
    clock: Callable[[], float] | None = None
    passed: Passed = unwatched
    _reserved: int = field(default=0, init=False)
    #: The last measure, when it was taken, and what was stored since.
    _measured: int = field(default=0, init=False)
    _measured_at: float = field(default=math.inf, init=False)
    _stored: int = field(default=0, init=False)

    def check(self, octets: int) -> None:
        """:raises SpoolFull: a message of *octets* would go below the floor."""
        free = self._free() - self._reserved
        if free - octets < self.floor_octets:
            raise SpoolFull(
                f"{free} octets free in {self.directory}, {self.floor_octets} are kept back"
            )

    def _free(self) -> int:
        if self.clock is None:
            return self.free(self.directory)
        now = self.clock()
        # A clock that has jumped back makes the measure old, not eternal.
        if not self._measured_at <= now < self._measured_at + _MEASURED_SECONDS:
            self._measured = self.free(self.directory)
            self._measured_at, self._stored = now, 0
        return self._measured - self._stored

    def reserve(self, octets: int) -> None:
        """Promise *octets* to a message on its way in."""
        self._reserved += octets

    def release(self, octets: int) -> None:
        """The message is stored, or forgotten."""
        self._reserved -= octets
        self._stored += octets

    @property
    def _ballast(self) -> Path:
        return self.directory / "ballast"

    def load_ballast(self) -> None:
        """Put the ballast there if it is missing and there is room to spare; blocks."""
        if not self.ballast_octets or self._ballast.exists():
            return
        if self.free(self.directory) < self.floor_octets + 2 * self.ballast_octets:
            return
        fd = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, self.ballast_octets)
        except OSError:
            # It is a reserve, not a need: a file system that cannot give it
            # leaves us without, and the next start asks again.
            self._ballast.unlink(missing_ok=True)
        finally:
            os.close(fd)
        self.passed(Step.BALLAST_LOADED)

    def drop_ballast(self) -> bool:
        """Give it back; `False` when there was none; blocks."""
        try:
            self._ballast.unlink()
        except FileNotFoundError:
            return False
        # Some file systems keep the room until the name is gone for good.
        sync_directory(self.directory)
        self.passed(Step.BALLAST_DROPPED)
        return True
