"""Tests for `mailhost.relay.dns.transport` on ports that go nowhere; see `test_network`."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rrset
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailhost.model.proven import TrustAD
from mailhost.relay.dns.files import Server
from mailhost.relay.dns.messages import A, Answer, Question, Verdict
from mailhost.relay.dns.transport import MAX_SOCKETS, Transport
from tests.relay.dns.fakes import FakePort, FakeReactor

SERVER = ("192.0.2.53", 53)


class Numbers:
    """``randrange`` from a list."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = list(numbers)

    def randrange(self, stop: int) -> int:
        """The next number."""
        return self.numbers.pop(0) % stop


class TransportTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.transport = Transport(self.reactor, timeout_seconds=5.0)

    def test_whose_word_on_dnssec_counts(self) -> None:
        """That of name servers on this machine, unless the operator says something else."""
        near, far = ("127.0.0.53", 53), SERVER
        for trust, server, believed in (
            (TrustAD.LOOPBACK, near, True),
            (TrustAD.LOOPBACK, ("::1", 53), True),
            (TrustAD.LOOPBACK, far, False),
            (TrustAD.ALWAYS, far, True),
            (TrustAD.NEVER, near, False),
        ):
            self.transport = Transport(self.reactor, timeout_seconds=5.0, trust=trust)
            asking = self.ask(server=server)
            port = self.reactor.ports[-1]
            response = dns.message.from_wire(self.response_to(port))
            response.flags |= dns.flags.AD
            port.protocol.datagramReceived(response.to_wire(), server)
            self.assertIs(believed, self.successResultOf(asking).authenticated)

    def ask(self, name: str = "example.com", server: Server = SERVER) -> Deferred[Answer]:
        return Deferred.fromCoroutine(self.transport.ask(Question(name, A), server))

    def response_to(self, port: FakePort) -> bytes:
        query = dns.message.from_wire(port.sent[0])
        response = dns.message.make_response(query, recursion_available=True)
        rrset = dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "192.0.2.1")
        response.answer.append(rrset)
        return response.to_wire()

    def test_one_question(self) -> None:
        """A query leaves from a port of its own, connected to the server and closed after."""
        asking = self.ask()
        port = self.reactor.ports[0]
        self.assertEqual((SERVER, ""), (port.connected_to, port.interface))
        self.assertNoResult(asking)
        port.protocol.datagramReceived(self.response_to(port), SERVER)
        self.assertEqual(("192.0.2.1",), self.successResultOf(asking).values)
        self.assertFalse(port.listening)
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_ipv6_server(self) -> None:
        """A name server's IPv6 address may be written in any way."""
        asking = self.ask(server=("2001:DB8:0:0::53", 53))
        port = self.reactor.ports[0]
        self.assertEqual("::", port.interface)
        port.protocol.datagramReceived(self.response_to(port), ("2001:db8::53", 53))
        self.assertIs(Verdict.ANSWERED, self.successResultOf(asking).verdict)

    def test_another_sender_is_not_heard(self) -> None:
        """Address and port must be those that were asked, whatever the kernel lets in."""
        asking = self.ask()
        port = self.reactor.ports[0]
        for sender in (("192.0.2.54", 53), ("192.0.2.53", 54)):
            port.protocol.datagramReceived(self.response_to(port), sender)
        self.assertNoResult(asking)
        port.protocol.datagramReceived(self.response_to(port), SERVER)
        self.successResultOf(asking)

    def test_second_response_is_not_heard(self) -> None:
        """What comes after the answer, before the port is closed, changes nothing."""
        asking = self.ask()
        port = self.reactor.ports[0]
        for _ in range(2):
            port.protocol.datagramReceived(self.response_to(port), SERVER)
        port.protocol.connectionRefused()
        self.successResultOf(asking)

    def test_time_out(self) -> None:
        """Silence, and garbage, last for `timeout_seconds`."""
        asking = self.ask()
        port = self.reactor.ports[0]
        self.reactor.advance(4.9)
        port.protocol.datagramReceived(b"garbage", SERVER)
        self.assertNoResult(asking)
        self.reactor.advance(0.1)
        self.assertIs(Verdict.SILENT, self.successResultOf(asking).verdict)
        self.assertFalse(port.listening)
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_refused(self) -> None:
        """A port where nobody listens is silence at once."""
        asking = self.ask()
        self.reactor.ports[0].protocol.connectionRefused()
        self.assertIs(Verdict.SILENT, self.successResultOf(asking).verdict)

    def test_port_closed_by_the_reactor(self) -> None:
        """A port that the reactor has closed is silence at once, too."""
        asking = self.ask()
        self.reactor.ports[0].protocol.stopProtocol()
        self.assertIs(Verdict.SILENT, self.successResultOf(asking).verdict)

    def test_no_socket(self) -> None:
        """A network that cannot be reached, and a machine without sockets, are silence."""

        def fail(*arguments: object) -> None:
            raise OSError(101, "Network is unreachable")

        self.patch(FakePort, "connect", fail)
        self.assertIs(Verdict.SILENT, self.successResultOf(self.ask()).verdict)
        self.assertFalse(self.reactor.ports[0].listening)
        self.patch(self.reactor, "listenUDP", fail)
        self.assertIs(Verdict.SILENT, self.successResultOf(self.ask()).verdict)

    def test_cancel(self) -> None:
        """Whoever gives up leaves neither port nor timer."""
        asking = self.ask()
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.assertFalse(self.reactor.ports[0].listening)
        self.assertEqual([], self.reactor.getDelayedCalls())
        self.successResultOf(self.transport.close())

    def test_identifiers_are_unique(self) -> None:
        """An identifier that is under way is not used a second time, but may be later."""
        self.transport.random = Numbers(7, 7, 7, 8, 7)
        first, second = self.ask("a.example"), self.ask("b.example")
        one, two = self.reactor.ports
        self.assertEqual([b"\0\7", b"\0\x08"], [port.sent[0][:2] for port in (one, two)])
        one.protocol.datagramReceived(self.response_to(one), SERVER)
        self.successResultOf(first)
        third = self.ask("c.example")
        self.assertEqual(b"\0\7", self.reactor.ports[2].sent[0][:2])
        for asking in (second, third):
            asking.cancel()
            self.failureResultOf(asking, CancelledError)

    def test_sockets_are_bounded(self) -> None:
        """Beyond `MAX_SOCKETS` a question waits for a place, its time not yet running."""
        asking = [self.ask(f"n{n}.example") for n in range(MAX_SOCKETS + 1)]
        self.assertEqual(MAX_SOCKETS, len(self.reactor.ports))
        self.reactor.advance(4)
        port = self.reactor.ports[0]
        port.protocol.datagramReceived(self.response_to(port), SERVER)
        self.assertEqual(MAX_SOCKETS + 1, len(self.reactor.ports))
        self.reactor.advance(1)
        self.assertNoResult(asking[-1])
        self.reactor.advance(4)
        for one in asking:
            self.successResultOf(one)

    def test_name_without_wire_form(self) -> None:
        """A name that does not fit into a message is told as one that does not exist."""
        answer = self.successResultOf(self.ask("a" * 64 + ".example"))
        self.assertIs(Verdict.NO_DOMAIN, answer.verdict)
        self.assertEqual([], self.reactor.getDelayedCalls())
