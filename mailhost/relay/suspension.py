"""
Sites that take no connection, and when each is asked again.

:Room: ``relay``
:RFC: 5321 §4.5.4.1 (a host that cannot be reached is not tried for every message).
:Called by: `mailhost.relay.sites` (what it finds out), `mailhost.relay.manager` (what is due
    for such a site).

A site is *suspended* until a time.  Then one connection asks; if it fails the next
suspension is twice as long.  A site that was suspended lately begins with one connection,
and its past is forgotten when it is trusted with as many as an unknown one.
"""

from __future__ import annotations

from random import Random

from attrs import define, evolve, field

from mailhost.model.outcome import Fate, Outcome
from mailhost.relay.views import Wait, clock_words

#: Sites remembered at once; the one that was suspended longest ago goes first.
MAX_REMEMBERED = 10_000
#: Mail that was sent back comes again at this pace once the suspension is over.
RESUMED_PER_SECOND = 500.0
#: Up to this part of the time is taken off by chance, so that sites do not end together.
_JITTER = 0.1


@define(eq=False)
class Suspension:
    """
    :ivar until: nothing is tried before; in the past: the site is being tried out.
    :ivar strikes: suspensions in a row.
    :ivar problem: the last connection's outcome.
    :ivar postponed: messages sent back to the store because of it.
    """

    until: float
    strikes: int
    problem: Outcome
    postponed: int = 0
    _last_due_at: float = 0.0

    def next_due_at(self) -> float:
        """When one more message that cannot go now is to come again."""
        self.postponed += 1
        self._last_due_at = max(self._last_due_at + 1 / RESUMED_PER_SECOND, self.until)
        return self._last_due_at

    def outcome(self) -> Outcome:
        """What it means for a recipient who would have been tried now."""
        words = f"{self.problem.words}; no attempt before {clock_words(self.until)}"
        return evolve(self.problem, fate=Fate.DELAYED, words=words, spoken=False, in_doubt=False)

    def wait(self) -> Wait:
        """The same for people."""
        reason = f"suspended after {self.strikes} failed rounds: {self.problem.words}"
        return Wait(reason, "delivery.suspension", self.until)


@define(eq=False)
class Suspensions:
    """
    :ivar shortest_seconds: the first suspension.
    :ivar longest_seconds: none is longer; so long afterwards it is remembered.
    :ivar random: chance.
    """

    shortest_seconds: float
    longest_seconds: float
    random: Random
    # In the order of their latest suspension.
    _known: dict[str, Suspension] = field(factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._known)

    def find(self, key: str) -> Suspension | None:
        """What is remembered of the site *key*, in force or not."""
        return self._known.get(key)

    def in_force(self, key: str, now: float) -> Suspension | None:
        """The suspension that forbids an attempt at *now*."""
        if not self._known:
            return None
        known = self._known.get(key)
        return known if known is not None and self._holds(known, now) else None

    def all_in_force(self, now: float) -> dict[str, Suspension]:
        """Those that forbid attempts at *now*, by site."""
        return {key: one for key, one in self._known.items() if self._holds(one, now)}

    def _holds(self, known: Suspension, now: float) -> bool:
        # Longer than any: the clock was set back meanwhile.
        return now < known.until <= now + self.longest_seconds

    def suspend(self, key: str, problem: Outcome, now: float) -> Suspension:
        """The site *key* is dead; *problem* is why."""
        earlier = self._known.pop(key, None)
        strikes = earlier.strikes + 1 if earlier is not None else 1
        # Beyond 2^30 every operator's limit is reached.
        wait = min(self.shortest_seconds * 2 ** min(strikes - 1, 30), self.longest_seconds)
        wait *= 1 - _JITTER * self.random.random()
        known = Suspension(now + wait, strikes, problem)
        if earlier is not None:
            known.postponed = earlier.postponed
        self._known[key] = known
        self._forget(now)
        return known

    def lift(self, key: str) -> None:
        """The site *key* is as good as any other."""
        self._known.pop(key, None)

    def _forget(self, now: float) -> None:
        while len(self._known) > 1:
            key, oldest = next(iter(self._known.items()))
            old = oldest.until + self.longest_seconds < now
            if not old and len(self._known) <= MAX_REMEMBERED:
                return
            del self._known[key]
