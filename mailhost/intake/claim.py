"""
The Pickup directory as the file system sees it: looking, claiming, reading.

:Room: ``intake`` -- everything here blocks, and runs in threads.
:IIS: PIC-01, PIC-08, PIC-10; attacks.md A71.
:Called by: `mailhost.intake.pickup`.

A file is claimed by renaming it into ``Pickup/.work``, which is ours alone,
under a name made from its identity.  What follows reads it there, so nobody can
exchange it any more.  The rename proves as well that the file can be removed:
what cannot is never sent, or it would be sent again at each start (PIC-08).

===================================  =========================================
what a restart finds                 how far it came
===================================  =========================================
the file in Pickup                   not claimed
the file in .work                    claimed; perhaps committed, which nobody
                                     can tell: it is sent, at worst twice
nothing                              it is in the queue, or in Badmail
===================================  =========================================

A claim is not synced: a power cut leaves the file in one of the two directories where a rename
is one thing on the disk, and that may be the one in which it was before.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import signal
import stat
from collections.abc import Collection, Generator
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import NoReturn

from attrs import define, field, frozen

from mailhost.durable import make_directory
from mailhost.errors import DirectoryProblem, MailhostError
from mailhost.intake.pickup_file import MAX_HEADER_OCTETS

WORK = ".work"
#: A larger file is not copied into Badmail: its beginning goes there, itself stays.
WHOLE_OCTETS = 64 * 1024 * 1024
#: A look reads so many names at most, whatever it has to do for each.
_NAMES_PER_LOOK = 20_000
_BLOCK_OCTETS = 262144
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_WORK_NAME = re.compile(r"([0-9a-f]{24})(\.again)?")
#: The system will not rename or remove the file, now or later.
_NEVER = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EXDEV, errno.EBUSY})
#: It is not for us to read.
_CLOSED = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO, errno.ENODEV})
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
)


class LeftAlone(MailhostError):
    """What has this name is not read, and stays where it is; the words say why."""


class BeingWritten(MailhostError):
    """
    Somebody writes it, or wrote it while it was read.

    :ivar work: its name in .work, if it came so far.
    """

    def __init__(self, reason: str, work: str = "") -> None:
        super().__init__(reason)
        self.work = work


class CannotBeRemoved(MailhostError):
    """
    It cannot be claimed, so it may not be sent.

    :ivar file: to be read all the same; whoever catches this closes it.
    """

    def __init__(self, reason: str, file: OpenFile) -> None:
        super().__init__(reason)
        self.file = file


class TooLarge(CannotBeRemoved):
    """It stays where it is, because even a copy in Badmail would be too much."""


@frozen
class Identity:
    """
    What tells one state of a file from another.

    :ivar changed_ns: a rename or a new mode changes it, and nothing else here.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @property
    def digest(self) -> str:
        """24 hexadecimal digits that survive a rename and a restart."""
        facts = f"{self.device} {self.inode} {self.size} {self.modified_ns}"
        return hashlib.sha256(facts.encode("ascii")).hexdigest()[:24]


@frozen
class Seen:
    """
    One name, looked at.

    :ivar identity: `None`: there is nothing of that name any more.
    :ivar odd: why it can be no message, such as ``"a FIFO"``; empty for a file.
    """

    name: str
    identity: Identity | None = None
    odd: str = ""


@frozen
class Look:
    """
    One look at the directory.

    :ivar seen: what was looked at.
    :ivar passed: with this look every name has been read once more.
    """

    seen: list[Seen]
    passed: bool


