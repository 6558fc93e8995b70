"""
How much is too much, and what is given up first.

:Room: ``policy``
:Called by: `mailhost.server.overload`, which measures.

What comes is refused before what is here is lost: first patience goes, then new clients, then
new mail.  Nothing that was accepted is given up.
"""

from __future__ import annotations

from enum import IntEnum

from attrs import define, field, frozen

#: A level is left when the load has been below so much of what it began at ...
_CALM_SHARE = 0.9
#: ... for so long; one level at a time.
CALM_SECONDS = 10.0


class Level(IntEnum):
    """What is done about it; each does what those before it do as well."""

    NORMAL = 0
    #: Silent clients are waited for a short time only.
    HASTY = 1
    #: New clients hear 421.
    CLOSED = 2
    #: New mail hears 452.
    FULL = 3


@frozen
class Load:
    """
    One thing that there can be too much of.

    :ivar name: in words: ``sessions``.
    :ivar value: how much there is.
    :ivar steps: from so much on the levels 1, 2 and 3 begin; `None`: it leads to no such level.
    :ivar setting: that rules it.
    :ivar words: the value as people read it.
    """

    name: str
    value: float
    steps: tuple[float | None, float | None, float | None]
    setting: str
    words: str

    def level(self, share: float = 1.0) -> Level:
        """:param share: of what each level begins at."""
        reached = [
            number
            for number, step in enumerate(self.steps, 1)
            if step is not None and self.value >= step * share
        ]
        return Level(max(reached, default=0))


@define
class Overload:
    """
    :ivar level: what is done now.
    :ivar cause: the load that led to it; `None` where there is none.
    """

    level: Level = Level.NORMAL
    cause: Load | None = None
    _busy_at: float = field(default=0.0, init=False)

    def weigh(self, loads: tuple[Load, ...], now: float) -> bool:
        """
        Go by *loads*: up at once, down slowly.

        :returns: whether the level is another one.
        """
        before = self.level
        worst = max(loads, key=Load.level, default=None)
        reached = Level.NORMAL if worst is None else worst.level()
        held = max((one.level(_CALM_SHARE) for one in loads), default=Level.NORMAL)
        if reached > before:
            self.level, self.cause, self._busy_at = reached, worst, now
        elif held >= before:
            self._busy_at = now
        elif not 0 <= now - self._busy_at < CALM_SECONDS:
            self.level, self._busy_at = Level(before - 1), now
        if self.level is Level.NORMAL:
            self.cause = None
        return self.level is not before
