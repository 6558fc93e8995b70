"""`DNSResolver` against the name server of ``twisted.names``: another hand wrote its messages."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.names import dns
from twisted.names.authority import FileAuthority
from twisted.names.server import DNSServerFactory
from twisted.trial.unittest import TestCase

from mailhost.errors import ResolveProblem
from mailhost.relay.dns.resolver import DNSResolver


class Authority(FileAuthority):
    """``example.com``, held in memory."""

    def loadFile(self, filename: object) -> None:
        """Not from a file."""
        soa = dns.Record_SOA(b"ns.example.com", b"hostmaster.example.com", 1, 60, 60, 60, 60)
        soa.ttl = 60
        self.soa = (b"example.com", soa)
        self.records = {
            b"example.com": [
                soa,
                dns.Record_MX(10, b"a.example.com", ttl=60),
                dns.Record_MX(10, b"b.example.com", ttl=60),
            ],
            b"a.example.com": [
                dns.Record_A("192.0.2.1", ttl=60),
                dns.Record_AAAA("2001:db8::1", ttl=60),
            ],
            b"www.example.com": [dns.Record_CNAME(b"a.example.com", ttl=60)],
        }


class TwistedNamesTests(TestCase):
    def setUp(self) -> None:
        factory = DNSServerFactory(authorities=[Authority(None)])
        factory.noisy = False
        port = reactor.listenUDP(0, dns.DNSDatagramProtocol(factory), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.resolver = DNSResolver(
            reactor, [("127.0.0.1", port.getHost().port)], timeout_seconds=10.0, hosts_file=None
        )
        self.addCleanup(self.resolver.close)

    async def test_answers(self) -> None:
        """MX, both families, an alias and the absence of records are understood."""
        self.assertEqual(
            [(10, "a.example.com"), (10, "b.example.com")],
            sorted(await self.resolver.mail_exchanges("example.com")),
        )
        for name in ("a.example.com", "www.example.com"):
            self.assertEqual(("192.0.2.1", "2001:db8::1"), await self.resolver.addresses(name))
        self.assertEqual((), await self.resolver.mail_exchanges("a.example.com"))

    async def test_no_domain(self) -> None:
        """NXDOMAIN is understood."""
        with self.assertRaises(ResolveProblem) as caught:
            await self.resolver.mail_exchanges("gone.example.com")
        self.assertEqual("5.1.2", caught.exception.status)
