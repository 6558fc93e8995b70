"""
How many connections may be open at once, in all, and who gets the next one.

:Room: ``relay``
:IIS: DEL-30 (limit number of connections to).
:Called by: `mailhost.relay.sites`; one for each virtual server, and, where several share a
    process, one above them.

Whoever wants a slot (a *holder*: a site, or a virtual server in the pool above it) takes
one or stands in line.  Of twenty slots the last is kept for reports, the one before it for
holders that have none: a busy site cannot lock others out.  While somebody waits who has two fewer
than oneself, one gives a slot back at the next opportunity (`is_over_share`); so
equal shares come about, and only where there is contention.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

from attrs import define, field, frozen

#: One slot in so many is kept for reports, and one for holders that have none.
_RESERVE_ONE_IN = 20
#: A limit below this is too small to keep anything back.
_SMALLEST_WITH_RESERVE = 4

Granted = Callable[[], None]


class Need(IntEnum):
    """What a slot is wanted for, the most urgent first."""

    REPORT = 0
    FIRST = 1
    MORE = 2


@frozen
class UsedUp:
    """
    Why somebody has to wait for a slot.

    :ivar limit: so many are in use; `None`: no number.
    :ivar setting: the key with that limit.
    """

    limit: int | None
    setting: str


class Pool(Protocol):
    """Where slots are taken, whoever counts them."""

    def take(self, holder: object, granted: Granted, report: bool = False) -> bool:
        """See `Slots.take`."""

    def give_back(self, holder: object) -> None:
        """See `Slots.give_back`."""

    def leave(self, holder: object) -> None:
        """See `Slots.leave`."""

    def is_wanted(self) -> bool:
        """See `Slots.is_wanted`."""

    def is_over_share(self, holder: object) -> bool:
        """See `Slots.is_over_share`."""

    def used_up(self) -> UsedUp:
        """See `Slots.used_up`."""


class SiteSlots(Pool, Protocol):
    """The slots as one site sees them."""

    def is_waiting(self, holder: object) -> bool:
        """See `Slots.is_waiting`."""


@define(eq=False)
class Slots:
    """
    :ivar limit: `None`: any number.
    :ivar setting: the key with the limit.
    :ivar pool: slots of all together; each one taken here is taken there too.
    :ivar open_count: slots taken now.
    """

    limit: int | None
    setting: str = "delivery.connections.max"
    pool: Pool | None = None
    open_count: int = field(default=0, init=False)
    _held: dict[object, int] = field(factory=dict, init=False)
    # By need, in the order of asking, each holder once.
    _lines: tuple[dict[object, Granted], ...] = field(
        factory=lambda: tuple({} for _ in Need), init=False
    )

    def held_by(self, holder: object) -> int:
        """How many slots *holder* has."""
        return self._held.get(holder, 0)

    def take(self, holder: object, granted: Granted, report: bool = False) -> bool:
        """
        Take a slot; `False` when there is none.

        :param granted: then called once, when *holder* has one: it was taken for it.
        :param report: it is for mail with the null reverse-path.
        """
        need = self._need(holder, report)
        if self._has_room(need) and self._take_from_pool(report):
            self._hold(holder)
            self._leave(holder)
            return True
        self._leave(holder)
        self._lines[need][holder] = granted
        return False

    def give_back(self, holder: object) -> None:
        """A connection of *holder*'s has ended."""
        self.open_count -= 1
        left = self._held[holder] - 1
        if left:
            self._held[holder] = left
        else:
            del self._held[holder]
            granted = self._lines[Need.MORE].pop(holder, None)
            if granted is not None:
                self._lines[Need.FIRST][holder] = granted
        if self.pool is not None:
            self.pool.give_back(self)
        self.serve()

    def leave(self, holder: object) -> None:
        """*holder* wants no slot any more."""
        self._leave(holder)
        if self.pool is not None and self._first_in_line() is None:
            self.pool.leave(self)

    def serve(self) -> None:
        """Hand out what is free to those who wait."""
        for need in Need:
            line = self._lines[need]
            while line and self._has_room(need):
                if not self._take_from_pool(need is Need.REPORT):
                    return
                self._grant(need)

    def is_waiting(self, holder: object) -> bool:
        """Whether *holder* stands in line."""
        return any(holder in line for line in self._lines)

    @property
    def waiting_count(self) -> int:
        """Holders that stand in line here."""
        return sum(map(len, self._lines))

    def is_wanted(self) -> bool:
        """Whether somebody would take a slot that is given back here."""
        if self._first_in_line() is not None:
            return True
        return self.pool is not None and self.pool.is_wanted()

    def is_over_share(self, holder: object) -> bool:
        """Whether somebody waits who has clearly less than *holder*."""
        first = self._first_in_line()
        if first is not None and self.held_by(holder) >= self.held_by(first) + 2:
            return True
        return self.pool is not None and self.pool.is_over_share(self)

    def used_up(self) -> UsedUp:
        """What those who stand in line wait for: this limit, or that of all together."""
        need = next((one for one in Need if self._lines[one]), None)
        if self.pool is not None and need is not None and self._has_room(need):
            return self.pool.used_up()
        return UsedUp(self.limit, self.setting)

    # ---- helpers

    def _need(self, holder: object, report: bool) -> Need:
        if report:
            return Need.REPORT
        return Need.MORE if holder in self._held else Need.FIRST

    def _has_room(self, need: Need) -> bool:
        limit = self.limit
        if limit is None:
            return True
        small = limit < _SMALLEST_WITH_RESERVE
        reserve = 0 if small else max(1, limit // _RESERVE_ONE_IN)
        return self.open_count < limit - reserve * need

    def _take_from_pool(self, report: bool) -> bool:
        return self.pool is None or self.pool.take(self, self._granted_by_pool, report)

    def _granted_by_pool(self) -> None:
        for need in Need:
            if self._lines[need] and self._has_room(need):
                self._grant(need)
                return
        assert self.pool is not None
        self.pool.give_back(self)

    def _grant(self, need: Need) -> None:
        line = self._lines[need]
        holder = next(iter(line))
        granted = line.pop(holder)
        self._hold(holder)
        granted()

    def _hold(self, holder: object) -> None:
        self.open_count += 1
        self._held[holder] = self._held.get(holder, 0) + 1

    def _leave(self, holder: object) -> None:
        for line in self._lines:
            line.pop(holder, None)

    def _first_in_line(self) -> object | None:
        for line in self._lines:
            if line:
                return next(iter(line))
        return None
