"""
How many connections may be open at once, in all.

:Room: ``relay``
:IIS: DEL-30 (limit number of connections to).
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field


@define(eq=False)
class Slots:
    """
    :ivar limit: `None`: any number.
    :ivar open_count: slots taken now.
    """

    limit: int | None
    open_count: int = field(default=0, init=False)
    # In the order of asking, each once.
    _waiting: dict[Callable[[], None], None] = field(factory=dict, init=False)

    def take(self, when_free: Callable[[], None]) -> bool:
        """
        Take a slot; `False` when there is none.

        :param when_free: then called once, when there may be one.
        """
        if self.limit is not None and self.open_count >= self.limit:
            self._waiting[when_free] = None
            return False
        self.open_count += 1
        return True

    def give_back(self) -> None:
        """A connection has ended."""
        self.open_count -= 1
        self.wake_next()

    def wake_next(self) -> None:
        """
        Tell the first who waits that there is a slot.

        Who needs it no more has to call this in turn, or the others sleep on.
        """
        if self._waiting and (self.limit is None or self.open_count < self.limit):
            first = next(iter(self._waiting))
            del self._waiting[first]
            first()
