"""
Mail that waits until its domain asks for it, in all queues of a virtual server.

:Room: ``server``
:RFC: 1985 §5 (ETRN), 2645 (ATRN).
:Implements: `mailhost.interfaces.IHeldMail`.
:Made by: `mailhost.server.share`.

Who asks by ETRN has a session with one process and means the mail of all: its own queue, the
queues it has adopted, and those of the other workers.  A session that is turned round stays in
its process, and gets what that process's own queue has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from attrs import define
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from mailhost.errors import MailhostError
from mailhost.interfaces import IHeldMail
from mailhost.model.held import HeldDomains
from mailhost.relay.held import start_all
from mailhost.relay.manager import RelayManager


class Colleagues(Protocol):
    """The other workers."""

    def start_held(
        self, server: str, domains: tuple[str, ...], who: str
    ) -> Deferred[list[bool | None]]:
        """
        Have mail that waits for *domains* started by each.

        :param server: the virtual server's name.
        :returns: whether each has any; `None`: it has not said in time.  Never fails.
        """


class CannotSay(MailhostError):
    """Whether mail waits: not all workers have answered."""


@implementer(IHeldMail)
@define(eq=False)
class SharedHeldMail:
    """
    :ivar own: of this process's own queue.
    :ivar server: the virtual server's name.
    :ivar relays: those of this process.
    :ivar colleagues: the other workers; `None`: there are none.
    """

    own: IHeldMail
    server: str
    relays: Callable[[], Sequence[RelayManager]]
    colleagues: Colleagues | None

    async def waits(self, domains: HeldDomains) -> bool:
        """See there; of what `session` would send."""
        return await self.own.waits(domains)

    async def start(self, domains: HeldDomains, who: str) -> bool:
        """See there; once something is known to wait, nobody else is waited for."""
        asked: Deferred[list[bool | None]] = succeed([])
        if self.colleagues is not None:
            asked = self.colleagues.start_held(self.server, domains.names, who)
        unknown: MailhostError | None = None
        try:
            if await start_all([one.held for one in self.relays()], domains, who):
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

    def session(self, domains: HeldDomains, peer: str, port: int) -> Any:
        """See there."""
        return self.own.session(domains, peer, port)
