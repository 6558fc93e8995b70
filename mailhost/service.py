"""
All virtual servers in one process.

:Room: ``service``
:Called by: `mailhost.tap`; SIGHUP.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from mailhost.config.checks import cross_check
from mailhost.config.faults import dotted
from mailhost.config.reader import ConfigurationFaults
from mailhost.config.settings import Settings, VirtualServerSettings
from mailhost.relay.dns.resolver import DNSResolver
from mailhost.server.virtual_server import CannotStart, VirtualServer


class MailhostService(Service):
    """
    Runs what a configuration says.

    :param settings: the configuration.
    :param reactor: runs everything.
    :param reread: reads the configuration anew.
    :ivar virtual_servers: by name.
    """

    _log = Logger()

    def __init__(self, settings: Settings, reactor: Any, reread: Callable[[], Settings]) -> None:
        self._settings = settings
        self._reactor = reactor
        self._reread = reread
        self.virtual_servers: dict[str, VirtualServer] = {}
        # Not configured any more, and not stopped yet.
        self._leaving: list[VirtualServer] = []

    def startService(self) -> None:
        """Start every virtual server; one that cannot start fails alone."""
        super().startService()  # type: ignore[no-untyped-call]  # upstream has no annotations
        resolver = self._settings.resolver
        self._resolver = DNSResolver(
            self._reactor, resolver.servers, resolver.timeout, resolver.cache
        )
        self._warn(self._settings)
        for settings in self._settings.virtual_servers:
            self._add(settings)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._hang_up)

    def stopService(self) -> Deferred[None]:
        """Stop them all; fires when the last is stopped."""
        super().stopService()  # type: ignore[no-untyped-call]  # upstream has no annotations
        servers = [*self.virtual_servers.values(), *self._leaving]
        stopping = DeferredList([server.stop() for server in servers])
        return stopping.addCallback(lambda results: self._resolver.close())

    def _hang_up(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(self.reload)

    def reload(self) -> None:
        """
        Read the configuration anew and go by it, without dropping a session.

        A faulty one changes nothing and says why.
        """
        try:
            settings = self._reread()
        except ConfigurationFaults as faults:
            self._log.error("The configuration is not reloaded:\n{faults}", faults=str(faults))
            return
        self._warn(settings)
        if settings.resolver != self._settings.resolver:
            self._log.warn("resolver stays as it was until the next start")
        self._settings = settings
        wanted = {server.name: server for server in settings.virtual_servers}
        for name in set(self.virtual_servers) - set(wanted):
            self._log.info("{server} is not configured any more", server=name)
            self._let_go(self.virtual_servers.pop(name))
        for name, server in wanted.items():
            if name in self.virtual_servers:
                self._change(self.virtual_servers[name], server)
            else:
                self._add(server)
        self._log.info("The configuration is reloaded")

    def _warn(self, settings: Settings) -> None:
        """Say what is allowed but unwise: an open relay, above all."""
        for finding in cross_check(settings):
            self._log.warn("{key}: {words}", key=dotted(finding.path), words=finding.words)

    def _let_go(self, server: VirtualServer) -> None:
        self._leaving.append(server)
        server.stop().addCallback(lambda nothing: self._leaving.remove(server))

    def _add(self, settings: VirtualServerSettings) -> None:
        server = VirtualServer(settings, self._reactor, self._resolver)
        self.virtual_servers[settings.name] = server
        self._start(server)

    def _change(self, server: VirtualServer, settings: VirtualServerSettings) -> None:
        try:
            for words in server.configure(settings):
                self._log.warn("{words}", words=words)
        except CannotStart as problem:
            self._log.error("{problem}", problem=str(problem))
        if server.state == "stopped":
            self._start(server)

    def _start(self, server: VirtualServer) -> None:
        try:
            server.start()
        except CannotStart as problem:
            self._log.critical("{problem}; it is stopped", problem=str(problem))
            return
        self._log.info(
            "{server} is running for {domain} on {addresses}",
            server=server.name,
            domain=server.settings.domain,
            addresses=", ".join(_endpoint(host, port) for host, port in server.addresses),
        )


def _endpoint(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
