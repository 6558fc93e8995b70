"""Tests for `mailhost.relay.mail_exchange`."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from attrs import define, field
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.task import Clock
from twisted.mail.relaymanager import MXCalculator
from twisted.names import dns
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from mailhost.errors import ResolveProblem
from mailhost.interfaces import INameResolver, Maybe
from mailhost.model.proven import Proven
from mailhost.model.route import HostAddress
from mailhost.relay import mail_exchange
from mailhost.relay.dns.resolver import DNSResolver
from mailhost.relay.mail_exchange import (
    MAX_ADDRESSES,
    MAX_HOSTS,
    ExchangeHost,
    MailExchangeError,
    MailExchangeResolver,
    Site,
)
from tests.support.dns_server import DNSServer, Fault

DOMAIN = "example.com"
NO_DOMAIN = ResolveProblem("5.1.2", "no such domain")
SERVFAIL = ResolveProblem("4.4.3", "SERVFAIL")

Held = Sequence[Any] | ResolveProblem | Deferred[Any]


@implementer(INameResolver)
@define(eq=False)
class FakeNames:
    """DNS made up by the test; what is a Deferred there is given as one."""

    exchanges: dict[str, Held] = field(factory=dict)
    hosts: dict[str, Held] = field(factory=dict)
    asked: list[str] = field(factory=list)

    def mail_exchanges(self, domain: str) -> Maybe[Sequence[tuple[int, str]]]:
        """MX records."""
        return self._give(self.exchanges, domain)

    def addresses(self, host: str) -> Maybe[Sequence[str]]:
        """Addresses."""
        return self._give(self.hosts, host)

    def names(self, address: str) -> Maybe[Sequence[str]]:
        """None."""
        return ()

    def _give(self, held: dict[str, Held], name: str) -> Maybe[Sequence[Any]]:
        self.asked.append(name)
        answer = held.get(name, NO_DOMAIN)
        if isinstance(answer, ResolveProblem):
            raise ResolveProblem(answer.status, answer.words)
        return answer


class MailExchangeCase(SynchronousTestCase):
    """A resolver on `FakeNames`."""

    def setUp(self) -> None:
        self.names = FakeNames()
        self.clock = Clock()
        self.resolver = self.make()

    def make(self, **options: Any) -> MailExchangeResolver:
        return MailExchangeResolver(self.names, self.clock, random=Random(1), **options)

    def hosts(
        self, domain: str = DOMAIN, resolver: MailExchangeResolver | None = None
    ) -> list[str]:
        site = (resolver or self.resolver).site(domain)
        assert isinstance(site, Site)
        return [one.host for one in site.hosts]

    def status(self, method: Any, *arguments: Any) -> str:
        """The status of the `ResolveProblem` raised or in the Deferred."""
        try:
            answer = method(*arguments)
        except ResolveProblem as problem:
            return problem.status
        return str(self.failureResultOf(answer, ResolveProblem).value.status)


class SiteTests(MailExchangeCase):
    def test_by_preference(self) -> None:
        """Lower preference first; names in lower case without final dot (RFC 5321 §5.1)."""
        self.names.exchanges[DOMAIN] = [(20, "MX2.example.com."), (10, "mx1.example.com")]
        self.assertEqual(
            Site(
                "mx1.example.com,mx2.example.com",
                (ExchangeHost(10, "mx1.example.com"), ExchangeHost(20, "mx2.example.com")),
            ),
            self.resolver.site("Example.COM."),
        )

    def test_proven_no_longer(self) -> None:
        """The same hosts, and DNSSEC proves them or does not."""
        exchanges = [(10, "mx1.example.com")]
        for held in (Proven(exchanges), tuple(exchanges), Proven(exchanges)):
            self.names.exchanges[DOMAIN] = held
            site = self.resolver.site(DOMAIN)
            assert isinstance(site, Site)
            self.assertIs(isinstance(held, Proven), site.proven)

    def test_one_provider_is_one_site(self) -> None:
        """Domains with the same hosts have the same key, whatever the preferences and order."""
        self.names.exchanges = {
            "a.example": [(10, "mx1.example.net"), (10, "mx2.example.net")],
            "b.example": [(1, "mx2.example.net"), (2, "mx1.example.net")],
        }
        keys = {self.resolver.site(name).key for name in self.names.exchanges}
        self.assertEqual({"mx1.example.net,mx2.example.net"}, keys)

    def test_equal_preferences_are_shuffled(self) -> None:
        """Hosts of one preference come in every order, never across preferences."""
        self.names.exchanges[DOMAIN] = [
            (10, "a.example"), (10, "b.example"), (10, "c.example"), (5, "first.example"),
            (20, "last.example"),
        ]  # fmt: skip
        orders = {tuple(self.hosts()) for _ in range(200)}
        self.assertEqual(6, len(orders))
        self.assertEqual({"first.example"}, {order[0] for order in orders})
        self.assertEqual({"last.example"}, {order[-1] for order in orders})

    def test_warm_site_is_the_same_object(self) -> None:
        """Without equal preferences a site is not made a second time, until DNS says otherwise."""
        self.names.exchanges[DOMAIN] = ((10, "a.example"), (20, "b.example"))
        site = self.resolver.site(DOMAIN)
        self.assertIs(site, self.resolver.site(DOMAIN))
        self.names.exchanges[DOMAIN] = ((10, "c.example"),)
        self.assertEqual(["c.example"], self.hosts())

    def test_later(self) -> None:
        """An answer on its way makes a Deferred."""
        pending: Deferred[Any] = Deferred()
        self.names.exchanges[DOMAIN] = pending
        site = self.resolver.site(DOMAIN)
        assert isinstance(site, Deferred)
        self.assertNoResult(site)
        pending.callback([(10, "a.example")])
        self.assertEqual("a.example", self.successResultOf(site).key)

    def test_null_mx(self) -> None:
        """A null MX refuses mail for good (RFC 7505)."""
        for records in ([(0, "")], [(10, ".")], [(0, ""), (10, "")]):
            self.names.exchanges[DOMAIN] = records
            self.names.hosts[DOMAIN] = ["192.0.2.1"]
            self.assertEqual("5.1.10", self.status(self.resolver.site, DOMAIN))

    def test_unusable_records(self) -> None:
        """Records that name no host are passed over; where all are such, it is an error."""
        wrong = [(5, ""), (6, "192.0.2.1"), (7, "2001:db8::1"), (8, "two words"), (9, "a..b")]
        self.names.exchanges[DOMAIN] = [*wrong, (10, "mx.example.com")]
        self.assertEqual(["mx.example.com"], self.hosts())
        self.names.exchanges[DOMAIN] = wrong
        self.names.hosts[DOMAIN] = ["192.0.2.1"]
        self.assertEqual("5.4.4", self.status(self.resolver.site, DOMAIN))

    def test_host_named_twice(self) -> None:
        """A host that is named twice is tried once, at its best preference."""
        self.names.exchanges[DOMAIN] = [(20, "a.example"), (10, "b.example"), (5, "A.example")]
        self.assertEqual(["a.example", "b.example"], self.hosts())

    def test_too_many_hosts(self) -> None:
        """Of a thousand hosts the best few are used, always the same, so the key stays."""
        self.names.exchanges[DOMAIN] = [(10, f"mx{n:04}.example.com") for n in range(1000)]
        sites = [self.resolver.site(DOMAIN) for _ in range(5)]
        self.assertEqual({MAX_HOSTS}, {len(site.hosts) for site in sites})
        self.assertEqual(1, len({site.key for site in sites}))

    def test_implicit_mx(self) -> None:
        """Without MX the domain is its own host if it has an address (RFC 5321 §5.1)."""
        self.names.exchanges[DOMAIN] = ()
        for addresses in (["192.0.2.1"], ["2001:db8::1"]):
            self.names.hosts[DOMAIN] = addresses
            wanted = Site(DOMAIN, (ExchangeHost(0, DOMAIN),), proven=True)
            self.assertEqual(wanted, self.resolver.site(DOMAIN))

    def test_implicit_mx_later(self) -> None:
        """Either answer, or both, may be on their way."""
        for exchanges, addresses in ((False, True), (True, False), (True, True)):
            later: list[tuple[Deferred[Any], Any]] = []
            self.names.exchanges[DOMAIN] = self._maybe((), exchanges, later)
            self.names.hosts[DOMAIN] = self._maybe(["192.0.2.1"], addresses, later)
            site = self.resolver.site(DOMAIN)
            assert isinstance(site, Deferred)
            for deferred, value in later:
                self.assertNoResult(site)
                deferred.callback(value)
            self.assertEqual(DOMAIN, self.successResultOf(site).key)

    def _maybe(self, value: Any, delayed: bool, later: list[tuple[Deferred[Any], Any]]) -> Any:
        if not delayed:
            return value
        deferred: Deferred[Any] = Deferred()
        later.append((deferred, value))
        return deferred

    def test_neither_mx_nor_address(self) -> None:
        """A domain with neither is 5.4.4; one whose addresses cannot be asked for is delayed."""
        self.names.exchanges[DOMAIN] = ()
        self.names.hosts[DOMAIN] = ()
        self.assertEqual("5.4.4", self.status(self.resolver.site, DOMAIN))
        self.names.hosts[DOMAIN] = SERVFAIL
        self.assertEqual("4.4.3", self.status(self.resolver.site, DOMAIN))

    def test_failures(self) -> None:
        """NXDOMAIN is permanent, SERVFAIL temporary, and neither is followed by an implicit MX."""
        for problem in (NO_DOMAIN, SERVFAIL):
            self.names.exchanges[DOMAIN] = problem
            self.names.hosts[DOMAIN] = ["192.0.2.1"]
            self.assertEqual(problem.status, self.status(self.resolver.site, DOMAIN))
        pending: Deferred[Any] = Deferred()
        self.names.exchanges[DOMAIN] = pending
        site = self.resolver.site(DOMAIN)
        pending.errback(ResolveProblem("4.4.3", "time-out"))
        self.failureResultOf(site, ResolveProblem)

    def test_we_end_the_list(self) -> None:
        """We, and all that is not better than we, are dropped (RFC 5321 §5.1)."""
        resolver = self.make(own_names=frozenset({"US.example."}))
        self.names.exchanges[DOMAIN] = [
            (30, "worse.example"), (20, "us.example"), (20, "equal.example"),
            (10, "better.example"),
        ]  # fmt: skip
        self.assertEqual(["better.example"], self.hosts(resolver=resolver))

    def test_we_are_the_best(self) -> None:
        """Mail that would come back to us fails with 5.4.6; so does an implicit MX that is us."""
        resolver = self.make(own_names=frozenset({"us.example", "bare.example"}))
        self.names.exchanges[DOMAIN] = [(10, "us.example"), (20, "worse.example")]
        self.assertEqual("5.4.6", self.status(resolver.site, DOMAIN))
        self.names.exchanges["bare.example"] = ()
        self.names.hosts["bare.example"] = ["192.0.2.1"]
        self.assertEqual("5.4.6", self.status(resolver.site, "bare.example"))

    def test_u_labels(self) -> None:
        """A domain in U-labels is looked up in A-labels."""
        self.names.exchanges["xn--bcher-kva.example"] = [(10, "a.example")]
        self.assertEqual(["a.example"], self.hosts("B\u00fccher.example"))

    def test_no_domain_name(self) -> None:
        """What cannot be a domain is 5.1.2 without a question."""
        for text in ("", "a..b", "192.0.2.1", "[192.0.2]", "[IPv6:zz]", "["):
            self.assertEqual("5.1.2", self.status(self.resolver.site, text))
        self.assertEqual([], self.names.asked)

    def test_address_literal(self) -> None:
        """An address literal is its own host (RFC 5321 §4.1.3)."""
        self.assertEqual(["192.0.2.1"], self.hosts("[192.0.2.1]"))
        self.assertEqual(["2001:db8::1"], self.hosts("[IPv6:2001:DB8::1]"))
        self.assertEqual([], self.names.asked)

    def test_memory_is_bounded(self) -> None:
        """What was made of answers is remembered up to a number of domains."""
        self.patch(mail_exchange, "_MEMORY_COUNT", 2)
        sites = {}
        for name in ("a.example", "b.example", "c.example"):
            self.names.exchanges[name] = ((10, f"mx.{name}"),)
            sites[name] = self.resolver.site(name)
        self.assertIs(sites["c.example"], self.resolver.site("c.example"))
        self.assertIsNot(sites["a.example"], self.resolver.site("a.example"))


class HostAddressTests(MailExchangeCase):
    def addresses(self, *found: str, **options: Any) -> list[str]:
        self.names.hosts["h.example"] = found
        located = self.make(**options).host_addresses("h.example", 25)
        assert isinstance(located, tuple)
        return [one.address for one in located]

    def failing(self, *found: str, **options: Any) -> str:
        self.names.hosts["h.example"] = found
        return self.status(self.make(**options).host_addresses, "h.example", 25)

    def test_families_in_turn(self) -> None:
        """IPv6 first, then in turn; the order within a family is kept (RFC 8305 §4)."""
        self.assertEqual(
            ["2001:db8::2", "192.0.2.2", "2001:db8::1", "192.0.2.1"],
            self.addresses("192.0.2.2", "192.0.2.1", "2001:db8::2", "2001:db8::1"),
        )
        self.assertEqual(["192.0.2.2", "192.0.2.1"], self.addresses("192.0.2.2", "192.0.2.1"))

    def test_value(self) -> None:
        """Host and port go with each address."""
        self.names.hosts["h.example"] = ["192.0.2.1"]
        self.assertEqual(
            (HostAddress("h.example", "192.0.2.1", 2525),),
            self.resolver.host_addresses("h.example", 2525),
        )

    def test_bounded(self) -> None:
        """Of many addresses the first few are tried, both families among them."""
        four = [f"192.0.2.{n}" for n in range(100)]
        six = [f"2001:db8::{n + 1}" for n in range(100)]
        found = self.addresses(*four, *six)
        self.assertEqual((MAX_ADDRESSES, 3), (len(found), sum(":" in one for one in found)))

    def test_no_destinations(self) -> None:
        """Addresses that name no host are passed over, also where IPv6 hides them."""
        wrong = (
            "0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1",
            "fe80::1", "::ffff:0.0.0.0", "64:ff9b::e000:1", "2002:e000:1::1",
        )  # fmt: skip
        self.assertEqual(["192.0.2.1"], self.addresses(*wrong, "192.0.2.1"))
        self.assertEqual("5.4.4", self.failing(*wrong))

    def test_private(self) -> None:
        """Private addresses serve, unless only the Internet is wanted."""
        private = ("127.0.0.1", "10.0.0.1", "169.254.1.1", "100.64.0.1", "::1", "fd00::1",
                   "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1")  # fmt: skip
        for address in private:
            self.assertEqual([address], self.addresses(address))
            self.assertEqual("5.4.4", self.failing(address, allow_private=False))
        public = ("2600::1", "9.9.9.9")
        self.assertEqual(list(public), self.addresses(*private, *public, allow_private=False))

    def test_own_address(self) -> None:
        """A host with an address of ours is us: the mail would loop, whatever the port."""
        own = frozenset({"192.0.2.7", "2001:db8:0::7"})
        for address in ("192.0.2.7", "2001:db8::7"):
            self.assertEqual("5.4.6", self.failing(address, "192.0.2.1", own_addresses=own))
        self.assertEqual(["192.0.2.1"], self.addresses("192.0.2.1", own_addresses=own))

    def test_own_endpoint(self) -> None:
        """Where we listen ourselves is not connected to; another port of that address is."""
        self.names.hosts["h.example"] = ["192.0.2.7", "192.0.2.1"]
        resolver = self.make(own_endpoints=frozenset({("192.0.2.7", 25)}))
        for port, wanted in ((25, ["192.0.2.1"]), (2525, ["192.0.2.7", "192.0.2.1"])):
            located = resolver.host_addresses("h.example", port)
            self.assertEqual(wanted, [one.address for one in located])
        own = frozenset({("127.0.0.1", 25)})
        self.assertEqual("5.4.6", self.failing("127.0.0.1", own_endpoints=own))

    def test_listening_everywhere(self) -> None:
        """Who listens on 0.0.0.0 is every address of this machine, and no other."""
        everywhere = frozenset({("0.0.0.0", 25)})
        self.assertEqual("5.4.6", self.failing("127.0.0.1", own_endpoints=everywhere))
        self.names.hosts["h.example"] = ["192.0.2.77"]
        resolver = self.make(own_endpoints=everywhere, is_own=lambda address: False)
        (located,) = resolver.host_addresses("h.example", 25)
        self.assertEqual("192.0.2.77", located.address)

    def test_no_address(self) -> None:
        """A host that has no address, or does not exist, is 5.4.4: the domain does exist."""
        self.assertEqual("5.4.4", self.failing())
        self.assertEqual("5.4.4", self.status(self.resolver.host_addresses, "gone.example", 25))
        self.names.hosts["later.example"] = pending = Deferred()
        located = self.resolver.host_addresses("later.example", 25)
        pending.errback(ResolveProblem("5.1.2", "no such domain"))
        problem = self.failureResultOf(located, ResolveProblem).value
        self.assertEqual("5.4.4", problem.status)

    def test_temporary(self) -> None:
        """What may heal stays temporary."""
        self.names.hosts["h.example"] = SERVFAIL
        self.assertEqual("4.4.3", self.status(self.resolver.host_addresses, "h.example", 25))

    def test_later(self) -> None:
        """An answer on its way makes a Deferred."""
        self.names.hosts["h.example"] = pending = Deferred()
        located = self.resolver.host_addresses("h.example", 25)
        pending.callback(["192.0.2.1"])
        found = self.successResultOf(located)
        self.assertEqual(["192.0.2.1"], [one.address for one in found])

    def test_warm(self) -> None:
        """The same answer is judged once; another is judged anew."""
        self.names.hosts["h.example"] = ("192.0.2.1",)
        first = self.resolver.host_addresses("h.example", 25)
        self.assertIs(first, self.resolver.host_addresses("h.example", 25))
        self.names.hosts["h.example"] = ("192.0.2.2",)
        second = self.resolver.host_addresses("h.example", 25)
        self.assertEqual("192.0.2.2", second[0].address)


class UpstreamFaceTests(MailExchangeCase):
    """``getMX``, ``markBad``, ``markGood`` as ``twisted.mail.relaymanager`` uses them."""

    def setUp(self) -> None:
        super().setUp()
        self.names.exchanges[DOMAIN] = [(10, "a.example"), (20, "b.example")]

    def best(self, domain: str | bytes = DOMAIN) -> str:
        record = self.successResultOf(self.resolver.getMX(domain))
        self.assertIsInstance(record, dns.Record_MX)
        return str(record.name)

    def test_is_a_calculator(self) -> None:
        """It may stand wherever upstream's class is expected."""
        self.assertIsInstance(self.resolver, MXCalculator)
        self.assertEqual(3600, self.resolver.timeOutBadMX)

    def test_best_host(self) -> None:
        """The best host comes with its preference, for text and octets alike."""
        for domain in (DOMAIN, DOMAIN.encode("ascii"), "EXAMPLE.com."):
            self.assertEqual("a.example", self.best(domain))
        record = self.successResultOf(self.resolver.getMX(DOMAIN, maximumCanonicalChainLength=1))
        self.assertEqual(10, record.preference)

    def test_equal_preferences(self) -> None:
        """Two hosts of equal preference are both used, in turn by chance."""
        self.names.exchanges[DOMAIN] = [(10, "a.example"), (10, "b.example")]
        self.assertEqual({"a.example", "b.example"}, {self.best() for _ in range(50)})

    def test_bad_host_is_passed_over(self) -> None:
        """A host marked bad is passed over for its time, or until it is marked good."""
        for bad in ("a.example", b"a.example", dns.Name("A.example")):
            self.resolver.markBad(bad)
            self.assertEqual("b.example", self.best())
            self.resolver.markGood(bad)
            self.assertEqual("a.example", self.best())
        self.resolver.markGood("never-bad.example")
        self.resolver.markBad("a.example")
        self.clock.advance(self.resolver.timeOutBadMX - 1)
        self.assertEqual("b.example", self.best())
        self.clock.advance(1)
        self.assertEqual("a.example", self.best())
        self.assertEqual({}, self.resolver.badMXs)

    def test_all_bad(self) -> None:
        """Where all are bad the best is as good as any."""
        self.resolver.markBad("a.example")
        self.resolver.markBad("b.example")
        self.assertEqual("a.example", self.best())

    def test_time_for_bad_hosts(self) -> None:
        """How long a host stays bad is the caller's to say."""
        resolver = self.make(timeOutBadMX=5)
        resolver.markBad("a.example")
        self.assertEqual({"a.example": 5.0}, resolver.badMXs)

    def test_implicit_mx(self) -> None:
        """Without MX the domain itself is the host, unless that is not wanted."""
        self.names.exchanges[DOMAIN] = ()
        self.names.hosts[DOMAIN] = ["192.0.2.1"]
        self.assertEqual(DOMAIN, self.best())
        self.resolver.fallbackToDomain = False
        self.failureResultOf(self.resolver.getMX(DOMAIN), OSError)
        self.names.exchanges[DOMAIN] = [(10, "a.example")]
        self.assertEqual("a.example", self.best())

    def test_failures(self) -> None:
        """A failure is what upstream's callers catch, and carries our status."""
        for held, status in (([(0, "")], "5.1.10"), (NO_DOMAIN, "5.1.2"), (SERVFAIL, "4.4.3")):
            self.names.exchanges[DOMAIN] = held
            failure = self.failureResultOf(self.resolver.getMX(DOMAIN), DNSLookupError)
            assert isinstance(failure.value, MailExchangeError)
            self.assertEqual(status, failure.value.status)
            self.assertEqual(failure.value.words, str(failure.value))


