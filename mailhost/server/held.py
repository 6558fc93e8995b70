"""
Mail that waits until its domain asks for it, in all queues of a virtual server.

:Room: ``server``
:RFC: 1985 §5 (ETRN), 2645 (ATRN).
:Implements: `mailhost.interfaces.IHeldMail`.
:Made by: `mailhost.server.share`.

Who asks has a session with one process and means the mail of all: its own queue, the queues it
has adopted, and those of the other workers.  A session that is turned round goes from one of
them to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from mailhost.errors import MailhostError
from mailhost.interfaces import IHeldMail
from mailhost.model.held import HeldDomains
from mailhost.relay.held import any_of
from mailhost.server.turned import Tour


class Colleagues(Protocol):
    """The other workers."""

    @property
    def numbers(self) -> Sequence[int]:
        """Theirs."""

    def ask_held(
        self, server: str, domains: tuple[str, ...], who: str | None
    ) -> Deferred[list[bool | None]]:
        """
        Have mail that waits for *domains* started by each.

        :param server: the virtual server's name.
        :param who: for their logs; `None`: nothing is started.
        :returns: whether each has any; `None`: it has not said in time.  Never fails.
        """

    def lend(self, number: int, server: str, tour: Tour, descriptor: int) -> Deferred[bool]:
        """
        Have worker *number* send what *tour* is for over the connection behind *descriptor*.

        :returns: fires when it has done with it: whether the connection is between two
            transactions.  Never fails but by being cancelled.
        """


class CannotSay(MailhostError):
    """Whether mail waits: not all queues have answered."""


@implementer(IHeldMail)
class NotOpen:
    """A queue that cannot be read yet, because another process has it."""

    async def waits(self, domains: HeldDomains) -> bool:
        """:raises CannotSay: always."""
        raise CannotSay("a queue is in use by another process")

    async def start(self, domains: HeldDomains, who: str) -> bool:
        """:raises CannotSay: always."""
        return await self.waits(domains)

    def session(self, domains: HeldDomains, peer: str, port: int, onward: Any = None) -> Any:
        """Never asked for: `waits` comes first."""
        raise CannotSay("a queue is in use by another process")


@implementer(IHeldMail)
@define(eq=False)
class SharedHeldMail:
    """
    :ivar own: of this process's own queue.
    :ivar server: the virtual server's name.
    :ivar queues: those of this process, its own first.
    :ivar colleagues: the other workers; `None`: there are none.
    :ivar reactor: passes on what is said by other workers.
    """

    own: IHeldMail
    server: str
    queues: Callable[[], Sequence[IHeldMail]]
    colleagues: Colleagues | None
    reactor: Any
    _tours: set[Tour] = field(factory=set, init=False)

    _log = Logger()

    def stop(self) -> None:
        """No connection is passed on any more."""
        for tour in list(self._tours):
            tour.rest.drop()

    async def waits(self, domains: HeldDomains) -> bool:
        """See there."""
        return await self._any(domains, None)

    async def start(self, domains: HeldDomains, who: str) -> bool:
        """See there; once something is known to wait, nobody else is waited for."""
        return await self._any(domains, who)

    async def _any(self, domains: HeldDomains, who: str | None) -> bool:
        asked: Deferred[list[bool | None]] = succeed([])
        if self.colleagues is not None:
            asked = self.colleagues.ask_held(self.server, domains.names, who)
        unknown: MailhostError | None = None
        try:
            if await any_of(self.queues(), domains, who):
                return True
        except MailhostError as problem:
            unknown = problem
        found = await asked
        if any(found):
            return True
        if unknown is None and None in found:
            unknown = CannotSay(f"workers that have not answered: {found.count(None)}")
        if unknown is not None:
            raise unknown
        return False

    def session(self, domains: HeldDomains, peer: str, port: int, onward: Any = None) -> Any:
        """See there; it goes through all queues, and ends in our own."""
        if self.colleagues is None and len(self.queues()) == 1:
            return self.own.session(domains, peer, port, onward)
        tour = Tour(self.reactor, domains, peer, port)
        self._tours.add(tour)
        going = Deferred.fromCoroutine(self._go_round(tour))
        going.addErrback(lambda why: self._log.failure("A turned session has failed", why))
        going.addBoth(lambda nothing: self._over(tour))
        return self.own.session(domains, peer, port, tour)

    async def _go_round(self, tour: Tour) -> None:
        if not await tour.come_back():
            return
        for queue in self.queues():
            if queue is not self.own and not await tour.visit(queue):
                return
        colleagues = self.colleagues
        for number in colleagues.numbers if colleagues is not None else ():
            assert colleagues is not None, "somebody has a number"
            if not await tour.lend(partial(colleagues.lend, number, self.server, tour)):
                return
        # What came in meanwhile; whoever has nothing more says goodbye.
        tour.rest.give(self.own.session(tour.domains, tour.peer, tour.port))

    def _over(self, tour: Tour) -> None:
        self._tours.discard(tour)
