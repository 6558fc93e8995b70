"""A stored content for tests: blocks, at once or later, whole or damaged."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailhost.interfaces import IStoredContent


@implementer(IStoredContent)
class Stored:
    """Gives *blocks*, then *failure* or the end."""

    def __init__(self, blocks: Iterable[bytes], failure: Exception | None = None) -> None:
        self.blocks = list(blocks)
        self.size = sum(map(len, self.blocks))
        self.failure = failure
        self.closed = False

    def read(self) -> bytes | Deferred[bytes]:
        if self.blocks:
            return self.blocks.pop(0)
        if self.failure is not None:
            raise self.failure
        return b""

    def close(self) -> None:
        self.closed = True


@implementer(IStoredContent)
class SlowStored(Stored):
    """The same, but each block is an awaitable that the test fires."""

    def __init__(self, blocks: Iterable[bytes], failure: Exception | None = None) -> None:
        super().__init__(blocks, failure)
        self.waiting: Deferred[bytes] | None = None

    def read(self) -> bytes | Deferred[bytes]:
        self.waiting = Deferred()
        return self.waiting

    def give(self) -> None:
        """Fire the awaitable that was handed out last."""
        waiting, self.waiting = self.waiting, None
        assert waiting is not None
        block = super().read()
        assert isinstance(block, bytes)
        waiting.callback(block)
