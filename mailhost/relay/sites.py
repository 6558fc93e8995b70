"""
The ready queue of one site, and the connections that empty it.

:Room: ``relay``
:IIS: DEL-32 (limit per domain), MSG-03 (messages per connection).
:RFC: 5321 §5.1; 2920.
:Called by: `mailhost.relay.manager`.

A job here waits for a connection, no longer for time.  How many connections there may be
says `site_window`, whose turn it is `fair_queue`, and how fast it may go `rates`.  When
connection after connection fails the site is suspended, and what waits goes back to the
store: ten thousand messages for a dead site cost a handful of time-outs, not ten thousand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

from attrs import define, field
from twisted.logger import Logger

from mailhost.interfaces import IQueueStore
from mailhost.model.outcome import Fate, Outcome
from mailhost.model.queue import QueuedRecipient
from mailhost.relay.active import ActiveMessage
from mailhost.relay.connection import Connection
from mailhost.relay.fair_queue import FairQueue
from mailhost.relay.gates import Gates
from mailhost.relay.job import Destination, Job
from mailhost.relay.line import Line
from mailhost.relay.outcomes import STUMBLED
from mailhost.relay.postponing import Overflow, Pace
from mailhost.relay.rates import Charge, RateGate
from mailhost.relay.site_window import SiteWindow
from mailhost.relay.slots import SiteSlots
from mailhost.relay.suspension import Suspension, Suspensions
from mailhost.relay.terms import Terms
from mailhost.relay.views import SiteView, Wait, clock_words
from mailhost.smtp.extensions.limits import NO_LIMITS, PeerLimits

#: Jobs sent back to the store in one turn of the reactor.
_STRANDED_AT_ONCE = 500

Settle = Callable[[Job, Sequence[Outcome]], None]


@define(eq=False)
class Common:
    """
    What the sites of one virtual server share.

    :ivar slots: connections of all sites together, as the site of this key sees them.
    :ivar suspensions: which sites are left alone.
    :ivar gates: the rates that hold for them.
    :ivar settle: told the outcome of each recipient of a job, in order.
    :ivar split: told that a part of a job goes on as a job of its own.
    :ivar hold_back: sends a job back to the store, because of a suspension.
    """

    slots: Callable[[str], SiteSlots]
    suspensions: Suspensions
    gates: Gates
    settle: Settle
    split: Callable[[Job, Job], None]
    hold_back: Callable[[Job, Suspension], None]


@define(eq=False)
class SiteQueue:
    """
    :ivar destination: the site.
    :ivar line: opens sessions.
    :ivar store: has the contents.
    :ivar terms: what the operator allows, shared by all sites.
    :ivar common: what else it shares with the other sites.
    :ivar empty: called when the site has neither jobs nor connections.
    :ivar slots: where connections are counted.
    :ivar waiting: jobs without a connection.
    :ivar overflow: mail that found no room here.
    :ivar idle: connections that have nothing to do.
    :ivar stopping: nothing new is begun.
    """

    destination: Destination
    line: Line
    store: IQueueStore
    terms: Terms
    common: Common
    empty: Callable[[SiteQueue], None]
    waiting: FairQueue = field(factory=FairQueue, init=False)
    overflow: Overflow = field(factory=Overflow, init=False)
    slots: SiteSlots = field(init=False)
    window: SiteWindow = field(init=False)
    pace: Pace = field(init=False)
    _gates: tuple[RateGate, ...] = field(init=False)
    idle: list[Connection] = field(factory=list, init=False)
    _connections: set[Connection] = field(factory=set, init=False)
    #: What a host of the site has said last of what it takes.
    peer_limits: PeerLimits = field(default=NO_LIMITS, init=False)
    # Slots that were granted and are not used yet.
    _granted: int = field(default=0, init=False)
    _gate_wait: Wait | None = field(default=None, init=False)
    _last_problem: str = field(default="", init=False)
    # Waiting mail is going back to the store.
    _stranding: bool = field(default=False, init=False)
    # What the log has been told of already.
    _told: set[str] = field(factory=set, init=False)
    stopping: bool = field(default=False, init=False)

    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self.slots = self.common.slots(self.key)
        self.window = SiteWindow(*self._most_connections())
        self.pace = Pace(self.line.reactor.seconds())
        self._gates = self.common.gates.of(self.destination)
        if self._suspension() is not None:
            self.window.close()

    @property
    def key(self) -> str:
        """The site's name."""
        return self.destination.key

    @property
    def connection_count(self) -> int:
        """Open connections and those being opened."""
        return len(self._connections)

    def configure(self, terms: Terms) -> None:
        """Go by *terms* from now on."""
        self.terms = terms
        self.window.first, self.window.limit = self._most_connections()
        before, self._gates = self._gates, self.common.gates.of(self.destination)
        for gate in before:
            if gate not in self._gates:
                gate.leave(self)
        self.pump()

    def _most_connections(self) -> tuple[int, int | None]:
        """In the beginning, and at all."""
        if self.destination.is_turned:
            return 1, 1
        return self.terms.first_per_site, self.terms.max_per_site

    def add(self, job: Job) -> None:
        """Carry *job* as soon as there is a connection for it."""
        if self.idle and not self.waiting and not job.tried and self._may_go(job):
            # Nobody waits: there is no turn to keep.
            self.idle[-1].give(job)
            return
        self.waiting.add(job)
        self.pump()

    def _may_go(self, job: Job) -> bool:
        """Whether the rates allow *job* on a connection that there is; it has been charged then."""
        if not self._gates:
            return True
        charge = Charge(1, 0, len(job.recipients))
        if self._is_held_by_rates(charge):
            return False
        self._charge(charge)
        return True

    def take_back(self, active: ActiveMessage, wanted: Set[int]) -> list[QueuedRecipient]:
        """
        Those of the recipients *wanted*, by number, who wait for a connection: now they do not.

        A job that nobody is left of is no job of *active* any more.
        """
        taken: list[QueuedRecipient] = []
        for job in self.waiting.take_back(active.message):
            taken += [one for one in job.recipients if one.number in wanted]
            job.recipients = [one for one in job.recipients if one.number not in wanted]
            if job.recipients:
                self.waiting.add(job)
            else:
                active.jobs -= 1
        if taken:
            self._empty_if_done()
        return taken

    def pump(self) -> None:
        """Bring together what waits and what may carry it."""
        while self.idle and self.waiting:
            connection = self.idle[-1]
            job = self.next_job(connection)
            if job is None:
                break
            connection.give(job)
        # So many at most: openings that fail at once are to leave the others their turn.
        for _ in range(self.window.allowed):
            if not self.waiting or not self._open_more():
                break
        if self.waiting and self._suspended():
            self._begin_to_strand()

    def stop(self) -> None:
        """Close what is idle or being opened; what is under way comes to its end."""
        self.stopping = True
        self.waiting.clear()
        self._leave_lines()
        for connection in list(self.idle):
            connection.finish()
        for connection in [one for one in self._connections if one.opening]:
            connection.give_up()
        if not self._connections:
            self.empty(self)

    def drop(self) -> None:
        """Close everything now."""
        for connection in list(self._connections):
            connection.drop()

    def _suspension(self) -> Suspension | None:
        return self.common.suspensions.find(self.key)

    def _suspended(self) -> Suspension | None:
        return self.common.suspensions.in_force(self.key, self.line.reactor.seconds())

    # ---- who may go

    def next_job(self, connection: Connection) -> Job | None:
        """The next job that *connection* may carry now."""
        if self.stopping or not self.waiting:
            return None
        job = self.waiting.pop_for(connection.spot)
        if job is None:
            return None
        if self._may_go(job):
            return job
        self.waiting.add(job, first=True)
        return None

    @property
    def is_closing(self) -> bool:
        """No connection is kept without work: all ends, or others want its slot."""
        return self.stopping or self.slots.is_wanted()

    def must_yield(self) -> bool:
        """Whether a connection is to be given up for somebody who has fewer."""
        return self.slots.is_over_share(self)

    def _open_more(self) -> bool:
        """Another connection, if something waits and nothing forbids it; whether it began."""
        if self.stopping or not self._may_open():
            return False
        job = self.waiting.pop()
        assert job is not None
        charge = Charge(1, 1, len(job.recipients))
        if self._is_held_by_rates(charge) or not self._take_slot():
            self.waiting.add(job, first=True)
            return False
        self._charge(charge)
        connection = Connection(self)
        self._connections.add(connection)
        connection.start(job)
        return True

    def _may_open(self) -> bool:
        if len(self._connections) >= self.window.allowed:
            return False
        if self._suspended():
            return False
        opening = sum(connection.opening for connection in self._connections)
        return opening < self.window.probes and len(self.waiting) > opening

    def _take_slot(self) -> bool:
        if self._granted:
            self._granted -= 1
            return True
        slots = self.slots
        if slots.take(self, self._slot_granted, self.waiting.has_reports):
            return True
        used_up = slots.used_up()
        wait = Wait(f"all {used_up.limit} connections", used_up.setting)
        self._tell_once(wait.setting, wait)
        return False

    def _slot_granted(self) -> None:
        # In a turn of its own: the giver has not finished giving.
        self._granted += 1
        self.line.reactor.callLater(0, self._use_slot)

    def _use_slot(self) -> None:
        self.pump()
        if self._granted:
            self._granted -= 1
            self.slots.give_back(self)
            self._empty_if_done()

    def _is_held_by_rates(self, charge: Charge) -> bool:
        for gate in self._gates:
            wait = gate.find_wait(self, charge)
            if wait is not None:
                gate.line_up(self, self._rates_allow, charge)
                self._gate_wait = wait
                self._tell_once(wait.setting, wait)
                return True
        self._gate_wait = None
        return False

    def _charge(self, charge: Charge) -> None:
        for gate in self._gates:
            gate.take(self, charge)

    def _rates_allow(self) -> None:
        self._gate_wait = None
        self.pump()

    def _leave_lines(self) -> None:
        self.slots.leave(self)
        for gate in self._gates:
            gate.leave(self)

    # ---- what connections report

    def became_idle(self, connection: Connection) -> None:
        """It has nothing to do."""
        self.idle.append(connection)

    def no_longer_idle(self, connection: Connection) -> None:
        """It has work, or ends."""
        self.idle.remove(connection)

    def succeeded(self) -> None:
        """A transaction came to its end: the site can take a little more."""
        self.window.succeeded(len(self._connections))
        if len(self.common.suspensions):
            self._recover()
        if self.waiting:
            self.pump()

    def _recover(self) -> None:
        known = self._suspension()
        if known is None:
            return
        self._tell_once("resumed", None)
        known.until = min(known.until, self.line.reactor.seconds())
        if self.window.whole:
            self.common.suspensions.lift(self.key)

    def failed(self, problem: Outcome) -> None:
        """A connection could not be had, or broke; *problem* is why."""
        self._last_problem = problem.words
        if not self.window.failed():
            return
        self.window.close()
        now = self.line.reactor.seconds()
        if self._suspended():
            return
        known = self.common.suspensions.suspend(self.key, problem, now)
        self._told.clear()
        self._log.warn(
            "Site {site} is suspended until {until}: {problem}",
            site=self.key,
            until=clock_words(known.until),
            problem=problem.words,
        )
        self._begin_to_strand()

    def _begin_to_strand(self) -> None:
        if not self._stranding and not self.stopping:
            self._stranding = True
            self.line.reactor.callLater(0, self._strand)

    def _strand(self) -> None:
        """What waits goes back to the store, a part in each turn of the reactor."""
        self._stranding = False
        known = self._suspended()
        if known is None or self.stopping:
            self.pump()
            return
        for _ in range(_STRANDED_AT_ONCE):
            job = self.waiting.pop()
            if job is None:
                self._leave_lines()
                self._empty_if_done()
                return
            if job.so_far is not None:
                self.common.settle(job, job.so_far)
            else:
                self.common.hold_back(job, known)
        self._begin_to_strand()

    def cannot_open(self, connection: Connection, job: Job, outcome: Outcome | None) -> None:
        """No host took the session; `None`: there was none left to try."""
        unheard = outcome is not None and outcome.fate is Fate.DELAYED
        if job.so_far is not None and not (unheard and _all_failed(job.so_far)):
            # Hosts were passed over, so this says nothing about the site, unless
            # each of them broke the session.
            self.settle(job, job.so_far)
            if job.session_lost:
                self.failed(job.so_far[0])
            return
        if outcome is None:
            outcome = STUMBLED
        self.settle(job, [outcome] * len(job.recipients))
        if outcome.fate is Fate.DELAYED and not self.destination.is_turned:
            self.failed(outcome)

    def settle(self, job: Job, outcomes: Sequence[Outcome]) -> None:
        """*job* has had its attempt."""
        self.pace.note(self.line.reactor.seconds())
        self.common.settle(job, outcomes)

    def split(self, job: Job, rest: Job) -> None:
        """*rest* goes on as a job of its own."""
        self.common.split(job, rest)

    def try_elsewhere(self, job: Job) -> None:
        """Another host of the site may do better; others are not to wait for it."""
        if self.stopping and job.so_far is not None:
            self.settle(job, job.so_far)
            return
        self.add(job)

    def try_again(self, job: Job) -> None:
        """The session was gone before the peer could say anything about *job*."""
        if self.stopping:
            return  # the store has it as it was before the attempt
        self.waiting.add(job, first=True)
        self.pump()

    def not_connected(self) -> None:
        """A connection was paid for, and there was nobody to connect to."""
        for gate in self._gates:
            gate.give_back(Charge(0, 1, 0))

    def ended(self, connection: Connection) -> None:
        """It is gone."""
        self._connections.discard(connection)
        self.slots.give_back(self)
        # In a turn of its own: an opening that fails at once would otherwise
        # call this again before it has returned, once for every waiting job.
        self.line.reactor.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self.pump()
        self._empty_if_done()

    def _empty_if_done(self) -> None:
        if not self._connections and not self.waiting and not self._granted:
            self._leave_lines()
            self.empty(self)

    # ---- what it tells

    def _tell_once(self, what: str, wait: Wait | None) -> None:
        if what in self._told:
            return
        self._told.add(what)
        if wait is None:
            self._log.info("Site {site} takes mail again", site=self.key)
        else:
            self._log.info(
                "Site {site} has to wait: {reason} ({setting})",
                site=self.key,
                reason=wait.reason,
                setting=wait.setting,
            )

    def tell_full(self) -> None:
        """More mail for it came than may wait in memory."""
        reason = f"{self.waiting.message_count} messages wait in memory already"
        self._tell_once("delivery.queue.max_active", Wait(reason, "delivery.queue.max_active"))

    def view(self, now: float) -> SiteView:
        """How it is doing."""
        known = self._suspension()
        suspended = known is not None and known.until > now
        return SiteView(
            self.key,
            tuple(map(str, self.destination.hops)),
            len(self._connections),
            self.window.allowed,
            self.waiting.message_count,
            len(self.waiting),
            self.overflow.count + (known.postponed if known is not None else 0),
            self.pace.per_second(now),
            known.until if known is not None and suspended else None,
            self._last_problem or (known.problem.words if known is not None else ""),
            tuple(self._waits(known if suspended else None)),
        )

    def _waits(self, suspension: Suspension | None) -> list[Wait]:
        if suspension is not None:
            return [suspension.wait()]
        if not self.waiting:
            return []
        waits = [self._gate_wait] if self._gate_wait is not None else []
        slots = self.slots
        if slots.is_waiting(self):
            used_up = slots.used_up()
            words = f"all {used_up.limit} connections are in use"
            waits.append(Wait(words, used_up.setting))
        allowed = self.window.allowed
        if len(self._connections) >= allowed:
            at_limit = allowed == self.window.limit
            setting = "max_per_domain" if at_limit else "first_per_domain"
            reason = f"{allowed} connections are in use"
            waits.append(Wait(reason, f"delivery.connections.{setting}"))
        return waits


def _all_failed(outcomes: Sequence[Outcome]) -> bool:
    """A host that cannot be had now may do better than those that have failed for good."""
    return all(one.fate is Fate.FAILED for one in outcomes)
