"""
All sites of one virtual server: who may wait in memory, who goes back to the store.

:Room: ``relay``
:Called by: `mailhost.relay.manager`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from random import Random
from typing import Any

from attrs import define, field
from twisted.logger import Logger

from mailhost.interfaces import IQueueStore
from mailhost.model.outcome import Outcome
from mailhost.model.queue import QueuedRecipient
from mailhost.model.schedule import RetrySchedule
from mailhost.relay.active import ActiveMessage, ActiveWindow
from mailhost.relay.gates import Gates
from mailhost.relay.job import Destination, Job
from mailhost.relay.line import Line
from mailhost.relay.outcomes import still_in_doubt
from mailhost.relay.postponing import Overflow, Postponer, bounded, must_be_tried
from mailhost.relay.sites import Common, SiteQueue
from mailhost.relay.slots import SiteSlots
from mailhost.relay.suspension import Suspension, Suspensions
from mailhost.relay.terms import Terms
from mailhost.relay.views import SiteView, Wait

Settle = Callable[[ActiveMessage, Sequence[QueuedRecipient], Sequence[Outcome]], None]


@define(eq=False)
class SiteTable:
    """
    :ivar line: opens sessions.
    :ivar store: has the contents.
    :ivar terms: what the operator allows.
    :ivar slots: connections of all sites together, as the site of this key sees them.
    :ivar window: how much may be in memory.
    :ivar postponer: sends mail back to the store.
    :ivar settled: told what became of some recipients: one job of their message.
    :ivar job_done: told that a job is over.
    :ivar random: chance.
    :ivar gates: the rates that hold for them, and perhaps for other queues' sites as well.
    :ivar queues: sites that have mail or connections, by key.
    """

    line: Line
    store: IQueueStore
    terms: Terms
    slots: Callable[[str], SiteSlots]
    window: ActiveWindow
    postponer: Postponer
    settled: Settle
    job_done: Callable[[ActiveMessage], None]
    random: Random
    gates: Gates
    queues: dict[str, SiteQueue] = field(factory=dict, init=False)
    suspensions: Suspensions = field(init=False)
    _common: Common = field(init=False)
    _stopping: bool = field(default=False, init=False)

    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self.suspensions = Suspensions(*self.terms.suspension_seconds, self.random)
        self._common = Common(
            self.slots,
            self.suspensions,
            self.gates,
            self._job_settled,
            self._job_split,
            self._job_held_back,
        )
        self.configure(self.terms)

    @property
    def _clock(self) -> Any:
        return self.line.reactor

    def configure(self, terms: Terms) -> None:
        """Go by *terms* from now on."""
        self.terms = terms
        shortest, longest = terms.suspension_seconds
        self.suspensions.shortest_seconds = shortest
        self.suspensions.longest_seconds = longest
        self.gates.configure(terms)
        for site in list(self.queues.values()):
            site.configure(terms)

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopping = True
        for site in list(self.queues.values()):
            site.stop()

    def drop(self) -> None:
        """Close every connection now."""
        for site in list(self.queues.values()):
            site.drop()

    # ---- mail for a site

    def queue(
        self, active: ActiveMessage, destination: Destination, recipients: list[QueuedRecipient]
    ) -> None:
        """
        One job, or several where the recipients are too many for one transaction.

        Mail for a site that is suspended, or has its share of the active window, goes back to
        the store; except that which was sent back before its sender had to hear of it.
        """
        if self._stopping:
            return
        known = self.suspensions.in_force(destination.key, self._clock.seconds())
        if known is not None and active.insists:
            known.until = self._clock.seconds()
        elif known is not None:
            self._hold_back(active, recipients, known)
            return
        site = self.queues.get(destination.key)
        if site is not None and site.waiting.message_count >= self.window.share:
            site.tell_full()
            recipients = self.send_back(
                active,
                recipients,
                site.overflow,
                len(site.waiting),
                site.pace.per_second(self._clock.seconds()),
                self.terms.outbound,
            )
        if recipients:
            self._add(active, destination, recipients)

    def _add(
        self, active: ActiveMessage, destination: Destination, recipients: list[QueuedRecipient]
    ) -> None:
        site = self._site(destination)
        step = min(
            self.terms.max_recipients or len(recipients),
            site.peer_limits.recipients or len(recipients),
        )
        for start in range(0, len(recipients), step):
            active.jobs += 1
            job = Job(active.message, recipients[start : start + step], destination)
            self._site(destination).add(job)

    def _site(self, destination: Destination) -> SiteQueue:
        site = self.queues.get(destination.key)
        if site is None:
            site = self.queues[destination.key] = SiteQueue(
                destination, self.line, self.store, self.terms, self._common, self._empty
            )
        return site

    def _empty(self, site: SiteQueue) -> None:
        if self.queues.get(site.key) is site:
            del self.queues[site.key]

    def take_back(self, active: ActiveMessage, wanted: Set[int]) -> list[QueuedRecipient]:
        """
        Those of the recipients *wanted*, by number, who wait for a connection to some site.

        They do not any longer; who takes them has to end the job that they are now.
        """
        taken: list[QueuedRecipient] = []
        for site in list(self.queues.values()):
            taken += site.take_back(active, wanted)
        return taken

    # ---- back to the store

    def send_back(
        self,
        active: ActiveMessage,
        recipients: list[QueuedRecipient],
        overflow: Overflow,
        waiting: int,
        per_second: float,
        schedule: RetrySchedule,
    ) -> list[QueuedRecipient]:
        """
        Recipients that find no room are due again when there should be some.

        :returns: those whose sender has to hear something now: they are let in.
        """
        now = self._clock.seconds()
        message = active.message
        let_in = [r for r in recipients if must_be_tried(message, r, schedule, now)]
        rest = [r for r in recipients if r not in let_in] if let_in else recipients
        if rest:
            due_at = overflow.next_due_at(waiting, per_second, now)
            notified = all(r.notified for r in rest)
            self.postponer.add(active, rest, bounded(due_at, message, notified, schedule), "", "")
        return let_in

    def _hold_back(
        self, active: ActiveMessage, recipients: Sequence[QueuedRecipient], known: Suspension
    ) -> None:
        """The site is suspended."""
        self.put_off(active, recipients, known.outcome(), known.next_due_at)

    def put_off(
        self,
        active: ActiveMessage,
        recipients: Sequence[QueuedRecipient],
        outcome: Outcome,
        due_at: Callable[[], float],
    ) -> None:
        """
        Nobody is tried, and who has to hear of it does.

        :param outcome: what they hear.
        :param due_at: until when it is put off, if it is.
        """
        now = self._clock.seconds()
        message, schedule = active.message, self.terms.outbound
        told = [r for r in recipients if must_be_tried(message, r, schedule, now)]
        if told:
            active.jobs += 1
            self.settled(active, told, [outcome] * len(told))
        rest = [r for r in recipients if r not in told] if told else recipients
        if rest:
            if any(r.in_doubt for r in rest):
                outcome = still_in_doubt(outcome)
            notified = all(r.notified for r in rest)
            next_at = bounded(due_at(), message, notified, schedule)
            self._log.debug(
                "{id}: {count} recipients wait: {words}",
                id=message.queue_id,
                count=len(rest),
                words=outcome.words,
            )
            self.postponer.add(active, rest, next_at, outcome.status, outcome.words)

    # ---- what sites report

    def _job_settled(self, job: Job, outcomes: Sequence[Outcome]) -> None:
        active = self.window.find(job.message.key)
        if active is not None:
            self.settled(active, job.recipients, outcomes)

    def _job_split(self, job: Job, rest: Job) -> None:
        active = self.window.find(job.message.key)
        if active is not None:
            active.jobs += 1

    def _job_held_back(self, job: Job, known: Suspension) -> None:
        active = self.window.find(job.message.key)
        if active is not None:
            self._hold_back(active, job.recipients, known)
            self.job_done(active)

    # ---- what it tells

    def views(self, now: float) -> tuple[SiteView, ...]:
        """Every site that has mail or connections, or is suspended."""
        found = [site.view(now) for site in self.queues.values()]
        found += [
            _remembered(key, known)
            for key, known in self.suspensions.all_in_force(now).items()
            if key not in self.queues
        ]
        return tuple(sorted(found, key=lambda view: view.key))


def _remembered(key: str, known: Suspension) -> SiteView:
    """A suspended site without mail in memory."""
    waits: tuple[Wait, ...] = (known.wait(),)
    return SiteView(
        key, (), 0, 0, 0, 0, known.postponed, 0.0, known.until, known.problem.words, waits
    )
