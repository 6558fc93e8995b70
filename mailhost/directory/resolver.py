"""
The LDAP address resolver: answers that are ready, and threads for those that are not.

:Room: ``directory``
:Implements: `mailhost.interfaces.IAddressResolver`.
:IIS: §6, LDP-01..08.
:Called by: `mailhost.intake`; by any Twisted application.

Everything here runs in the reactor's thread and waits for nothing (promise P9).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from attrs import define, frozen
from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhost.directory.binding import Binding, DirectoryServer, Terms, check_possible
from mailhost.directory.cache import TimedCache
from mailhost.directory.diagnosis import check_server, judge_settings
from mailhost.directory.entries import EntryReader, address_key
from mailhost.directory.expanding import expand
from mailhost.directory.homes import HomeServers
from mailhost.directory.link import Connect, connection_to
from mailhost.directory.login import bind_as, may_send_as
from mailhost.directory.probing import Prober
from mailhost.directory.resolving import resolve
from mailhost.directory.schemas import ACTIVE_DIRECTORY
from mailhost.directory.servers import ServerList
from mailhost.directory.session import Session, Tally
from mailhost.directory.source import DirectorySource
from mailhost.directory.workers import Workers
from mailhost.errors import LookupProblem
from mailhost.interfaces import IAddressResolver, Maybe
from mailhost.model.address import Mailbox
from mailhost.model.directory import (
    DirectoryFinding,
    Expansion,
    Found,
    GroupRef,
    Refused,
    Resolution,
    Schema,
    Trace,
    TraceStep,
)

T = TypeVar("T")


@frozen
class Limits:
    """
    What bounds a resolver.

    :ivar lookup_seconds: a look-up that takes longer is a `LookupProblem`.
    :ivar expand_seconds: the same for a group.
    :ivar found_seconds: an answer is kept so long.
    :ivar refused_seconds: "unknown" and its like are kept so long; a new user waits no longer.
    :ivar cache_count: answers kept.
    :ivar threads: for look-ups; each has one connection.
    :ivar waiting: look-ups that may wait for a thread; more are temporary failures at once.
    :ivar most_members: of a group, nested ones included.
    :ivar probe_seconds: a server that is down is asked again after so long, ...
    :ivar probe_limit_seconds: ... and later, twice as long each time, up to this.
    """

    lookup_seconds: float = 5.0
    expand_seconds: float = 60.0
    found_seconds: float = 300.0
    refused_seconds: float = 30.0
    cache_count: int = 10_000
    threads: int = 4
    waiting: int = 1_000
    most_members: int = 20_000
    probe_seconds: float = 1.0
    probe_limit_seconds: float = 5.0


@define(eq=False)
class Counters:
    """
    What the reactor's thread counts; see also `LDAPAddressResolver.statistics`.

    :ivar asked: look-ups that were not cached, joined ones included.
    :ivar joined: look-ups that waited for the answer of an identical one.
    :ivar found: answers "found" from the directory.
    :ivar refused: answers "unknown", "ambiguous", "disabled", "loop".
    :ivar failed: look-ups that got no answer.
    :ivar expanded: groups.
    :ivar turned_away: what was not even asked because every server is down.
    """

    asked: int = 0
    joined: int = 0
    found: int = 0
    refused: int = 0
    failed: int = 0
    expanded: int = 0
    turned_away: int = 0


@implementer(IAddressResolver)
class LDAPAddressResolver:
    """
    Resolves addresses with the help of LDAP servers.

    :param reactor: for threads and time.
    :param servers: URLs (``ldap://host``, ``ldaps://host:636``) or hosts; asked in order.
    :param base: the DN below which everybody is.
    :param schema: which attributes mean what; one of `mailhost.directory.schemas` or your own.
    :param binding: who we are to the directory.
    :param start_tls: begin TLS on ``ldap`` connections; certificates are always verified.
    :param ca: a PEM file with the authorities we trust; `None`: the system's.
    :param homes: home servers by name.
    :param limits: what bounds it.
    :param connect: makes connections; for tests and other strategies of ldap3.
    :raises ValueError: no server, no base, or a server that is none.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        servers: Iterable[str],
        base: str,
        schema: Schema = ACTIVE_DIRECTORY,
        binding: Binding | None = None,
        *,
        start_tls: bool = False,
        ca: Path | None = None,
        homes: HomeServers | None = None,
        limits: Limits | None = None,
        connect: Connect = connection_to,
    ) -> None:
        if not base.strip():
            raise ValueError("base: where to look must be said")
        self.reactor = reactor
        self.base = base
        self.schema = schema
        self.limits = limits if limits is not None else Limits()
        self.terms = Terms(binding if binding is not None else Binding(), start_tls, ca)
        parsed = tuple(DirectoryServer.parse(one) for one in servers)
        check_possible(self.terms.binding.kind, parsed)
        self.servers = ServerList(parsed, partial(reactor.callFromThread, self._server_went_down))
        self.counters = Counters()
        self.tally = Tally()
        self.cache: TimedCache[Mailbox, Resolution] = TimedCache(self.limits.cache_count)
        self._delegations: TimedCache[tuple[str, str], bool] = TimedCache(self.limits.cache_count)
        self._reader = EntryReader(schema, homes if homes is not None else HomeServers())
        self._connect = connect
        self._joined: dict[Mailbox, list[Deferred[Resolution]]] = {}
        limits_, many = self.limits, self.limits.waiting
        self.lookups = Workers(reactor, "directory", self._session, limits_.threads, many)
        # A large group, a slow password check and a probe never wait for each other.
        self.expansions = Workers(reactor, "directory groups", self._session, 2, many)
        self.logins = Workers(reactor, "directory logins", self._session, 2, many)
        self.probes = Workers(reactor, "directory probes", self._session, 1, 10)
        self._prober = Prober(
            reactor,
            self.servers,
            self.probes,
            self.terms,
            connect,
            limits_.probe_seconds,
            limits_.probe_limit_seconds,
        )

    def _session(self) -> Session:
        return Session(self.servers, self.terms, self.reactor.seconds, self.tally, self._connect)

    def _source(self, session: Session) -> DirectorySource:
        return DirectorySource(session, self._reader, self.base)

    # ---- recipients

    def resolve(self, address: Mailbox) -> Maybe[Resolution]:
        """See `IAddressResolver`."""
        known = self.cache.find(address, self.reactor.seconds())
        if known is not None:
            return known
        self.counters.asked += 1
        waiting = self._joined.get(address)
        if waiting is not None:
            self.counters.joined += 1
            return self._join(address, waiting)
        self._check_breaker()
        waiting = self._joined[address] = []
        mine = self._join(address, waiting)
        asked = self.lookups.run(
            lambda session: resolve(self._source(session), address), self.limits.lookup_seconds
        )
        asked.addCallbacks(self._answered, self._unanswered, (address,), {}, (address,))
        return mine

    def _join(self, address: Mailbox, waiting: list[Deferred[Resolution]]) -> Deferred[Resolution]:
        """Wait for an answer that others wait for too; cancelling leaves them alone."""
        mine: Deferred[Resolution] = Deferred(waiting.remove)
        waiting.append(mine)
        return mine

    def _answered(self, answer: Resolution, address: Mailbox) -> None:
        found = isinstance(answer, Found)
        if found:
            self.counters.found += 1
        else:
            self.counters.refused += 1
        lifetime = self.limits.found_seconds if found else self.limits.refused_seconds
        self.cache.keep(address, answer, self.reactor.seconds() + lifetime)
        for one in self._joined.pop(address):
            one.callback(answer)

    def _unanswered(self, failure: Failure, address: Mailbox) -> None:
        self.counters.failed += 1
        problem = failure.value
        if isinstance(problem, LookupProblem):
            self._log.warn("{address}: {words}", address=str(address), words=problem.words)
        else:
            self._log.failure("looking up {address}", failure, address=str(address))
            # Whoever asks is told of trouble, not of our mistakes.
            problem = LookupProblem(f"internal error: {problem!r}", "4.3.0")
        for one in self._joined.pop(address):
            one.errback(problem)

    def _check_breaker(self) -> None:
        if self.servers.all_down:
            self.counters.turned_away += 1
            raise LookupProblem(f"no directory server answers: {self.servers.why()}")

    def forget(self) -> None:
        """Drop all answers that are kept."""
        self.cache.clear()
        self._delegations.clear()

    # ---- groups

    def expand(self, group: GroupRef) -> Deferred[Expansion | Refused]:
        """See `IAddressResolver`."""
        self.counters.expanded += 1
        return self._ask(
            self.expansions,
            lambda session: expand(self._source(session), group, self.limits.most_members),
            self.limits.expand_seconds,
        )

    # ---- senders

    def resolve_sender(self, address: Mailbox) -> Maybe[Mailbox]:
        """See `IAddressResolver`."""
        answer = self.resolve(address)
        if isinstance(answer, Deferred):
            return answer.addCallback(_primary, address)
        assert isinstance(answer, Found | Refused)
        return _primary(answer, address)

    def may_send_as(self, login: str, address: Mailbox) -> Maybe[bool]:
        """See `IAddressResolver`."""
        key = (login.lower(), address_key(address))
        known = self._delegations.find(key, self.reactor.seconds())
        if known is not None:
            return known

        def keep(allowed: bool) -> bool:
            limits = self.limits
            lifetime = limits.found_seconds if allowed else limits.refused_seconds
            self._delegations.keep(key, allowed, self.reactor.seconds() + lifetime)
            return allowed

        return self._ask(
            self.lookups,
            lambda session: may_send_as(self._source(session), login, address),
            self.limits.lookup_seconds,
        ).addCallback(keep)

    def bind_as(self, login: str, password: str) -> Deferred[bool]:
        """See `IAddressResolver`."""
        if not login or not password:
            return succeed(False)
        return self._ask(
            self.logins,
            lambda session: bind_as(self._source(session), login, password),
            self.limits.lookup_seconds,
        )

    def _ask(self, workers: Workers, work: Callable[[Session], T], seconds: float) -> Deferred[T]:
        try:
            self._check_breaker()
        except LookupProblem as problem:
            return fail(problem)
        return workers.run(work, seconds)

    # ---- servers that are down

    def _server_went_down(self) -> None:
        self._log.warn("directory: {why}", why=self.servers.why())
        self._prober.start()

    # ---- diagnosis

    def trace(self, address: Mailbox) -> Deferred[Trace]:
        """How *address* is resolved, past the cache, and with the breaker open as well."""
        steps: list[TraceStep] = []
        began = self.reactor.seconds()

        def work(session: Session) -> Resolution:
            session.watch = steps.append
            try:
                return resolve(self._source(session), address)
            finally:
                session.watch = None

        def told(result: Resolution) -> Trace:
            return Trace(address, tuple(steps), result, "", self.reactor.seconds() - began)

        def failed(failure: Failure) -> Trace:
            problem = failure.value
            if not isinstance(problem, LookupProblem):
                failure.raiseException()
            assert isinstance(problem, LookupProblem)
            words = f"{problem.status} {problem.words}"
            return Trace(address, tuple(steps), None, words, self.reactor.seconds() - began)

        return self.lookups.run(work, self.limits.lookup_seconds).addCallbacks(told, failed)

    def check(self) -> Deferred[tuple[DirectoryFinding, ...]]:
        """What is right and wrong with the servers, the schema and the settings."""
        judged = judge_settings(self.servers.servers, self.terms, self.schema)
        asked = [
            self.logins.run(
                partial(check_server, server=server, source=self._source),
                self.limits.expand_seconds,
            )
            for server in self.servers.servers
        ]
        return gatherResults(asked, consumeErrors=True).addCallback(
            lambda found: (*judged, *(one for some in found for one in some))
        )

    @property
    def statistics(self) -> dict[str, int]:
        """All counters and a few sizes, by name."""
        counters = {name: getattr(self.counters, name) for name in Counters.__annotations__}
        workers = self.lookups, self.expansions, self.logins
        return {
            **counters,
            **self.tally.counts,
            "cache_hits": self.cache.hits,
            "cache_misses": self.cache.misses,
            "cached": len(self.cache),
            "pending": sum(one.pending for one in workers),
            "queue_full": sum(one.refused for one in workers),
            "timed_out": sum(one.timed_out for one in workers),
            "failovers": self.servers.failovers,
            "outages": self.servers.outages,
            "servers_down": len(self.servers.down()),
        }

    def stop(self) -> Deferred[None]:
        """See `IAddressResolver`."""
        self._prober.stop()
        all_workers = (self.lookups, self.expansions, self.logins, self.probes)
        ended: Deferred[Any] = gatherResults([one.stop() for one in all_workers])
        return ended.addCallback(lambda nothing: None)


def _primary(answer: Resolution, address: Mailbox) -> Mailbox:
    return answer.address if isinstance(answer, Found) else address
