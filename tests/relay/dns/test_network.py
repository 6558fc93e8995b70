"""`DNSResolver` against a real name server on loopback, by UDP and TCP."""

from __future__ import annotations

from typing import Any

import dns.flags
import dns.message
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import CannotListenError
from twisted.trial.unittest import SkipTest, TestCase

from mailhost.errors import ResolveProblem
from mailhost.relay.dns.messages import MX, Answer, Verdict
from mailhost.relay.dns.resolver import DNSResolver
from tests.support.dns_server import DNSServer, Fault

ZONES = {
    "example.com": {"MX": ["20 mx2.example.com.", "10 mx1.example.com."]},
    "mx1.example.com": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
    "null.example.com": {"MX": ["0 ."]},
    "host.example.com": {"A": ["192.0.2.2"]},
    "six.example.com": {"AAAA": ["2001:db8::6"]},
    "alias.example.com": {"CNAME": ["deep.example.com."]},
    "deep.example.com": {"CNAME": ["host.example.com."]},
    "loop.example.com": {"CNAME": ["pool.example.com."]},
    "pool.example.com": {"CNAME": ["loop.example.com."]},
    "5.2.0.192.in-addr.arpa": {"PTR": ["host.example.com."]},
}
#: For a name server that never answers; nothing else is waited for.
SHORT_SECONDS = 0.05
#: For one that does: long enough for any machine.
LONG_SECONDS = 10.0
FOUND = ((20, "mx2.example.com"), (10, "mx1.example.com"))


class NetworkCase(TestCase):
    """A name server with `ZONES`, and a resolver for it."""

    def setUp(self) -> None:
        self.server = DNSServer(reactor)
        self.addCleanup(self.server.stop)
        self.port = self.server.start(ZONES)
        self.resolver = self.make(("127.0.0.1", self.port))

    def make(self, *servers: tuple[str, int], timeout: float = LONG_SECONDS) -> DNSResolver:
        resolver = DNSResolver(reactor, servers, timeout_seconds=timeout, hosts_file=None)
        self.addCleanup(resolver.close)
        return resolver

    async def status(self, maybe: Any) -> str:
        """The status that the Deferred *maybe* fails with."""
        with self.assertRaises(ResolveProblem) as caught:
            await maybe
        return caught.exception.status


