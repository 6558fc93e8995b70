"""
Mail that waits until its domain asks for it: held, started, sent over the asker's own session.

:Room: ``relay``
:RFC: 1985, 2645.
:IIS: DOM-20, DOM-21.
:Implements: `mailhost.interfaces.IHeldMail`.
:Made by: `mailhost.relay.manager`.

Such mail is put off whenever it is due, without an attempt being counted; its sender hears of the
delay, and of its end, as of any other.  Who asks does to it what an operator does who wants it
tried at once, page by page, so that a large queue never is in memory whole.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from itertools import count
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

from mailhost.errors import MailhostError
from mailhost.interfaces import IHeldMail, IQueueStore
from mailhost.model.held import HeldDomains
from mailhost.model.listing import QueueFilter
from mailhost.model.queue import QueuedRecipient
from mailhost.model.route import HostAddress
from mailhost.model.tally import Tally
from mailhost.net.turned import Onward, TurnedProtocol
from mailhost.relay.active import ActiveMessage, ActiveWindow
from mailhost.relay.job import Destination
from mailhost.relay.line import Line
from mailhost.relay.outcomes import HELD
from mailhost.relay.site_table import SiteTable
from mailhost.relay.steward import Action, Order, Steward

#: Messages that are taken into work at once, and that may wait in memory for one asker.
_AT_ONCE = 100
#: A part of the queue each; then it is taken for granted that something waits.
_MOST_PAGES = 50
#: Held mail is looked at so often, and when its sender has to hear something.
_LOOK_SECONDS = 86400.0
_PAUSE_SECONDS = 0.5
_SHORT_PAUSE_SECONDS = 0.05
_MOST_PAUSES = 20
#: A domain is not started again before so long; who asks meanwhile has it started then.
_AGAIN_SECONDS = 10.0

_numbers = count(1)


@define(eq=False)
class _Turned:
    """A *session* for *domains*; mail for them goes to *destination* while it is there."""

    domains: HeldDomains
    destination: Destination
    session: TurnedProtocol
    gone: bool = False


@implementer(IHeldMail)
@define(eq=False)
class HeldMail:
    """
    :ivar store: where the mail is.
    :ivar clock: the reactor.
    :ivar window: what is in work.
    :ivar line: keeps sessions until they are taken.
    :ivar sites: where mail waits for them.
    :ivar steward: takes mail into work.
    :ivar follow: runs a coroutine that `stop` of the relay waits for.
    :ivar tally: counts messages that were started by ETRN.
    """

    store: IQueueStore
    clock: Any
    window: ActiveWindow
    line: Line
    sites: SiteTable
    steward: Steward
    follow: Callable[[Coroutine[Any, Any, None]], None]
    tally: Tally
    _turned: list[_Turned] = field(factory=list, init=False)
    # What was asked for of late: `None` while it is taken, then the call that ends its rest.
    _started: dict[HeldDomains, IDelayedCall | None] = field(factory=dict, init=False)
    # What was asked for once more meanwhile, and by whom.
    _once_more: dict[HeldDomains, str] = field(factory=dict, init=False)
    _stopping: bool = field(default=False, init=False)

    _log = Logger()

    def stop(self) -> None:
        """Start nothing more."""
        self._stopping = True
        for resting in self._started.values():
            if resting is not None:
                resting.cancel()
        self._started.clear()
        for turned in self._turned:
            turned.session.comes_back = False
        for one in list(self.line.turned.values()):
            one.session.drop()  # nobody will take it any more

    # ---- `mailhost.interfaces.IHeldMail`

    async def waits(self, domains: HeldDomains) -> bool:
        """See there."""
        for name in domains.names:
            after: int | None = 0
            for _ in range(_MOST_PAGES):
                assert after is not None
                found = await self.store.select(_of(name), after, 1)
                if found.counts:
                    return True
                after = found.reached
                if after is None:
                    break
            else:
                return True
        return False

    async def start(self, domains: HeldDomains, who: str) -> bool:
        """See there."""
        if not await self.waits(domains):
            return False
        if domains in self._started:
            self._once_more[domains] = who
        else:
            self._begin(domains, who)
        return True

    def session(
        self, domains: HeldDomains, peer: str, port: int, onward: Onward | None = None
    ) -> TurnedProtocol:
        """See there."""
        key = f"turned:{peer}:{next(_numbers)}"
        place = HostAddress(peer, peer, port or 25)
        session = self.line.turn(key, place, lambda: self._gone(turned), onward)
        session.comes_back = not self._stopping
        turned = _Turned(domains, Destination(key, ()), session)
        self._turned.append(turned)
        self.follow(self._turn(turned, f"ATRN of {peer}"))
        return session

    # ---- mail that is due

    def find_session(self, domain: str) -> Destination | None:
        """The session that has asked for mail for *domain*, while it is there."""
        for one in self._turned:
            if one.domains.cover(domain):
                return one.destination
        return None

    def hold(self, active: ActiveMessage, recipients: list[QueuedRecipient]) -> None:
        """Nobody has asked for it."""
        self.sites.put_off(active, recipients, HELD, lambda: self.clock.seconds() + _LOOK_SECONDS)

    # ---- mail that is asked for

    def _begin(self, domains: HeldDomains, who: str) -> None:
        if not self._stopping:
            self._started[domains] = None
            self.follow(self._start(domains, who))

    def _rested(self, domains: HeldDomains) -> None:
        del self._started[domains]
        who = self._once_more.pop(domains, None)
        if who is not None:
            self._begin(domains, who)

    async def _start(self, domains: HeldDomains, who: str) -> None:
        try:
            await self._take(domains, who, None)
        except MailhostError as problem:
            self._log.error("{who}: the queue cannot be read: {problem}", who=who, problem=problem)
        finally:
            if not self._stopping:
                resting = self.clock.callLater(_AGAIN_SECONDS, self._rested, domains)
                self._started[domains] = resting

    async def _turn(self, turned: _Turned, who: str) -> None:
        key = turned.destination.key
        try:
            await self._take(turned.domains, who, turned)
            while key in self.sites.queues and not self._stopping:
                await self._pause()
        except MailhostError as problem:
            self._log.error("{who}: the queue cannot be read: {problem}", who=who, problem=problem)
        finally:
            self._gone(turned)
            unused = self.line.turned.get(key)
            if unused is not None and await unused.session.ready is None:
                unused.session.quit()
            self.line.turned.pop(key, None)

    def _gone(self, turned: _Turned) -> None:
        turned.gone = True
        if turned in self._turned:
            self._turned.remove(turned)

    async def _take(self, domains: HeldDomains, who: str, turned: _Turned | None) -> None:
        """Everything for *domains* into work, as far as there is room at a time."""
        await self._until_put_off()
        for name in domains.names:
            wanted = _of(name)
            after: int | None = 0
            while after is not None and not self._stopping:
                if turned is not None and turned.gone:
                    return
                if not self._has_room(turned):
                    await self._pause()
                    continue
                found = await self.store.select(wanted, after, self._at_once)
                if found.counts:
                    order = Order(Action.RETRY, who)
                    done = await self.steward.carry_out(order, list(found.counts), wanted)
                    self.tally.etrn_messages += done.messages if turned is None else 0
                after = found.reached

    async def _until_put_off(self) -> None:
        """What is being put off at this instant is in work, and would be passed over."""
        for _ in range(_MOST_PAUSES):
            if not self.sites.postponer.busy:
                return
            await self._pause(_SHORT_PAUSE_SECONDS)

    def _has_room(self, turned: _Turned | None) -> bool:
        # A site that has more than its share would send mail back, and it would be held again.
        waiting = [one.waiting.message_count for one in self.sites.queues.values()]
        if max(waiting, default=0) + 2 * self._at_once > self.window.room:
            return False
        site = self.sites.queues.get(turned.destination.key) if turned is not None else None
        return site is None or site.waiting.message_count < _AT_ONCE

    @property
    def _at_once(self) -> int:
        return max(1, min(_AT_ONCE, self.window.limit // 4))

    def _pause(self, seconds: float = _PAUSE_SECONDS) -> Deferred[None]:
        waiting: Deferred[None] = Deferred()
        self.clock.callLater(seconds, waiting.callback, None)
        return waiting


async def any_of(queues: Iterable[IHeldMail], domains: HeldDomains, who: str | None) -> bool:
    """
    Whether one of *queues* has mail for *domains*; one that cannot say stops no other.

    :param who: has it started by all of them, for their logs; `None`: it goes on waiting.
    :raises MailhostError: one cannot say, and the others have none.
    """
    found, unknown = False, None
    for queue in queues:
        try:
            asked = queue.waits(domains) if who is None else queue.start(domains, who)
            found = await asked or found
        except MailhostError as problem:
            unknown = problem
        if found and who is None:
            break
    if unknown is not None and not found:
        raise unknown
    return found


def _of(name: str) -> QueueFilter:
    """What an operator holds is not the domain's to have."""
    return QueueFilter(domain=name, held=False)
