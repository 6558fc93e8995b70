"""
One question to one name server: UDP, and TCP where the answer is too long for that.

:Room: ``relay.dns`` -- owns every socket of it.
:RFC: 1035 §4.2 (transport), 5452 §9 (forged answers), 7766 (TCP), 6891 §7 (no EDNS).
:Called by: `mailhost.relay.dns.servers`.

Each question has a socket of its own, so a port of the kernel's choosing that
nobody can foretell (RFC 5452 §9.2).  It is connected: the kernel lets in only
what comes from the address and port that were asked, and tells at once when
nobody listens there.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from random import SystemRandom
from typing import Any

import dns.exception
from attrs import define, field
from twisted.internet.defer import (
    Deferred,
    DeferredSemaphore,
    TimeoutError,
    gatherResults,
    maybeDeferred,
)
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, connectProtocol
from twisted.internet.error import CannotListenError, ConnectError, ConnectionClosed
from twisted.internet.protocol import DatagramProtocol, connectionDone
from twisted.protocols.basic import Int16StringReceiver
from twisted.python.failure import Failure

from mailhost.model.proven import TrustAD
from mailhost.relay.dns.files import Server
from mailhost.relay.dns.messages import (
    Answer,
    Query,
    Question,
    Verdict,
    failure,
    parse_response,
)

#: Sockets open at a time; further questions wait for one (promise P7).
MAX_SOCKETS = 200
#: A datagram over this is no answer to `messages.UDP_OCTETS`; what is cut off does not parse.
_MAX_DATAGRAM_OCTETS = 4096
_IDENT_COUNT = 0x10000

#: What says that no answer will come: refused, unreachable, no free port, connection lost.
_NO_ANSWER = (TimeoutError, CannotListenError, ConnectError, ConnectionClosed, OSError)


@define(eq=False)
class _Asking:
    """
    A query and the answer awaited.

    :ivar server: the address and port it goes to.
    :ivar trust: see `Transport`.
    :ivar done: fires with the first response that matches.
    """

    query: Query
    server: Server
    trust: TrustAD
    done: Deferred[Answer] = field(factory=Deferred)

    @property
    def trusted(self) -> bool:
        """Whether the name server is believed that DNSSEC has proven an answer."""
        if self.trust is TrustAD.LOOPBACK:
            return _plain(self.server[0]).is_loopback
        return self.trust is TrustAD.ALWAYS

    def came_from(self, address: tuple[str, int]) -> bool:
        """RFC 5452 §9.1: only the address and port that were asked may answer."""
        return address[1] == self.server[1] and _plain(address[0]) == _plain(self.server[0])

    def take(self, wire: bytes) -> None:
        """Look at a message; what is no response to the query changes nothing."""
        if self.done.called:
            return
        answer = parse_response(wire, self.query, self.trusted)
        if answer is not None:
            self.done.callback(answer)

    def give_up(self, reason: Failure) -> None:
        """No answer can come any more."""
        if not self.done.called:
            self.done.errback(reason)


def _failure(error: Exception) -> Failure:
    return Failure(error)  # type: ignore[no-untyped-call] # upstream has no annotations


def _plain(address: str) -> IPv4Address | IPv6Address:
    return ip_address(address.partition("%")[0])


class _Datagrams(DatagramProtocol):
    """The UDP side of one query."""

    noisy = False

    def __init__(self, asking: _Asking) -> None:
        self._asking = asking

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Something came in on the query's own port."""
        if self._asking.came_from(addr):
            self._asking.take(datagram)

    def connectionRefused(self) -> None:
        """ICMP says that nobody listens there."""
        self._asking.give_up(_failure(ConnectionRefusedError()))

    def stopProtocol(self) -> None:
        """
        The port is closed.

        Not always by us: Linux reports an ICMP error without anything to read,
        and a reactor on epoll or poll takes that for the end of the port.
        """
        self._asking.give_up(_failure(ConnectionRefusedError()))