class AnswerTests(NetworkCase):
    async def test_mail_exchanges(self) -> None:
        """MX records arrive by UDP; the second time nobody is asked."""
        self.assertEqual(FOUND, await self.resolver.mail_exchanges("example.com"))
        self.assertEqual(FOUND, self.resolver.mail_exchanges("example.com"))
        self.assertEqual(1, self.server.count("example.com", "MX"))

    async def test_null_mx(self) -> None:
        """A null MX is a host without a name (RFC 7505)."""
        self.assertEqual(((0, ""),), await _later(self.resolver.mail_exchanges("null.example.com")))

    async def test_addresses(self) -> None:
        """Both families, one of them, none; aliases followed by the server."""
        for name, addresses in (
            ("mx1.example.com", ("192.0.2.1", "2001:db8::1")),
            ("six.example.com", ("2001:db8::6",)),
            ("null.example.com", ()),
            ("alias.example.com", ("192.0.2.2",)),
        ):
            self.assertEqual(addresses, await _later(self.resolver.addresses(name)))

    async def test_aliases_followed_by_us(self) -> None:
        """A server that leaves out what an alias leads to is asked on."""
        for name in ("alias.example.com", "deep.example.com"):
            self.server.misbehave(name, Fault.PARTIAL)
        found = await _later(self.resolver.addresses("alias.example.com"))
        self.assertEqual(("192.0.2.2",), found)
        self.assertEqual(1, self.server.count("host.example.com", "A"))

    async def test_alias_loop(self) -> None:
        """A loop of aliases is permanent, in one answer or over several."""
        status = await self.status(self.resolver.addresses("loop.example.com"))
        self.assertEqual("5.4.4", status)
        for name in ("loop.example.com", "pool.example.com"):
            self.server.misbehave(name, Fault.PARTIAL)
        fresh = self.make(("127.0.0.1", self.port))
        self.assertEqual("5.4.4", await self.status(fresh.addresses("loop.example.com")))

    async def test_names(self) -> None:
        """PTR records; none for an address without."""
        self.assertEqual(("host.example.com",), await _later(self.resolver.names("192.0.2.5")))
        self.assertEqual((), await _later(self.resolver.names("192.0.2.6")))

    async def test_no_domain(self) -> None:
        """NXDOMAIN is 5.1.2 and kept for as long as the SOA says."""
        status = await self.status(self.resolver.mail_exchanges("no.example.com"))
        self.assertEqual("5.1.2", status)
        self.assertRaises(ResolveProblem, self.resolver.mail_exchanges, "no.example.com")

    async def test_negative_answer_without_soa(self) -> None:
        """Without SOA the absence of records is asked for each time (RFC 2308 §5)."""
        self.server.negative_seconds = None
        for _ in range(2):
            found = await _later(self.resolver.mail_exchanges("host.example.com"))
            self.assertEqual((), found)
        self.assertEqual(2, self.server.count("host.example.com", "MX"))

    async def test_ttl_zero(self) -> None:
        """TTL 0 is asked for each time."""
        self.server.set("example.com", "MX", ["5 other.example.com."], ttl=0)
        for _ in range(2):
            found = await _later(self.resolver.mail_exchanges("example.com"))
            self.assertEqual(((5, "other.example.com"),), found)
        self.assertEqual(2, self.server.count("example.com"))

    async def test_authenticated(self) -> None:
        """AD is asked for, and told for a signed name only."""
        self.server.signed.add("example.com")
        signed = await _later(self.resolver.ask("example.com", MX))
        unsigned = await _later(self.resolver.ask("null.example.com", MX))
        self.assertEqual((True, False), (signed.authenticated, unsigned.authenticated))
        query = dns.message.from_wire(self.server.wires[0])
        self.assertTrue(query.flags & dns.flags.AD)

    async def test_many_at_once(self) -> None:
        """Many questions at a time each get their own answer."""
        names = [f"n{n}.example.net" for n in range(300)]
        for n, name in enumerate(names):
            self.server.set(name, "A", [f"192.0.2.{n % 250}"])
        found = await gatherResults([_later(self.resolver.addresses(name)) for name in names])
        self.assertEqual([(f"192.0.2.{n % 250}",) for n in range(300)], found)

    async def test_ipv6_name_server(self) -> None:
        """A name server may be asked over IPv6."""
        server = DNSServer(reactor, interface="::1")
        self.addCleanup(server.stop)
        try:
            server.start(ZONES)
        except CannotListenError as error:
            raise SkipTest(f"no IPv6 on this machine: {error}") from error
        server.misbehave("example.com", Fault.TRUNCATED)
        resolver = self.make(("::1", server.port))
        self.assertEqual(FOUND, await _later(resolver.mail_exchanges("example.com")))
        self.assertEqual(1, server.count("example.com", by="tcp"))


