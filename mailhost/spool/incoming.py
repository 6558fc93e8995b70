"""
A content on its way into the store.

:Room: ``spool``
:Implements: `mailhost.interfaces.IIncomingMessage`.

Small ones stay in memory until the commit.  A large one goes to SortTemp in
steps of `_SPILL_OCTETS`, in a thread; while one step is being written the next
gathers.  The sender has to wait only when that one is full too, so memory stays
bounded by two steps and a block (P7).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhost.interfaces import IIncomingMessage
from mailhost.spool.content import Runner
from mailhost.spool.files import BodyFile
from mailhost.spool.steps import Passed, unwatched

_SPILL_OCTETS = 262144


@define
class StoredBody:
    """
    A content that can be committed.

    :ivar octets: the content itself when it goes into the row, else `None`: it
        is a file under its final name, synced.
    :ivar file_digest: the file's.
    """

    octets: bytes | None
    size: int
    file_digest: bytes = b""

    @property
    def digest(self) -> bytes:
        """SHA-256, by which damage is found; the writer's thread asks for it."""
        return self.file_digest if self.octets is None else hashlib.sha256(self.octets).digest()


@implementer(IIncomingMessage)
@define(eq=False)
class IncomingMessage:
    """
    :ivar small_octets: up to so many the content stays in memory.
    :ivar new_part: where a large one is written.
    :ivar run: runs file work in a thread.
    :ivar released: called once when its room on the disk is no longer needed.
    :ivar passed: told of each step.
    """

    small_octets: int
    new_part: Callable[[], Path]
    run: Runner
    released: Callable[[], None]
    passed: Passed = unwatched
    size: int = field(default=0, init=False)
    _blocks: list[bytes] = field(factory=list, init=False)
    _gathered: int = field(default=0, init=False)
    _file: BodyFile | None = field(default=None, init=False)
    #: The step that is being written, and who waits for its end.
    _spilling: Deferred[object] | None = field(default=None, init=False)
    _waiting: list[Deferred[None]] = field(factory=list, init=False)
    _failure: Failure | None = field(default=None, init=False)
    _over: bool = field(default=False, init=False)

    def write(self, octets: bytes) -> Deferred[None] | None:
        """See `IIncomingMessage`."""
        if self._failure is not None:
            self._failure.raiseException()
        self._blocks.append(octets)
        self.size += len(octets)
        self._gathered += len(octets)
        if self.size <= self.small_octets or self._gathered < _SPILL_OCTETS:
            return None
        if self._spilling is not None:
            return self._written()
        self._spill()
        return None

    def _written(self) -> Deferred[None]:
        """Fires when the step that is being written is; fails when it cannot be."""
        if self._spilling is None:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def _spill(self) -> None:
        blocks, self._blocks, self._gathered = self._blocks, [], 0
        spilling = self._spilling = self.run(self._write, blocks)
        spilling.addCallbacks(self._spilled, self._spill_failed)

    def _spilled(self, nothing: object) -> None:
        self._spilling = None
        if self._gathered >= _SPILL_OCTETS and not self._over:
            self._spill()
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)

    def _spill_failed(self, failure: Failure) -> None:
        self._spilling = None
        self._failure = failure
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.errback(failure)

    def _write(self, blocks: list[bytes]) -> None:
        """In a thread."""
        if self._file is None:
            self._file = BodyFile(self.new_part(), self.passed)
        self._file.write(blocks)

    async def finish(self, final: Path) -> StoredBody:
        """
        Make it ready for its row; a large one is durable then, but for its name, *final*.

        :raises SpoolProblem: the disk did not take it.
        """
        if self.small:
            return self.small_body()
        while self._spilling is not None:
            await self._written()
        if self._failure is not None:
            self._failure.raiseException()
        digest = await self.run(self._keep, self._blocks, final)
        assert isinstance(digest, bytes)
        return StoredBody(None, self.size, digest)

    @property
    def small(self) -> bool:
        """The content is whole in memory, and `small_body` may be asked for."""
        return self.size <= self.small_octets

    def small_body(self) -> StoredBody:
        """A small content, ready for its row without a thread."""
        octets = self._blocks[0] if len(self._blocks) == 1 else b"".join(self._blocks)
        return StoredBody(octets, self.size)

    def _keep(self, blocks: list[bytes], final: Path) -> bytes:
        """In a thread."""
        self._write(blocks)
        assert self._file is not None
        return self._file.keep(final)

    def stored(self) -> None:
        """Its row is committed: nothing is left to forget."""
        self._end()

    def discard(self) -> None:
        """See `IIncomingMessage`."""
        if not self._end() or self.small:
            return
        # A step that is being written has the file for itself.
        self._written().addBoth(self._drop_later)

    def _drop_later(self, result: object) -> None:
        # What cannot be removed now goes with the rest of SortTemp at the next start.
        self.run(self._drop).addErrback(lambda failure: None)

    def _drop(self) -> None:
        """In a thread."""
        if self._file is not None:
            self._file.drop()

    def _end(self) -> bool:
        first, self._over = not self._over, True
        if first:
            self._blocks = []
            self.released()
        return first
