"""
What all ways into one virtual server share.

:Room: ``intake``
:Called by: `mailhost.intake.reception` (sessions) and `mailhost.intake.pickup`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall

from mailhost.config.settings import VirtualServerSettings
from mailhost.errors import ResolveProblem, SpoolFull
from mailhost.intake.greylist import Greylist
from mailhost.interfaces import IAddressResolver, IHeldMail, INameResolver, IQueueStore
from mailhost.model.access import client_network
from mailhost.model.address import Mailbox
from mailhost.model.queue import QueuedMessage
from mailhost.model.tally import Tally
from mailhost.policy.clients import ClientTable
from mailhost.routing.categorizer import Categorizer
from mailhost.traces.tracer import Tracer


class Clock(Protocol):
    """The part of `twisted.internet.interfaces.IReactorTime` used here."""

    def seconds(self) -> float:
        """Seconds since the epoch."""

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> IDelayedCall:
        """Call back later."""


def _never_full() -> str | None:
    return None


@define(eq=False)
class Desk:
    """
    :ivar settings: the virtual server's; replaced whole when they are read anew,
        and sessions see the new ones from their next command on.
    :ivar categorizer: built from them.
    :ivar store: its queue.
    :ivar resolver: for the names of clients.
    :ivar clock: the time.
    :ivar accepted: told of every message once it is ours.
    :ivar directory: knows who is in the local domains; `None`: everybody is.
    :ivar full: why no more mail is taken, in words; `None`: it is taken.
    :ivar tracer: is told of every message that is ours.
    :ivar greylist: knows who has come back; `None`: nobody has to.
    :ivar tally: counts what comes in.
    :ivar held: mail that waits to be asked for; `None`: there is none.
    :ivar open_sessions: how many there are.
    :ivar closed: it is too much: no new clients but the operator's own.
    :ivar clients: what each of them has done of late.
    :ivar networks: the same of each network.
    """

    settings: VirtualServerSettings
    categorizer: Categorizer
    store: IQueueStore
    resolver: INameResolver
    clock: Clock
    accepted: Callable[[QueuedMessage], None]
    full: Callable[[], str | None] = _never_full
    directory: IAddressResolver | None = None
    tracer: Tracer = field(factory=Tracer)
    greylist: Greylist | None = None
    tally: Tally = field(factory=Tally)
    held: IHeldMail | None = None
    open_sessions: int = field(default=0, init=False)
    closed: bool = field(default=False, init=False)
    clients: ClientTable = field(factory=ClientTable, init=False)
    networks: ClientTable = field(
        factory=partial(ClientTable, client_network, "network"), init=False
    )

    def check_room(self, size: int | None) -> None:
        """
        :param size: octets announced for the next message, if any.
        :raises SpoolFull: no room on the disk, or as much is queued as the operator allows.
        :raises mailhost.errors.SpoolProblem: the storage has failed.
        """
        full = self.full()
        if full is not None:
            raise SpoolFull(full)
        self.store.check_room(size)

    def rewriter_of(self, sender: Mailbox) -> IAddressResolver | None:
        """Who knows the primary address of *sender*, where that is to take its place."""
        if self.directory is None or not self.settings.ldap.rewrite_sender:
            return None
        return self.directory if self.categorizer.domains.is_local(sender.domain_key) else None

    @property
    def names_matter(self) -> bool:
        """Whether a client's name has to be known: for a list, or for a note."""
        access = self.settings.access
        return (
            access.connections.needs_names
            or access.relay.needs_names
            or self.settings.delivery.reverse_dns
        )

    async def find_names(self, address: str) -> tuple[str, ...]:
        """
        The names of *address* that lead back to it.

        A name that does not is anybody's claim, and counts as none; so does one
        that cannot be looked up now (IIS ACC-23: failure means no match).
        """
        try:
            names = await ready(self.resolver.names(address))
        except ResolveProblem:
            return ()
        return tuple([name for name in names[:8] if await self._leads_to(name, address)])

    async def _leads_to(self, name: str, address: str) -> bool:
        try:
            return address in await ready(self.resolver.addresses(name))
        except ResolveProblem:
            return False


async def ready(answer: object) -> Sequence[str]:
    """What a resolver has answered, or will."""
    if isinstance(answer, (list, tuple)):
        return answer
    return await answer  # type: ignore[misc, no-any-return]  # what is not ready is awaitable
