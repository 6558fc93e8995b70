"""
All virtual servers in one process, or one worker's part of them.

:Room: ``service``
:Called by: `mailhost.tap`; `mailhost.workers.child`; SIGHUP.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailhost.config.checks import cross_check
from mailhost.config.faults import dotted
from mailhost.config.reader import ConfigurationFaults
from mailhost.config.settings import Settings, VirtualServerSettings
from mailhost.control.answers import answer
from mailhost.control.steered import Answer, Answers
from mailhost.model.view import ServerView, ServiceView, WorkerView, merged
from mailhost.net.poller import poller_for
from mailhost.relay.dns.resolver import DNSResolver
from mailhost.server.limits import AllOutgoing
from mailhost.server.pulse import Pulse
from mailhost.server.share import ALONE, Share
from mailhost.server.virtual_server import CannotStart, QueueInUse, VirtualServer
from mailhost.systemd import ServiceManager
from mailhost.workers.privileges import become
from mailhost.workers.sockets import KeptSockets, places

if TYPE_CHECKING:
    from mailhost.control.door import Opening
    from mailhost.logs import Journal

_log = Logger()

#: Who has a queue may be about to go; it is asked for again for so long: twice the
#: time that sessions and deliveries have to end, and some.
PATIENCE_SECONDS = 45.0
_AGAIN_SECONDS = 0.5


class MailhostService(Service):
    """
    Runs what a configuration says.

    :param settings: the configuration.
    :param reactor: runs everything.
    :param reread: reads the configuration anew at SIGHUP; `None`: somebody else
        does, and calls `configure`.
    :param share: this process's part of everything; by default all.
    :param resting: virtual servers not to begin with, but ``paused`` or ``stopped``.
    :param changed: called when the state of a virtual server has changed.
    :ivar virtual_servers: by name.
    :ivar control: where operators ask, opened at the start; `None`: nowhere.
    :ivar journal: the log, which is told of changed settings; `None`: somebody else's.
    :ivar manager: is told of starts and ends.
    """

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        reread: Callable[[], Settings] | None = None,
        share: Share = ALONE,
        resting: Mapping[str, str] | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._reread = reread
        self._outgoing = AllOutgoing(settings.max_outbound_connections, share)
        self._share = evolve(share, outgoing=self._outgoing.slots)
        self._resting = dict(resting or {})
        self._changed = changed
        self.virtual_servers: dict[str, VirtualServer] = {}
        # Not configured any more, and not stopped yet.
        self._leaving: list[VirtualServer] = []
        # Until when a queue that is in use is asked for again, and when next.
        self._patience: dict[str, float] = {}
        self._again: dict[str, IDelayedCall] = {}
        self._kept: KeptSockets | None = None
        self._pulse = Pulse(reactor)
        self._poller = poller_for(reactor)
        self.control: Opening | None = None
        self.journal: Journal | None = None
        self.manager = ServiceManager()

    def startService(self) -> None:
        """Start every virtual server; one that cannot start fails alone."""
        super().startService()  # type: ignore[no-untyped-call]  # upstream has no annotations
        if self._reread is not None and self._settings.user is not None:
            self._change_user(self._settings)
        resolver = self._settings.resolver
        self._resolver = DNSResolver(
            self._reactor,
            resolver.servers,
            resolver.timeout,
            resolver.cache,
            trust_ad=resolver.trust_ad,
        )
        # For names of token endpoints: Twisted's own resolver would take the reactor's threads.
        self._before = self._reactor.installNameResolver(self._resolver)
        if self._reread is not None:
            warn_of(self._settings)
            on_hang_up(self._reactor, self.reload)
        if self.control is not None:
            self.control.open()
        for settings in self._settings.virtual_servers:
            self._add(settings)
        self.manager.watch(self._reactor)
        self.manager.ready(self.states())
        self._pulse.start()

    def _change_user(self, settings: Settings) -> None:
        """
        Bind everything, then be somebody else.

        :raises mailhost.workers.privileges.CannotChangeUser: it cannot be done.
        """
        self._kept = KeptSockets()
        self._kept.hold(places(settings))
        become(settings.user)
        self._share = evolve(self._share, sockets=self._kept)

    def stopService(self) -> Deferred[None]:
        """Stop them all; fires when the last is stopped."""
        super().stopService()  # type: ignore[no-untyped-call]  # upstream has no annotations
        self.manager.stopping()
        self._pulse.stop()
        for name in list(self._again):
            self._give_up(name)
        servers = [*self.virtual_servers.values(), *self._leaving]
        closing = [] if self.control is None else [self.control.close()]
        stopping = DeferredList([server.stop() for server in servers] + closing)
        return stopping.addCallback(self._close_resolver)

    def _close_resolver(self, results: object) -> Deferred[None]:
        self.manager.rest()
        self._reactor.installNameResolver(self._before)
        return self._resolver.close()

    # ---- the configuration

    def reload(self) -> None:
        """
        Read the configuration anew and go by it, without dropping a session.

        A faulty one changes nothing and says why.
        """
        log_faults(self.reread())

    async def reread(self) -> None:
        """
        As `reload`, for whoever wants to know what came of it.

        :raises ConfigurationFaults: nothing has changed.
        """
        assert self._reread is not None
        self.manager.reloading()
        faulty = True
        try:
            self.configure(read_again(self._reread, self._settings))
            faulty = False
        finally:
            if self.running:
                self.manager.ready(self.states(), faulty)
        if self.journal is not None:
            self.journal.configure(self._settings.log)
        _log.info("The configuration is reloaded")

    def configure(self, settings: Settings) -> None:
        """Go by *settings* from now on, without dropping a session."""
        self._settings = settings
        self._outgoing.configure(settings.max_outbound_connections)
        wanted = {server.name: server for server in settings.virtual_servers}
        for name in set(self.virtual_servers) - set(wanted):
            _log.info("{server} is not configured any more", server=name)
            self._give_up(name)
            self._let_go(self.virtual_servers.pop(name))
        for name, server in wanted.items():
            if name in self.virtual_servers:
                self._change(self.virtual_servers[name], server)
            else:
                self._add(server)
        if self._kept is not None:
            self._kept.keep_only(places(settings))
        self._changed()

    def _let_go(self, server: VirtualServer) -> None:
        self._leaving.append(server)
        server.stop().addCallback(lambda nothing: self._leaving.remove(server))

    def _add(self, settings: VirtualServerSettings) -> None:
        server = VirtualServer(
            settings,
            self._reactor,
            self._resolver,
            share=self._share,
            pulse=self._pulse,
            poller=self._poller,
        )
        self.virtual_servers[settings.name] = server
        resting = self._resting.pop(settings.name, None)
        if resting != "stopped":
            self._try(server)
        if resting == "paused":
            server.pause()

    def _change(self, server: VirtualServer, settings: VirtualServerSettings) -> None:
        try:
            for words in server.configure(settings):
                _log.warn("{words}", words=words)
        except CannotStart as problem:
            _log.error("{problem}", problem=str(problem))
        if server.state == "stopped":
            self._give_up(server.name)
            self._try(server)

    # ---- operators

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self._settings

    def names(self) -> Collection[str]:
        """See `mailhost.control.steered.Steered`."""
        return list(self.virtual_servers)

    async def view(self) -> ServiceView:
        """What there is now: this process and its virtual servers."""
        return merged((WorkerView(self._share.number, os.getpid(), await self.server_views()),))

    async def server_views(self) -> tuple[ServerView, ...]:
        """This process's part of each virtual server."""
        return tuple([await server.view() for server in list(self.virtual_servers.values())])

    async def ask(self, question: str, arguments: Mapping[str, Any]) -> Answers:
        """See `mailhost.control.steered.Steered`."""
        return Answers((Answer(self._share.number, await self.answer(question, arguments)),))

    async def answer(self, question: str, arguments: Mapping[str, Any]) -> Any:
        """
        What this process says to one of `mailhost.control.answers.QUESTIONS`.

        :raises KeyError: it is none of them.
        """
        return await answer(self.virtual_servers, question, arguments)

    def states(self) -> dict[str, str]:
        """Of each virtual server; ``waiting`` is stopped until its queue is free."""
        return {
            name: "waiting" if name in self._again else server.state
            for name, server in self.virtual_servers.items()
        }

    async def start(self, name: str) -> None:
        """
        Start a virtual server, or let it take sessions again.

        :raises KeyError: there is none of this name.
        :raises mailhost.server.virtual_server.CannotStart: see there.
        """
        server = self.virtual_servers[name]
        self._give_up(name)
        self._run(server)
        self._changed()

    async def pause(self, name: str) -> None:
        """
        Let a virtual server take no new sessions.

        :raises KeyError: there is none of this name.
        """
        self.virtual_servers[name].pause()
        self._changed()

    async def stop(self, name: str) -> None:
        """
        Stop a virtual server; returns when it is stopped.

        :raises KeyError: there is none of this name.
        """
        server = self.virtual_servers[name]
        self._give_up(name)
        await server.stop()
        self._changed()

    # ---- starting

    def _run(self, server: VirtualServer) -> None:
        server.start()
        _log.info(
            "{server} is running for {domain} on {addresses}",
            server=server.name,
            domain=server.settings.domain,
            addresses=", ".join(_endpoint(host, port) for host, port in server.addresses),
        )

    def _try(self, server: VirtualServer) -> None:
        """Start it; one whose queue is in use is tried again for a while."""
        try:
            self._run(server)
        except QueueInUse as problem:
            self._wait_for_queue(server, problem)
        except CannotStart as problem:
            self._patience.pop(server.name, None)
            _log.critical("{problem}; it is stopped", problem=str(problem))
        else:
            self._patience.pop(server.name, None)

    def _wait_for_queue(self, server: VirtualServer, problem: QueueInUse) -> None:
        now, name = self._reactor.seconds(), server.name
        if name not in self._patience:
            self._patience[name] = now + PATIENCE_SECONDS
            words = "{problem}; it is stopped, and tried again for {seconds:g} s"
            _log.critical(words, problem=str(problem), seconds=PATIENCE_SECONDS)
        if now >= self._patience[name]:
            del self._patience[name]
            _log.critical("{problem} still; it stays stopped", problem=str(problem))
            return
        self._again[name] = self._reactor.callLater(_AGAIN_SECONDS, self._try_again, server)

    def _try_again(self, server: VirtualServer) -> None:
        del self._again[server.name]
        self._try(server)
        if server.name not in self._again:
            self._changed()

    def _give_up(self, name: str) -> None:
        """Do not try again by yourself."""
        self._patience.pop(name, None)
        later = self._again.pop(name, None)
        if later is not None:
            later.cancel()