@define(eq=False)
class OpenFile:
    """
    A file that is read, by one thread at a time.

    :ivar name: in .work, or where it could not be claimed.
    :ivar digest: made from its identity when it was claimed.
    :ivar size: octets when it was opened.
    """

    name: str
    digest: str
    size: int
    _fd: int
    _modified_ns: int
    _at: int = field(default=0, init=False)

    def read(self) -> bytes:
        """
        The next block; empty at the end.

        :raises BeingWritten: at the end, if it is not what was opened.
        """
        block = os.pread(self._fd, min(_BLOCK_OCTETS, self.size - self._at), self._at)
        self._at += len(block)
        if not block or self._at == self.size:
            self._check_unchanged()
        return block

    def _check_unchanged(self) -> None:
        found = os.fstat(self._fd)
        if (found.st_size, found.st_mtime_ns, self._at) != (
            self.size,
            self._modified_ns,
            self.size,
        ):
            raise BeingWritten("it was changed while it was read")

    @property
    def at_end(self) -> bool:
        """All of it has been read."""
        return self._at >= self.size

    def rewind(self) -> None:
        """Read it from the beginning."""
        self._at = 0

    def close(self) -> None:
        """May be called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


@define(eq=False)
class PickupDirectory:
    """
    One Pickup directory, held open from `open` to `close`.

    :ivar path: a directory itself, not a symbolic link to one.
    """

    path: Path
    _fd: int = field(default=-1, init=False)
    _work_fd: int = field(default=-1, init=False)
    _names: Generator[str, None, None] | None = field(default=None, init=False)
    _lock: Lock = field(factory=Lock, init=False)

    # ---- opening

    def open(self) -> list[str]:
        """
        Create what is missing.

        :returns: the names in .work: files claimed before a crash.  There are
            few, because no more are claimed while many wait.
        :raises DirectoryProblem: it cannot be used now.
        """
        try:
            make_directory(self.path)
            self._fd = os.open(self.path, _DIRECTORY)
        except OSError as error:
            raise _problem_of(error, "Pickup") from error
        try:
            self._open_work()
            return sorted(filter(_WORK_NAME.fullmatch, os.listdir(self._work_fd)))
        except OSError as error:
            if error.errno in _NEVER:
                # Each file is told so when it comes to it.
                return []
            raise _problem_of(error, f"Pickup/{WORK}") from error

    def _open_work(self) -> None:
        with self._lock:
            if self._work_fd >= 0:
                return
            with suppress(FileExistsError):
                os.mkdir(WORK, 0o700, dir_fd=self._fd)
            # Files are claimed into it: its own name must be there after a power cut.
            os.fsync(self._fd)
            fd = os.open(WORK, _DIRECTORY, dir_fd=self._fd)
            found = os.fstat(fd)
            if found.st_uid != os.geteuid() or found.st_mode & 0o022:
                os.close(fd)
                raise DirectoryProblem(f"Pickup/{WORK} is not this server's alone")
            self._work_fd = fd

    def close(self) -> None:
        """Give the descriptors back; nothing may be in work."""
        names, self._names = self._names, None
        if names is not None:
            names.close()
        fds = (self._fd, self._work_fd)
        self._fd = self._work_fd = -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)

    # ---- looking

    def look(self, again: Collection[str], skip: Collection[str], limit: int) -> Look:
        """
        Look at the names *again*, and at up to *limit* others than *skip*.

        The others are read on from where the last look stopped, so that each
        look costs the same, however many files there are (A71).

        :raises DirectoryProblem: another directory, or none, is there now.
        """
        try:
            self._check_same()
            seen = [self._seen(name) for name in again]
            names, passed = self._next_names(skip, limit)
            return Look(seen + [self._seen(name) for name in names], passed)
        except OSError as error:
            raise _problem_of(error, "Pickup") from error

    def _next_names(self, skip: Collection[str], limit: int) -> tuple[list[str], bool]:
        """The next names, and whether they were the last."""
        if not limit:
            return [], False
        if self._names is None:
            self._names = self._scan()
        names: list[str] = []
        for _ in range(_NAMES_PER_LOOK):
            name = next(self._names, None)
            if name is None:
                self._names = None
                return names, True
            if name not in skip:
                names.append(name)
            if len(names) == limit:
                break
        return names, False

    def _check_same(self) -> None:
        there, ours = os.lstat(self.path), os.fstat(self._fd)
        if (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            raise DirectoryProblem("the Pickup directory was exchanged for another")

    def _scan(self) -> Generator[str, None, None]:
        # Names with a dot in front are programs' own, for files in the making.
        fd = os.open(".", _DIRECTORY, dir_fd=self._fd)
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        yield entry.name
        finally:
            os.close(fd)

    def _seen(self, name: str) -> Seen:
        try:
            found = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return Seen(name)
        return Seen(name, _identity(found), _oddity(found))

    # ---- claiming

    def take(self, name: str, max_octets: int | None) -> OpenFile:
        """
        Claim the file called *name*.

        :param max_octets: more can be no message; `None` for no limit.
        :raises FileNotFoundError: it has gone.
        :raises BeingWritten: leave it alone until it is whole.
        :raises LeftAlone: leave it until it is another.
        :raises CannotBeRemoved: see there.
        :raises OSError: the system has trouble; try later.
        """
        file = self._open_file(name, self._fd, max_octets)
        try:
            self._claim(name, file)
        except BaseException as error:
            if not isinstance(error, CannotBeRemoved):
                file.close()
            raise
        return file

    def _claim(self, name: str, file: OpenFile) -> None:
        try:
            self._open_work()
            os.rename(name, file.digest, src_dir_fd=self._fd, dst_dir_fd=self._work_fd)
        except FileNotFoundError:
            if os.fstat(self._work_fd).st_nlink == 0:
                raise DirectoryProblem(f"Pickup/{WORK} was removed") from None
            raise
        except OSError as error:
            self._refuse(error, file)
        file.name = file.digest
        found = os.stat(file.name, dir_fd=self._work_fd, follow_symlinks=False)
        if not file_is(file, found):
            # Exchanged behind our back: what we have now is looked at afresh.
            raise BeingWritten("another file took its name", file.name)

    def take_again(self, name: str, max_octets: int | None, prove: bool) -> OpenFile:
        """
        Open the file called *name* in .work.

        :param prove: it was claimed by an earlier process; rename it once more,
            to see that it can be removed.  Raises as `take` does.
        """
        file = self._open_file(name, self._work_fd, max_octets)
        try:
            if prove:
                self._prove(name, file)
        except BaseException as error:
            if not isinstance(error, CannotBeRemoved):
                file.close()
            raise
        return file

    def _prove(self, name: str, file: OpenFile) -> None:
        other = file.digest if name != file.digest else f"{name}.again"
        try:
            os.rename(name, other, src_dir_fd=self._work_fd, dst_dir_fd=self._work_fd)
        except OSError as error:
            self._refuse(error, file)
        file.name = other

    def _refuse(self, error: OSError, file: OpenFile) -> NoReturn:
        if error.errno not in _NEVER:
            raise error
        reason = os.strerror(error.errno or 0)
        raise CannotBeRemoved(f"the file cannot be removed ({reason})", file) from error

    def remove(self, name: str) -> None:
        """
        Remove *name* from .work.

        :raises OSError: it is still there.
        """
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._work_fd)

    def _open_file(self, name: str, directory_fd: int, max_octets: int | None) -> OpenFile:
        before = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
        if odd := _oddity(before):
            raise LeftAlone(f"it is {odd}")
        try:
            fd = os.open(name, _FILE, dir_fd=directory_fd)
        except OSError as error:
            if error.errno in _CLOSED:
                raise LeftAlone(f"it cannot be read ({os.strerror(error.errno)})") from error
            raise
        try:
            return self._examine(name, fd, directory_fd, max_octets)
        except TooLarge:
            raise
        except BaseException:
            os.close(fd)
            raise

    def _examine(self, name: str, fd: int, directory_fd: int, max_octets: int | None) -> OpenFile:
        found = os.fstat(fd)
        if odd := _oddity(found):
            raise LeftAlone(f"it is {odd}")
        if is_open_for_writing(fd):
            raise BeingWritten("a program has it open")
        claimed = _WORK_NAME.fullmatch(name) if directory_fd == self._work_fd else None
        digest = claimed[1] if claimed else _identity(found).digest
        file = OpenFile(name, digest, found.st_size, fd, found.st_mtime_ns)
        if max_octets is not None and found.st_size > max(
            max_octets + MAX_HEADER_OCTETS, WHOLE_OCTETS
        ):
            raise TooLarge(f"it has {found.st_size} octets", file)
        return file


def is_open_for_writing(fd: int) -> bool:
    """
    Whether some program can still write to the file; false where nobody can tell.

    Linux grants a read lease only on a file that nobody has open for writing.
    It is given back at once.
    """
    setlease = getattr(fcntl, "F_SETLEASE", None)
    if setlease is None:
        return False
    try:
        # Who opens it meanwhile makes the kernel signal us; the default, SIGIO,
        # would end this process.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, setlease, fcntl.F_RDLCK)
    except OSError as error:
        # Not our file (EACCES), or a file system without leases (EINVAL, ...).
        return error.errno in (errno.EAGAIN, errno.EWOULDBLOCK)
    fcntl.fcntl(fd, setlease, fcntl.F_UNLCK)
    return False


def file_is(file: OpenFile, found: os.stat_result) -> bool:
    """Whether *found* is the very file that is open, and nobody else has a name for it."""
    ours = os.fstat(file._fd)
    return (ours.st_dev, ours.st_ino, 1) == (found.st_dev, found.st_ino, found.st_nlink)


def _identity(found: os.stat_result) -> Identity:
    return Identity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _oddity(found: os.stat_result) -> str:
    if stat.S_ISREG(found.st_mode):
        # One of its names may be /etc/shadow.
        return "" if found.st_nlink == 1 else "a file with several names (hard links)"
    for is_kind, words in _KINDS:
        if is_kind(found.st_mode):
            return words
    return "a device"


def _problem_of(error: OSError, what: str) -> DirectoryProblem:
    if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.EEXIST):
        return DirectoryProblem(f"the {what} directory is a symbolic link or no directory")
    reason = os.strerror(error.errno or 0)
    return DirectoryProblem(f"the {what} directory cannot be used now: {reason}")
