"""Tests for `mailhost.relay.line`: how a host is met at port 465, and at others."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.model.outcome import Outcome
from mailhost.model.route import HostAddress, NextHop
from mailhost.model.security import OutboundSecurity, TLSLevel
from mailhost.net.outbound import Transcript
from mailhost.relay.job import Destination
from mailhost.relay.line import Line
from mailhost.smtp.client_events import Phase

NO_TLS = Transcript((), "no handshake", False, False, None, Phase.SECURING)


class PortTests(SynchronousTestCase):
    def setUp(self) -> None:
        exchanges: Any = None  # addresses in brackets need none
        self.line = Line(Clock(), exchanges, "us.example", connect=self.connect)
        # Of each session: whether TLS comes first, `None` in clear.
        self.met: list[bool | None] = []

    def connect(self, place: Any, factory: Any) -> Deferred[Any]:
        session = factory.buildProtocol(None)
        protection = session._protection
        self.met.append(protection.implicit if protection is not None else None)
        session.ready.callback(NO_TLS)
        return succeed(session)

    def open(self, port: int, level: TLSLevel) -> Outcome:
        hop = NextHop("192.0.2.1", port, literal=True)
        destination = Destination("one", (hop,), security=OutboundSecurity(level))
        opening = self.line.open(destination, set(), lambda: None)
        found = self.successResultOf(Deferred.fromCoroutine(opening))
        assert isinstance(found, Outcome)
        return found

    def test_implicit(self) -> None:
        """RFC 8314: TLS first, and never in clear; but where the operator wants it so."""
        for level, met in (
            (TLSLevel.OPPORTUNISTIC, True),
            (TLSLevel.VERIFIED, True),
            (TLSLevel.NONE, False),
        ):
            self.met = []
            self.assertEqual("4.7.5", self.open(465, level).status)
            self.assertEqual([met], self.met, level)

    def test_elsewhere(self) -> None:
        """STARTTLS; RFC 7435: once more in clear where that may be."""
        self.open(587, TLSLevel.OPPORTUNISTIC)
        self.open(587, TLSLevel.REQUIRED)
        self.assertEqual([False, None, False], self.met)


class PollerTests(SynchronousTestCase):
    """Who makes the connections."""

    def connect(self, line: Line, address: str) -> None:
        line._connect(HostAddress("mx.example", address, 25), Factory())

    def test_a_poller(self) -> None:
        """Connections over TCP are its own; sockets of this machine, and time, the reactor's."""
        reactor, poller = MemoryReactorClock(), MemoryReactorClock()
        exchanges: Any = None
        line = Line(reactor, exchanges, "us.example", poller=poller)
        for address in ("192.0.2.1", "2001:db8::1", "/run/lmtp"):
            self.connect(line, address)
        self.assertEqual(["192.0.2.1", "2001:db8::1"], [one[0] for one in poller.tcpClients])
        self.assertEqual(["/run/lmtp"], [one[0] for one in reactor.unixClients])

    def test_none(self) -> None:
        """Without one the reactor connects."""
        reactor = MemoryReactorClock()
        exchanges: Any = None
        self.connect(Line(reactor, exchanges, "us.example"), "192.0.2.1")
        self.assertEqual(1, len(reactor.tcpClients))
