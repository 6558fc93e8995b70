"""
Names for queued messages.

:Room: ``spool``
:Called by: the stores, once per message.

A queue id is 24 hexadecimal digits: 16 of a number that rises with time, 8 of
the store that made it, so that ids of different virtual servers, workers and
machines never meet.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

_SEQUENCE_BITS = 21
#: The highest key that fits into a row; a clock may say anything.
LAST_KEY = (1 << 63) - 1
#: Keys are reserved for so long at a time, so that few commits have to.
_RESERVED_MILLISECONDS = 60_000


@define
class QueueIds:
    """
    :ivar store: 32 bits that name the store.
    :ivar clock: seconds since the epoch.
    :ivar last: the highest key ever given; the next is higher, even when the
        clock has jumped back.
    """

    store: int
    clock: Callable[[], float]
    last: int = field(default=0)

    def next(self) -> str:
        """The next id."""
        self.last = max(self.last + 1, first_key_at(self.clock()))
        return self.name(self.last)

    def name(self, key: int) -> str:
        """The id of the message whose row is *key*."""
        return f"{key:016x}{self.store:08x}"


def first_key_at(at: float) -> int:
    """The lowest key that is given out at the time *at*, seconds since the epoch."""
    return int(at * 1000) << _SEQUENCE_BITS


def key_of(queue_id: str) -> int:
    """The row of the message called *queue_id* (63 bits)."""
    return int(queue_id[:16], 16)


def reserved_key(key: int) -> int:
    """The key from which on ids go on after a restart, when *key* is given out."""
    return key + (_RESERVED_MILLISECONDS << _SEQUENCE_BITS)
