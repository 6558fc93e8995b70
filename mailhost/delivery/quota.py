"""
How much Drop may hold.

:Room: ``delivery``
:IIS: DOM-02 (Enable drop directory quota).
:Called by: `mailhost.delivery.drop`, in threads; it blocks.
"""

from __future__ import annotations

import os
import stat
from threading import Lock

from mailhost.delivery.part_file import is_part_name
from mailhost.errors import DirectoryProblem

#: The directory is measured at least once in so many deliveries, because other
#: processes may fill it too.
_DELIVERIES_BETWEEN_MEASURES = 256


class DropQuota:
    """
    A limit on the sum of the sizes of the files in one directory.

    Between two measures the sum is reckoned: we add what we deliver.  It can
    then only be too high where programs take mail out, so the directory is
    measured again before anything is refused.  Where several processes deliver
    into one directory the limit is kept approximately.
    """

    def __init__(self, limit_octets: int | None) -> None:
        """:param limit_octets: `None` for no limit; then nothing is measured."""
        self._limit = limit_octets
        self._held = 0
        self._reserved = 0
        self._until_measure = 0
        self._lock = Lock()

    def reserve(self, octets: int, directory_fd: int) -> None:
        """
        Make room for a file; `settle` must follow.

        :raises DirectoryProblem: it would be too much.
        """
        if self._limit is None:
            return
        with self._lock:
            if not self._until_measure or self._over_with(octets):
                self._held = held_octets(directory_fd)
                self._until_measure = _DELIVERIES_BETWEEN_MEASURES
            if self._over_with(octets):
                raise DirectoryProblem(
                    f"the Drop directory's quota of {self._limit} octets is used up: "
                    f"{self._held} are there and {octets} would come"
                )
            self._until_measure -= 1
            self._reserved += octets

    def settle(self, octets: int, is_new: bool) -> None:
        """The file of so many octets that were reserved is there, or will not be."""
        if self._limit is None:
            return
        with self._lock:
            self._reserved -= octets
            if is_new:
                self._held += octets

    def _over_with(self, octets: int) -> bool:
        return self._limit is not None and self._held + self._reserved + octets > self._limit


def held_octets(directory_fd: int) -> int:
    """The sizes of all files in a directory, without those in the making."""
    total = 0
    with os.scandir(directory_fd) as entries:
        for entry in entries:
            if is_part_name(entry.name):
                continue
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # Taken out while we were counting: it counts nothing.
            if stat.S_ISREG(found.st_mode):
                total += found.st_size
    return total
