"""
How often something may happen.

:Room: ``model``
:Made by: `mailhost.config`; kept to by `mailhost.relay`.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge, gt

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"))


@frozen
class Rate:
    """
    So many in so long, spread evenly over that time.

    :ivar count: at least 1.
    :ivar seconds: more than 0.
    :raises ValueError: they are not.
    """

    count: int = field(validator=ge(1))
    seconds: float = field(validator=gt(0))

    @property
    def per_second(self) -> float:
        """How many in one second."""
        return self.count / self.seconds

    def __str__(self) -> str:
        for unit, letter in _UNITS:
            if self.seconds % unit == 0:
                return f"{self.count}/{self.seconds // unit:g}{letter}"
        return f"{self.count}/{self.seconds:g}s"


@frozen
class RateLimits:
    """
    What may leave, and how fast; `None`: as fast as it goes.

    :ivar messages: transactions, each with one copy of a message.
    :ivar connections: connections opened.
    :ivar recipients: recipients of these transactions.
    """

    messages: Rate | None = None
    connections: Rate | None = None
    recipients: Rate | None = None

    @property
    def none(self) -> bool:
        """Whether nothing is limited."""
        return self.messages is None and self.connections is None and self.recipients is None