class _Stream(Int16StringReceiver):
    """The TCP side of one query: messages behind two octets of length (RFC 1035 §4.2.2)."""

    def __init__(self, asking: _Asking) -> None:
        self._asking = asking
        self.closed: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        """Send the query."""
        self.sendString(self._asking.query.encode())  # type: ignore[no-untyped-call] # upstream has no annotations

    def stringReceived(self, string: bytes) -> None:
        """One whole message."""
        self._asking.take(string)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The name server has closed, or we have."""
        self._asking.give_up(reason)
        self.closed.callback(None)


@define(eq=False)
class Transport:
    """
    Carries questions to name servers.

    :ivar reactor: provides ``IReactorTime``, ``IReactorUDP`` and ``IReactorTCP``.
    :ivar timeout_seconds: for one question to one name server, TCP included.
    :ivar trust: which name servers are believed that DNSSEC has proven an answer.
    :ivar random: anything with ``randrange``; must be unpredictable outside tests.
    """

    reactor: Any  # zope.interface has no intersection of interfaces for mypy
    timeout_seconds: float
    trust: TrustAD = TrustAD.LOOPBACK
    random: Any = field(factory=SystemRandom)
    _idents: set[int] = field(factory=set, init=False)
    _closing: set[Deferred[None]] = field(factory=set, init=False)
    _sockets: DeferredSemaphore = field(factory=lambda: DeferredSemaphore(MAX_SOCKETS), init=False)

    async def ask(self, question: Question, server: Server) -> Answer:
        """
        Put *question* to *server* once; the answer may be a failure or `Verdict.SILENT`.

        :raises twisted.internet.defer.CancelledError: whoever waited has cancelled.
        """
        await self._sockets.acquire()
        try:
            trying = Deferred.fromCoroutine(self._try(question, server))
            return await trying.addTimeout(self.timeout_seconds, self.reactor)
        except _NO_ANSWER:
            return failure(question, Verdict.SILENT, "no name server answered in time")
        except dns.exception.DNSException:
            return failure(question, Verdict.NO_DOMAIN, "the name has no wire form")
        finally:
            self._sockets.release()

    def close(self) -> Deferred[None]:
        """Fires when every socket is closed; the questions have been cancelled before."""
        closing: Deferred[Any] = gatherResults([_follow(one) for one in self._closing])
        return closing.addCallback(lambda _: None)

    async def _try(self, question: Question, server: Server) -> Answer:
        answer = await self._converse(question, server, edns=True)
        if answer.verdict is Verdict.NO_EDNS:
            # RFC 6891 §7: fall back to a query without OPT.
            answer = await self._converse(question, server, edns=False)
        return answer

    async def _converse(self, question: Question, server: Server, edns: bool) -> Answer:
        query = Query(question, self._new_ident(), edns)
        try:
            answer = await self._by_udp(_Asking(query, server, self.trust))
            if answer.verdict is Verdict.TRUNCATED:
                # RFC 7766 §5: the question is put again by TCP.
                answer = await self._by_tcp(_Asking(query, server, self.trust))
        finally:
            self._idents.discard(query.ident)
        if answer.verdict is Verdict.TRUNCATED:
            return failure(question, Verdict.FAILED, "a name server cut its answer short")
        return answer

    def _new_ident(self) -> int:
        """Unique among the outstanding: `MAX_SOCKETS` is far below their number."""
        while (ident := self.random.randrange(_IDENT_COUNT)) in self._idents:
            continue
        self._idents.add(ident)
        return int(ident)

    async def _by_udp(self, asking: _Asking) -> Answer:
        address, number = asking.server
        octets = asking.query.encode()
        port = self.reactor.listenUDP(
            0, _Datagrams(asking), "::" if ":" in address else "", _MAX_DATAGRAM_OCTETS
        )
        try:
            port.connect(address, number)
            port.write(octets)
            return await asking.done
        finally:
            self._close(maybeDeferred(port.stopListening))

    async def _by_tcp(self, asking: _Asking) -> Answer:
        address, number = asking.server
        endpoint = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
        stream = await connectProtocol(  # type: ignore[no-untyped-call] # upstream has no annotations
            endpoint(self.reactor, address, number, self.timeout_seconds), _Stream(asking)
        )
        self._close(stream.closed)
        try:
            return await asking.done
        finally:
            assert stream.transport is not None  # connectProtocol has fired
            stream.transport.abortConnection()

    def _close(self, closed: Deferred[Any]) -> None:
        """Remember a socket until it is really closed."""

        def forget(result: object) -> object:
            self._closing.discard(closed)
            return result

        if not closed.called:
            self._closing.add(closed)
            closed.addBoth(forget)


def _follow(deferred: Deferred[None]) -> Deferred[None]:
    """A Deferred that fires after *deferred*, whose result stays its own."""
    following: Deferred[None] = Deferred()

    def pass_on(result: None) -> None:
        following.callback(None)

    deferred.addCallback(pass_on)
    return following