# ---- for whoever reads the configuration


def on_hang_up(reactor: Any, reload: Callable[[], None]) -> None:
    """Have *reload* called in the reactor's thread at SIGHUP, where there is such a signal."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda number, frame: reactor.callFromThread(reload))


def read_again(reread: Callable[[], Settings], before: Settings) -> Settings:
    """
    What *reread* gives, with a word about what is unwise in it.

    :raises ConfigurationFaults: it cannot be used.
    """
    settings = reread()
    warn_of(settings)
    for key in ("workers", "user", "control", "metrics", "resolver"):
        if getattr(settings, key) != getattr(before, key):
            _log.warn("{key} stays as it was until the next start", key=key)
    for key in ("listen", "certificate", "key_"):
        now, then = settings.remote_control, before.remote_control
        if getattr(now, key) != getattr(then, key):
            words = "remote_control.{key} stays as it was until the next start"
            _log.warn(words, key=key.rstrip("_"))
    return settings


def log_faults(rereading: Coroutine[Any, Any, None]) -> None:
    """Have *rereading* done; faults of the configuration are for the log."""

    def faulty(failure: Failure) -> None:
        failure.trap(ConfigurationFaults)  # type: ignore[no-untyped-call]  # upstream
        _log.error("The configuration is not reloaded:\n{faults}", faults=str(failure.value))

    def failed(failure: Failure) -> None:
        _log.failure("The configuration is not reloaded", failure)

    Deferred.fromCoroutine(rereading).addErrback(faulty).addErrback(failed)


def warn_of(settings: Settings) -> None:
    """Say what is allowed but unwise: an open relay, above all."""
    for finding in cross_check(settings):
        _log.warn("{key}: {words}", key=dotted(finding.path), words=finding.words)


def _endpoint(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
