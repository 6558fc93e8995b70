"""
DNS as the house needs it: mail exchanges, addresses and names, kept for their TTL.

:Room: ``relay.dns``
:RFC: 1034 §5.3 (resolvers), 3596 (AAAA), 6761 (localhost), 8020 (NXDOMAIN), 3463 §3.5 (status).
:Called by: `mailhost.relay.mail_exchange`, `mailhost.intake` through
    `mailhost.interfaces.INameResolver`, and Twisted through `mailhost.relay.dns.doors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhost.errors import ResolveProblem
from mailhost.interfaces import INameResolver, Maybe
from mailhost.model.proven import Proven, TrustAD
from mailhost.relay.dns.cache import AnswerCache
from mailhost.relay.dns.doors import TwistedDoors
from mailhost.relay.dns.files import Server, WatchedFile, parse_hosts, parse_resolv_conf
from mailhost.relay.dns.messages import (
    AAAA,
    MAX_CHAIN,
    MX,
    PTR,
    A,
    Answer,
    Question,
    Verdict,
    failure,
)
from mailhost.relay.dns.names import (
    check_name,
    find_address,
    is_address,
    is_localhost,
    reverse_name,
)
from mailhost.relay.dns.servers import Carrier, NameServers
from mailhost.relay.dns.transport import Transport

#: A chain of aliases is not followed any further after so many times `timeout_seconds`.
_CHAIN_TIMEOUTS = 6
_LOCALHOST = ("127.0.0.1", "::1")

#: RFC 3463 §3.2 X.1.2 (the destination system does not exist), §3.5 X.4.3 (a directory
#: server could not be reached) and X.4.4 (the answer gives no way to route).  A loop of
#: aliases is the last: X.4.6 speaks of messages that go round, not of names.
_STATUS = {
    Verdict.NO_DOMAIN: "5.1.2",
    Verdict.FAILED: "4.4.3",
    Verdict.SILENT: "4.4.3",
    Verdict.ENDLESS: "5.4.4",
}


@define(eq=False)
class _Flight:
    """A question on its way, and those who wait for its answer."""

    waiting: list[Deferred[Answer]] = field(factory=list)
    work: Deferred[None] | None = None


@implementer(INameResolver)
class DNSResolver(TwistedDoors):
    """
    A stub resolver with a cache.

    A cached answer is returned as it is, no Deferred around it; a cached failure
    is raised at once.  The same question asked twice is on its way once.

    :param reactor: provides ``IReactorTime``, ``IReactorUDP``, ``IReactorTCP``.
    :param servers: ``(IP address, port)`` in the order to try; `None`: those of
        *resolv_conf*, read again when it changes.
    :param timeout_seconds: for one question to one name server.
    :param cache_count: answers kept.
    :param hosts_file: hosts(5); its names are answered from it before DNS.
        `None` for none.
    :param carrier: what takes one question to one server; for tests.
    :param trust_ad: which servers are believed that DNSSEC has proven an answer.
    :raises ValueError: a server is no IP address, or a number is not positive.
    """

    def __init__(
        self,
        reactor: Any,  # zope.interface has no intersection of interfaces for mypy
        servers: Sequence[Server] | None = None,
        timeout_seconds: float = 5.0,
        cache_count: int = 10_000,
        *,
        resolv_conf: str = "/etc/resolv.conf",
        hosts_file: str | None = "/etc/hosts",
        carrier: Carrier | None = None,
        trust_ad: TrustAD = TrustAD.LOOPBACK,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # upstream has no annotations
        _check_arguments(servers, timeout_seconds, cache_count)
        self.reactor = reactor
        self.timeout_seconds = timeout_seconds
        self._cache = AnswerCache(cache_count)
        self._flights: dict[Question, _Flight] = {}
        self._closed = False
        self._transport = Transport(reactor, timeout_seconds, trust_ad)
        configured = WatchedFile(resolv_conf, parse_resolv_conf, reactor)
        self._servers = NameServers(
            carrier or self._transport,
            configured.read if servers is None else lambda: servers,
            reactor,
        )
        self._hosts = hosts_file and WatchedFile(hosts_file, parse_hosts, reactor)

    # ---- INameResolver

    def mail_exchanges(self, domain: str) -> Maybe[Sequence[tuple[int, str]]]:
        """See `mailhost.interfaces.INameResolver.mail_exchanges`."""
        name = check_name(domain)
        if is_localhost(name):
            return ()  # RFC 6761 §6.3: not a question for DNS
        answer = self._find(Question(name, MX))
        if isinstance(answer, Answer):
            return _values(answer)
        return answer.addCallback(_values)

    def addresses(self, host: str) -> Maybe[Sequence[str]]:
        """
        See `mailhost.interfaces.INameResolver.addresses`; IPv4 first.

        An IP address is its own address.  One family that fails does not hide
        the other: RFC 4074 §4 knows many servers that cannot answer AAAA.
        """
        if is_address(host):
            return (host,)
        name = check_name(host)
        local = self._local_addresses(name)
        if local:
            return local
        four, six = self._find(Question(name, A)), self._find(Question(name, AAAA))
        if isinstance(four, Answer) and isinstance(six, Answer):
            return _merge(four, six)
        return Deferred.fromCoroutine(_merge_later(four, six))

    def names(self, address: str) -> Maybe[Sequence[str]]:
        """
        See `mailhost.interfaces.INameResolver.names`.

        :raises ValueError: *address* is no IP address.
        """
        question = Question(reverse_name(address), PTR)
        if self._hosts:
            local = self._hosts.read().names.get(str(find_address(address)))
            if local:
                return local
        answer = self._find(question)
        if isinstance(answer, Answer):
            return _pointers(answer)
        return answer.addCallback(_pointers)

    # ---- the whole answer

    def ask(self, name: str, kind: int) -> Maybe[Answer]:
        """
        The answer to a question of any type, failures included.

        :param kind: an RR type's number.
        :raises mailhost.errors.ResolveProblem: 5.1.2, *name* cannot exist.
        """
        return self._find(Question(check_name(name), kind))

    @property
    def statistics(self) -> dict[str, int]:
        """Counters of the cache, and its size, by name."""
        cache = self._cache
        return {"cache_hits": cache.hits, "cache_misses": cache.misses, "cached": len(cache)}

    def close(self) -> Deferred[None]:
        """
        Cancel what is on its way; fires when the last socket is closed.

        Whoever waits hears `ResolveProblem` 4.4.3, and so does whoever asks later.
        """
        self._closed = True
        self._cache.clear()
        for flight in list(self._flights.values()):
            if flight.work is not None:
                flight.work.cancel()
        return self._transport.close()

    # ---- inside

    def _local_addresses(self, name: str) -> tuple[str, ...]:
        local = self._hosts.read().addresses.get(name, ()) if self._hosts else ()
        return local or (_LOCALHOST if is_localhost(name) else ())

    def _find(self, question: Question) -> Answer | Deferred[Answer]:
        answer = self._cache.find(question, self.reactor.seconds())
        if answer is not None:
            return answer
        if self._closed:
            return failure(question, Verdict.SILENT, "the resolver is closed")
        flight = self._flights.get(question)
        if flight is not None:
            return _wait(flight)
        flight = self._flights[question] = _Flight()
        waiter = _wait(flight)
        flight.work = Deferred.fromCoroutine(self._resolve(question)).addBoth(self._land, question)
        return waiter

    def _land(self, result: Answer | Failure, question: Question) -> None:
        """Tell everybody who waits for *question*."""
        flight = self._flights.pop(question)
        if isinstance(result, Failure) and isinstance(result.value, CancelledError):
            result = failure(question, Verdict.SILENT, "the resolver was closed")
        elif isinstance(result, Answer):
            self._cache.keep(result, self.reactor.seconds())
        while flight.waiting:  # one who hears may make another give up
            flight.waiting.pop(0).callback(result)

    async def _resolve(self, question: Question) -> Answer:
        """
        Ask, and follow aliases that the name server has left to us.

        :returns: an answer whose `question` is *question*.
        """
        ends_at = self.reactor.seconds() + _CHAIN_TIMEOUTS * self.timeout_seconds
        answer = await self._servers.ask(question)
        seen, ttl, authenticated = {question.name}, answer.ttl_seconds, answer.authenticated
        while not answer.complete:
            name = answer.canonical
            if name in seen or len(seen) > MAX_CHAIN:
                words = "its aliases form a loop or too long a chain"
                return failure(question, Verdict.ENDLESS, words)
            if self.reactor.seconds() >= ends_at:
                return failure(question, Verdict.SILENT, "its aliases took too long to follow")
            seen.add(name)
            answer = await self._servers.ask(Question(name, question.kind))
            ttl = min(ttl, answer.ttl_seconds)
            authenticated = authenticated and answer.authenticated
        values = Proven(answer.values) if authenticated else answer.values
        return evolve(
            answer,
            question=question,
            values=values,
            ttl_seconds=ttl,
            authenticated=authenticated,
        )


def _check_arguments(
    servers: Sequence[Server] | None, timeout_seconds: float, cache_count: int
) -> None:
    for address, port in servers or ():
        if not is_address(address) or not 0 < port < 65536:
            raise ValueError(f"({address!r}, {port!r}) is not an IP address and a port")
    if timeout_seconds <= 0 or cache_count <= 0:
        raise ValueError("timeout_seconds and cache_count are above 0")


def _wait(flight: _Flight) -> Deferred[Answer]:
    """One who gives up waiting does not take the answer from the others."""
    waiter: Deferred[Answer] = Deferred(flight.waiting.remove)
    flight.waiting.append(waiter)
    return waiter


_KINDS = {A: "address", AAAA: "address", MX: "MX", PTR: "PTR"}


def _problem(answer: Answer) -> ResolveProblem:
    name, kind = answer.question
    reason = answer.words or "there is no such domain"
    return ResolveProblem(_STATUS[answer.verdict], f"{name} ({_KINDS[kind]}): {reason}")


def _values(answer: Answer) -> tuple[Any, ...]:
    if answer.verdict is Verdict.ANSWERED:
        return answer.values
    raise _problem(answer)


def _pointers(answer: Answer) -> tuple[str, ...]:
    """An address without a name is no failure, nor is a broken reverse zone a lasting one."""
    if answer.verdict in (Verdict.NO_DOMAIN, Verdict.ENDLESS):
        return ()
    return _values(answer)


async def _merge_later(
    four: Answer | Deferred[Answer], six: Answer | Deferred[Answer]
) -> tuple[str, ...]:
    return _merge(
        four if isinstance(four, Answer) else await four,
        six if isinstance(six, Answer) else await six,
    )


#: Where there is no address: what may heal is told first (promise P4).
_WORST_FIRST = (Verdict.SILENT, Verdict.FAILED, Verdict.ENDLESS, Verdict.NO_DOMAIN)


def _merge(four: Answer, six: Answer) -> tuple[str, ...]:
    values = four.values + six.values
    if not values:
        for verdict in _WORST_FIRST:
            for answer in (four, six):
                if answer.verdict is verdict:
                    raise _problem(answer)
    return values
