"""
Answers kept for as long as their owners allow.

:Room: ``relay.dns``
:RFC: 1035 §3.2.1 (TTL), 2308 §5, §7 (negative answers, dead servers), 9520 (failures).
:Called by: `mailhost.relay.dns.resolver`.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import define, field

from mailhost.relay.dns.messages import Answer, Question, Verdict

#: A zone that asks for more is asked again after a day (RFC 8767 §4 caps at days
#: to weeks; a mail host that has moved should be found sooner).
MAX_POSITIVE_SECONDS = 86_400
#: RFC 2308 §5 finds one to three hours sensible for a resolver.  A quarter of an hour
#: is the first retry interval: a domain just created should not wait longer.
MAX_NEGATIVE_SECONDS = 900
#: RFC 9520 §3.2: at least one second, at most five minutes; RFC 2308 §7 agrees.
FAILURE_SECONDS = 5


def lifetime_seconds(answer: Answer) -> int:
    """How long *answer* may be given again; 0 for not at all."""
    if answer.verdict in (Verdict.FAILED, Verdict.SILENT, Verdict.ENDLESS):
        return FAILURE_SECONDS
    if answer.records:
        return min(answer.ttl_seconds, MAX_POSITIVE_SECONDS)
    return min(answer.ttl_seconds, MAX_NEGATIVE_SECONDS)


@define(eq=False)
class AnswerCache:
    """
    At most *capacity* answers; the one not asked for longest goes first.

    :ivar capacity: at least 1.
    :ivar hits: questions that were answered from it.
    :ivar misses: questions that were not.
    """

    capacity: int
    hits: int = field(default=0, init=False)
    misses: int = field(default=0, init=False)
    # From when until when it holds: a clock that was set back makes no answer last longer.
    _kept: OrderedDict[Question, tuple[float, float, Answer]] = field(
        factory=OrderedDict, init=False
    )

    def find(self, question: Question, now: float) -> Answer | None:
        """The answer to *question* if it still holds at *now*, in seconds."""
        entry = self._kept.get(question)
        if entry is None:
            self.misses += 1
            return None
        if not entry[0] <= now < entry[1]:
            self.misses += 1
            del self._kept[question]
            return None
        self.hits += 1
        self._kept.move_to_end(question)
        return entry[2]

    def keep(self, answer: Answer, now: float) -> None:
        """Remember *answer*, if it may be."""
        lifetime = lifetime_seconds(answer)
        if lifetime <= 0:
            return
        self._kept[answer.question] = (now, now + lifetime, answer)
        self._kept.move_to_end(answer.question)
        if len(self._kept) > self.capacity:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)
