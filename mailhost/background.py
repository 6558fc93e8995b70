"""
Writing that nobody waits for: what is to be written gathers, and a thread of its own writes it.

:Room: ``background`` (floor 1)
:Called by: `mailhost.logs`; `mailhost.protocol_log`; promise P9.

Whoever has something to write appends it to a list that is bounded, and goes on.  What does not
fit is dropped and counted, and told of when there is room again: a disk that stands still,
or a reader that does not read, costs lines and never mail.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from attrs import define, field

#: So long things gather before they are written, where one was written just now.
GATHER_SECONDS = 0.1
#: What `Background.stop` waits for at most.
STOP_SECONDS = 5.0
_MODE = 0o640
#: So much of a file's beginning is looked at.
_HEAD_OCTETS = 4096

T = TypeVar("T")


@define(eq=False)
class Background(Generic[T]):
    """
    :ivar name: of the thread.
    :ivar write: writes some, in the thread; what it raises of `OSError` loses them.
    :ivar lost: tells that so many were lost; its answer is written like all others.
    :ivar most: so many wait at most.
    """

    name: str
    write: Callable[[Sequence[T]], None]
    lost: Callable[[int], T]
    most: int = 20_000
    _waiting: deque[T] = field(factory=deque, init=False)
    # Each is counted up in one thread only: there is nothing to lock.
    _refused: int = field(default=0, init=False)
    _failed: int = field(default=0, init=False)
    _told: int = field(default=0, init=False)
    _idle: bool = field(default=False, init=False)
    _ending: bool = field(default=False, init=False)
    _wake: threading.Event = field(factory=threading.Event, init=False)
    _hurry: threading.Event = field(factory=threading.Event, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)

    @property
    def dropped(self) -> int:
        """How many were lost and not told of yet."""
        return self._refused + self._failed - self._told

    def start(self) -> None:
        """From now on a thread writes; before, `put` does it itself."""
        if self._thread is not None:
            return
        self._ending, self._idle = False, True
        self._wake.clear()
        self._hurry.clear()
        # A daemon: a disk that stands still must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """
        Have written what waits, and let `put` write from now on.

        A thread that needs more than `STOP_SECONDS` is left to itself, and what comes is lost.
        """
        thread = self._thread
        if thread is None:
            return
        self._ending = True
        self._hurry.set()
        self._wake.set()
        thread.join(STOP_SECONDS)
        if not thread.is_alive():
            self._thread = None
            self._drain()

    def put(self, item: T) -> None:
        """Have *item* written, in the order in which it came; from any thread."""
        if self._thread is None:
            self._write([item])
            return
        waiting = self._waiting
        if len(waiting) >= self.most:
            self._refused += 1
            return
        waiting.append(item)
        if self._idle:
            self._idle = False
            self._wake.set()

    # ---- in the thread

    def _run(self) -> None:
        while not self._ending:
            self._wake.wait()
            self._wake.clear()
            # Before the list is looked at: who comes behind that look wakes us again.
            self._idle = True
            self._drain()
            # The first of many is written at once, the others together.
            self._hurry.wait(GATHER_SECONDS)

    def _drain(self) -> None:
        waiting = self._waiting
        while waiting:
            # Others append meanwhile, which a deque allows and its iteration does not.
            self._write([waiting.popleft() for _ in range(len(waiting))])

    def _write(self, items: list[T]) -> None:
        dropped, count = self.dropped, len(items)
        if dropped:
            items.append(self.lost(dropped))
        try:
            self.write(items)
        except OSError:
            self._failed += count
        else:
            self._told += dropped


@define(eq=False)
class AppendedFile:
    """
    A file that others may take away: it is made anew when it has another place or none.

    :ivar path: of it; its directory is made where it is missing.
    :ivar owner: user and group it is given to where it is made; `None`: whoever we are.
    :ivar head: asked, with how the file begins and what time it is, for what has to stand there
        before ours, whenever it is opened; others wait meanwhile.
    """

    path: Path
    owner: tuple[int, int] | None = None
    head: Callable[[bytes, float], bytes] | None = None
    _descriptor: int | None = field(default=None, init=False)
    _identity: tuple[int, int] = field(default=(0, 0), init=False)

    def write(self, octets: bytes) -> None:
        """
        Append *octets*.

        :raises OSError: not all of them could be written.
        """
        write_all(self._opened(), octets)

    def size(self) -> int:
        """
        Octets in it.

        :raises OSError: it cannot be made.
        """
        return os.fstat(self._opened()).st_size

    def close(self) -> None:
        """Open it anew when there is something to write."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _opened(self) -> int:
        if self._descriptor is not None:
            try:
                found = os.stat(self.path)
                if (found.st_dev, found.st_ino) == self._identity:
                    return self._descriptor
            except FileNotFoundError:
                pass
            self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, _MODE)
        if self.owner is not None:
            os.fchown(self._descriptor, *self.owner)
        found = os.fstat(self._descriptor)
        self._identity = found.st_dev, found.st_ino
        if self.head is not None:
            self._begin(self._descriptor, self.head)
        return self._descriptor

    @staticmethod
    def _begin(descriptor: int, head: Callable[[bytes, float], bytes]) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            known = os.pread(descriptor, _HEAD_OCTETS, 0)
            write_all(descriptor, head(known, os.fstat(descriptor).st_mtime))
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def write_all(descriptor: int, octets: bytes) -> None:
    """
    Write *octets*, however long that takes.

    :raises OSError: not all of them could be written.
    """
    rest = memoryview(octets)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
