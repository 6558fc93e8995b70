"""
A worker's part of a limit, and what it has borrowed beyond it.

:Room: ``server``
:IIS: GEN-06 (connections in), DEL-30 (connections out), DEL-32 (to one domain).
:Called by: `mailhost.server.virtual_server`, where there are several workers.

The sum of all parts and all loans is never more than the limit: each worker has
an equal part of its own, and the supervisor lends the rest one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailhost.intake.reception import Reception
from mailhost.interfaces import Maybe
from mailhost.model.reply import Reply
from mailhost.relay.slots import Pool, Slots, UsedUp
from mailhost.server.share import Lending
from mailhost.smtp import replies


@define(eq=False)
class Portion:
    """
    :ivar limit: this worker's own part; `None`: no limit.
    :ivar lending: lends more; `None` where this is the only process.
    :ivar key: what is counted, in the lender's words.
    :ivar used: how many are in use.
    :ivar borrowed: how many more than *limit* may be.
    :ivar waiting: those who share it and want one, in the order of asking, and how each is told
        that there may be one.
    """

    limit: int | None
    lending: Lending | None
    key: str
    used: int = field(default=0, init=False)
    borrowed: int = field(default=0, init=False)
    waiting: dict[object, Callable[[], None]] = field(factory=dict, init=False)

    @property
    def has_room(self) -> bool:
        """Whether one more may be used."""
        return self.limit is None or self.used < self.limit + self.borrowed

    def use(self) -> bool:
        """Use one more, if there is room."""
        if not self.has_room:
            return False
        self.used += 1
        return True

    def free(self) -> None:
        """One is not used any more; what was borrowed goes back first."""
        self.used -= 1
        self.settle()
        self.serve()

    def serve(self) -> None:
        """Tell those who share it of what is free."""
        while self.waiting and self.has_room:
            self.waiting.pop(next(iter(self.waiting)))()

    def settle(self) -> None:
        """Give back what was borrowed and is not needed."""
        lending = self.lending
        # Looked at each time: what comes back may be lent to us again at once.
        while lending is not None and self.borrowed > self._needed:
            self.borrowed -= 1
            lending.give_back(self.key)

    @property
    def _needed(self) -> int:
        return 0 if self.limit is None else max(0, self.used - self.limit)

    async def borrow_now(self) -> bool:
        """Borrow one more without waiting for it; whether it is there."""
        if self.lending is None or not await self.lending.borrow_now(self.key):
            return False
        self.borrowed += 1
        return True


@define(eq=False)
class SharedSlots:
    """
    Outbound connections of all relays of one virtual server in this process.

    It stands above their own slots, as the ``pool`` of `mailhost.relay.slots.Slots`, and
    has the part of its face that is used there.

    :ivar portion: this worker's part.
    :ivar limit: of all workers together; `None`: any number.
    :ivar setting: the key with the limit.
    :ivar pool: of all virtual servers; each one taken here is taken there too.
    """

    portion: Portion
    limit: int | None = None
    setting: str = "delivery.connections.max"
    pool: Pool | None = None
    _held: Counter[object] = field(factory=Counter, init=False)
    # In the order of asking, each holder once.
    _line: dict[object, Callable[[], None]] = field(factory=dict, init=False)
    _asked: Deferred[None] | None = field(default=None, init=False)
    # One of the portion is in use for the first in line, and the pool has none for it yet.
    _admitted: bool = field(default=False, init=False)

    def configure(self, part: int | None, limit: int | None) -> None:
        """The limit is *limit* from now on, and this worker's own part of it *part*."""
        self.limit = limit
        self.portion.limit = part
        self._serve()

    def take(self, holder: object, granted: Callable[[], None], report: bool = False) -> bool:
        """
        Take a slot; `False` when there is none.

        :param granted: then called once, when *holder* has one: it was taken for it.
        :param report: is for the slots below, which keep some back.
        """
        # Who stands in line already keeps the place, however often it asks.
        self._line[holder] = granted
        if next(iter(self._line)) is holder and self._use(report):
            del self._line[holder]
            self._held[holder] += 1
            return True
        self._ask()
        return False

    def give_back(self, holder: object) -> None:
        """A connection of *holder*'s has ended."""
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]
        self.portion.free()
        if self.pool is not None:
            self.pool.give_back(self)
        self._serve()

    def leave(self, holder: object) -> None:
        """*holder* wants no slot any more."""
        self._line.pop(holder, None)
        if self._admitted and not self._line:
            assert self.pool is not None, "nobody else lets it wait"
            self._admitted = False
            self.pool.leave(self)
            self.portion.free()

    def is_wanted(self) -> bool:
        """Whether somebody would take a slot that is given back; what is borrowed is wanted."""
        if self._line or self.portion.borrowed > 0:
            return True
        return self.pool is not None and self.pool.is_wanted()

    def is_over_share(self, holder: object) -> bool:
        """Whether somebody waits who has clearly less than *holder*."""
        first = next(iter(self._line), None)
        if first is not None and self._held[holder] >= self._held[first] + 2:
            return True
        return self.pool is not None and self.pool.is_over_share(self)

    def used_up(self) -> UsedUp:
        """See `mailhost.relay.slots.Slots.used_up`."""
        if self._admitted and self.pool is not None:
            return self.pool.used_up()
        return UsedUp(self.limit, self.setting)

    def _use(self, report: bool = False) -> bool:
        """Use one more of the portion, and one of the pool."""
        if not self._admitted:
            if not self.portion.use():
                return False
            self._admitted = True
        # Who asks again goes to the end of the pool's line: others have had no turn meanwhile.
        if self.pool is not None and not self.pool.take(self, self._granted, report):
            return False
        self._admitted = False
        return True

    def _granted(self) -> None:
        """The pool has one for who is the first in line."""
        self._admitted = False
        self._grant()
        self._serve()

    def _grant(self) -> None:
        holder = next(iter(self._line))
        self._held[holder] += 1
        self._line.pop(holder)()

    def _serve(self) -> None:
        """Hand out what is free to those who wait; give back what nobody needs."""
        while self._line and self._use():
            self._grant()
        self.portion.settle()
        self._ask()

    def _ask(self) -> None:
        """Borrow, one at a time, while somebody waits for want of it."""
        lending = self.portion.lending
        if self._line and not self._admitted and self._asked is None and lending is not None:
            self._asked = lending.borrow(self.portion.key)
            self._asked.addCallbacks(self._lent, self._not_lent)

    def _lent(self, nothing: None) -> None:
        self._asked = None
        self.portion.borrowed += 1
        self._serve()

    def _not_lent(self, failure: Failure) -> None:
        """The supervisor is gone, and this worker goes too."""
        self._asked = None


