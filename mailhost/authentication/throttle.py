"""
Guessing passwords has to cost time, and must not cost others theirs.

:Room: ``authentication``
:RFC: 4954 §4, §9 (guessing); attacks.md A17.
:Called by: `mailhost.authentication.exchange`.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import define, field

from mailhost.model.access import client_place

#: So many failures from one address within `WINDOW_SECONDS`, and it is not heard.
MAX_PER_ADDRESS = 10
#: So many for one name: for all but addresses from which it has logged in.
MAX_PER_NAME = 30
#: Failures are forgotten after so long without a further one; so is a ban.
WINDOW_SECONDS = 600.0
#: The reply to a failure waits 1 s, then twice as long each time, up to this.
MAX_DELAY_SECONDS = 8.0
#: Addresses, names, and good pairs of both that are remembered; the oldest go first.
MAX_REMEMBERED = 10_000


@define
class _Count:
    failures: int = 0
    last_at: float = 0.0


@define
class _Counts:
    """Failures by a key, as long as they matter."""

    _known: OrderedDict[str, _Count] = field(factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._known)

    def failures(self, key: str, now: float) -> int:
        count = self._known.get(key)
        if count is None:
            return 0
        if now - count.last_at >= WINDOW_SECONDS:
            del self._known[key]
            return 0
        return count.failures

    def add(self, key: str, now: float) -> int:
        failures = self.failures(key, now) + 1
        self._known[key] = _Count(failures, now)
        self._known.move_to_end(key)
        while len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
        return failures

    def forget(self, key: str) -> None:
        self._known.pop(key, None)


@define
class Throttle:
    """Counts failed logins of one virtual server; what it keeps is bounded."""

    _addresses: _Counts = field(factory=_Counts, init=False)
    _names: _Counts = field(factory=_Counts, init=False)
    # Pairs of address and name that have logged in: a stranger who guesses must not
    # keep the owner out.
    _good: OrderedDict[tuple[str, str], None] = field(factory=OrderedDict, init=False)

    def is_banned(self, address: str, now: float) -> bool:
        """Whether *address* is not heard now."""
        return self._addresses.failures(client_place(address), now) >= MAX_PER_ADDRESS

    def is_name_banned(self, address: str, name: str, now: float) -> bool:
        """Whether *address* may not log in as *name* now, whatever the password."""
        if self._names.failures(name, now) < MAX_PER_NAME:
            return False
        return (client_place(address), name) not in self._good

    def failed(self, address: str, name: str, now: float) -> float:
        """
        Count a failure.

        :returns: seconds that the reply has to wait.
        """
        if name:
            self._names.add(name, now)
        failures = self._addresses.add(client_place(address), now)
        return min(2.0 ** (failures - 1), MAX_DELAY_SECONDS)

    def succeeded(self, address: str, name: str) -> None:
        """Forget the failures of *address*: its owner has mistyped."""
        place = client_place(address)
        self._addresses.forget(place)
        self._good[place, name] = None
        self._good.move_to_end((place, name))
        while len(self._good) > MAX_REMEMBERED:
            self._good.popitem(last=False)
