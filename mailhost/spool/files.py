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

The message is ours at the instant the row is committed, and not before.  The
body's name is synced by the writer, once for all bodies of a group.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from mailhost.errors import ContentDamaged, SpoolFull, SpoolProblem
from mailhost.spool.steps import Passed, Step, unwatched

BODY_SUFFIX = ".eml"
PART_SUFFIX = ".part"
#: What a failed disk is asked with; in Queue.
PROBE_NAME = "probe"
#: What we call our parts; a file of another name in SortTemp is not ours.
PART_NAME = re.compile(r"[0-9a-f]{24}\.part")
NO_ROOM_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
#: POSIX promises 16 blocks for one `os.writev`, Linux and the BSDs 1,024.
_BLOCKS_PER_WRITE = min(os.sysconf("SC_IOV_MAX"), 1024)


def problem_of(error: OSError) -> SpoolProblem:
    """*error* in the words of this house."""
    if error.errno in NO_ROOM_ERRNOS:
        return SpoolFull(str(error))
    return SpoolProblem(str(error))


def write_synced(path: Path, octets: bytes) -> None:
    """Write a small file and sync it; its name is not synced."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, [octets])
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, blocks: Sequence[bytes]) -> None:
    """Write *blocks* one after the other, with few calls."""
    for start in range(0, len(blocks), _BLOCKS_PER_WRITE):
        part = blocks[start : start + _BLOCKS_PER_WRITE]
        written = os.writev(fd, part)
        if written < sum(map(len, part)):
            _write_rest(fd, part, written)


def _write_rest(fd: int, blocks: Sequence[bytes], written: int) -> None:
    """A disk that is nearly full takes less than it is given, and then says why."""
    rest = memoryview(b"".join(blocks))[written:]
    while rest:
        rest = rest[os.write(fd, rest) :]


class BodyFile:
    """A large body on its way in; used by one thread at a time."""

    def __init__(self, part: Path, passed: Passed = unwatched) -> None:
        """:raises SpoolProblem: it cannot be created."""
        self._part = part
        self._passed = passed
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(part, flags, 0o600)
        except OSError as error:
            raise problem_of(error) from error
        self._digest = hashlib.sha256()
        self._octets = 0

    def write(self, blocks: Sequence[bytes]) -> None:
        """:raises SpoolProblem: the disk did not take it."""
        try:
            if not self._octets:
                self._passed(Step.PART_CREATED)
            write_all(self._fd, blocks)
            self._passed(Step.PART_WRITTEN)
        except OSError as error:
            raise problem_of(error) from error
        for block in blocks:
            self._digest.update(block)
            self._octets += len(block)

    def keep(self, final: Path) -> bytes:
        """
        Put the whole body under its *final* name; the name itself is not synced.

        A failed sync is not tried again: the kernel may have dropped the pages.

        :returns: its SHA-256.
        :raises SpoolProblem: it may not be there; there must be no row for it.
        """
        try:
            self._passed(Step.BODY_WRITTEN)
            os.fdatasync(self._fd)
            self._passed(Step.BODY_SYNCED)
            self._close()
            self._passed(Step.BODY_CLOSED)
            os.rename(self._part, final)
        except OSError as error:
            raise problem_of(error) from error
        return self._digest.digest()

    def drop(self) -> None:
        """Forget it."""
        self._close()
        self._part.unlink(missing_ok=True)
        self._passed(Step.PART_DROPPED)

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
        except FileNotFoundError as error:
            raise ContentDamaged(f"{path.name} is missing") from error
        except OSError as error:
            raise problem_of(error) from error
        found = os.fstat(self._fd).st_size
        if found != size:
            self.close()
            raise ContentDamaged(f"{path.name} has {found} octets, not {size}")

    @property
    def finished(self) -> bool:
        """All has been read, and was what was accepted."""
        return not self._left

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
        left = self._left - len(block)
        self._digest.update(block)
        if not block or (not left and self._digest.digest() != self._expected):
            raise ContentDamaged(f"{self._name} is not what was accepted")
        self._left = left
        return block

    def close(self) -> None:
        """Give the descriptor back; may be called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
