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
class ClientLimits:
    """
    What one client may do; `None`: any number.

    :ivar connections: at a time.
    :ivar connection_rate: how many new ones.
    :ivar messages: transactions.
    :ivar recipients: those accepted.
    :ivar exempt: permits those for whom nothing of this holds.
    """

    connections: int | None = None
    connection_rate: Rate | None = None
    messages: Rate | None = None
    recipients: Rate | None = None
    exempt: AccessList = AccessList(False)

    @property
    def any(self) -> bool:
        """Whether anything is limited."""
        limits = (self.connections, self.connection_rate, self.messages, self.recipients)
        return any(limit is not None for limit in limits)