class WholeTests(TestCase):
    """The resolver on real DNS."""

    def setUp(self) -> None:
        self.server = DNSServer(reactor)
        self.addCleanup(self.server.stop)
        self.server.start(
            {
                "example.com": {"MX": ["10 mx.example.com.", "5 alias.example.com."]},
                "mx.example.com": {"A": ["192.0.2.1"]},
                "alias.example.com": {"CNAME": ["mx.example.com."]},
                "bare.example.com": {"AAAA": ["2001:db8::1"]},
                "null.example.com": {"MX": ["0 ."]},
                "text.example.com": {"TXT": ["nothing else"]},
            }
        )
        dns_resolver = DNSResolver(
            reactor, [("127.0.0.1", self.server.port)], timeout_seconds=10.0, hosts_file=None
        )
        self.addCleanup(dns_resolver.close)
        self.resolver = MailExchangeResolver(dns_resolver, Clock())

    async def status(self, domain: str) -> str:
        """The status that the site of *domain* fails with."""
        with self.assertRaises(ResolveProblem) as caught:
            await self.resolver.site(domain)
        return caught.exception.status

    async def test_cold_and_warm(self) -> None:
        """Cold it takes Deferreds, warm the answers are there at once."""
        site = await self.resolver.site("example.com")
        self.assertEqual(["alias.example.com", "mx.example.com"], [one.host for one in site.hosts])
        for host in ("mx.example.com", "alias.example.com"):
            located = await self.resolver.host_addresses(host, 25)
            self.assertEqual((HostAddress(host, "192.0.2.1", 25),), located)
            self.assertIs(located, self.resolver.host_addresses(host, 25))
        self.assertIs(site, self.resolver.site("example.com"))

    async def test_proven(self) -> None:
        """DNSSEC has proven the MX records, or there is nothing to prove (RFC 8689 §4.2.1)."""
        self.assertFalse((await self.resolver.site("example.com")).proven)
        self.assertTrue((await self.resolver.site("bare.example.com")).proven)
        self.server.set("other.example.com", "MX", ["10 mx.example.com."])
        self.server.signed.add("other.example.com")
        self.assertTrue((await self.resolver.site("other.example.com")).proven)
        self.assertTrue(self.resolver.site("other.example.com").proven)

    async def test_implicit_mx(self) -> None:
        """A domain with nothing but AAAA is its own host."""
        site = await self.resolver.site("bare.example.com")
        self.assertEqual("bare.example.com", site.key)
        self.assertEqual(site, self.resolver.site("bare.example.com"))

    async def test_permanent(self) -> None:
        """What DNS denies for good is permanent."""
        for domain, status in (
            ("null.example.com", "5.1.10"),
            ("text.example.com", "5.4.4"),
            ("gone.example.com", "5.1.2"),
        ):
            self.assertEqual(status, await self.status(domain))

    async def test_temporary(self) -> None:
        """A failure of MX, or of the addresses of an implicit MX, is temporary."""
        self.server.misbehave("example.com", Fault.SERVFAIL)
        self.assertEqual("4.4.3", await self.status("example.com"))
        for kind in ("A", "AAAA"):
            self.server.misbehave("text.example.com", Fault.REFUSED, kind)
        self.assertEqual("4.4.3", await self.status("text.example.com"))
