"""
Stored content, read back in order.

:Room: ``spool``
:Implements: `mailhost.interfaces.IStoredContent`.
"""

from __future__ import annotations

import hashlib
from typing import Protocol, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailhost.errors import ContentDamaged
from mailhost.interfaces import IStoredContent
from mailhost.spool.files import BodyReader

T = TypeVar("T")
_BLOCK_OCTETS = 262144


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
@define
class FileContent:
    """A large body, read in a thread and checked on the way."""

    size: int
    _reader: BodyReader
    _run: Runner

    def read(self) -> Deferred[bytes]:
        """See `IStoredContent`."""
        return self._run(self._reader.read, _BLOCK_OCTETS)  # type: ignore[return-value]  # Runner forgets what runs

    def close(self) -> None:
        """See `IStoredContent`."""
        self._reader.close()


def check_octets(octets: object, size: int, digest: bytes, name: str) -> bytes:
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