@define(eq=False)
class SiteShare:
    """
    One site's connections, counted among those of all workers before they are among our own.

    :ivar portion: this worker's part; several queues of the worker share it.
    :ivar slots: of the site's relay.
    """

    portion: Portion
    slots: Slots
    # The site, and what tells it that it has a connection; `None`: it wants none.
    _waiting: tuple[object, Callable[[], None], bool] | None = field(default=None, init=False)
    # One of the portion is in use for it, and a slot is not to be had yet.
    _admitted: bool = field(default=False, init=False)
    _asked: Deferred[None] | None = field(default=None, init=False)

    def used_up(self) -> UsedUp:
        """See `mailhost.relay.slots.Slots.used_up`."""
        if self._admitted:
            return self.slots.used_up()
        return UsedUp(self.portion.limit, "delivery.connections.max_per_domain")

    def take(self, holder: object, granted: Callable[[], None], report: bool = False) -> bool:
        """See `mailhost.relay.slots.Slots.take`; *holder* is always the same."""
        self._waiting = (holder, granted, report)
        if not self._admitted and not self.portion.use():
            self.portion.waiting[self] = self._may_use
            self._ask()
            return False
        self.portion.waiting.pop(self, None)
        self._admitted = True
        if not self.slots.take(holder, self._slot_granted, report):
            return False
        self._waiting, self._admitted = None, False
        return True

    def give_back(self, holder: object) -> None:
        """A connection has ended."""
        self.slots.give_back(holder)
        self.portion.free()
        if self._waiting is not None and not self._admitted:
            self._ask()

    def leave(self, holder: object) -> None:
        """The site wants no connection any more."""
        self._waiting = None
        self.portion.waiting.pop(self, None)
        self.slots.leave(holder)
        if self._admitted:
            self._admitted = False
            self.portion.free()

    def is_waiting(self, holder: object) -> bool:
        """Whether the site has to wait."""
        return self._waiting is not None

    def is_wanted(self) -> bool:
        """Whether somebody may want a connection that is given back; what is borrowed is."""
        portion = self.portion
        return portion.borrowed > 0 or bool(portion.waiting) or self.slots.is_wanted()

    def is_over_share(self, holder: object) -> bool:
        """See `mailhost.relay.slots.Slots.is_over_share`."""
        if self.portion.waiting and self.slots.held_by(holder) > 1:
            return True
        return self.slots.is_over_share(holder)

    def _slot_granted(self) -> None:
        assert self._waiting is not None, "only who waits is granted anything"
        (_, granted, _), self._waiting, self._admitted = self._waiting, None, False
        granted()

    def _ask(self) -> None:
        lending = self.portion.lending
        if self._asked is None and lending is not None:
            self._asked = lending.borrow(self.portion.key)
            self._asked.addCallbacks(self._lent, self._not_lent)

    def _lent(self, nothing: None) -> None:
        self._asked = None
        self.portion.borrowed += 1
        if self._waiting is None or self._admitted:
            self.portion.settle()
            return
        self._may_use()

    def _may_use(self) -> None:
        """One of the portion is free, as far as is known."""
        if self._waiting is None or self._admitted:
            return
        holder, granted, report = self._waiting
        if self.take(holder, granted, report):
            granted()

    def _not_lent(self, failure: Failure) -> None:
        """The supervisor is gone, and this worker goes too."""
        self._asked = None


@define(eq=False)
class SharedReception(Reception):
    """
    A session that counts among those of all workers.

    :ivar portion: this worker's part of ``max_connections``.
    """

    portion: Portion
    _inside: bool = field(default=False, init=False)
    _over: bool = field(default=False, init=False)

    _log = Logger()

    def connected(self) -> Maybe[Reply]:
        """See `mailhost.interfaces.IReception`."""
        if self.portion.use():
            self._inside = True
            return Reception.connected(self)
        return self._ask()

    async def _ask(self) -> Reply:
        if not await self.portion.borrow_now():
            return replies.TOO_MANY_CONNECTIONS
        if self._over or not self.portion.use():
            self.portion.settle()
            return replies.TOO_MANY_CONNECTIONS
        self._inside = True
        answer = Reception.connected(self)
        return answer if isinstance(answer, Reply) else await answer

    def disconnected(self) -> None:
        """See `mailhost.interfaces.IReception`."""
        self._over = True
        if self._inside:
            self._inside = False
            self.portion.free()
        Reception.disconnected(self)
