"""
One virtual server: its sockets, intake, queue, relay and directories.

:Room: ``server``
:IIS: sections 2-5 and 8-10; SES-01..05.
:Called by: `mailhost.service`, and by whoever embeds one.
"""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IListeningPort
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from mailhost.config.settings import ListenAddress, VirtualServerSettings
from mailhost.delivery.drop import DropDelivery, Run
from mailhost.errors import DirectoryProblem, MailhostError
from mailhost.intake.desk import Desk
from mailhost.intake.pickup import Pickup
from mailhost.intake.reception import Reception
from mailhost.interfaces import INameResolver, IQueueStore
from mailhost.model.session import SessionFacts
from mailhost.net.factory import ESMTPFactory
from mailhost.relay.mail_exchange import MailExchangeResolver
from mailhost.relay.manager import RelayManager
from mailhost.relay.terms import Terms
from mailhost.routing.categorizer import make_categorizer
from mailhost.server.lifecycle import Lifecycle, Parts, make_lifecycle
from mailhost.server.listening import accept_from, bind
from mailhost.smtp.rules import Rules
from mailhost.spool.badmail import Badmail
from mailhost.spool.sqlite import SQLiteQueue

#: Sessions and deliveries under way have so long to end when the server stops.
GRACE_SECONDS = 20.0


class CannotStart(MailhostError):
    """The virtual server cannot run now; the words say why."""


class VirtualServer:
    """
    One virtual server.

    :param settings: its pages.
    :param reactor: the global one is never used.
    :param resolver: DNS, shared by all virtual servers.
    :param store: its queue; by default `SQLiteQueue` below its home.
    :ivar settings: those in force.
    :ivar relay: its relay manager, while it is not stopped.
    """

    _log = Logger()

    def __init__(
        self,
        settings: VirtualServerSettings,
        reactor: Any,
        resolver: INameResolver,
        store: IQueueStore | None = None,
    ) -> None:
        self.settings = settings
        self.relay: RelayManager | None = None
        self._reactor = reactor
        self._resolver = resolver
        self._given_store = store
        self._ports: dict[ListenAddress, tuple[IListeningPort, ESMTPFactory]] = {}
        # Factories of addresses that are listened to no longer, while they have sessions.
        self._leaving: list[ESMTPFactory] = []
        self._life: Lifecycle = make_lifecycle(Parts(self._unlisten, self._close, []))

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
        factories = [factory for _, factory in self._ports.values()] + self._leaving
        return tuple(one.session for factory in factories for one in factory.sessions)

    def configure(self, settings: VirtualServerSettings) -> tuple[str, ...]:
        """
        Go by *settings* from now on, without dropping a session.

        Sessions see the new ones from their next command, queued mail from its
        next attempt.

        :returns: what could not be changed, in words; it needs a restart.
        :raises CannotStart: a new address cannot be had; the addresses stay as
            they were, everything else is in force.
        """
        kept = _fixed_differences(self.settings, settings)
        self.settings = settings
        if self.state == "stopped":
            return ()
        categorizer = make_categorizer(settings)
        self._desk.settings, self._desk.categorizer = settings, categorizer
        assert self.relay is not None
        self.relay.configure(Terms.of(settings, categorizer), self._exchanges())
        rules = self._rules()
        for _, factory in self._ports.values():
            factory.rules, factory.timeout_seconds = rules, settings.connection_timeout
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
            _close_sockets(bound)
            raise
        self._accept_from(bound)
        assert self.relay is not None
        self.relay.start()
        self._pickup.start()

    def _open_queue(self) -> None:
        settings = self.settings
        store = self._given_store or SQLiteQueue(
            self._reactor,
            settings.queue_directory,
            settings.sort_temp_directory,
            self._reactor.seconds,
        )
        try:
            store.start()
        except MailhostError as problem:
            raise CannotStart(f"virtual server {self.name!r}: {problem}") from problem
        self._store = store
        self._files = ThreadPool(0, 8, f"delivery {settings.name}")
        run = partial(deferToThreadPool, self._reactor, self._files)
        drop = DropDelivery(settings.drop_directory, run, settings.drop.quota)
        badmail = Badmail(settings.badmail_directory, run)
        for directory in (drop, badmail):
            try:
                directory.start()
            except DirectoryProblem as problem:
                # Mail for it waits in the queue until the operator has mended it.
                self._log.error("{server}: {problem}", server=self.name, problem=str(problem))
        self._files.start()
        self._assemble(store, drop, badmail, run)

    def _assemble(self, store: IQueueStore, drop: DropDelivery, badmail: Badmail, run: Run) -> None:
        settings = self.settings
        categorizer = make_categorizer(settings)
        terms = Terms.of(settings, categorizer)
        self.relay = RelayManager(store, self._exchanges(), self._reactor, terms, drop, badmail)
        self._desk = Desk(
            settings, categorizer, store, self._resolver, self._reactor, self.relay.accept
        )
        self._pickup = Pickup(self._desk, settings.pickup_directory, badmail, self._reactor, run)

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
        for address in self.settings.listen:
            if address in self._ports:
                continue
            try:
                bound[address] = bind(address)
            except OSError as error:
                _close_sockets(bound)
                raise CannotStart(
                    f"virtual server {self.name!r} cannot listen on {address}: {error.strerror}"
                ) from error
        return bound

    def _accept_from(self, bound: dict[ListenAddress, socket.socket]) -> None:
        for address, listening in bound.items():
            factory = ESMTPFactory(
                partial(Reception, self._desk),
                self._reactor,
                self._rules(),
                self.settings.connection_timeout,
            )
            self._ports[address] = accept_from(self._reactor, listening, factory), factory

    def _rules(self) -> Rules:
        messages = self.settings.messages
        return Rules(
            self.settings.fqdn,
            max_message_octets=messages.max_message_size,
            max_line_octets=messages.max_line_length,
        )

    def _unlisten(self) -> None:
        for address in list(self._ports):
            self._close_port(address)

    def _unlisten_others(self) -> None:
        for address in set(self._ports) - set(self.settings.listen):
            self._close_port(address)

    def _close_port(self, address: ListenAddress) -> None:
        port, factory = self._ports.pop(address)
        port.stopListening()
        self._leaving = [one for one in self._leaving if one.sessions]
        if factory.sessions:
            self._leaving.append(factory)

    def _close(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._close_down())

    async def _close_down(self) -> None:
        await self._pickup.stop()
        factories, self._leaving = self._leaving, []
        aborting = self._reactor.callLater(GRACE_SECONDS, _abort, factories)
        await DeferredList([factory.end_sessions() for factory in factories])
        if aborting.active():
            aborting.cancel()
        assert self.relay is not None
        try:
            await self.relay.stop(GRACE_SECONDS)
        finally:
            await self._store.stop()
            self._files.stop()


def _close_sockets(bound: dict[ListenAddress, socket.socket]) -> None:
    for listening in bound.values():
        listening.close()


def _abort(factories: list[ESMTPFactory]) -> None:
    for factory in factories:
        factory.abort_sessions()


def _fixed_differences(old: VirtualServerSettings, new: VirtualServerSettings) -> tuple[str, ...]:
    """Directories in use cannot be exchanged under a running server."""
    pairs = {
        "home": (old.home, new.home),
        "drop.directory": (old.drop_directory, new.drop_directory),
        "drop.quota": (old.drop.quota, new.drop.quota),
        "messages.badmail.directory": (old.badmail_directory, new.badmail_directory),
    }
    return tuple(
        f"{key} stays {before} until {new.name!r} is restarted"
        for key, (before, after) in pairs.items()
        if before != after
    )
