"""
How much one client may do.

:Room: ``model``
:Made by: `mailhost.config`; kept to by `mailhost.policy.clients`.
"""

from __future__ import annotations

from attrs import frozen

from mailhost.model.access import AccessList
from mailhost.model.rate import Rate


@frozen
class Tarpit:
    """
    Whoever is refused again and again waits longer and longer for the replies.

    :ivar delay_seconds: so much longer each time; 0: nobody waits.
    :ivar max_seconds: the longest wait.
    :ivar free: refusals of a session that come at once.
    """

    delay_seconds: float = 0.0
    max_seconds: float = 10.0
    free: int = 2

    def wait(self, refusals: int) -> float:
        """
        Seconds before the reply.

        :param refusals: of the session, this one included.
        """
        return min(max(0, refusals - self.free) * self.delay_seconds, self.max_seconds)


@frozen
class ClientLimits:
    """
    What one client may do; `None`: any number.

    :ivar connections: at a time.
    :ivar connection_rate: how many new ones.
    :ivar messages: transactions.
    :ivar recipients: those accepted.
    :ivar errors: wrong commands, and refusals for good.
    :ivar exempt: permits those for whom nothing of this holds.
    """

    connections: int | None = None
    connection_rate: Rate | None = None
    messages: Rate | None = None
    recipients: Rate | None = None
    errors: Rate | None = None
    exempt: AccessList = AccessList(False)

    @property
    def any(self) -> bool:
        """Whether anything is limited."""
        rates = (self.connection_rate, self.messages, self.recipients, self.errors)
        return any(limit is not None for limit in (self.connections, *rates))
