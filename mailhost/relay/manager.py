"""
The relay: due mail to ready queues, attempts to outcomes, outcomes to the store.

:Room: ``relay``
:RFC: 5321 §4.5.4; promises P2-P4, P7.
:Called by: `mailhost.server`; by embedding applications; `accept` by intake.

A message is *active* from the moment a recipient of it is due until each of
those recipients has an outcome on stable storage, or is due at another time.  Active
messages are in memory, at most ``queue.max_active``; everything else waits in the store,
which is asked when something is known to be due.  The parts: `due` asks, `dispatch` finds
the sites, `site_table` holds them, `recording` writes outcomes down.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from random import Random, SystemRandom
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.mail.relaymanager import SmartHostESMTPRelayingManager
from twisted.python.failure import Failure

from mailhost.interfaces import IAddressResolver, IDelivery, IQueueStore
from mailhost.model.address import Mailbox
from mailhost.model.outcome import Outcome
from mailhost.model.queue import Expanded, QueuedMessage, QueuedRecipient
from mailhost.model.route import HostAddress, NextHop
from mailhost.model.tally import Tally
from mailhost.protocol_log.log import ProtocolLog
from mailhost.relay.active import ActiveMessage, ActiveWindow
from mailhost.relay.census import Census
from mailhost.relay.dispatch import Dispatcher, Way
from mailhost.relay.due import DueMail
from mailhost.relay.expanding import GroupQueue
from mailhost.relay.gates import Gates
from mailhost.relay.held import HeldMail
from mailhost.relay.job import Destination
from mailhost.relay.line import Line
from mailhost.relay.local import LocalQueue
from mailhost.relay.mail_exchange import MailExchangeResolver
from mailhost.relay.postponing import Overflow, Postponer
from mailhost.relay.recording import Recorder
from mailhost.relay.settlement import Settlement
from mailhost.relay.site_table import SiteTable
from mailhost.relay.slots import Pool, SiteSlots, Slots
from mailhost.relay.steward import Steward
from mailhost.relay.terms import Terms
from mailhost.relay.views import Pressure, SiteView, Wait
from mailhost.spool.badmail import Badmail
from mailhost.traces.tracer import Tracer


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
    :param directory: expands groups; `None`: they wait in the store.
    :param pool: connections of all relays in the process together; `None`: this one is alone.
    :param site_slots: makes what a site, named by its key, takes connections from, in front of
        this relay's own slots; `None`: those themselves.
    :param gates: rates that other queues of the same virtual server go by as well; `None`: there
        are none.
    :param random: chance; replaced in tests.
    :param tracer: is told what happens to each message; `None`: nobody is.
    :param tally: counts it; `None`: nobody reads the numbers.
    :param protocol_log: is told what is said to other hosts; `None`: nobody is.
    :param poller: what connections are watched by (`mailhost.net.poller`); `None`: the reactor.
    :ivar store: the queue.
    :ivar steward: changes what is in it, as operators say.
    :ivar census: counts it.
    :ivar held: mail in it that waits until its domain asks for it.
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
        *,
        directory: IAddressResolver | None = None,
        pool: Pool | None = None,
        site_slots: Callable[[str, Slots], SiteSlots] | None = None,
        gates: Gates | None = None,
        random: Random | None = None,
        tracer: Tracer | None = None,
        tally: Tally | None = None,
        protocol_log: ProtocolLog | None = None,
        poller: Any = None,
    ) -> None:
        super().__init__(queue)  # type: ignore[no-untyped-call]  # upstream has no annotations
        self.store = queue
        self.mxcalc = mxcalc
        self._reactor = reactor
        self._terms = terms
        self._under_way: set[Deferred[Any]] = set()
        self._stopping = False
        self._lookup_overflow = Overflow()
        self._slots = Slots(terms.max_connections, pool=pool)
        tracer = tracer or Tracer()
        tally = self._tally = tally or Tally()
        self._settlement = Settlement(queue, terms, badmail, tracer, tally)
        log = protocol_log or ProtocolLog()
        self._line = Line(
            reactor,
            mxcalc,
            terms.fqdn,
            tracer=tracer,
            tally=tally,
            protocol_log=log,
            poller=poller,
        )
        self._window = ActiveWindow(terms.queue.max_active)
        self._due = DueMail(queue, reactor, self._window, self._admit, self._follow)
        self._recorder = self._make_recorder(tracer, tally)
        self._postponer = Postponer(queue, reactor, self.job_done, tracer)
        self._dispatcher = Dispatcher(terms, mxcalc, reactor, self, self._follow, tally)
        self._groups = GroupQueue(
            queue, directory, self._settlement, reactor, self, self._follow, tracer, tally
        )
        self._local = LocalQueue(queue, delivery, reactor, self._settle_local, self._follow)
        gates = gates or Gates(reactor)
        self._sites = self._make_sites(site_slots, random or SystemRandom(), gates)
        self.steward = self._make_steward()
        self.census = Census(
            queue, reactor, self._window, lambda: self._terms.categorizer.domains.local()
        )
        self.held = self._make_held(tally)
        self.configure(terms)

    def _make_recorder(self, tracer: Tracer, tally: Tally) -> Recorder:
        return Recorder(
            self.store,
            self._reactor,
            self._settlement,
            self._follow,
            self.accept,
            self.job_done,
            tracer,
            tally,
        )

    def _make_held(self, tally: Tally) -> HeldMail:
        return HeldMail(
            self.store,
            self._reactor,
            self._window,
            self._line,
            self._sites,
            self.steward,
            self._follow,
            tally,
        )

    def _make_sites(
        self,
        site_slots: Callable[[str, Slots], SiteSlots] | None,
        random: Random,
        gates: Gates,
    ) -> SiteTable:
        slots = self._slots
        return SiteTable(
            self._line,
            self.store,
            self._terms,
            lambda key: slots if site_slots is None else site_slots(key, slots),
            self._window,
            self._postponer,
            self.settle,
            self.job_done,
            random,
            gates,
        )

    def _make_steward(self) -> Steward:
        return Steward(
            self.store,
            self._reactor,
            self._window,
            self._due,
            self._sites,
            self._dispatcher,
            self._recorder,
            self._admit,
            self.accept,
            self.job_done,
        )

    def configure(self, terms: Terms, mxcalc: MailExchangeResolver | None = None) -> None:
        """
        Go by *terms* from now on, for mail that is queued already too.

        :param mxcalc: finds hosts from now on; `None`: the one there is.
        """
        if mxcalc is not None:
            self.mxcalc = self._dispatcher.exchanges = self._line.exchanges = mxcalc
        self._terms = self._settlement.terms = self._dispatcher.terms = terms
        self._window.limit = terms.queue.max_active
        line = self._line
        line.hello_name, line.port = terms.fqdn, terms.port
        line.timeout_seconds, line.source_address = terms.timeout_seconds, terms.source_address
        self._slots.limit = terms.max_connections
        self._slots.serve()
        self._sites.configure(terms)
        self.maxConnections = terms.max_connections
        self.maxMessagesPerConnection = terms.max_messages

    @property
    def directory(self) -> IAddressResolver | None:
        """Expands groups; may be exchanged at any time."""
        return self._groups.directory

    @directory.setter
    def directory(self, directory: IAddressResolver | None) -> None:
        self._groups.directory = directory

    # ---- what may be asked

    @property
    def line(self) -> Line:
        """Opens connections in the way of this relay."""
        return self._line

    @property
    def managed(self) -> dict[str, list[str]]:
        """What waits for a connection: site -> queue ids."""
        return {
            key: [job.message.queue_id for job in site.waiting]
            for key, site in self._sites.queues.items()
        }

    @managed.setter
    def managed(self, value: object) -> None:
        """Upstream's constructor sets an empty one; ours is always computed."""

    def sites(self) -> tuple[SiteView, ...]:
        """How each site is doing that has mail in memory, connections or a suspension."""
        return self._sites.views(self._reactor.seconds())

    def waits(self) -> tuple[Wait, ...]:
        """What mail waits for in all: connections, room, and sites that take none."""
        found = []
        suspended = self._sites.suspensions.all_in_force(self._reactor.seconds())
        if suspended:
            # One may be where all mail goes; `sites` tells of each.
            ((key, one),) = list(suspended.items())[-1:]
            reason = f"{key} is {one.wait().reason}"
            if len(suspended) > 1:
                reason = f"{len(suspended)} sites are suspended; {reason}"
            found.append(Wait(reason, one.wait().setting))
        if self._slots.waiting_count:
            open_count, sites = self._slots.open_count, self._slots.waiting_count
            reason = f"{open_count} connections are open, and {sites} sites wait for one"
            found.append(Wait(reason, self._slots.used_up().setting))
        if self._due.backlog:
            reason = f"{len(self._window)} messages are being worked on, and more are due"
            found.append(Wait(reason, "delivery.queue.max_active"))
        pressure = self.pressure
        if pressure.wait is not None:
            found.append(pressure.wait)
        return tuple(found)

    async def way(self, path: Mailbox, host: NextHop | None) -> Way:
        """Where mail for *path* would go now; *host* is its home server, if it has one."""
        return await self._dispatcher.way(path, host)

    async def places(self, hop: NextHop) -> tuple[HostAddress, ...]:
        """
        Where to connect for *hop*, in the order to try.

        :raises mailhost.errors.ResolveProblem: nowhere, or not now.
        """
        return await self._line.places(hop)

    @property
    def local_waiting(self) -> int:
        """Messages in memory that wait for final delivery."""
        return len(self._local)

    @property
    def local_busy(self) -> int:
        """Final deliveries under way."""
        return self._local.busy

    @property
    def looking(self) -> int:
        """Messages that wait for DNS."""
        return self._dispatcher.looking

    @property
    def full(self) -> Wait | None:
        """Why new mail should be put off, if it should; asked for each message."""
        most, queued = self._terms.queue.max_messages, self._due.queued
        if most is None or queued is None or queued < most:
            return None
        return Wait(f"{queued} messages are queued", "delivery.queue.max_messages")

    @property
    def pressure(self) -> Pressure:
        """How far output lags behind; costs the same however much is queued."""
        window, due = self._window, self._due
        return Pressure(
            len(window),
            window.limit,
            window.recipients,
            window.octets,
            due.backlog,
            due.queued,
            self.full,
        )

    # ---- life

    def start(self) -> None:
        """Begin with what is due."""
        self.checkState()

    def checkState(self) -> None:
        """Look for due mail now; harmless at any time."""
        self._due.look()

    def stop(self, grace_seconds: float = 30.0) -> Deferred[None]:
        """
        Begin nothing new and let what is under way come to its end.

        :param grace_seconds: then connections are dropped; their messages stay
            queued.
        :returns: fires when nothing is under way.
        """
        self._stopping = True
        self._due.stop()
        self.held.stop()
        self._local.clear()
        self._groups.stop()
        self._recorder.stop()
        self._postponer.stop()
        self._dispatcher.stop()
        self._sites.stop()
        dropping = self._reactor.callLater(grace_seconds, self._sites.drop)
        return Deferred.fromCoroutine(self._drain(dropping))

    async def _drain(self, dropping: IDelayedCall) -> None:
        while True:
            busy: set[Any] = self._under_way | self._recorder.under_way | self._postponer.under_way
            if not busy and not self._sites.queues:
                break
            await DeferredList([_echo(one) for one in busy] or [self._pause()])
        if dropping.active():
            dropping.cancel()
        self._line.stop()

    def _pause(self) -> Deferred[None]:
        waiting: Deferred[None] = Deferred()
        self._reactor.callLater(0.05, waiting.callback, None)
        return waiting

    # ---- into work

    def accept(self, message: QueuedMessage) -> None:
        """Attempt what is due of *message*, which has just come into the store."""
        if message.key not in self._window:
            self._due.added(1)
            self._admit(message)

    def _admit(self, message: QueuedMessage, insists: bool = False) -> None:
        if self._stopping or message.key in self._window or message.key in self._due.reserved:
            return
        if not self._window.admits(message):
            self._due.backlog = True
            return
        active = self._window.add(message)
        active.insists = insists
        self._dispatcher.dispatch(active, self._reactor.seconds())

    # ---- ways on (`mailhost.relay.dispatch.Ways`)

    def deliver(self, active: ActiveMessage, recipients: list[QueuedRecipient]) -> None:
        """To final delivery."""
        if len(self._local) >= self._window.share:
            local = self._local
            pace = local.pace.per_second(self._reactor.seconds())
            recipients = self._sites.send_back(
                active, recipients, local.overflow, len(local), pace, self._terms.local
            )
        if recipients:
            self._local.add(active, recipients)

    def hold(self, active: ActiveMessage, recipients: list[QueuedRecipient]) -> None:
        """Back to the store until its domain asks for it."""
        self.held.hold(active, recipients)

    def find_session(self, domain: str) -> Destination | None:
        """A session that has asked for the mail of *domain*."""
        return self.held.find_session(domain)

    def expand(self, active: ActiveMessage, groups: list[QueuedRecipient]) -> None:
        """To the directory."""
        self._groups.add(active, groups)

    def expanded(self, active: ActiveMessage, result: Expanded) -> None:
        """A group of *active* has made way: this ends one job."""
        if self._stopping:
            return  # the store has its members
        self._window.grow(active, len(result.added))
        self._dispatcher.send(active, result.added)
        for message in result.made:
            self.accept(message)
        self.job_done(active)

    def queue_for(
        self, active: ActiveMessage, destination: Destination, recipients: list[QueuedRecipient]
    ) -> None:
        """To the ready queue of a site."""
        self._sites.queue(active, destination, recipients)

    def settle(
        self,
        active: ActiveMessage,
        recipients: Sequence[QueuedRecipient],
        outcomes: Sequence[Outcome],
    ) -> None:
        """To the store: what became of mail for other hosts."""
        self._tally.relay_retries += bool(recipients[0].attempts)
        self._recorder.settle(active, recipients, outcomes, self._terms.outbound)

    def _settle_local(
        self,
        active: ActiveMessage,
        recipients: Sequence[QueuedRecipient],
        outcomes: Sequence[Outcome],
    ) -> None:
        self._tally.delivery_retries += bool(recipients[0].attempts)
        self._recorder.settle(active, recipients, outcomes, self._terms.local)

    def has_room_for_lookup(self, count: int) -> bool:
        """Whether one more message may wait for DNS about a domain for which *count* wait."""
        return count < self._window.share

    def overflow(
        self, active: ActiveMessage, recipients: list[QueuedRecipient], waiting: int
    ) -> list[QueuedRecipient]:
        """Back to the store: too many wait for DNS about one domain."""
        return self._sites.send_back(
            active, recipients, self._lookup_overflow, waiting, 0.0, self._terms.outbound
        )

    def job_done(self, active: ActiveMessage) -> None:
        """One job of *active* has its outcomes on stable storage, or is due later."""
        active.jobs -= 1
        if active.jobs:
            return
        self._window.remove(active)
        if active.untold:
            self._recorder.tell_rest(active)
        if not active.message.recipients:
            self._due.added(-1)
        self._due.done(active.message)

    # ---- helpers

    def _follow(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine that nobody waits for but `stop`."""
        running: Deferred[Any] = Deferred.fromCoroutine(work)
        self._under_way.add(running)

        def over(result: Any) -> None:
            self._under_way.discard(running)
            if isinstance(result, Failure):
                self._log.failure("The relay has stumbled", result)

        running.addBoth(over)


def _echo(one: Deferred[Any]) -> Deferred[None]:
    """Fires with *one*, without taking its result."""
    echoed: Deferred[None] = Deferred()

    def over(result: Any) -> Any:
        echoed.callback(None)
        return result

    one.addBoth(over)
    return echoed
