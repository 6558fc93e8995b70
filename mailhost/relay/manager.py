"""
The relay: due mail to ready queues, attempts to outcomes, outcomes to the store.

:Room: ``relay``
:RFC: 5321 §4.5.4; promises P2-P4, P7.
:Called by: `mailhost.server`; by embedding applications; `accept` by intake.

A message is *active* from the moment a recipient of it is due until each of
those recipients has an outcome on stable storage.  Active messages are in
memory, at most `MAX_ACTIVE`; everything else waits in the store, which is asked
when something is known to be due.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, cast

from attrs import define
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.mail.relaymanager import SmartHostESMTPRelayingManager
from twisted.python.failure import Failure

from mailhost.errors import ContentDamaged, MailhostError, ResolveProblem
from mailhost.interfaces import IDelivery, IQueueStore, open_stored
from mailhost.model.outcome import Fate, Outcome
from mailhost.model.queue import QueuedMessage, QueuedRecipient, Result, Submission
from mailhost.model.route import Drop, MailExchange, NextHop, NoRoute, Route, SmartHosts
from mailhost.model.schedule import RetrySchedule
from mailhost.relay.job import Destination, Job
from mailhost.relay.line import Line
from mailhost.relay.mail_exchange import MailExchangeResolver, Site
from mailhost.relay.outcomes import STUMBLED, damaged, unresolved
from mailhost.relay.settlement import Settlement, Verdict, judge
from mailhost.relay.sites import SiteQueue
from mailhost.relay.slots import Slots
from mailhost.relay.terms import Terms
from mailhost.spool.badmail import Badmail

#: Messages in memory at once.
MAX_ACTIVE = 20_000
_LOAD_AT_ONCE = 1000
#: Files being written into Drop at once.
_LOCAL_AT_ONCE = 8
#: A store that could not record an outcome is asked again after so long.
_RECORD_AGAIN_SECONDS = 5.0
#: At most so long the store is not asked for due mail.
_LONGEST_SLEEP_SECONDS = 300.0


@define(eq=False)
class _Active:
    """A message in work: how many of its jobs have no outcome yet."""

    message: QueuedMessage
    jobs: int = 0


class RelayManager(SmartHostESMTPRelayingManager):
    """
    Delivers what is in a queue.

    It stands where Twisted's relaying manager stood and keeps its public face:
    `queue`, `mxcalc`, `maxConnections`, `maxMessagesPerConnection`, `managed`,
    and `checkState`, which ``RelayStateHelper`` may poll as a safety net.

    :param queue: where the mail is.
    :param mxcalc: finds hosts.
    :param reactor: connects and tells the time; the global one is never used.
    :param terms: names, limits, schedules.
    :param delivery: final delivery; `None` where no domain is local.
    :param badmail: takes reports that cannot be delivered.
    """

    _log = Logger()

    def __init__(
        self,
        queue: IQueueStore,
        mxcalc: MailExchangeResolver,
        reactor: Any,
        terms: Terms,
        delivery: IDelivery | None = None,
        badmail: Badmail | None = None,
    ) -> None:
        super().__init__(queue)  # type: ignore[no-untyped-call]  # upstream has no annotations
        self.mxcalc = self._exchanges = mxcalc
        self._reactor = reactor
        self._delivery = delivery
        self._terms = terms
        self._slots = Slots(terms.max_connections)
        self._settlement = Settlement(queue, terms, badmail)
        self._line = Line(reactor, mxcalc, terms.fqdn)
        self._sites: dict[str, SiteQueue] = {}
        self._active: dict[int, _Active] = {}
        self._local: deque[tuple[_Active, list[QueuedRecipient]]] = deque()
        self._local_count = 0
        self._under_way: set[Deferred[Any]] = set()
        self._again: set[IDelayedCall] = set()
        self._lookups: set[Deferred[Any]] = set()
        self._loading = False
        # Done with while the store was being asked: its answer may still name them.
        self._done_meanwhile: set[int] = set()
        self._backlog = False
        self._stopping = False
        self._timer: IDelayedCall | None = None
        self.configure(terms)

    def configure(self, terms: Terms, mxcalc: MailExchangeResolver | None = None) -> None:
        """
        Go by *terms* from now on, for mail that is queued already too.

        :param mxcalc: finds hosts from now on; `None`: the one there is.
        """
        if mxcalc is not None:
            self.mxcalc = self._exchanges = self._line.exchanges = mxcalc
        self._terms = terms
        self._settlement.terms = terms
        self._slots.limit = terms.max_connections
        self._slots.wake_next()
        line = self._line
        line.hello_name, line.port = terms.fqdn, terms.port
        line.timeout_seconds, line.source_address = terms.timeout_seconds, terms.source_address
        for site in self._sites.values():
            site.terms = terms
        self.maxConnections = terms.max_connections
        self.maxMessagesPerConnection = terms.max_messages

    @property
    def managed(self) -> dict[str, list[str]]:
        """What waits for or is on a connection: site -> queue ids."""
        return {
            key: [job.message.queue_id for job in site.waiting] for key, site in self._sites.items()
        }

    @managed.setter
    def managed(self, value: object) -> None:
        """Upstream's constructor sets an empty one; ours is always computed."""

    # ---- life

    def start(self) -> None:
        """Begin with what is due."""
        self.checkState()

    def checkState(self) -> None:
        """Look for due mail now; harmless at any time."""
        self._load()

    def stop(self, grace_seconds: float = 30.0) -> Deferred[None]:
        """
        Begin nothing new and let what is under way come to its end.

        :param grace_seconds: then connections are dropped; their messages stay
            queued.
        :returns: fires when nothing is under way.
        """
        self._stopping = True
        self._sleep(None)
        self._local.clear()
        for later in self._again:
            if later.active():
                later.cancel()
        for finding in list(self._lookups):
            finding.cancel()
        for site in list(self._sites.values()):
            site.stop()
        dropping = self._reactor.callLater(grace_seconds, self._drop_connections)
        return Deferred.fromCoroutine(self._drain(dropping))

    async def _drain(self, dropping: IDelayedCall) -> None:
        while self._under_way or self._sites:
            await DeferredList([_echo(one) for one in self._under_way] or [self._pause()])
        if dropping.active():
            dropping.cancel()

    def _pause(self) -> Deferred[None]:
        waiting: Deferred[None] = Deferred()
        self._reactor.callLater(0.05, waiting.callback, None)
        return waiting

    def _drop_connections(self) -> None:
        for site in list(self._sites.values()):
            site.drop()

    # ---- due mail

    def accept(self, message: QueuedMessage) -> None:
        """Attempt what is due of *message*, which is in the store."""
        if self._stopping or message.key in self._active:
            return
        if len(self._active) >= MAX_ACTIVE:
            self._backlog = True
            return
        active = _Active(message)
        self._active[message.key] = active
        self._dispatch(active, self._reactor.seconds())

    def _load(self) -> None:
        room = min(_LOAD_AT_ONCE, MAX_ACTIVE - len(self._active))
        if room <= 0:
            self._backlog = True
        if self._loading or self._stopping or room <= 0:
            return
        self._loading = True
        self._backlog = False
        self._done_meanwhile.clear()
        self._follow(self._load_due(room))

    async def _load_due(self, room: int) -> None:
        try:
            now = self._reactor.seconds()
            # A message accepted at this very instant is due as well.
            due = await self.queue.load_due(now + 0.001, room, frozenset(self._active))
            more = len(due) >= room
            for message in due:
                if message.key not in self._done_meanwhile:
                    self.accept(message)
            self._wake_at(await self.queue.next_due_at(now + 0.001))
        except MailhostError as problem:
            self._log.error("The queue cannot be read now: {problem}", problem=str(problem))
            self._wake_at(self._reactor.seconds() + _RECORD_AGAIN_SECONDS)
            more = False
        finally:
            self._loading = False
        if more:
            self._load()

    def _wake_at(self, at: float | None) -> None:
        """Look for due mail at *at*, or earlier if that is planned already."""
        now = self._reactor.seconds()
        wait = _LONGEST_SLEEP_SECONDS if at is None else min(at - now, _LONGEST_SLEEP_SECONDS)
        timer = self._timer
        if timer is not None and timer.active() and timer.getTime() <= now + wait:
            return
        self._sleep(max(wait, 0.0))

    def _sleep(self, seconds: float | None) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        if seconds is not None and not self._stopping:
            self._timer = self._reactor.callLater(seconds, self._load)

    # ---- to the ready queues

    def _dispatch(self, active: _Active, now: float) -> None:
        active.jobs += 1  # so that it is not over before all of it has begun
        routes: dict[Route, list[QueuedRecipient]] = {}
        for recipient in active.message.recipients.values():
            if recipient.due_at <= now + 0.001:
                route = self._terms.categorizer.route(recipient.forward_path)
                routes.setdefault(route, []).append(recipient)
        sites: dict[str, tuple[Destination, list[QueuedRecipient]]] = {}
        for route, recipients in routes.items():
            self._follow_route(active, route, recipients, sites)
        for destination, recipients in sites.values():
            self._queue(active, destination, recipients)
        self._job_done(active)

    def _follow_route(
        self,
        active: _Active,
        route: Route,
        recipients: list[QueuedRecipient],
        sites: dict[str, tuple[Destination, list[QueuedRecipient]]],
    ) -> None:
        if isinstance(route, Drop):
            active.jobs += 1
            self._local.append((active, recipients))
            self._deliver_next()
        elif isinstance(route, NoRoute):
            active.jobs += 1
            outcome = Outcome(Fate.FAILED, route.status, route.words)
            self._settled(active, recipients, [outcome] * len(recipients), self._terms.outbound)
        elif isinstance(route, SmartHosts):
            _join(sites, _smart_destination(route), recipients)
        else:
            found = self._find_site(route)
            if isinstance(found, Deferred):
                active.jobs += 1
                self._lookups.add(found)
                self._follow(self._queue_later(active, found, route, recipients))
            else:
                self._site_found(active, found, route, recipients, sites)

    def _find_site(self, route: MailExchange) -> Site | ResolveProblem | Deferred[Site]:
        try:
            return cast("Site | Deferred[Site]", self._exchanges.site(route.domain))
        except ResolveProblem as problem:
            return problem

    def _site_found(
        self,
        active: _Active,
        found: Site | ResolveProblem,
        route: MailExchange,
        recipients: list[QueuedRecipient],
        sites: dict[str, tuple[Destination, list[QueuedRecipient]]],
    ) -> None:
        destination = _site_destination(found, route)
        if destination is not None:
            _join(sites, destination, recipients)
            return
        active.jobs += 1
        outcome = unresolved(cast("ResolveProblem", found))
        self._settled(active, recipients, [outcome] * len(recipients), self._terms.outbound)

    async def _queue_later(
        self,
        active: _Active,
        finding: Deferred[Site],
        route: MailExchange,
        recipients: list[QueuedRecipient],
    ) -> None:
        found: Site | ResolveProblem
        try:
            found = await finding
        except ResolveProblem as problem:
            found = problem
        except CancelledError:
            return  # the relay stops; the message waits in the store
        finally:
            self._lookups.discard(finding)
        sites: dict[str, tuple[Destination, list[QueuedRecipient]]] = {}
        self._site_found(active, found, route, recipients, sites)
        for destination, served in sites.values():
            self._queue(active, destination, served)
        self._job_done(active)

    def _queue(
        self, active: _Active, destination: Destination, recipients: list[QueuedRecipient]
    ) -> None:
        """One job, or several where the recipients are too many for one transaction."""
        if self._stopping:
            return
        step = self._terms.max_recipients or len(recipients)
        for start in range(0, len(recipients), step):
            active.jobs += 1
            job = Job(active.message, recipients[start : start + step], destination)
            self._site(destination).add(job)

    def _site(self, destination: Destination) -> SiteQueue:
        site = self._sites.get(destination.key)
        if site is None:
            site = self._sites[destination.key] = SiteQueue(
                destination,
                self._line,
                self.queue,
                self._terms,
                self._slots,
                self._job_settled,
                self._job_split,
                lambda: self._site_empty(destination.key),
            )
        return site

    def _site_empty(self, key: str) -> None:
        self._sites.pop(key, None)

    # ---- final delivery

    def _deliver_next(self) -> None:
        while self._local and self._local_count < _LOCAL_AT_ONCE:
            active, recipients = self._local.popleft()
            self._local_count += 1
            self._follow(self._deliver(active, recipients))

    async def _deliver(self, active: _Active, recipients: list[QueuedRecipient]) -> None:
        try:
            outcome = await self._drop(active.message, recipients)
        except Exception:
            self._log.failure("Final delivery has stumbled")
            outcome = STUMBLED
        self._local_count -= 1
        self._settled(active, recipients, [outcome] * len(recipients), self._terms.local)
        self._deliver_next()

    async def _drop(self, message: QueuedMessage, recipients: list[QueuedRecipient]) -> Outcome:
        if self._delivery is None:
            return Outcome(Fate.FAILED, "5.3.5", "no final delivery is configured here")
        try:
            content = await open_stored(self.queue, message)
            await self._delivery.deliver(message, [r.forward_path for r in recipients], content)
        except ContentDamaged as problem:
            return await damaged(self.queue, message, problem)
        except MailhostError as problem:
            return Outcome(Fate.DELAYED, "4.3.0", str(problem))
        return Outcome(Fate.DELIVERED, "2.0.0", "delivered to Drop")

    # ---- outcomes

    def _job_settled(self, job: Job, outcomes: Sequence[Outcome]) -> None:
        active = self._active.get(job.message.key)
        if active is not None:
            self._settled(active, job.recipients, outcomes, self._terms.outbound)

    def _job_split(self, job: Job, rest: Job) -> None:
        active = self._active.get(job.message.key)
        if active is not None:
            active.jobs += 1

    def _settled(
        self,
        active: _Active,
        recipients: Sequence[QueuedRecipient],
        outcomes: Sequence[Outcome],
        schedule: RetrySchedule,
    ) -> None:
        now = self._reactor.seconds()
        verdict = judge(active.message, recipients, outcomes, schedule, now)
        self._tell(active.message, recipients, verdict)
        if verdict.failed or verdict.delayed:
            self._follow(self._report(active, verdict, schedule, now))
        else:
            self._record(active, verdict.results, (), now)

    def _tell(
        self, message: QueuedMessage, recipients: Sequence[QueuedRecipient], verdict: Verdict
    ) -> None:
        for recipient, result in zip(recipients, verdict.results, strict=True):
            self._log.info(
                "{id}: to={path} {fate} {status}{doubt}: {words}",
                id=message.queue_id,
                path=str(recipient.forward_path),
                fate=result.outcome.fate.value,
                status=result.outcome.status,
                doubt=" (in doubt)" if result.outcome.in_doubt else "",
                words=result.outcome.words,
            )

    async def _report(
        self, active: _Active, verdict: Verdict, schedule: RetrySchedule, now: float
    ) -> None:
        try:
            reports: Sequence[Submission] = await self._settlement.reports(
                active.message, verdict, now
            )
            results = verdict.results
        except MailhostError as problem:
            # Who cannot be told now is told later: the failure is not recorded.
            self._log.error(
                "{id}: nobody can be told now: {problem}",
                id=active.message.queue_id,
                problem=str(problem),
            )
            reports = ()
            results = _postponed(verdict.results, problem, now + schedule.intervals[-1])
        self._record(active, results, reports, now)

    def _record(
        self,
        active: _Active,
        results: Sequence[Result],
        reports: Sequence[Submission],
        now: float,
    ) -> None:
        """Durable before anything follows; asked again until the store can."""
        self._again = {later for later in self._again if later.active()}
        recorded = self.queue.record(active.message, results, reports, now)
        assert isinstance(recorded, Deferred)
        self._under_way.add(recorded)
        recorded.addCallbacks(
            self._recorded,
            self._not_recorded,
            callbackArgs=(recorded, active),
            errbackArgs=(recorded, active, results, reports, now),
        )

    def _recorded(
        self, made: list[QueuedMessage], recorded: Deferred[Any], active: _Active
    ) -> None:
        self._under_way.discard(recorded)
        for report in made:
            self._log.info(
                "{report}: report about {id}", report=report.queue_id, id=active.message.queue_id
            )
            self.accept(report)
        self._job_done(active)

    def _not_recorded(
        self,
        failure: Failure,
        recorded: Deferred[Any],
        active: _Active,
        results: Sequence[Result],
        reports: Sequence[Submission],
        now: float,
    ) -> None:
        self._under_way.discard(recorded)
        self._log.error(
            "{id}: outcomes cannot be recorded now: {problem}",
            id=active.message.queue_id,
            problem=failure.getErrorMessage(),
        )
        if self._stopping:
            return  # the store has the message as it was before the attempt
        self._again.add(
            self._reactor.callLater(
                _RECORD_AGAIN_SECONDS, self._record, active, results, reports, now
            )
        )

    def _job_done(self, active: _Active) -> None:
        active.jobs -= 1
        if active.jobs:
            return
        message = active.message
        del self._active[message.key]
        if self._loading:
            self._done_meanwhile.add(message.key)
        if message.recipients:
            self._wake_at(min(r.due_at for r in message.recipients.values()))
        if self._backlog and len(self._active) < MAX_ACTIVE // 2:
            self._load()

    # ---- helpers

    def _follow(self, work: Any) -> None:
        """Run a coroutine that nobody waits for but `stop`."""
        running: Deferred[Any] = Deferred.fromCoroutine(work)
        self._under_way.add(running)

        def over(result: Any) -> None:
            self._under_way.discard(running)
            if isinstance(result, Failure):
                self._log.failure("The relay has stumbled", result)

        running.addBoth(over)


