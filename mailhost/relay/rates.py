"""
How fast mail may leave: token buckets, and the line before them.

:Room: ``relay``
:Called by: `mailhost.relay.sites`, before a connection is opened and before each transaction;
    one `RateGate` for the virtual server, one for each remote domain with rates.

A bucket holds what falls due in one second, and at least one: mail leaves evenly, not in a
heap at the beginning of each minute.  A transaction with more recipients than the bucket
holds goes when the bucket is full, and what it took too much is waited for afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall

from mailhost.model.rate import Rate, RateLimits
from mailhost.relay.views import Wait

#: Floating seconds since the epoch are no finer than this.
_GRAIN_SECONDS = 1e-6

Admit = Callable[[], None]


@define
class Charge:
    """What something costs."""

    messages: int = 0
    connections: int = 0
    recipients: int = 0


@define(eq=False)
class _Bucket:
    rate: Rate
    tokens: float = field(init=False)
    at: float

    def __attrs_post_init__(self) -> None:
        self.tokens = self.burst

    @property
    def burst(self) -> float:
        return max(1.0, self.rate.per_second)

    def wait_seconds(self, cost: int, now: float) -> float:
        """How long until *cost* is there."""
        self.tokens = min(self.burst, self.tokens + max(0.0, now - self.at) * self.rate.per_second)
        self.at = now
        missing = min(cost, self.burst) - self.tokens
        return missing / self.rate.per_second if missing > _GRAIN_SECONDS else 0.0


@define(eq=False)
class RateGate:
    """
    :ivar clock: runs the timer.
    :ivar setting: where its rates stand: ``delivery.rates``.
    """

    clock: Any
    setting: str
    _buckets: dict[str, _Bucket] = field(factory=dict, init=False)
    # Who waits, in the order of asking, and for what.
    _line: dict[object, tuple[Admit, Charge]] = field(factory=dict, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _turn_of: object = field(default=None, init=False)

    def configure(self, limits: RateLimits) -> None:
        """Go by *limits*; who waits is served by the new ones."""
        now = self.clock.seconds()
        kept = self._buckets
        self._buckets = {}
        for name in ("messages", "connections", "recipients"):
            rate = getattr(limits, name)
            if rate is None:
                continue
            known = kept.get(name)
            self._buckets[name] = known if known and known.rate == rate else _Bucket(rate, now)
        self._stop_timer()
        if self._line:
            self._timer = self.clock.callLater(0, self._open)

    @property
    def is_open(self) -> bool:
        """Whether nothing is limited here."""
        return not self._buckets

    def find_wait(self, who: object, charge: Charge) -> Wait | None:
        """
        Why *who* cannot have *charge* now; `None`: it can.

        Who comes while others wait waits behind them.
        """
        if not self._buckets:
            return None
        now = self.clock.seconds()
        found = self._longest(charge, now)
        if found is not None:
            name, seconds = found
            return self._wait(name, now + seconds)
        if self._line and who is not self._turn_of:
            name = next(iter(self._buckets))
            until = self._timer.getTime() if self._timer is not None else now
            return self._wait(name, until)
        return None

    def take(self, who: object, charge: Charge) -> None:
        """*who*, whom nothing hinders, has *charge*; another turn comes after the others'."""
        for name, bucket in self._buckets.items():
            bucket.tokens -= getattr(charge, name)
        if who is self._turn_of:
            self._turn_of = None

    def give_back(self, charge: Charge) -> None:
        """What was taken was not used."""
        for name, bucket in self._buckets.items():
            bucket.tokens += getattr(charge, name)

    def line_up(self, who: object, admit: Admit, charge: Charge) -> None:
        """Call *admit* once when *charge* can be had; *who* stands in line only once."""
        if who not in self._line:
            self._line[who] = (admit, charge)
        if self._turn_of is None:
            self._set_timer()

    def leave(self, who: object) -> None:
        """*who* wants nothing any more."""
        self._line.pop(who, None)
        if not self._line:
            self._stop_timer()

    # ---- the line

    def _open(self) -> None:
        """Serve those in front whose time has come, each once."""
        self._timer = None
        for _ in range(len(self._line)):
            who, (admit, charge) = next(iter(self._line.items()))
            if self._longest(charge, self.clock.seconds()) is not None:
                break
            del self._line[who]
            self._turn_of = who
            try:
                admit()
            finally:
                self._turn_of = None
            if not self._line:
                return
        self._set_timer()

    def _set_timer(self) -> None:
        if not self._line or self._timer is not None:
            return
        _, charge = next(iter(self._line.values()))
        found = self._longest(charge, self.clock.seconds())
        self._timer = self.clock.callLater(found[1] if found is not None else 0, self._open)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _longest(self, charge: Charge, now: float) -> tuple[str, float] | None:
        """The limit that takes longest to allow *charge*, and how long."""
        longest: tuple[str, float] | None = None
        for name, bucket in self._buckets.items():
            cost = getattr(charge, name)
            seconds = bucket.wait_seconds(cost, now) if cost else 0.0
            if seconds > 0 and (longest is None or seconds > longest[1]):
                longest = name, seconds
        return longest

    def _wait(self, name: str, until: float) -> Wait:
        return Wait(f"{self._buckets[name].rate} {name}", f"{self.setting}.{name}", until)
