"""Tests for `mailhost.relay.dns.doors`: what Twisted sees of the resolver."""

from __future__ import annotations

from typing import Any

import dns.rdata
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IHostnameResolver,
    IHostResolution,
    IResolutionReceiver,
    IResolver,
    IResolverSimple,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.names import dns as names
from twisted.names.error import DNSNameError, DNSQueryTimeoutError, DNSServerError
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mailhost.relay.dns.messages import AAAA, MX, PTR, A, Question, Verdict
from mailhost.relay.dns.resolver import DNSResolver
from tests.relay.dns.test_resolver import ResolverCase, found
from tests.support.dns_server import DNSServer

TLSA = 52


@implementer(IResolutionReceiver)
class Receiver:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """The first call."""
        self.resolution = resolutionInProgress
        self.told.append("began")

    def addressResolved(self, address: Any) -> None:
        """One address."""
        self.told.append(address)

    def resolutionComplete(self) -> None:
        """The last call."""
        self.told.append("complete")


class LookupTests(ResolverCase):
    def hold_record(self, name: str, kind: int, data: str, **more: Any) -> None:
        """An answer of one record, written as in a zone file."""
        answer = found(Question(name, kind), data, **more)
        record = dns.rdata.from_text("IN", kind, data)
        self.answers[answer.question] = evolve(answer, records=(record,))

    def query(self, name: str, kind: int) -> Deferred[Any]:
        return self.resolver.query(names.Query(name.encode("ascii"), kind), [1])

    def test_interfaces(self) -> None:
        """It can be installed on a reactor and given to twisted.names."""
        for interface in (IHostnameResolver, IResolverSimple, IResolver):
            self.assertTrue(interface.providedBy(self.resolver))
        verifyObject(IHostnameResolver, self.resolver)

    def test_records(self) -> None:
        """Records come as twisted.names writes them, with their TTL."""
        for kind, data, payload in (
            (A, "192.0.2.1", names.Record_A("192.0.2.1", 60)),
            (AAAA, "2001:db8::1", names.Record_AAAA("2001:db8::1", 60)),
            (MX, "10 mx.example.com.", names.Record_MX(10, "mx.example.com", 60)),
            (PTR, "host.example.com.", names.Record_PTR("host.example.com", 60)),
        ):
            self.hold_record("example.com", kind, data)
            answers, authority, additional = self.successResultOf(self.query("example.com", kind))
            wanted = names.RRHeader("example.com", kind, ttl=60, payload=payload)
            self.assertEqual([wanted], answers)
            self.assertEqual(([], []), (authority, additional))

    def test_unknown_type(self) -> None:
        """A type that twisted.names does not know comes as its octets."""
        self.hold_record("_25._tcp.example.com", TLSA, "3 1 1 " + "ab" * 32)
        answers = self.successResultOf(self.query("_25._tcp.example.com", TLSA))[0]
        self.assertEqual(b"\3\1\1" + b"\xab" * 32, answers[0].payload.data)

    def test_alias(self) -> None:
        """An alias comes as one CNAME before the records."""
        self.hold_record("a.example", A, "192.0.2.1", canonical="b.example")
        alias, record = self.successResultOf(self.resolver.lookupAddress("a.example"))[0]
        self.assertEqual(("a.example", "b.example"), (str(alias.name), str(alias.payload.name)))
        self.assertEqual("b.example", str(record.name))

    def test_no_record(self) -> None:
        """No record of the type is an empty answer."""
        self.hold("example.com", MX)
        self.assertEqual(
            ([], [], []), self.successResultOf(self.resolver.lookupMailExchange("example.com"))
        )

    def test_failures(self) -> None:
        """Failures are those of twisted.names."""
        for verdict, error in (
            (Verdict.NO_DOMAIN, DNSNameError),
            (Verdict.FAILED, DNSServerError),
            (Verdict.ENDLESS, DNSServerError),
            (Verdict.SILENT, DNSQueryTimeoutError),
        ):
            name = f"{verdict.name.lower().replace('_', '-')}.example"
            self.fail_with(verdict, name, MX)
            self.failureResultOf(self.resolver.lookupMailExchange(name), error)
        self.failureResultOf(self.resolver.lookupMailExchange(b"a..b"), DNSNameError)

    def test_what_a_relay_does_not_need(self) -> None:
        """ANY and zone transfers are not offered, and say so."""
        for method in (self.resolver.lookupAllRecords, self.resolver.lookupZone):
            self.failureResultOf(method("example.com"), NotImplementedError)

    def test_timeout(self) -> None:
        """The sum of the caller's numbers bounds the look-up."""
        self.delay("example.com", MX)
        waiting = self.resolver.lookupMailExchange("example.com", [1, 2])
        self.reactor.advance(2.9)
        self.assertNoResult(waiting)
        self.reactor.advance(0.1)
        self.failureResultOf(waiting, TimeoutError)


