"""
Rates: how fast mail may leave.

:Room: ``config.settings``
:Read by: `mailhost.config.settings.delivery` and `mailhost.config.settings.domains`.
"""

from __future__ import annotations

from attrs import frozen

from mailhost.config.keys import key
from mailhost.config.units import rate
from mailhost.model.rate import Rate, RateLimits


@frozen
class RateKeys:
    """How fast mail may leave, spread evenly; none: as fast as it is taken."""

    messages: Rate | None = key(
        rate(), "none", help="Transactions; a message to several sites is one at each."
    )
    connections: Rate | None = key(rate(), "none", help="Connections opened.")
    recipients: Rate | None = key(rate(), "none", help="Recipients of the transactions.")

    def limits(self) -> RateLimits:
        """What these keys mean."""
        return RateLimits(self.messages, self.connections, self.recipients)
