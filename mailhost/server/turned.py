"""
A connection that was turned round, on its way through all queues of a virtual server.

:Room: ``server``
:RFC: 2645 §5.3 (ATRN).
:Called by: `mailhost.server.held`; `mailhost.workers.child`.

Queues stay where they are: it is the connection that goes round.  Each queue sends over it what
it has and records the outcomes itself, as over any other connection; so nothing is lost whichever
process ends on the way, and what is in doubt is so in the queue it is in.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from mailhost.errors import MailhostError
from mailhost.interfaces import IHeldMail
from mailhost.model.held import HeldDomains
from mailhost.net.deadlines import Deadlines
from mailhost.net.turned import Passage, Rest, TurnedProtocol

_log = Logger()


@define(eq=False)
class Tour:
    """
    Implements `mailhost.net.turned.Onward`.

    :ivar reactor: passes on what is said.
    :ivar domains: whose mail is asked for.
    :ivar peer: who has asked: an IP address.
    :ivar port: of it.
    :ivar rest: has the connection between two queues.
    """

    reactor: Any
    domains: HeldDomains
    peer: str
    port: int
    rest: Rest = field(init=False)
    _back: Deferred[bool] = field(factory=Deferred, init=False)

    def __attrs_post_init__(self) -> None:
        self.rest = Rest(Deadlines(self.reactor), self.lost)

    def given_back(self, session: TurnedProtocol) -> None:
        """See `mailhost.net.turned.Onward`."""
        session.give_way(self.rest)
        self._tell(True)

    def lost(self) -> None:
        """See `mailhost.net.turned.Onward`."""
        self._tell(False)

    def _tell(self, there: bool) -> None:
        if not self._back.called:
            self._back.callback(there)

    async def come_back(self) -> bool:
        """Waits until a session gives the connection back; whether it is still there."""
        there = await self._back
        self._back = Deferred()
        return there and not self.rest.is_gone

    async def visit(self, queue: IHeldMail) -> bool:
        """Have what waits in *queue* sent; whether the connection is still there."""
        try:
            if not await queue.waits(self.domains):
                return not self.rest.is_gone
        except MailhostError as problem:
            _log.error("ATRN of {peer}: {problem}", peer=self.peer, problem=str(problem))
            return not self.rest.is_gone
        if self.rest.is_gone:
            return False
        self.rest.give(queue.session(self.domains, self.peer, self.port, self))
        return await self.come_back()

    async def lend(self, ask: Callable[[int], Deferred[bool]]) -> bool:
        """
        Have another process send what it has; whether the connection is still there.

        A process that ends, or stands still, in the midst of something takes it with it; what
        has not said a word has done no harm.

        :param ask: gives a descriptor to the other process; fires when it has done with it:
            whether it was between two transactions.
        """
        ours, theirs = socket.socketpair()
        passage = Passage(self.rest)
        with ours, theirs:
            _adopt(self.reactor, ours, passage)
            asked = ask(theirs.fileno())
            self.rest.join(passage, asked.cancel)
            try:
                in_order = await asked
            except CancelledError:
                in_order = False
        self.rest.part()
        if passage.spoken and not in_order:
            self.rest.drop()
            return False
        return not self.rest.is_gone


async def serve(
    reactor: Any,
    queues: Iterable[IHeldMail],
    domains: HeldDomains,
    peer: str,
    port: int,
    descriptor: int,
) -> bool:
    """
    Have what waits in *queues* sent over a connection that another process has.

    :param descriptor: what passes through it is passed on; closed at the end.
    :returns: whether it is between two transactions.
    """
    tour = Tour(reactor, domains, peer, port)
    with socket.socket(fileno=descriptor) as lent:
        _adopt(reactor, lent, tour.rest)
    try:
        for queue in queues:
            if not await tour.visit(queue):
                return False
    except Exception:
        _log.failure("A session that was lent has failed")
        return False
    finally:
        tour.rest.drop()
    return True


def _adopt(reactor: Any, end: socket.socket, protocol: Protocol) -> None:
    """The reactor takes a copy of *end*."""
    end.setblocking(False)
    factory = Factory.forProtocol(lambda: protocol)
    reactor.adoptStreamConnection(end.fileno(), end.family, factory)
