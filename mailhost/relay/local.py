"""
Final delivery, a few messages at a time.

:Room: ``relay``
:Called by: `mailhost.relay.manager`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from attrs import define, field
from twisted.logger import Logger

from mailhost.errors import ContentDamaged, MailhostError
from mailhost.interfaces import IDelivery, IQueueStore, open_stored
from mailhost.model.outcome import Fate, Outcome
from mailhost.model.queue import QueuedMessage, QueuedRecipient
from mailhost.relay.active import ActiveMessage
from mailhost.relay.outcomes import STUMBLED, damaged
from mailhost.relay.postponing import Overflow, Pace

#: Files being written into Drop at once.
AT_ONCE = 8


@define(eq=False)
class LocalQueue:
    """
    :ivar store: has the contents.
    :ivar delivery: `None` where no domain is local.
    :ivar clock: the reactor.
    :ivar settle: told what became of some recipients: one job of their message.
    :ivar follow: runs a coroutine that `stop` of the relay waits for.
    :ivar overflow: mail that found no room here.
    :ivar pace: how fast it goes.
    """

    store: IQueueStore
    delivery: IDelivery | None
    clock: Any
    settle: Callable[[ActiveMessage, Sequence[QueuedRecipient], Sequence[Outcome]], None]
    follow: Callable[[Coroutine[Any, Any, None]], None]
    overflow: Overflow = field(factory=Overflow, init=False)
    pace: Pace = field(init=False)
    _waiting: deque[tuple[ActiveMessage, list[QueuedRecipient]]] = field(factory=deque, init=False)
    _busy: int = field(default=0, init=False)

    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self.pace = Pace(self.clock.seconds())

    @property
    def busy(self) -> int:
        """Deliveries under way."""
        return self._busy

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, active: ActiveMessage, recipients: list[QueuedRecipient]) -> None:
        """Deliver *active* to *recipients*."""
        active.jobs += 1
        self._waiting.append((active, recipients))
        self._deliver_next()

    def clear(self) -> None:
        """Begin nothing more; the store has what waits."""
        self._waiting.clear()

    def _deliver_next(self) -> None:
        while self._waiting and self._busy < AT_ONCE:
            active, recipients = self._waiting.popleft()
            self._busy += 1
            self.follow(self._deliver(active, recipients))

    async def _deliver(self, active: ActiveMessage, recipients: list[QueuedRecipient]) -> None:
        try:
            outcome = await self._outcome(active.message, recipients)
        except Exception:
            self._log.failure("Final delivery has stumbled")
            outcome = STUMBLED
        self._busy -= 1
        self.pace.note(self.clock.seconds())
        self.settle(active, recipients, [outcome] * len(recipients))
        self._deliver_next()

    async def _outcome(self, message: QueuedMessage, recipients: list[QueuedRecipient]) -> Outcome:
        if self.delivery is None:
            return Outcome(Fate.FAILED, "5.3.5", "no final delivery is configured here")
        try:
            content = await open_stored(self.store, message)
            await self.delivery.deliver(message, [r.forward_path for r in recipients], content)
        except ContentDamaged as problem:
            return await damaged(self.store, message, problem)
        except MailhostError as problem:
            return Outcome(Fate.DELAYED, "4.3.0", str(problem))
        return Outcome(Fate.DELIVERED, "2.0.0", "delivered to Drop")
