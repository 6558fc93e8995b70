"""
One virtual server: its sockets, intake, queue, relay and directories.

:Room: ``server``
:IIS: sections 2-5 and 8-10; SES-01..05.
:Called by: `mailhost.service`, and by whoever embeds one.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.logger import Logger

from mailhost.config.settings import ListenAddress, VirtualServerSettings
from mailhost.delivery.drop import DropDelivery, Run
from mailhost.errors import DirectoryProblem, MailhostError, SpoolInUse
from mailhost.intake.badmail_desk import BadmailDesk
from mailhost.intake.desk import Desk
from mailhost.intake.greylist import Greylist
from mailhost.intake.pickup import Pickup
from mailhost.intake.reception import Reception
from mailhost.intake.submission import Submitter
from mailhost.interfaces import IHeldMail, INameResolver, IQueueStore
from mailhost.model.session import SessionFacts
from mailhost.model.tally import Tally
from mailhost.model.view import PoolView, ServerView, SessionView
from mailhost.net.factory import ESMTPFactory
from mailhost.net.inbound import InboundProtocol
from mailhost.policy.overload import Level
from mailhost.policy.relaying import openness
from mailhost.protocol_log.log import ProtocolLog
from mailhost.relay.mail_exchange import MailExchangeResolver
from mailhost.relay.manager import RelayManager
from mailhost.relay.terms import Terms
from mailhost.routing.categorizer import Categorizer, make_categorizer
from mailhost.server.certificates import Certificates
from mailhost.server.directory import Directory
from mailhost.server.explaining import Explainer
from mailhost.server.fetching import Fetcher
from mailhost.server.fixed import fixed_differences
from mailhost.server.lifecycle import Lifecycle, Parts, make_lifecycle
from mailhost.server.limits import ConnectionLimits
from mailhost.server.listening import accept_from, accept_in_turns
from mailhost.server.logins import Logins, rules_of
from mailhost.server.orphans import Orphan, orphans_of
from mailhost.server.overload import OverloadWatch
from mailhost.server.pools import Pools
from mailhost.server.pulse import Pulse
from mailhost.server.sessions import counted_view, end_sessions, session_view
from mailhost.server.share import ALONE, Share, worker_directories
from mailhost.smtp.rules import Rules
from mailhost.spool.badmail import Badmail
from mailhost.spool.sqlite import BALLAST_OCTETS, SQLiteQueue
from mailhost.traces.tracer import Tracer

#: Sessions and deliveries under way have so long to end when the server stops.
GRACE_SECONDS = 20.0
#: So often what is kept too long is looked for.
_UPKEEP_SECONDS = 3600.0


class CannotStart(MailhostError):
    """The virtual server cannot run now; the words say why."""


class QueueInUse(CannotStart):
    """Another process has its queue; it may be about to go."""


class VirtualServer:
    """
    One virtual server.

    :param settings: its pages.
    :param reactor: the global one is never used.
    :param resolver: DNS, shared by all virtual servers.
    :param store: its queue; by default `SQLiteQueue` below its home.
    :param share: this process's part of it; by default all.
    :param pulse: looks how late the process is; `None`: nobody does.
    :param poller: what its sockets are watched by (`mailhost.net.poller`); `None`: the reactor.
    :ivar settings: those in force.
    :ivar relay: its relay manager, while it is not stopped.
    :ivar tracer: is told what happens to each message.
    :ivar tally: counts it, from one start to the next as well.
    """

    _log = Logger()

    def __init__(
        self,
        settings: VirtualServerSettings,
        reactor: Any,
        resolver: INameResolver,
        store: IQueueStore | None = None,
        share: Share = ALONE,
        pulse: Pulse | None = None,
        poller: Any = None,
    ) -> None:
        self.settings = settings
        self.pulse = pulse
        self._poller = poller or reactor
        self.relay: RelayManager | None = None
        self._reactor = reactor
        self._resolver = resolver
        self._given_store = store
        self._share = share
        self._orphans: list[Orphan] = []
        self._certificates = Certificates(reactor.seconds)
        self._upkeep: IDelayedCall | None = None
        self._ports: dict[ListenAddress, tuple[IListeningPort, ESMTPFactory]] = {}
        # Factories of addresses that are listened to no longer, while they have sessions.
        self._leaving: list[ESMTPFactory] = []
        self._directory = Directory(reactor)
        self._logins = Logins(reactor, self._directory)
        self.tracer = Tracer()
        self._pools = Pools(reactor, settings.name)
        self.tally = Tally()
        self._protocol_log = ProtocolLog()
        self._life: Lifecycle = make_lifecycle(
            Parts(self._unlisten, lambda: Deferred.fromCoroutine(self._close_down()), [])
        )

    # ---- what may be asked

    @property
    def name(self) -> str:
        """Unique among the virtual servers."""
        return self.settings.name

    @property
    def state(self) -> str:
        """``stopped``, ``running``, ``paused`` or ``stopping``."""
        return self._life.state()

    def start(self) -> None:
        """
        Listen and deliver; after a pause, take sessions again.

        :raises CannotStart: an address, a directory or the queue is not to be
            had; the server is stopped then, and others are not concerned.
        """
        state = self.state
        if state == "stopped":
            self._open()
        elif state == "paused":
            self._listen()
        self._life.start()

    def pause(self) -> None:
        """Take no new sessions; the present ones and the queue go on."""
        self._life.pause()

    def stop(self) -> Deferred[None]:
        """Say 421 to sessions, end deliveries, close the queue; fires when done."""
        return self._life.stop()

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Where it listens now; ports given by the kernel are told here."""
        hosts: list[Any] = [port.getHost() for port, _ in self._ports.values()]
        return tuple((host.host, host.port) for host in hosts)

    @property
    def sessions(self) -> tuple[SessionFacts, ...]:
        """The current sessions (SES-01)."""
        return tuple(one.session for one in self._connections())

    def _connections(self) -> list[InboundProtocol]:
        factories = [factory for _, factory in self._ports.values()] + self._leaving
        return [one for factory in factories for one in factory.sessions]

    def session_views(self) -> list[SessionView]:
        """The current sessions for operators; in no order."""
        worker, now = self._share.number, self._reactor.seconds()
        return [session_view(one, worker, self.name, now) for one in self._connections()]

    def terminate(self, ids: frozenset[str]) -> list[str]:
        """End those of its sessions whose views have one of *ids* (SES-02); tells which."""
        return end_sessions(self._connections(), self._share.number, ids)

    @property
    def relays(self) -> tuple[RelayManager, ...]:
        """Those that deliver its mail: its own, and those of adopted queues."""
        if self.state == "stopped":
            return ()
        found = (self.relay, *(orphan.relay for orphan in self._orphans))
        return tuple(relay for relay in found if relay is not None)

    @property
    def held_queues(self) -> tuple[IHeldMail, ...]:
        """Mail in its queues that waits until its domain asks for it; none while it is stopped."""
        if self.relay is None or self.state == "stopped":
            return ()
        found = (self.relay.held, *(orphan.held for orphan in self._orphans))
        return tuple(held for held in found if held is not None)

    @property
    def badmail_desk(self) -> BadmailDesk | None:
        """Looks after Badmail, in the one process that does while it is not stopped."""
        mine = self._share.owns_pickup and self.state != "stopped"
        return self._badmail_desk if mine else None

    @property
    def submitter(self) -> Submitter | None:
        """Takes text from programs on this machine, in the one process that has Pickup."""
        mine = self._share.owns_pickup and self.state != "stopped"
        return self._submitter if mine else None

    @property
    def resolver(self) -> INameResolver:
        """DNS, shared by all virtual servers of the process."""
        return self._resolver

    def directory_statistics(self) -> dict[str, int]:
        """What its directory counts; empty where LDAP routing is off."""
        directory = self._directory.resolver
        return {} if directory is None else directory.statistics

    def pools(self) -> Iterable[PoolView]:
        """Its threads now, those for its own and for adopted queues among them."""
        relays = self.relays
        queues = [getattr(relay.store, "pools", {}) for relay in relays]
        lines = [relay.line.pools for relay in relays]
        return self._pools.views(*queues, *lines, self.tracer.pools, self._logins.pools)

    @property
    def traces(self) -> Tracer | None:
        """Finds events of all workers, in the one process that is asked for them."""
        mine = self._share.owns_pickup and self.state != "stopped"
        return self.tracer if mine else None

    def explainer(self) -> Explainer | None:
        """Tells what would become of a message; `None` while it is stopped."""
        if self.relay is None or self.state == "stopped":
            return None
        tls = any(self._certificates.find(one) is not None for one in self.settings.listen)
        return Explainer(
            self.settings,
            self.state,
            self._desk,
            self.relay,
            rules_of(self.settings, tls),
            self._logins.authentication,
        )

    async def view(self) -> ServerView:
        """What operators see of this process's part of it."""
        if self.state == "stopped":
            return ServerView(self.name, self.state)
        stores = [self._store, *(one.store for one in self._orphans if one.store is not None)]
        seen = ServerView(self.name, self.state, self.addresses, len(self.sessions))
        return await counted_view(seen, stores)

    def configure(self, settings: VirtualServerSettings) -> tuple[str, ...]:
        """
        Go by *settings* from now on, without dropping a session.

        Sessions see the new ones from their next command, queued mail from its
        next attempt.

        :returns: what could not be changed, in words; it needs a restart.
        :raises CannotStart: a new address cannot be had; the addresses stay as
            they were, everything else is in force.  Or the directory cannot be
            asked in this way; then nothing is.
        """
        kept = fixed_differences(self.settings, settings)
        if self.state != "stopped":
            self._choose_directory(settings)
        self.settings = settings
        if self.state == "stopped":
            return ()
        self._watch.settings = settings
        categorizer = make_categorizer(settings)
        self._desk.settings = self._limits.of_desk(settings)
        self._desk.categorizer = categorizer
        self._desk.directory = self._directory.resolver
        terms, exchanges = self._terms(categorizer), self._exchanges()
        assert self.relay is not None
        self.relay.configure(terms, exchanges)
        self._limits.configure(settings)
        for orphan in self._orphans:
            orphan.configure(terms, exchanges)
        for relay in self.relays:
            relay.directory = self._directory.resolver
        self._certificates.configure(settings)
        self._logins.configure(settings)
        if self._share.owns_pickup:
            self._fetcher.configure(settings.fetch)
        trace = settings.trace
        self.tracer.configure(trace.enabled, trace.keep, trace.max_size)
        self._begin_protocol_log()
        for address, (_, factory) in self._ports.items():
            factory.tls = self._certificates.find(address)
            factory.rules = self._rules(address, factory.tls is not None)
            factory.timeout_seconds = self._patience
            factory.authentication = self._logins.authentication
            factory.proxies = self._proxies(address)
        if self.state == "running":
            self._listen()
            self._unlisten_others()
        return kept

    # ---- opening and closing

    def _open(self) -> None:
        """
        Begin everything, or nothing.

        The addresses come first: they fail most often, and a bound socket from
        which nobody accepts is easily given back.
        """
        bound = self._bind_missing()
        try:
            self._open_queue()
        except BaseException:
            self._give_back(bound)
            raise
        self._certificates.configure(self.settings)
        self._logins.configure(self.settings)
        self._accept_from(bound)
        assert self.relay is not None
        self.relay.start()
        self._watch.start()
        if self._share.owns_pickup:
            self._pickup.start()
            self._fetcher.configure(self.settings.fetch)
            self._keep_badmail()
        self._adopt()

    def _choose_directory(self, settings: VirtualServerSettings) -> None:
        try:
            self._directory.configure(settings)
        except ValueError as wrong:
            raise CannotStart(f"virtual server {settings.name!r}: ldap: {wrong}") from wrong

    def _open_queue(self) -> None:
        settings = self.settings
        self._choose_directory(settings)
        store = self._given_store or self._make_store(self._share.number)
        try:
            store.start()
        except SpoolInUse as problem:
            raise QueueInUse(f"virtual server {self.name!r}: {problem}") from problem
        except MailhostError as problem:
            raise CannotStart(f"virtual server {self.name!r}: {problem}") from problem
        self._store = store
        run = self._pools.open("delivery", 8)
        drop = DropDelivery(settings.drop_directory, run, settings.drop.quota)
        badmail = Badmail(settings.badmail_directory, run)
        for directory in (drop, badmail):
            try:
                directory.start()
            except DirectoryProblem as problem:
                # Mail for it waits in the queue until the operator has mended it.
                self._log.error("{server}: {problem}", server=self.name, problem=str(problem))
        self._greylist = Greylist(
            settings.queue_directory / "greylist.sqlite", self._pools.open("greylist", 1)
        )
        trace = settings.trace
        path = settings.trace_directory / f"worker-{self._share.number}.sqlite"
        self.tracer.start(self._reactor, path, trace.keep, trace.max_size)
        self.tracer.on = trace.enabled
        self._begin_protocol_log()
        self._assemble(store, drop, badmail, run)

    def _begin_protocol_log(self) -> None:
        settings = self.settings
        self._protocol_log.configure(
            settings.protocol_log, settings.protocol_log_directory, self.name, settings.fqdn
        )

    def _make_store(self, number: int) -> SQLiteQueue:
        """The queue of worker *number*, not started; the reserve for a full disk is for all."""
        return SQLiteQueue(
            self._reactor,
            *worker_directories(self.settings, number),
            self._reactor.seconds,
            ballast_octets=BALLAST_OCTETS // self._share.count,
        )

    def _assemble(self, store: IQueueStore, drop: DropDelivery, badmail: Badmail, run: Run) -> None:
        settings = self.settings
        categorizer = make_categorizer(settings)
        self._drop, self._badmail = drop, badmail
        self._limits = ConnectionLimits(settings, self._share, self._reactor)
        self.relay = self._make_relay(store)
        self._held = self._share.held(
            self.relay.held, self.name, lambda: self.held_queues, self._reactor
        )
        self._desk = Desk(
            self._limits.of_desk(settings),
            categorizer,
            store,
            self._resolver,
            self._reactor,
            self.relay.accept,
            self._full,
            self._directory.resolver,
            self.tracer,
            self._greylist,
            self.tally,
            self._held,
        )
        self._watch = OverloadWatch(
            settings,
            self._reactor,
            lambda: (len(self.sessions), self._share.part(self.settings.max_connections)),
            self._load_changed,
        )
        self._pickup = Pickup(self._desk, settings.pickup_directory, badmail, self._reactor, run)
        self._submitter = Submitter(self._desk, run)
        self._fetcher = Fetcher(
            self._reactor,
            self.relay.line,
            self._receive,
            lambda: (rules_of(self.settings, False), self._patience),
            lambda factory: self._leaving.append(factory),
        )
        self._badmail_desk = BadmailDesk(self._desk, badmail, settings.pickup_directory, run)

    # ---- too much

    @property
    def _patience(self) -> float:
        """Seconds that silent clients are waited for."""
        settings = self.settings
        usual = settings.connection_timeout
        return usual if not self._watch.level else min(usual, settings.overload.timeout)

    def _load_changed(self, level: Level) -> None:
        self._desk.closed = level >= Level.CLOSED
        for factory in [factory for _, factory in self._ports.values()] + self._leaving:
            factory.hurry(self._patience)

    def warnings(self) -> list[tuple[str, str]]:
        """What an operator should know: in words, and the setting behind it."""
        found = openness(self.settings.access.relay)
        if self.state != "stopped" and self._watch.warning is not None:
            found.append(self._watch.warning)
        return found

    def _full(self) -> str | None:
        assert self.relay is not None
        if self._watch.level is Level.FULL and self._watch.warning is not None:
            words, setting = self._watch.warning
            return f"{words} ({setting})"
        full = self.relay.full
        return None if full is None else f"{full.reason} ({full.setting})"

    def _keep_badmail(self) -> None:
        """Throw away what the operator does not keep (MSG-06); looked at every hour."""
        kept = self.settings.messages.badmail
        if kept.keep is not None or kept.max_size is not None:
            purging = self._badmail.purge(kept.keep, kept.max_size, self._reactor.seconds())
            purging.addErrback(
                lambda why: self._log.failure("Badmail could not be looked through", why)
            )
        self._upkeep = self._reactor.callLater(_UPKEEP_SECONDS, self._keep_badmail)

    # ---- one of several processes

    def _make_relay(self, store: IQueueStore) -> RelayManager:
        return RelayManager(
            store,
            self._exchanges(),
            self._reactor,
            self._terms(make_categorizer(self.settings)),
            self._drop,
            self._badmail,
            directory=self._directory.resolver,
            pool=self._limits.outgoing,
            site_slots=self._limits.site_slots,
            gates=self._limits.gates,
            tracer=self.tracer,
            tally=self.tally,
            protocol_log=self._protocol_log,
            poller=self._poller,
        )

    def _terms(self, categorizer: Categorizer) -> Terms:
        return self._share.terms(Terms.of(self.settings, categorizer))

    def _receive(self, session: SessionFacts) -> Reception:
        return self._limits.receive(self._desk, session)

    def _adopt(self) -> None:
        """Take over the queues of workers that exist no longer."""
        if self._given_store is not None:
            return
        self._orphans += orphans_of(
            self._share, self.settings, self._reactor, self._make_store, self._make_relay
        )
        for orphan in list(self._orphans):
            orphan.start(self._orphans.remove)

    def _exchanges(self) -> MailExchangeResolver:
        """Finds hosts, and knows which of them we are."""
        return MailExchangeResolver(
            self._resolver,
            self._reactor,
            own_names=frozenset({self.settings.fqdn}),
            own_endpoints=frozenset((one.host, one.port) for one in self.settings.listen),
        )

    def _listen(self) -> None:
        """Listen on every address that is not listened to yet, all of them or none."""
        self._accept_from(self._bind_missing())

    def _bind_missing(self) -> dict[ListenAddress, socket.socket]:
        bound: dict[ListenAddress, socket.socket] = {}
        for address in [one for one in self.settings.listen if one not in self._ports]:
            try:
                bound[address] = self._share.sockets.take(self.name, address)
            except OSError as error:
                self._give_back(bound)
                raise CannotStart(
                    f"virtual server {self.name!r} cannot listen on {address}: {error.strerror}"
                ) from error
        return bound

    def _give_back(self, bound: dict[ListenAddress, socket.socket]) -> None:
        for address, listening in bound.items():
            listening.close()
            self._share.sockets.leave(self.name, address)

    def _accept_from(self, bound: dict[ListenAddress, socket.socket]) -> None:
        accept = accept_from if self._share.count == 1 else accept_in_turns
        for address, listening in bound.items():
            tls = self._certificates.find(address)
            factory = ESMTPFactory(
                self._receive,
                self._reactor,
                self._rules(address, tls is not None),
                self._patience,
                tls,
                address.implicit_tls,
                self._logins.authentication,
                self._proxies(address),
                self._protocol_log,
                self.tally,
            )
            self._ports[address] = accept(self._poller, listening, factory), factory

    def _proxies(self, address: ListenAddress) -> Callable[[str], bool] | None:
        """Who may connect for others to *address*; `None`: clients connect themselves."""
        return self.settings.access.is_proxy if self._now(address).proxy else None

    def _rules(self, address: ListenAddress, tls: bool) -> Rules:
        return rules_of(self.settings, tls, self._now(address).lmtp)

    def _now(self, address: ListenAddress) -> ListenAddress:
        """What is said of *address* since it was bound."""
        return next((one for one in self.settings.listen if one == address), address)

    def _unlisten(self) -> None:
        for address in list(self._ports):
            self._close_port(address)

    def _unlisten_others(self) -> None:
        for address in set(self._ports) - set(self.settings.listen):
            self._close_port(address)

    def _close_port(self, address: ListenAddress) -> None:
        port, factory = self._ports.pop(address)
        port.stopListening()
        self._share.sockets.leave(self.name, address)
        self._leaving = [one for one in self._leaving if one.sessions]
        if factory.sessions:
            self._leaving.append(factory)

    async def _close_down(self) -> None:
        self._watch.stop()
        self._fetcher.stop()
        await self._pickup.stop()
        if self._upkeep is not None and self._upkeep.active():
            self._upkeep.cancel()
        factories, self._leaving = self._leaving, []
        abort = [factory.abort_sessions for factory in factories]
        aborting = self._reactor.callLater(GRACE_SECONDS, lambda: [each() for each in abort])
        await DeferredList([factory.end_sessions() for factory in factories])
        if aborting.active():
            aborting.cancel()
        assert self.relay is not None
        relays = [Deferred.fromCoroutine(one.stop(GRACE_SECONDS)) for one in self._orphans]
        try:
            await DeferredList([self.relay.stop(GRACE_SECONDS), *relays, self._directory.stop()])
        finally:
            self._held.stop()
            self._orphans.clear()
            await self._store.stop()
            await self.tracer.stop()
            await self._greylist.stop()
            await self._pools.run("delivery", self._protocol_log.stop)
            self._pools.stop()
            self._logins.stop()