def _join(
    sites: dict[str, tuple[Destination, list[QueuedRecipient]]],
    destination: Destination,
    recipients: list[QueuedRecipient],
) -> None:
    """Recipients of several domains at one site share a transaction."""
    known = sites.setdefault(destination.key, (destination, []))
    known[1].extend(recipients)


def _smart_destination(route: SmartHosts) -> Destination:
    key = "smart:" + ",".join(map(str, route.hosts)) + (":helo" if route.helo else "")
    return Destination(key, route.hosts, route.helo)


def _site_destination(found: Site | ResolveProblem, route: MailExchange) -> Destination | None:
    """The hosts of a site, and the smart hosts behind them (IIS DEL-44)."""
    behind = route.otherwise
    if isinstance(found, ResolveProblem):
        return _smart_destination(behind) if behind is not None else None
    hops = tuple(NextHop(host.host, literal=_is_address(host.host)) for host in found.hosts)
    key = found.key
    if behind is not None:
        hops += behind.hosts
        key += "|" + ",".join(map(str, behind.hosts))
    return Destination(key + (":helo" if route.helo else ""), hops, route.helo)


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def _postponed(
    results: Sequence[Result], problem: MailhostError, due_at: float
) -> tuple[Result, ...]:
    """*results* with every failure turned into a delay: its report could not be made."""
    return tuple(
        Result(
            r.number,
            Outcome(Fate.DELAYED, "4.3.0", f"{r.outcome.words}; not reported: {problem}"),
            due_at,
        )
        if r.outcome.fate is Fate.FAILED
        else Result(r.number, r.outcome, r.due_at)
        for r in results
    )


def _echo(one: Deferred[Any]) -> Deferred[None]:
    """Fires with *one*, without taking its result."""
    echoed: Deferred[None] = Deferred()

    def over(result: Any) -> Any:
        echoed.callback(None)
        return result

    one.addBoth(over)
    return echoed