class FaultTests(NetworkCase):
    async def test_failures(self) -> None:
        """SERVFAIL, REFUSED and a referral are temporary and asked once."""
        for fault in (Fault.SERVFAIL, Fault.REFUSED, Fault.REFERRAL):
            name = f"{fault.name.lower()}.example.net"
            self.server.misbehave(name, fault)
            self.assertEqual("4.4.3", await self.status(self.resolver.mail_exchanges(name)))
            self.assertEqual(1, self.server.count(name))

    async def test_long_answer_by_tcp(self) -> None:
        """TC makes the question go out again by TCP."""
        many = [f"{n} mx{n}.a-rather-long-name-for-a-mail-host.example.com." for n in range(60)]
        self.server.set("example.com", "MX", many)
        self.server.misbehave("example.com", Fault.TRUNCATED)
        found = await _later(self.resolver.mail_exchanges("example.com"))
        self.assertEqual(60, len(found))
        self.assertEqual(1, self.server.count("example.com", by="udp"))
        self.assertEqual(1, self.server.count("example.com", by="tcp"))

    async def test_cut_short_by_tcp_too(self) -> None:
        """An answer that is never whole is a failure, not half an answer."""
        self.server.misbehave("example.com", Fault.TRUNCATED_ALWAYS)
        status = await self.status(self.resolver.mail_exchanges("example.com"))
        self.assertEqual("4.4.3", status)

    async def test_tcp_closed_without_answer(self) -> None:
        """A TCP connection that ends early is silence: asked twice, then given up."""
        self.server.misbehave("example.com", Fault.CLOSED_TCP)
        status = await self.status(self.resolver.mail_exchanges("example.com"))
        self.assertEqual("4.4.3", status)
        self.assertEqual(2, self.server.count("example.com", by="tcp"))

    async def test_server_without_edns(self) -> None:
        """FORMERR leads to a query without EDNS."""
        self.server.misbehave("example.com", Fault.FORMERR)
        self.assertEqual(FOUND, await _later(self.resolver.mail_exchanges("example.com")))
        self.assertEqual(2, self.server.count("example.com"))

    async def test_wrong_answers_are_not_heard(self) -> None:
        """Wrong identifier, question, port, and garbage: the right answer after them counts."""
        for fault in (Fault.WRONG_ID, Fault.WRONG_QUESTION, Fault.OTHER_PORT, Fault.GARBAGE):
            name = f"{fault.name.lower()}.example.net"
            self.server.set(name, "MX", ["10 mx.example.net."])
            self.server.misbehave(name, fault, then_right=True)
            found = await _later(self.resolver.mail_exchanges(name))
            self.assertEqual(((10, "mx.example.net"),), found)
            self.assertEqual(1, self.server.count(name))

    async def test_nothing_but_wrong_answers(self) -> None:
        """Where nothing right comes, it ends in a time-out, after two tries."""
        resolver = self.make(("127.0.0.1", self.port), timeout=SHORT_SECONDS)
        for fault in (
            Fault.SILENCE, Fault.WRONG_ID, Fault.WRONG_QUESTION, Fault.OTHER_PORT, Fault.GARBAGE,
        ):  # fmt: skip
            name = f"{fault.name.lower()}.example.net"
            self.server.set(name, "MX", ["10 mx.example.net."])
            self.server.misbehave(name, fault)
            answer = await _later(resolver.ask(name, MX))
            self.assertIs(Verdict.SILENT, answer.verdict)
            self.assertEqual(2, self.server.count(name))

    async def test_second_server(self) -> None:
        """A server that refuses or that is not there is passed over."""
        second = DNSServer(reactor)
        self.addCleanup(second.stop)
        second.start(ZONES)
        self.server.misbehave("example.com", Fault.REFUSED)
        resolver = self.make(("127.0.0.1", self.port), ("127.0.0.1", second.port))
        self.assertEqual(FOUND, await _later(resolver.mail_exchanges("example.com")))
        await self.server.stop()
        resolver = self.make(("127.0.0.1", self.port), ("127.0.0.1", second.port))
        self.assertEqual(FOUND, await _later(resolver.mail_exchanges("example.com")))
        self.assertEqual(2, second.count("example.com"))

    async def test_no_server(self) -> None:
        """Nobody there is told at once: no time-out is waited for."""
        await self.server.stop()
        self.assertEqual("4.4.3", await self.status(self.resolver.mail_exchanges("example.com")))

    async def test_recovery(self) -> None:
        """A temporary failure ends: another resolver gets the answer once the server has it."""
        self.server.misbehave("example.com", Fault.SERVFAIL)
        self.assertEqual("4.4.3", await self.status(self.resolver.mail_exchanges("example.com")))
        self.server.misbehave("example.com", None)
        fresh = self.make(("127.0.0.1", self.port))
        self.assertEqual(FOUND, await _later(fresh.mail_exchanges("example.com")))

    async def test_close_while_waiting(self) -> None:
        """Closing ends what is on its way, by UDP and by TCP, and leaves no socket behind."""
        self.server.misbehave("silent.example.net", Fault.SILENCE)
        waiting = self.resolver.mail_exchanges("silent.example.net")
        while not self.server.count("silent.example.net"):
            await _turn()
        await self.resolver.close()
        self.assertEqual("4.4.3", await self.status(waiting))

    async def test_close_while_waiting_for_tcp(self) -> None:
        """A TCP connection that waits for its answer is closed as well."""
        replies = self.server.replies

        def silent_by_tcp(wire: bytes, by: str) -> tuple[list[bytes], list[bytes]]:
            made = replies(wire, by)
            return ([], []) if by == "tcp" else made

        self.patch(DNSServer, "replies", lambda server, wire, by: silent_by_tcp(wire, by))
        self.server.misbehave("example.com", Fault.TRUNCATED)
        waiting = self.resolver.mail_exchanges("example.com")
        while not self.server.count("example.com", by="tcp"):
            await _turn()
        await self.resolver.close()
        self.assertEqual("4.4.3", await self.status(waiting))


def _later(maybe: Any) -> Deferred[Any]:
    """*maybe*, which must not be ready yet."""
    assert isinstance(maybe, Deferred), maybe
    assert not isinstance(maybe, Answer)
    return maybe


def _turn() -> Deferred[None]:
    """One turn of the reactor."""
    turned: Deferred[None] = Deferred()
    reactor.callLater(0, turned.callback, None)
    return turned