class HostTests(ResolverCase):
    def test_one_address(self) -> None:
        """getHostByName gives an IPv4 address, IPv6 where there is no other."""
        self.hold("h.example", A, "192.0.2.1")
        self.hold("h.example", AAAA, "2001:db8::1")
        four = self.successResultOf(self.resolver.getHostByName(b"h.example"))
        self.assertEqual("192.0.2.1", four)
        self.hold("six.example", A)
        self.hold("six.example", AAAA, "2001:db8::1")
        six = self.successResultOf(self.resolver.getHostByName("six.example", [1]))
        self.assertEqual("2001:db8::1", six)

    def test_no_address(self) -> None:
        """No address, for whatever reason, is a DNSLookupError."""
        self.hold("none.example", A)
        self.hold("none.example", AAAA)
        self.fail_with(Verdict.SILENT, "silent.example", A, AAAA)
        for name in ("none.example", "silent.example", "gone.example", "a..b"):
            self.failureResultOf(self.resolver.getHostByName(name), DNSLookupError)

    def test_all_addresses(self) -> None:
        """resolveHostName tells every address with the port, then that it is complete."""
        self.hold("h.example", A, "192.0.2.1")
        self.hold("h.example", AAAA, "2001:db8::1")
        receiver = Receiver()
        self.resolver.resolveHostName(receiver, "h.example", 25)
        four, six = IPv4Address("TCP", "192.0.2.1", 25), IPv6Address("TCP", "2001:db8::1", 25)
        self.assertEqual(["began", four, six, "complete"], receiver.told)
        only_six = Receiver()
        self.resolver.resolveHostName(only_six, "h.example", 25, [IPv6Address])
        self.assertEqual(["began", six, "complete"], only_six.told)
        datagrams = Receiver()
        self.resolver.resolveHostName(datagrams, "h.example", 53, [IPv4Address], "UDP")
        self.assertEqual(IPv4Address("UDP", "192.0.2.1", 53), datagrams.told[1])

    def test_failure_has_no_addresses(self) -> None:
        """A receiver hears of a failure as the end without an address."""
        for name in ("gone.example", "a..b"):
            receiver = Receiver()
            self.resolver.resolveHostName(receiver, name)
            self.assertEqual(["began", "complete"], receiver.told)

    def test_fault_of_our_own_is_logged(self) -> None:
        """What is no failure of DNS is told in the log, not hidden."""
        self.delay("h.example", A).errback(ZeroDivisionError())
        self.hold("h.example", AAAA)
        receiver = Receiver()
        self.resolver.resolveHostName(receiver, "h.example")
        self.assertEqual(["began", "complete"], receiver.told)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_cancel(self) -> None:
        """A resolution that is cancelled ends without addresses."""
        self.delay("h.example", A)
        receiver = Receiver()
        self.resolver.resolveHostName(receiver, "h.example").cancel()
        self.assertEqual(["began", "complete"], receiver.told)
        self.assertEqual("h.example", receiver.resolution.name)

    def test_installed_on_a_reactor(self) -> None:
        """A reactor takes it for both of its ways to resolve."""
        self.hold("h.example", A, "192.0.2.1")
        memory = MemoryReactorClock()
        memory.nameResolver = self.resolver
        endpoint = HostnameEndpoint(memory, "h.example", 25)
        endpoint.connect(Factory.forProtocol(Protocol))
        self.assertEqual(("192.0.2.1", 25), memory.tcpClients[0][:2])


class EndpointTests(TestCase):
    async def test_endpoint(self) -> None:
        """An endpoint of Twisted finds its host through the resolver."""
        server = DNSServer(reactor)
        self.addCleanup(server.stop)
        server.start({"host.example.com": {"A": ["127.0.0.1"]}})
        resolver = DNSResolver(
            reactor, [("127.0.0.1", server.port)], timeout_seconds=10.0, hosts_file=None
        )
        self.addCleanup(resolver.close)
        port = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
        self.addCleanup(port.stopListening)

        class Resolving:
            """The reactor with another name resolver."""

            nameResolver = resolver

            def __getattr__(self, name: str) -> Any:
                return getattr(reactor, name)

        endpoint = HostnameEndpoint(Resolving(), "host.example.com", port.getHost().port)
        protocol = await connectProtocol(endpoint, Protocol())
        self.assertEqual("127.0.0.1", protocol.transport.getPeer().host)
        lost: Deferred[None] = Deferred()
        protocol.connectionLost = lambda reason: lost.callback(None)
        protocol.transport.abortConnection()
        await lost
