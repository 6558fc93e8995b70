"""
A file in the making, in a directory where others look for finished ones.

:Room: ``delivery``
:Called by: `mailhost.delivery.drop`, in threads; everything here blocks.

The directory is opened once for each file and everything happens relative to
that descriptor, so whoever swaps the directory meanwhile moves nothing of ours
(attacks.md A72).  A symbolic link in its place is not followed.

Until it is published the file is called ``.STEM.part``, and its writer holds
a lock on it: what is unlocked was left behind by a crash.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock

from mailhost.errors import DirectoryProblem

#: The owner writes, the group reads; an operator's program gets in by the
#: directory's group.  Set whatever the umask is, and never for others.
FILE_MODE = 0o640

_PART_NAME = re.compile(r"\.[0-9a-f]{24}\.part")
_COMPARED_OCTETS = 1 << 16
#: Another message under our name needs a digest of 32 bits to be met; twice,
#: never.
_MAX_SALT = 8
#: So many starts of other processes do not sweep away the same file one after the other.
_MAX_SWEEPS = 8


def problem_of(error: OSError) -> DirectoryProblem:
    """*error* in words for the sender of a delayed message: without paths."""
    if error.errno in (errno.ENOTDIR, errno.ELOOP):
        return DirectoryProblem("the Drop directory is a symbolic link or no directory")
    reason = os.strerror(error.errno or 0)
    return DirectoryProblem(f"the Drop directory cannot be used now: {reason}")


def open_directory(directory: Path) -> int:
    """A descriptor of *directory*, which must not be a symbolic link."""
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def remove_left_over(directory_fd: int) -> int:
    """Remove the part files nobody is writing to; returns how many."""
    names = [name for name in os.listdir(directory_fd) if is_part_name(name)]
    return sum(_remove_unlocked(name, directory_fd) for name in names)


def is_part_name(name: str) -> bool:
    """Whether a file called *name* is one in the making."""
    return _PART_NAME.fullmatch(name) is not None


def _remove_unlocked(name: str, directory_fd: int) -> bool:
    try:
        fd = os.open(
            name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory_fd
        )
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=directory_fd)
    except (BlockingIOError, FileNotFoundError):
        # Another process is writing it, or has finished just now.
        return False
    finally:
        os.close(fd)
    return True


class PartFile:
    """
    One file, from its first block to its name.

    Its methods may run in any thread; a cancelled attempt may call `abandon`
    while another method still runs.
    """

    def __init__(
        self, directory: Path, name_of: Callable[[int], str], admit: Callable[[int], None]
    ) -> None:
        """
        :param name_of: the final name without ``.eml``, for each salt from 0.
        :param admit: called with the directory's descriptor before anything is
            written; raises `DirectoryProblem` to prevent it.
        """
        self._directory = directory
        self._name_of = name_of
        self._admit = admit
        self._part = f".{name_of(0)}.part"
        self._directory_fd = -1
        self._fd = -1
        self._over = False
        self._lock = Lock()

    def write(self, blocks: Iterable[bytes]) -> None:
        """
        Append *blocks*.

        :raises DirectoryProblem: it cannot be done now; call `abandon`.
        """
        with self._lock:
            try:
                self._write(blocks)
            except OSError as error:
                raise problem_of(error) from error

    def publish(self, blocks: Iterable[bytes]) -> bool:
        """
        Append *blocks* and give the file its name, durably.

        A file that is there already under this name is replaced only where it holds the
        same octets: then it is this delivery's, published before a crash or a failed sync.

        :returns: whether there is a new file.
        :raises DirectoryProblem: as for `write`.  A failed sync is not tried
            again on the same file, because the kernel may have dropped its pages.
        """
        with self._lock:
            try:
                self._write(blocks)
                os.fchmod(self._fd, FILE_MODE)
                os.fsync(self._fd)
                is_new = self._take_name()
                # Also where an earlier attempt gave the name: it may have
                # crashed, or failed, before this very call.
                os.fsync(self._directory_fd)
            except OSError as error:
                raise problem_of(error) from error
            self._close()
            return is_new

    def abandon(self) -> None:
        """
        Remove the part file; does nothing after `publish`, or twice.

        :raises DirectoryProblem: it cannot be removed now; the next start does.
        """
        with self._lock:
            if self._over:
                return
            try:
                if self._fd >= 0:
                    os.unlink(self._part, dir_fd=self._directory_fd)
            except FileNotFoundError:
                return
            except OSError as error:
                raise problem_of(error) from error
            finally:
                self._close()

    def _write(self, blocks: Iterable[bytes]) -> None:
        if self._over:
            raise DirectoryProblem("the delivery was abandoned")
        if self._fd < 0:
            self._open()
        for block in blocks:
            view = memoryview(block)
            while view:
                view = view[os.write(self._fd, view) :]

    def _open(self) -> None:
        self._directory_fd = open_directory(self._directory)
        if not self._is_there(f"{self._name_of(0)}.eml"):
            # Else an earlier attempt got so far: it takes no more room.
            self._admit(self._directory_fd)
        for _ in range(_MAX_SWEEPS):
            self._fd = self._create_anew()
            # The start of another worker may have looked at the file before it was
            # locked: it holds the lock for a moment, and the file is gone then.
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            if os.fstat(self._fd).st_nlink:
                return
            os.close(self._fd)
            self._fd = -1
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def _create_anew(self) -> int:
        try:
            return self._create()
        except FileExistsError:
            # From an attempt that could not clean up; or one still running in
            # another process, then creating it fails again.
            _remove_unlocked(self._part, self._directory_fd)
            return self._create()

    def _is_there(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self._directory_fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _create(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self._part, flags, 0o600, dir_fd=self._directory_fd)

    def _take_name(self) -> bool:
        """
        Rename, or find that it was done before.

        Looking before renaming is safe: nobody else makes files of our name,
        and the part file, of which there can be one, is the lock on it.
        """
        for salt in range(_MAX_SALT):
            name = f"{self._name_of(salt)}.eml"
            state = self._compare(name)
            if state is not False:
                # Also over an equal one: after a sync that failed nobody knows whether the
                # disk has that name, and another sync might find nothing to do.
                os.rename(
                    self._part, name, src_dir_fd=self._directory_fd, dst_dir_fd=self._directory_fd
                )
                return state is None
        raise DirectoryProblem("the Drop directory holds other files under this message's names")

    def _compare(self, name: str) -> bool | None:
        """Whether the file called *name* equals ours; `None` if there is none."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            other = os.open(name, flags, dir_fd=self._directory_fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            # A link, or one that is not ours to read: somebody else's.
            if error.errno in (errno.ELOOP, errno.EACCES, errno.ENXIO):
                return False
            raise
        try:
            return self._equals(other)
        finally:
            os.close(other)

    def _equals(self, other: int) -> bool:
        theirs = os.fstat(other)
        size = os.fstat(self._fd).st_size
        if not stat.S_ISREG(theirs.st_mode) or theirs.st_size != size:
            return False
        return all(
            os.pread(other, _COMPARED_OCTETS, at) == os.pread(self._fd, _COMPARED_OCTETS, at)
            for at in range(0, size, _COMPARED_OCTETS)
        )

    def _close(self) -> None:
        self._over = True
        fds = (self._fd, self._directory_fd)
        self._fd = self._directory_fd = -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)
