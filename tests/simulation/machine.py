"""What a server of a simulated world uses besides its queue: Drop, Badmail and DNS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from mailhost.errors import DirectoryProblem, ResolveProblem
from mailhost.interfaces import IDelivery, INameResolver, IStoredContent, next_block
from mailhost.model.address import Mailbox
from mailhost.model.queue import QueuedMessage
from mailhost.spool.badmail import BadMessage
from tests.simulation.plan import DomainPlan, Plan
from tests.simulation.timeline import LifeReactor, Timeline


@define(eq=False)
class Shelves:
    """
    The directories of mail that has come to its end; they survive.

    :ivar dropped: (life, content, recipients) of each file.
    :ivar bad: (life, queue id, recipients).
    """

    dropped: list[tuple[int, bytes, tuple[str, ...]]] = field(factory=list)
    bad: list[tuple[int, str, tuple[str, ...]]] = field(factory=list)


@implementer(IDelivery)
@define(eq=False)
class Drop:
    """Final delivery of one life."""

    shelves: Shelves
    timeline: Timeline
    reactor: LifeReactor
    strikes: Callable[[str], bool]
    seconds: float
    life: int

    def deliver(
        self, message: QueuedMessage, recipients: Sequence[Mailbox], content: IStoredContent
    ) -> Deferred[None]:
        return Deferred.fromCoroutine(self._deliver([str(one) for one in recipients], content))

    async def _deliver(self, paths: list[str], content: IStoredContent) -> None:
        if self.strikes("drop"):
            raise DirectoryProblem("trouble: drop")
        octets = b""
        while block := await next_block(content):
            octets += block
        await _pass(self.timeline, self.reactor, self.seconds)
        self.shelves.dropped.append((self.life, octets, tuple(paths)))
        await _pass(self.timeline, self.reactor, self.seconds)


@define(eq=False)
class BadmailShelf:
    """Badmail of one life."""

    shelves: Shelves
    timeline: Timeline
    reactor: LifeReactor
    strikes: Callable[[str], bool]
    seconds: float
    life: int

    def store(self, message: BadMessage, content: Any, now: float) -> Deferred[str]:
        return Deferred.fromCoroutine(self._store(message))

    async def _store(self, message: BadMessage) -> str:
        await _pass(self.timeline, self.reactor, self.seconds)
        if self.strikes("badmail"):
            raise DirectoryProblem("trouble: badmail")
        paths = tuple(str(one.forward_path) for one in message.recipients)
        self.shelves.bad.append((self.life, message.queue_id, paths))
        return message.queue_id


def _pass(timeline: Timeline, reactor: LifeReactor, seconds: float) -> Deferred[None]:
    """Fires in *seconds*, if the process lives."""
    if not seconds:
        return succeed(None)
    passed: Deferred[None] = Deferred()
    timeline.callLater(seconds, lambda: None if reactor.dead else passed.callback(None))
    return passed


@implementer(INameResolver)
@define(eq=False)
class Names:
    """
    DNS as one life sees it.

    A trouble of a domain is a time-out, and one of its moments something nobody foresaw.
    """

    plan: Plan
    timeline: Timeline
    reactor: LifeReactor
    in_trouble: Callable[[DomainPlan], bool]
    draw: Callable[[], float]
    _domains: dict[str, DomainPlan] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._domains = {one.name: one for one in self.plan.domains}

    def mail_exchanges(self, domain: str) -> Any:
        plan = self._domains.get(domain)
        if plan is None or plan.kind == "nxdomain":
            raise ResolveProblem("5.1.2", f"{domain} does not exist")
        found: list[tuple[int, str]] = list(plan.exchanges)
        if plan.kind == "null mx":
            found = [(0, "")]
        return self._answer(plan, found)

    def addresses(self, host: str) -> Any:
        found = self.plan.host_addresses.get(host, ())
        plan = self._domains.get(host)
        return self._answer(plan, list(found)) if plan is not None else list(found)

    def names(self, address: str) -> Any:
        return []

    def _answer(self, plan: DomainPlan, found: list[Any]) -> Any:
        problem: Exception | None = None
        if self.in_trouble(plan):
            problem = ResolveProblem("4.4.3", f"no answer about {plan.name}")
            if self.draw() < 0.1:
                problem = RuntimeError(f"nobody has foreseen this about {plan.name}")
        if not plan.latency_seconds or self.draw() < 0.5:
            if problem is not None:
                raise problem
            return found
        return _pass(self.timeline, self.reactor, plan.latency_seconds).addCallback(
            lambda nothing: found if problem is None else fail(problem)
        )
