"""
Stored content, read back in order.

:Room: ``spool``
:Implements: `mailhost.interfaces.IStoredContent`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhost.errors import ContentDamaged, SpoolProblem
from mailhost.interfaces import IStoredContent
from mailhost.spool.files import BodyReader

BLOCK_OCTETS = 262144


class Runner(Protocol):
    """Runs a blocking function elsewhere and tells its result."""

    def __call__(self, function: object, *arguments: object) -> Deferred[object]:
        """Like `twisted.internet.threads.deferToThreadPool`, the pool chosen."""


@implementer(IStoredContent)
@define
class MemoryContent:
    """A small body, whole, already checked."""

    octets: bytes
    _read: bool = field(default=False, init=False)

    @property
    def size(self) -> int:
        """Octets in all."""
        return len(self.octets)

    def read(self) -> bytes:
        """See `IStoredContent`."""
        if self._read:
            return b""
        self._read = True
        return self.octets

    def close(self) -> None:
        """See `IStoredContent`."""


@implementer(IStoredContent)
@define(eq=False)
class FileContent:
    """
    A large body, read in a thread and checked on the way.

    While its reader is busy with one block the next is fetched, so what is in
    memory is bounded by two (P7).
    """

    size: int
    _reader: BodyReader
    _run: Runner
    #: What is fetched and not asked for yet.
    _ready: bytes | Failure | None = None
    _fetching: bool = field(default=False, init=False)
    _waiting: Deferred[bytes] | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)

    @classmethod
    def opened(cls, path: Path, size: int, digest: bytes, run: Runner) -> FileContent:
        """
        In a thread; the first block comes with it.

        :raises ContentDamaged: the body is missing or has another length, or it
            fits into one block and is not what was accepted.
        """
        reader = BodyReader(path, size, digest)
        try:
            return cls(size, reader, run, reader.read(BLOCK_OCTETS))
        except BaseException:
            reader.close()
            raise

    def read(self) -> bytes | Deferred[bytes]:
        """See `IStoredContent`."""
        if self._closed:
            raise SpoolProblem("this content is closed")
        ready, self._ready = self._ready, None
        if isinstance(ready, Failure):
            ready.raiseException()
        if ready is not None:
            self._fetch_next()
            return ready
        waiting = self._waiting = Deferred()
        return waiting

    def _fetch_next(self) -> None:
        if self._reader.finished:
            self._ready = b""
        elif not self._closed:
            self._fetching = True
            self._run(self._reader.read, BLOCK_OCTETS).addBoth(self._fetched)

    def _fetched(self, result: object) -> None:
        assert isinstance(result, bytes | Failure)
        self._fetching = False
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            self._ready = result
        elif isinstance(result, bytes):
            self._fetch_next()
            waiting.callback(result)
        else:
            waiting.errback(result)
        if self._closed:
            self._reader.close()

    def close(self) -> None:
        """See `IStoredContent`.  A block that is being fetched is waited for, elsewhere."""
        self._closed = True
        if not self._fetching:
            self._reader.close()


def check_octets(octets: object, size: object, digest: object, name: str) -> bytes:
    """
    *octets*, when they are what was accepted.

    :raises ContentDamaged: they are not.
    """
    # SQLite keeps types per value: what is no blob any more was not written by us.
    if (
        not isinstance(octets, bytes)
        or len(octets) != size
        or hashlib.sha256(octets).digest() != digest
    ):
        raise ContentDamaged(f"the content of {name} is not what was accepted")
    return octets
