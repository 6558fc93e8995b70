"""Tests for `mailhost.spool.memory`: the contract, and its bound."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from mailhost.errors import SpoolFull
from mailhost.spool.memory import MemoryQueue
from tests.contracts.queue_store import QueueStoreContract


class MemoryQueueTests(QueueStoreContract, TestCase):
    def make_store(self) -> MemoryQueue:
        return MemoryQueue(self.clock)

    async def test_bound(self) -> None:
        """It says that it is full; it does not grow without end (P7)."""
        self.store.max_octets = 100
        await self.submit(content=b"x" * 60)

        self.assertRaises(SpoolFull, self.store.check_room, 60)
