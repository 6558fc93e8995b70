"""
From a message that is due to the sites that its recipients belong to.

:Room: ``relay``
:RFC: 5321 §5.1; 8689 §4.2.
:IIS: DEL-43, DEL-44, DOM-11..14.
:Called by: `mailhost.relay.manager`.

Recipients of one message that go to one site share a transaction.  Which domains are one site
is known when DNS has answered for all of them; so a message waits for its answers together,
for a second at most.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import lru_cache
from typing import Any, Protocol, cast

from attrs import define, evolve, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from mailhost.errors import ResolveProblem
from mailhost.model.address import Mailbox
from mailhost.model.outcome import Fate, Outcome
from mailhost.model.parameters import NO_MAIL_PARAMETERS, MailParameters
from mailhost.model.queue import QueuedRecipient
from mailhost.model.route import Drop, MailExchange, NextHop, NoRoute, Route, SmartHosts
from mailhost.model.security import TLSLevel
from mailhost.model.tally import Tally
from mailhost.relay.active import ActiveMessage
from mailhost.relay.due import GRAIN_SECONDS
from mailhost.relay.job import Destination
from mailhost.relay.mail_exchange import ExchangeHost, MailExchangeResolver, Site
from mailhost.relay.outcomes import LATE, STUMBLED, unresolved
from mailhost.relay.terms import Terms

#: So long what DNS has answered waits for what it has not.
GATHER_SECONDS = 1.0

_Sites = dict[str, tuple[Destination, list[QueuedRecipient]]]


class Ways(Protocol):
    """Where recipients go on; the manager."""

    def deliver(self, active: ActiveMessage, recipients: list[QueuedRecipient]) -> None:
        """To final delivery."""

    def hold(self, active: ActiveMessage, recipients: list[QueuedRecipient]) -> None:
        """Back to the store until its domain asks for it."""

    def find_session(self, domain: str) -> Destination | None:
        """A session that has asked for the mail of *domain*."""

    def expand(self, active: ActiveMessage, groups: list[QueuedRecipient]) -> None:
        """To the directory."""

    def queue_for(
        self, active: ActiveMessage, destination: Destination, recipients: list[QueuedRecipient]
    ) -> None:
        """To the ready queue of a site."""

    def settle(
        self,
        active: ActiveMessage,
        recipients: Sequence[QueuedRecipient],
        outcomes: Sequence[Outcome],
    ) -> None:
        """To no host: their fate is known.  This ends one job."""

    def has_room_for_lookup(self, count: int) -> bool:
        """Whether one more message may wait for a domain for which *count* wait."""

    def overflow(
        self, active: ActiveMessage, recipients: list[QueuedRecipient], waiting: int
    ) -> list[QueuedRecipient]:
        """Back to the store for a while, but for those returned, who have to be tried."""

    def job_done(self, active: ActiveMessage) -> None:
        """One job of *active* is over."""


@frozen
class Way:
    """
    Where mail for one recipient goes.

    :ivar route: what the categorizer says.
    :ivar destination: the site; `None`: it stays here, or there is none.
    :ivar problem: why there is none, and what that means for the recipient.
    :ivar exchanges: the mail exchanges that DNS has named.
    :ivar proven: see `mailhost.relay.mail_exchange.Site`.
    """

    route: Route
    destination: Destination | None = None
    problem: Outcome | None = None
    exchanges: tuple[ExchangeHost, ...] = ()
    proven: bool = True


@define(eq=False)
class _Gathering:
    """A message some of whose sites are not known yet."""

    active: ActiveMessage
    sites: _Sites
    pending: int = 0
    timer: IDelayedCall | None = None


@define(eq=False)
class Dispatcher:
    """
    :ivar terms: routes, and whose rates hold for whom.
    :ivar exchanges: finds sites.
    :ivar clock: the reactor.
    :ivar ways: where recipients go on.
    :ivar follow: runs a coroutine that `stop` of the relay waits for.
    :ivar tally: counts the ways that are looked up.
    """

    terms: Terms
    exchanges: MailExchangeResolver
    clock: Any
    ways: Ways
    follow: Callable[[Coroutine[Any, Any, None]], None]
    tally: Tally = field(factory=Tally)
    _lookups: set[Deferred[Site]] = field(factory=set, init=False)
    # Messages that wait for DNS, by domain.
    _looking: dict[str, int] = field(factory=dict, init=False)
    _gatherings: set[_Gathering] = field(factory=set, init=False)

    _log = Logger()

    @property
    def looking(self) -> int:
        """Messages that wait for DNS, one counted for each domain that it waits for."""
        return sum(self._looking.values())

    def dispatch(self, active: ActiveMessage, now: float) -> None:
        """Send every recipient of *active* that is due at *now* on its way."""
        due = active.message.recipients.values()
        self.send(active, [one for one in due if one.due_at <= now + GRAIN_SECONDS])

    def send(self, active: ActiveMessage, recipients: Sequence[QueuedRecipient]) -> None:
        """Send *recipients* of *active* on their way, due or not."""
        active.jobs += 1  # so that it is not over before all of it has begun
        gathering = _Gathering(active, {})
        if active.message.is_late(self.clock.seconds()):
            self._settle(active, list(recipients), LATE)
            recipients = ()
        groups = [one for one in recipients if one.group]
        if groups:
            self.ways.expand(active, groups)
            recipients = [one for one in recipients if not one.group]
        if self.terms.holds:
            recipients = self._without_held(gathering, recipients)
        for (route, rated), together in self._routes(active, recipients).items():
            self._follow_route(gathering, route, rated, together)
        if gathering.pending:
            self._gatherings.add(gathering)
            gathering.timer = self.clock.callLater(GATHER_SECONDS, self._gathered_long, gathering)
        else:
            self._flush(gathering)
        self.ways.job_done(active)

    def _without_held(
        self, gathering: _Gathering, recipients: Sequence[QueuedRecipient]
    ) -> list[QueuedRecipient]:
        """
        Those that are tried in the ordinary way; the others wait, or have been asked for.

        Over the session of who asks goes nothing that needs more than that (RFC 8689).
        """
        active, held = gathering.active, []
        ordinary = []
        for one in recipients:
            if one.host is not None or not self.terms.held_by(one.forward_path):
                ordinary.append(one)
                continue
            destination = None
            if not active.message.parameters.requiretls:
                destination = self.ways.find_session(one.forward_path.domain_key)
            if destination is not None:
                _join(gathering.sites, destination, "", [one])
            elif active.insists:
                ordinary.append(one)
            else:
                held.append(one)
        if held:
            self.ways.hold(active, held)
        return ordinary

    def _routes(
        self, active: ActiveMessage, recipients: Sequence[QueuedRecipient]
    ) -> dict[tuple[Route, str], list[QueuedRecipient]]:
        routes: dict[tuple[Route, str], list[QueuedRecipient]] = {}
        self.tally.routed_recipients += len(recipients)
        for recipient in recipients:
            path, host = recipient.forward_path, recipient.host
            categorizer = self.terms.categorizer
            try:
                route = categorizer.route_home(path, host) if host else categorizer.route(path)
                way = route, self.terms.rated_by(path)
            except Exception:
                self._log.failure("There is no telling the route to {path}", path=str(path))
                self._settle(active, [recipient], STUMBLED)
                continue
            routes.setdefault(way, []).append(recipient)
        return routes

    async def way(self, path: Mailbox, host: NextHop | None) -> Way:
        """
        Where mail for *path* goes now.

        :param host: its home server, if it has one.
        """
        categorizer = self.terms.categorizer
        route = categorizer.route_home(path, host) if host else categorizer.route(path)
        if isinstance(route, NoRoute):
            return Way(route, problem=Outcome(Fate.FAILED, route.status, route.words))
        if isinstance(route, SmartHosts):
            return Way(route, _smart_destination(route))
        if isinstance(route, Drop):
            return Way(route)
        found = self._find_site(route)
        if isinstance(found, Deferred):
            try:
                found = await found
            except ResolveProblem as problem:
                found = problem
        destination = _site_destination(found, route)
        if isinstance(found, Site):
            return Way(route, destination, exchanges=found.hosts, proven=found.proven)
        return Way(route, destination, None if destination else unresolved(found))

    def stop(self) -> None:
        """Ask DNS nothing more; who waits for it stays in the store."""
        for gathering in self._gatherings:
            if gathering.timer is not None and gathering.timer.active():
                gathering.timer.cancel()
        self._gatherings.clear()
        for finding in list(self._lookups):
            finding.cancel()

    # ---- one route

    def _follow_route(
        self,
        gathering: _Gathering,
        route: Route,
        rated: str,
        recipients: list[QueuedRecipient],
    ) -> None:
        active = gathering.active
        asked = active.message.parameters
        if asked is not NO_MAIL_PARAMETERS:
            route = _protected(route, asked)
        if isinstance(route, Drop):
            self.ways.deliver(active, recipients)
        elif isinstance(route, NoRoute):
            outcome = Outcome(Fate.FAILED, route.status, route.words)
            self._settle(active, recipients, outcome)
        elif isinstance(route, SmartHosts):
            _join(gathering.sites, _smart_destination(route), rated, recipients)
        else:
            self._find(gathering, route, rated, recipients)

    def _find(
        self,
        gathering: _Gathering,
        route: MailExchange,
        rated: str,
        recipients: list[QueuedRecipient],
    ) -> None:
        waiting = self._looking.get(route.domain, 0)
        if waiting and not self.ways.has_room_for_lookup(waiting):
            recipients = self.ways.overflow(gathering.active, recipients, waiting)
        if not recipients:
            return
        found = self._find_site(route)
        if isinstance(found, Deferred):
            gathering.pending += 1
            gathering.active.jobs += 1
            self._lookups.add(found)
            self._looking[route.domain] = waiting + 1
            self.follow(self._find_later(gathering, found, route, rated, recipients))
        else:
            self._found(gathering, found, route, rated, recipients)

    def _find_site(self, route: MailExchange) -> Site | ResolveProblem | Deferred[Site]:
        try:
            return cast("Site | Deferred[Site]", self.exchanges.site(route.domain))
        except ResolveProblem as problem:
            return problem
        except Exception:
            return self._stumbled(route.domain)

    def _stumbled(self, domain: str) -> ResolveProblem:
        """One name that we stumble over must not keep the others from going (promise P4)."""
        self._log.failure("The hosts of {domain} cannot be found out", domain=domain)
        return ResolveProblem(STUMBLED.status, STUMBLED.words)

    async def _find_later(
        self,
        gathering: _Gathering,
        finding: Deferred[Site],
        route: MailExchange,
        rated: str,
        recipients: list[QueuedRecipient],
    ) -> None:
        found: Site | ResolveProblem
        try:
            found = await finding
        except ResolveProblem as problem:
            found = problem
        except CancelledError:
            return  # the relay stops; the message waits in the store
        except Exception:
            found = self._stumbled(route.domain)
        finally:
            self._lookups.discard(finding)
            self._looked(route.domain)
        self._found(gathering, found, route, rated, recipients)
        gathering.pending -= 1
        if not gathering.pending:
            self._flush(gathering)
        self.ways.job_done(gathering.active)

    def _looked(self, domain: str) -> None:
        left = self._looking[domain] - 1
        if left:
            self._looking[domain] = left
        else:
            del self._looking[domain]

    def _found(
        self,
        gathering: _Gathering,
        found: Site | ResolveProblem,
        route: MailExchange,
        rated: str,
        recipients: list[QueuedRecipient],
    ) -> None:
        if gathering.active.message.parameters.requiretls:
            found = _proven(found, route.domain)
        destination = _site_destination(found, route)
        if destination is not None:
            _join(gathering.sites, destination, rated, recipients)
        else:
            self._settle(gathering.active, recipients, unresolved(cast("ResolveProblem", found)))

    def _settle(
        self, active: ActiveMessage, recipients: list[QueuedRecipient], outcome: Outcome
    ) -> None:
        active.jobs += 1
        self.ways.settle(active, recipients, [outcome] * len(recipients))

    # ---- to the sites

    def _gathered_long(self, gathering: _Gathering) -> None:
        """Who is known does not wait any longer for who is not."""
        self._send_on(gathering)
        gathering.timer = self.clock.callLater(GATHER_SECONDS, self._gathered_long, gathering)

    def _flush(self, gathering: _Gathering) -> None:
        if gathering.timer is not None and gathering.timer.active():
            gathering.timer.cancel()
        self._gatherings.discard(gathering)
        self._send_on(gathering)

    def _send_on(self, gathering: _Gathering) -> None:
        sites = list(gathering.sites.values())
        gathering.sites.clear()
        for destination, recipients in sites:
            self.ways.queue_for(gathering.active, destination, recipients)


# ---- destinations


def _join(
    sites: _Sites, destination: Destination, rated: str, recipients: list[QueuedRecipient]
) -> None:
    """Recipients of several domains at one site share a transaction, if they share their rates."""
    if rated:
        key = f"{destination.key}:rates={rated}"
        destination = evolve(destination, key=key, rated=rated)
    known = sites.setdefault(destination.key, (destination, []))
    known[1].extend(recipients)


def _protected(route: Route, asked: MailParameters) -> Route:
    """
    *route* in the manner that the sender has asked for (RFC 8689 §4.2).

    ``TLS-Required: No`` is about hosts that nobody here knows: what the operator has said of a
    domain or of his smart hosts holds all the same.
    """
    if not isinstance(route, SmartHosts | MailExchange):
        return route
    if asked.requiretls:
        return evolve(route, security=evolve(route.security, tls=TLSLevel.VERIFIED))
    known = isinstance(route, SmartHosts) or route.own or route.otherwise is not None
    if asked.tls_optional and not known and route.security.tls.is_required:
        return evolve(route, security=evolve(route.security, tls=TLSLevel.OPPORTUNISTIC))
    return route


def _proven(found: Site | ResolveProblem, domain: str) -> Site | ResolveProblem:
    """RFC 8689 §4.2.1: hosts that a forged answer may have named are none for REQUIRETLS."""
    if not isinstance(found, Site) or found.proven:
        return found
    words = f"DNSSEC does not prove the MX records of {domain}, as the message needs it"
    return ResolveProblem("5.7.30", f"{words} (REQUIRETLS)")


@lru_cache(maxsize=1024)
def _smart_destination(route: SmartHosts) -> Destination:
    key = "smart:" + ",".join(map(str, route.hosts)) + _manner(route)
    return Destination(key, route.hosts, route.helo, route.security, lmtp=route.lmtp)


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
    return Destination(key + _manner(route), hops, route.helo, route.security)


def _manner(route: SmartHosts | MailExchange) -> str:
    """Sessions of another manner are another site, though the hosts be the same."""
    security = route.security
    words = [security.tls.name.lower()] if security.tls is not TLSLevel.OPPORTUNISTIC else []
    words += [str(security.ca)] if security.ca is not None else []
    words += [f"login={security.login.label}"] if security.login is not None else []
    words += ["helo"] if route.helo else []
    words += ["lmtp"] if isinstance(route, SmartHosts) and route.lmtp else []
    return "".join(f":{word}" for word in words)


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()
