"""
Answers kept for a while.

:Room: ``directory``
:Called by: `mailhost.directory.resolver`, in the reactor's thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from attrs import define, field

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@define(eq=False)
class TimedCache(Generic[K, V]):
    """
    At most *capacity* answers; the one not asked for longest goes first.

    :ivar capacity: 0 keeps nothing.
    :ivar hits: how often an answer was there.
    :ivar misses: how often it was not.
    """

    capacity: int
    hits: int = field(default=0, init=False)
    misses: int = field(default=0, init=False)
    _kept: OrderedDict[K, tuple[float, V]] = field(factory=OrderedDict, init=False)

    def find(self, key: K, now: float) -> V | None:
        """The answer for *key*, if it still holds at *now*, in seconds."""
        entry = self._kept.get(key)
        if entry is None or now >= entry[0]:
            self.misses += 1
            return None
        self.hits += 1
        self._kept.move_to_end(key)
        return entry[1]

    def keep(self, key: K, value: V, until: float) -> None:
        """Remember *value* until then, in seconds."""
        self._kept[key] = (until, value)
        self._kept.move_to_end(key)
        while len(self._kept) > self.capacity:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)
