"""
What is asked of clients that are not the operator's own.

:Room: ``intake``
:Called by: `mailhost.intake.reception`; one for each session that any of it holds for.

Whoever waits here waits for a timer; nothing else does.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from mailhost.intake.desk import Desk
from mailhost.interfaces import Maybe
from mailhost.model.client import ClientLimits
from mailhost.model.reply import Reply
from mailhost.model.session import SessionFacts
from mailhost.policy.clients import ClientTable


@define(eq=False)
class Stranger:
    """
    :ivar desk: what this session shares with all others.
    :ivar session: its facts.
    """

    desk: Desk
    session: SessionFacts
    # The tables that it is in, and what holds for it there.
    _counted: list[tuple[ClientTable, ClientLimits]] = field(factory=list, init=False)
    _refusals: int = field(default=0, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)

    def enter(self) -> Reply | None:
        """The client has connected; `leave` is due in any case."""
        access, peer = self.desk.settings.access, self.session.peer
        for table, limits in (
            (self.desk.clients, access.per_address),
            (self.desk.networks, access.per_network),
        ):
            if limits.any and not limits.exempt.permits(peer):
                self._counted.append((table, limits))
                refused = table.enter(peer, limits, self.desk.clock.seconds())
                if refused is not None:
                    return refused
        return None

    def leave(self) -> None:
        """The session is over."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        counted, self._counted = self._counted, []
        for table, _ in counted:
            table.leave(self.session.peer)

    def greet(self, reply: Reply) -> Maybe[Reply]:
        """*reply*, after ``access.greet_delay``."""
        return self._later(self.desk.settings.access.greet_delay, reply)

    def check_message(self) -> Reply | None:
        """One message more."""
        return self._count(ClientTable.check_message)

    def check_recipient(self) -> Reply | None:
        """One recipient more."""
        return self._count(ClientTable.check_recipient)

    def fault(self, reply: Reply) -> Maybe[Reply]:
        """*reply*, which refuses something, in its time; or another, when it is too much."""
        too_much = self._count(ClientTable.check_error)
        if too_much is not None:
            return too_much
        if self.session.account is not None:
            return reply
        self._refusals += 1
        return self._later(self.desk.settings.access.tarpit.wait(self._refusals), reply)

    def _count(
        self, check: Callable[[ClientTable, str, ClientLimits, float], Reply | None]
    ) -> Reply | None:
        now = self.desk.clock.seconds()
        for table, limits in self._counted:
            refused = check(table, self.session.peer, limits, now)
            if refused is not None:
                return refused
        return None

    def _later(self, seconds: float, reply: Reply) -> Maybe[Reply]:
        if seconds <= 0:
            return reply
        waiting: Deferred[Reply] = Deferred()
        self._timer = self.desk.clock.callLater(seconds, waiting.callback, reply)
        return waiting
