"""
Twisted's doors to the resolver: ``IResolver``, ``IResolverSimple``, ``IHostnameResolver``.

:Room: ``relay.dns``
:Called by: Twisted's reactor and endpoints, `twisted.mail`, anybody who holds an ``IResolver``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from io import BytesIO
from typing import Any, TypeVar

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorTime,
    IResolutionReceiver,
)
from twisted.names import dns
from twisted.names.common import ResolverBase
from twisted.names.error import DNSNameError, DNSQueryTimeoutError, DNSServerError
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhost.errors import ResolveProblem
from mailhost.interfaces import Maybe
from mailhost.relay.dns.messages import CNAME, Answer, Verdict

T = TypeVar("T")
Records = tuple[list[dns.RRHeader], list[dns.RRHeader], list[dns.RRHeader]]


@implementer(IHostResolution)
class _Resolution:
    """A ``resolveHostName`` under way."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.work: Deferred[None] | None = None

    def cancel(self) -> None:
        """Forget it: the receiver hears that it is complete."""
        if self.work is not None:
            self.work.cancel()


@implementer(IHostnameResolver)
class TwistedDoors(ResolverBase, ABC):
    """
    The questions Twisted asks, put in terms of `ask` and `addresses`.

    ``lookup...`` answers with the records of the type asked for, behind one
    CNAME record where the name is an alias; authority and additional sections
    are empty.  The *timeout* of each is the sum of its numbers, in seconds, for the
    whole look-up.  ``lookupAllRecords`` and ``lookupZone`` fail with
    `NotImplementedError`: RFC 8482 has done away with the first, and a relay
    transfers no zones.
    """

    reactor: Any

    @abstractmethod
    def ask(self, name: str, kind: int) -> Maybe[Answer]:
        """See `mailhost.relay.dns.resolver.DNSResolver.ask`."""

    @abstractmethod
    def addresses(self, host: str) -> Maybe[Sequence[str]]:
        """See `mailhost.interfaces.INameResolver.addresses`."""

    def _lookup(
        self, name: bytes, cls: int, type: int, timeout: Sequence[int] | None
    ) -> Deferred[Records]:
        if cls != dns.IN or type in (dns.ALL_RECORDS, dns.AXFR):
            return fail(NotImplementedError("only single types of class IN"))

        async def look_up() -> Records:
            try:
                answer = await arrived(lambda: self.ask(name.decode("ascii", "replace"), type))
            except ResolveProblem as problem:
                raise DNSNameError(problem.words) from problem
            return _records(answer)

        return _within(timeout, self.reactor, Deferred.fromCoroutine(look_up()))

    def getHostByName(
        self, name: str | bytes, timeout: Sequence[int] | None = None, effort: int = 10
    ) -> Deferred[str]:
        """
        One address of *name*, IPv4 where there is one.

        Whoever asks through this older door tries one address only, and
        Twisted's own resolver has always given it IPv4.  *effort* (the length
        of alias chains) is `mailhost.relay.dns.messages.MAX_CHAIN`.

        :raises twisted.internet.error.DNSLookupError: no address, whatever the reason.
        """
        host = name.decode("ascii", "replace") if isinstance(name, bytes) else name

        async def find() -> str:
            try:
                found = await arrived(lambda: self.addresses(host))
            except ResolveProblem as problem:
                raise DNSLookupError(problem.words) from problem
            if not found:
                raise DNSLookupError(f"{host} has no address")
            return next((address for address in found if ":" not in address), found[0])

        return _within(timeout, self.reactor, Deferred.fromCoroutine(find()))

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Tell *resolutionReceiver* the addresses of *hostName*; none where it fails."""
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)

        async def tell() -> None:
            for address in await arrived(lambda: self.addresses(hostName)):
                made = IPv6Address if ":" in address else IPv4Address
                if addressTypes is None or made in addressTypes:
                    resolutionReceiver.addressResolved(
                        made(transportSemantics, address, portNumber)  # type: ignore[arg-type]
                        # a str where the class names its two values
                    )

        def note(failure: Failure) -> None:
            # The receiver's interface knows no failure: no addresses is how it is told.
            if not isinstance(failure.value, ResolveProblem | CancelledError):
                self._log.failure("while looking up {name}", failure, name=hostName)

        def end(nothing: None) -> None:
            resolutionReceiver.resolutionComplete()

        resolution.work = Deferred.fromCoroutine(tell()).addErrback(note).addCallback(end)
        return resolution


async def arrived(ask: Callable[[], Maybe[T]]) -> T:
    """The answer of *ask*, waited for where it is not ready."""
    answer = ask()
    return await answer if isinstance(answer, Awaitable) else answer


def _within(
    timeout: Sequence[int] | None, clock: IReactorTime, work: Deferred[Any]
) -> Deferred[Any]:
    return work.addTimeout(sum(timeout), clock) if timeout else work


def _records(answer: Answer) -> Records:
    """
    *answer* as ``twisted.names`` writes it.

    :raises twisted.names.error.DNSNameError: NXDOMAIN.
    :raises twisted.names.error.DNSQueryTimeoutError: nobody answered.
    :raises twisted.names.error.DNSServerError: any other failure.
    """
    if answer.verdict is Verdict.NO_DOMAIN:
        raise DNSNameError(answer.question.name)
    if answer.verdict is Verdict.SILENT:
        raise DNSQueryTimeoutError(answer.question.name)  # type: ignore[no-untyped-call] # upstream has no annotations
    if answer.verdict is not Verdict.ANSWERED:
        raise DNSServerError(answer.words)
    kind, ttl = answer.question.kind, answer.ttl_seconds
    found = [_header(answer.canonical, kind, ttl, one.to_wire() or b"") for one in answer.records]
    if answer.canonical != answer.question.name and found:
        target = dns.Record_CNAME(answer.canonical, ttl)  # type: ignore[no-untyped-call] # upstream has no annotations
        found.insert(0, dns.RRHeader(answer.question.name, CNAME, dns.IN, ttl, target))
    return found, [], []


def _header(owner: str, kind: int, ttl: int, wire: bytes) -> dns.RRHeader:
    payload: Any = dns.Message().lookupRecordType(kind)()
    payload.decode(BytesIO(wire), len(wire))
    payload.ttl = ttl
    return dns.RRHeader(owner, kind, dns.IN, ttl, payload)
