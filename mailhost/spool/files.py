"""
Large bodies: one file each, beside the database.

:Room: ``spool``
:Called by: `mailhost.spool.incoming` and the SQLite store, in their threads.

Crash states.  A body is written in SortTemp and moved into Queue when it is
whole, and only then does its row appear:

====================  ==========================  ==============================
what a restart finds  how far it came             what happens
====================  ==========================  ==============================
SortTemp/ID.part      writing or syncing          removed: no 250 was given
Queue/ID.eml, no row  moved, row not committed    removed: no 250 was given
Queue/ID.eml and row  committed                   delivered
====================  ==========================  ==============================

The message is ours at the instant the row is committed, and not before.
"""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

from mailhost.errors import ContentDamaged, SpoolFull, SpoolProblem

BODY_SUFFIX = ".eml"
PART_SUFFIX = ".part"
NO_ROOM_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})


def problem_of(error: OSError) -> SpoolProblem:
    """*error* in the words of this house."""
    if error.errno in NO_ROOM_ERRNOS:
        return SpoolFull(str(error))
    return SpoolProblem(str(error))


def sync_directory(path: Path) -> None:
    """Make the names in *path* durable (P1)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class BodyFile:
    """A large body on its way in; used by one thread at a time."""

    def __init__(self, part: Path) -> None:
        """:raises SpoolProblem: it cannot be created."""
        self._part = part
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(part, flags, 0o600)
        except OSError as error:
            raise problem_of(error) from error
        self._digest = hashlib.sha256()

    def write(self, blocks: list[bytes]) -> None:
        """:raises SpoolProblem: the disk did not take it."""
        try:
            for block in blocks:
                view = memoryview(block)
                while view:
                    view = view[os.write(self._fd, view) :]
                self._digest.update(block)
        except OSError as error:
            raise problem_of(error) from error

    def keep(self, final: Path) -> bytes:
        """
        Put the whole body under its *final* name, durably.

        A failed sync is not tried again: the kernel may have dropped the pages.

        :returns: its SHA-256.
        :raises SpoolProblem: it may not be there; there must be no row for it.
        """
        try:
            os.fdatasync(self._fd)
            self._close()
            os.rename(self._part, final)
            sync_directory(final.parent)
        except OSError as error:
            raise problem_of(error) from error
        return self._digest.digest()

    def drop(self) -> None:
        """Forget it."""
        self._close()
        self._part.unlink(missing_ok=True)

    def _close(self) -> None:
        # NFS and quota report at close what they did not at write.
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class BodyReader:
    """Reads a body back and checks it; used by one thread at a time."""

    def __init__(self, path: Path, size: int, digest: bytes) -> None:
        """:raises ContentDamaged: it is not there, or has another length."""
        self._left = size
        self._expected = digest
        self._digest = hashlib.sha256()
        self._name = path.name
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            found = os.fstat(self._fd).st_size
        except FileNotFoundError as error:
            raise ContentDamaged(f"{path.name} is missing") from error
        except OSError as error:
            raise problem_of(error) from error
        if found != size:
            self.close()
            raise ContentDamaged(f"{path.name} has {found} octets, not {size}")

    def read(self, octets: int) -> bytes:
        """
        The next block; empty at the end.

        :raises ContentDamaged: instead of the last block, if the whole is not
            what was accepted.
        """
        if not self._left:
            return b""
        try:
            block = os.read(self._fd, min(octets, self._left))
        except OSError as error:
            raise problem_of(error) from error
        self._left -= len(block)
        self._digest.update(block)
        if not block or (not self._left and self._digest.digest() != self._expected):
            raise ContentDamaged(f"{self._name} is not what was accepted")
        return block

    def close(self) -> None:
        """Give the descriptor back; may be called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
