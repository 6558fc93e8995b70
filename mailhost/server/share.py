"""
One process's part of a virtual server that several processes run together.

:Room: ``server``
:Called by: `mailhost.server.virtual_server`; made by `mailhost.workers`.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from attrs import evolve, field, frozen
from twisted.internet.defer import Deferred

from mailhost.config.settings import ListenAddress, Settings, VirtualServerSettings
from mailhost.interfaces import IHeldMail
from mailhost.model.rate import Rate, RateLimits
from mailhost.relay.slots import Pool
from mailhost.relay.terms import Terms
from mailhost.server.held import Colleagues, SharedHeldMail
from mailhost.server.listening import bind

#: ``delivery.queue.max_active`` cannot be less.
_FEWEST_ACTIVE = 100
_WORKER_NAME = re.compile(r"worker-([1-9][0-9]{0,3})")


class Sockets(Protocol):
    """Where listening sockets come from."""

    def take(self, server: str, address: ListenAddress) -> socket.socket:
        """
        A socket that listens on *address*, the caller's own.

        :raises OSError: it is not to be had.
        """

    def leave(self, server: str, address: ListenAddress) -> None:
        """The caller has closed it."""


class Lending(Protocol):
    """Lends what is left over of a limit when each worker has its part."""

    def borrow(self, key: str) -> Deferred[None]:
        """Fires when one more may be used; fails when that will never be."""

    def borrow_now(self, key: str) -> Deferred[bool]:
        """Whether one more may be used, without waiting for it."""

    def give_back(self, key: str) -> None:
        """One that was borrowed is not used any more."""


class OwnSockets:
    """Bound by this process, as long as they are used."""

    def take(self, server: str, address: ListenAddress) -> socket.socket:
        """See `Sockets`."""
        return bind(address)

    def leave(self, server: str, address: ListenAddress) -> None:
        """Nothing is kept, so nothing is to be done."""


@frozen
class Share:
    """
    :ivar number: of this worker, from 0; the first one owns Pickup.
    :ivar count: of all workers.
    :ivar sockets: where listening sockets come from.
    :ivar lending: lends what is left over of limits; `None` where there is one worker.
    :ivar colleagues: the other workers; `None` where there is one.
    :ivar outgoing: outbound connections of all virtual servers together; `None`: nobody counts
        them.
    """

    number: int = 0
    count: int = 1
    sockets: Sockets = field(factory=OwnSockets)
    lending: Lending | None = None
    colleagues: Colleagues | None = None
    outgoing: Pool | None = None

    @property
    def owns_pickup(self) -> bool:
        """Whether files put into Pickup are this worker's business."""
        return self.number == 0

    def held(
        self, own: IHeldMail, server: str, queues: Callable[[], Sequence[IHeldMail]], reactor: Any
    ) -> SharedHeldMail:
        """What waits to be asked for: in all *queues*, *own* the first, and with other workers."""
        return SharedHeldMail(own, server, queues, self.colleagues, reactor)

    def part(self, limit: int | None) -> int | None:
        """An equal part of *limit* for each worker; `None`: no limit."""
        return None if limit is None else limit // self.count

    def spare(self, limit: int | None) -> int:
        """What is left over of *limit* when each worker has its part: it is lent."""
        return 0 if limit is None else limit % self.count

    def small_part(self, limit: int | None) -> int | None:
        """
        What this worker has of *limit* without asking, where much of it is lent.

        Half of the limit is divided, so that a worker with much to do has most of it while the
        others have little.
        """
        if limit is None or self.count == 1:
            return limit
        return limit // 2 // self.count

    def large_spare(self, limit: int | None) -> int:
        """What is lent of *limit* when each worker has a small part."""
        return 0 if limit is None else limit - (self.small_part(limit) or 0) * self.count

    def terms(self, terms: Terms) -> Terms:
        """
        This worker's part of *terms*, which are for all of them.

        ``max_connections`` stays, and ``max_per_site`` is the most that one worker may ever have:
        `mailhost.server.portion` sees to both.
        """
        if self.count == 1:
            return terms
        per_site, queue = terms.max_per_site, terms.queue
        return evolve(
            terms,
            # Its own part, and all that can be lent to it.
            max_per_site=per_site and (self.part(per_site) or 0) + self.spare(per_site),
            rates=self._slower(terms.rates),
            site_rates=self._slower(terms.site_rates),
            domain_rates={name: self._slower(one) for name, one in terms.domain_rates.items()},
            queue=evolve(
                queue,
                max_active=max(_FEWEST_ACTIVE, queue.max_active // self.count),
                max_messages=queue.max_messages and max(1, queue.max_messages // self.count),
            ),
        )

    def _slower(self, limits: RateLimits) -> RateLimits:
        """An equal part of *limits* for each worker."""
        return RateLimits(
            *(
                None if rate is None else Rate(rate.count, rate.seconds * self.count)
                for rate in (limits.messages, limits.connections, limits.recipients)
            )
        )

    def orphans(self, settings: VirtualServerSettings) -> list[int]:
        """The workers that exist no longer and whose queues this one adopts."""
        found = _numbers(settings.queue_directory)
        return [n for n in found if n >= self.count and n % self.count == self.number]


def worker_directories(settings: VirtualServerSettings, number: int) -> tuple[Path, Path]:
    """The queue of worker *number*; that of the first is what one process alone has."""
    queue, parts = settings.queue_directory, settings.sort_temp_directory
    if number == 0:
        return queue, parts
    return queue / f"worker-{number}", parts / f"worker-{number}"


def _numbers(queue: Path) -> list[int]:
    if not queue.is_dir():
        return []
    names = (path.name for path in queue.iterdir() if path.is_dir() and not path.is_symlink())
    return sorted(int(match[1]) for match in map(_WORKER_NAME.fullmatch, names) if match)


def incoming_key(server: str) -> str:
    """What a lender calls the inbound connections of *server*."""
    return f"in {server}"


def outgoing_key(server: str) -> str:
    """What a lender calls the outbound connections of *server*."""
    return f"out {server}"


#: What a lender calls the outbound connections of all virtual servers together.
ALL_OUTGOING = "all out"


def site_key(server: str, site: str = "") -> str:
    """What a lender calls the connections of *server* to *site*; without one, to any."""
    return f"site {server}\n{site}"


def spares(settings: Settings) -> dict[str, int]:
    """What is left over of each limit of *settings* when each worker has its part."""
    share = Share(count=settings.workers)
    found = {ALL_OUTGOING: share.large_spare(settings.max_outbound_connections)}
    for one in settings.virtual_servers:
        connections = one.delivery.connections
        found[incoming_key(one.name)] = share.large_spare(one.max_connections)
        found[outgoing_key(one.name)] = share.large_spare(connections.max)
        found[site_key(one.name)] = share.spare(connections.max_per_domain)
    return found


#: The only process there is.
ALONE = Share()
