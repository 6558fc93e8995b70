"""
Does one client take more than its part?

:Room: ``policy``
:Called by: `mailhost.intake.reception`; one `ClientTable` for each virtual server.

A client is an IPv4 address, or a /64 network of IPv6; a second table counts whole networks.
A rate is a bucket that holds what one span allows: whoever comes seldom may come with all
of it at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy

from attrs import define, field

from mailhost.model.access import client_place
from mailhost.model.client import ClientLimits
from mailhost.model.rate import Rate
from mailhost.model.reply import Reply
from mailhost.smtp import replies

#: Clients without a connection that are remembered; who was longest away goes first.
MAX_REMEMBERED = 10_000


@define
class _Bucket:
    tokens: float
    at: float

    def level(self, rate: Rate, now: float) -> float:
        return min(rate.count, self.tokens + max(0.0, now - self.at) * rate.per_second)

    def take(self, rate: Rate, now: float) -> bool:
        self.tokens, self.at = self.level(rate, now), now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@define
class _Client:
    """:ivar open: its connections now."""

    open: int = 0
    buckets: dict[str, _Bucket] = field(factory=dict)

    def has(self, what: str, rate: Rate | None, now: float) -> bool:
        """Whether `take` would say yes; a bucket that is not there is full."""
        bucket = self.buckets.get(what)
        return rate is None or bucket is None or bucket.level(rate, now) >= 1

    def take(self, what: str, rate: Rate | None, now: float) -> bool:
        if rate is None:
            return True
        bucket = self.buckets.setdefault(what, _Bucket(rate.count, now))
        return bucket.take(rate, now)


@define(eq=False)
class ClientTable:
    """
    What clients have done of late; what is kept is bounded (promise P7).

    :ivar place: from an address to what counts as one client.
    :ivar whose: what clients are told it is.
    """

    place: Callable[[str], str] = client_place
    whose: str = "address"
    _open: dict[str, _Client] = field(factory=dict, init=False)
    # Those without a connection, who was here last at the end.
    _away: OrderedDict[str, _Client] = field(factory=OrderedDict, init=False)

    def __len__(self) -> int:
        return len(self._open) + len(self._away)

    def copy_of(self, address: str) -> ClientTable:
        """A table that knows the client at *address* and nobody else; this one stays as it is."""
        place, copy = self.place(address), ClientTable(self.place, self.whose)
        if place in self._open:
            copy._open[place] = deepcopy(self._open[place])
        elif place in self._away:
            copy._away[place] = deepcopy(self._away[place])
        return copy

    def enter(self, address: str, limits: ClientLimits, now: float) -> Reply | None:
        """A connection begins; `leave` is due in any case, when it ends."""
        place = self.place(address)
        client = self._open.get(place)
        if client is None:
            client = self._away.pop(place) if place in self._away else _Client()
            self._open[place] = client
        client.open += 1
        if limits.connections is not None and client.open > limits.connections:
            return replies.has_too_many(self.whose)
        if not client.take("connections", limits.connection_rate, now):
            return replies.comes_too_fast(self.whose)
        if not client.has("errors", limits.errors, now):
            return replies.errs_too_much(self.whose)
        return None

    def leave(self, address: str) -> None:
        """A connection that has entered is gone."""
        place = self.place(address)
        client = self._open[place]
        client.open -= 1
        if client.open:
            return
        del self._open[place]
        if client.buckets:
            self._away[place] = client
        if len(self._away) > MAX_REMEMBERED:
            self._away.popitem(last=False)

    def check_message(self, address: str, limits: ClientLimits, now: float) -> Reply | None:
        """One message more."""
        good = self._open[self.place(address)].take("messages", limits.messages, now)
        return None if good else replies.sends_too_much(self.whose, "messages")

    def check_recipient(self, address: str, limits: ClientLimits, now: float) -> Reply | None:
        """One recipient more."""
        good = self._open[self.place(address)].take("recipients", limits.recipients, now)
        return None if good else replies.sends_too_much(self.whose, "recipients")

    def check_error(self, address: str, limits: ClientLimits, now: float) -> Reply | None:
        """One error more."""
        good = self._open[self.place(address)].take("errors", limits.errors, now)
        return None if good else replies.errs_too_much(self.whose)
