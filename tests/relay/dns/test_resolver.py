"""Tests for `mailhost.relay.dns.resolver`: its rules, against answers made up by the test."""

from __future__ import annotations

from typing import Any

import dns.rdata
from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailhost.errors import ResolveProblem
from mailhost.interfaces import INameResolver
from mailhost.relay.dns.cache import FAILURE_SECONDS
from mailhost.relay.dns.files import Server
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
from mailhost.relay.dns.resolver import DNSResolver
from tests.relay.dns.fakes import FakeCarrier, FakeReactor, temporary_path

RECORD = dns.rdata.from_text("IN", "A", "192.0.2.1")


def found(question: Question, *values: Any, ttl: int = 60, **more: Any) -> Answer:
    """An answer with *values*; with none, the proof that there are none."""
    return Answer(
        question, Verdict.ANSWERED, canonical=more.pop("canonical", question.name),
        records=tuple(RECORD for _ in values), values=values, ttl_seconds=ttl, **more,
    )  # fmt: skip


class ResolverCase(SynchronousTestCase):
    """A resolver whose one name server is the test."""

    hosts = ""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.answers: dict[Question, Answer | Deferred[Answer]] = {}
        self.carrier = FakeCarrier(self.reply)
        hosts = temporary_path(self)
        with open(hosts, "w", encoding="ascii") as stream:
            stream.write(self.hosts)
        self.resolver = DNSResolver(
            self.reactor, [("192.0.2.53", 53)], hosts_file=hosts, carrier=self.carrier
        )

    def reply(self, question: Question, server: Server) -> Answer | Deferred[Answer]:
        return self.answers.get(question) or failure(question, Verdict.NO_DOMAIN, "")

    def hold(self, name: str, kind: int, *values: Any, **more: Any) -> None:
        question = Question(name, kind)
        self.answers[question] = found(question, *values, **more)

    def fail_with(self, verdict: Verdict, name: str, *kinds: int) -> None:
        for kind in kinds:
            self.answers[Question(name, kind)] = failure(Question(name, kind), verdict, "why")

    def delay(self, name: str, kind: int) -> Deferred[Answer]:
        later: Deferred[Answer] = Deferred()
        self.answers[Question(name, kind)] = later
        return later

    def result(self, maybe: Any) -> Any:
        """What *maybe* is, now or through its Deferred, which must have fired."""
        return self.successResultOf(maybe) if isinstance(maybe, Deferred) else maybe

    def status(self, method: Any, argument: str) -> str:
        """The status *method* fails with, raised or through its Deferred."""
        try:
            answer = method(argument)
        except ResolveProblem as problem:
            return problem.status
        return str(self.failureResultOf(answer, ResolveProblem).value.status)


class ResolverTests(ResolverCase):
    def test_interface(self) -> None:
        """It is what the house calls a name resolver."""
        verifyObject(INameResolver, self.resolver)

    def test_faulty_arguments(self) -> None:
        """Servers are IP addresses with ports, numbers are positive."""
        for arguments in (
            {"servers": [("ns.example.com", 53)]},
            {"servers": [("192.0.2.53", 0)]},
            {"servers": [], "timeout_seconds": 0},
            {"servers": [], "cache_count": 0},
        ):
            with self.assertRaises(ValueError):
                DNSResolver(self.reactor, **arguments)

    def test_ready_answer_is_no_deferred(self) -> None:
        """The first time the answer takes a Deferred, from the cache it is there at once."""
        self.hold("example.com", MX, (10, "mx.example.com"))
        first = self.resolver.mail_exchanges("Example.COM.")
        self.assertIsInstance(first, Deferred)
        self.assertEqual(((10, "mx.example.com"),), self.result(first))
        again = self.resolver.mail_exchanges("example.com")
        self.assertEqual(((10, "mx.example.com"),), again)
        self.assertEqual(1, len(self.carrier.asked))

    def test_asked_again_after_ttl(self) -> None:
        """A cached answer ends with its TTL."""
        self.hold("example.com", MX, (10, "mx.example.com"), ttl=60)
        self.result(self.resolver.mail_exchanges("example.com"))
        self.reactor.advance(59)
        self.assertEqual(((10, "mx.example.com"),), self.resolver.mail_exchanges("example.com"))
        self.hold("example.com", MX, (10, "mx2.example.com"))
        self.reactor.advance(1)
        found = self.result(self.resolver.mail_exchanges("example.com"))
        self.assertEqual(((10, "mx2.example.com"),), found)

    def test_u_labels(self) -> None:
        """A domain in U-labels is asked for in A-labels."""
        self.hold("xn--bcher-kva.example", MX, (10, "mx.example.com"))
        found = self.result(self.resolver.mail_exchanges("b\u00fccher.example"))
        self.assertEqual(((10, "mx.example.com"),), found)

    def test_name_that_cannot_exist(self) -> None:
        """No name server is bothered with what is no name."""
        for method in (self.resolver.mail_exchanges, self.resolver.addresses):
            self.assertEqual("5.1.2", self.status(method, "a..b"))
        self.assertEqual([], self.carrier.asked)

    def test_statuses(self) -> None:
        """Each failure has its status, fresh and from the cache."""
        for verdict, status in (
            (Verdict.NO_DOMAIN, "5.1.2"),
            (Verdict.FAILED, "4.4.3"),
            (Verdict.SILENT, "4.4.3"),
            (Verdict.ENDLESS, "5.4.4"),
        ):
            name = f"{verdict.name.lower().replace('_', '-')}.example"
            self.fail_with(verdict, name, MX, A, AAAA)
            for _ in range(2):
                self.assertEqual(status, self.status(self.resolver.mail_exchanges, name))
                self.assertEqual(status, self.status(self.resolver.addresses, name))

    def test_failure_is_kept_for_seconds(self) -> None:
        """A failed question is not put again at once, but soon (RFC 9520 §3.2)."""
        self.fail_with(Verdict.FAILED, "example.com", MX)
        for _ in range(3):
            self.assertEqual("4.4.3", self.status(self.resolver.mail_exchanges, "example.com"))
        self.assertEqual(1, len(self.carrier.asked))
        self.hold("example.com", MX, (10, "mx.example.com"))
        self.reactor.advance(FAILURE_SECONDS)
        self.result(self.resolver.mail_exchanges("example.com"))
        self.assertEqual(2, len(self.carrier.asked))

    def test_both_families(self) -> None:
        """IPv4 and IPv6 addresses are one answer, ready the second time."""
        self.hold("h.example", A, "192.0.2.1", "192.0.2.2")
        self.hold("h.example", AAAA, "2001:db8::1")
        wanted = ("192.0.2.1", "192.0.2.2", "2001:db8::1")
        self.assertEqual(wanted, self.result(self.resolver.addresses("h.example")))
        self.assertEqual(wanted, self.resolver.addresses("h.example"))

    def test_one_family(self) -> None:
        """A host with IPv6 only has an address; one with neither has none."""
        self.hold("six.example", A)
        self.hold("six.example", AAAA, "2001:db8::1")
        self.assertEqual(("2001:db8::1",), self.result(self.resolver.addresses("six.example")))
        self.hold("none.example", A)
        self.hold("none.example", AAAA)
        self.assertEqual((), self.result(self.resolver.addresses("none.example")))

    def test_one_family_fails(self) -> None:
        """A failure of one family counts only where the other has no address (RFC 4074 §4)."""
        for verdict in (Verdict.SILENT, Verdict.FAILED):
            name = f"{verdict.name.lower()}.example"
            self.hold(name, A, "192.0.2.1")
            self.fail_with(verdict, name, AAAA)
            self.assertEqual(("192.0.2.1",), self.result(self.resolver.addresses(name)))
            self.hold(f"no-{name}", A)
            self.fail_with(verdict, f"no-{name}", AAAA)
            self.assertEqual("4.4.3", self.status(self.resolver.addresses, f"no-{name}"))

    def test_temporary_goes_before_permanent(self) -> None:
        """Where one family may heal, the host is not yet given up (P4)."""
        self.fail_with(Verdict.NO_DOMAIN, "h.example", A)
        self.fail_with(Verdict.SILENT, "h.example", AAAA)
        self.assertEqual("4.4.3", self.status(self.resolver.addresses, "h.example"))

    def test_one_family_ready(self) -> None:
        """An answer half in the cache is waited for."""
        self.hold("h.example", A, "192.0.2.1", ttl=600)
        self.hold("h.example", AAAA, "2001:db8::1", ttl=60)
        self.result(self.resolver.addresses("h.example"))
        self.reactor.advance(60)
        later = self.delay("h.example", AAAA)
        waiting = self.resolver.addresses("h.example")
        assert isinstance(waiting, Deferred)
        self.assertNoResult(waiting)
        later.callback(found(Question("h.example", AAAA), "2001:db8::2"))
        self.assertEqual(("192.0.2.1", "2001:db8::2"), self.result(waiting))

    def test_address_is_its_own_address(self) -> None:
        """An IP address is not looked up."""
        for address in ("192.0.2.1", "2001:db8::1", "fe80::1%eth0"):
            self.assertEqual((address,), self.resolver.addresses(address))
        self.assertEqual([], self.carrier.asked)

    def test_same_question_is_on_its_way_once(self) -> None:
        """All who ask while a question is on its way hear the one answer."""
        later = self.delay("example.com", MX)
        waiting = [self.resolver.mail_exchanges("example.com") for _ in range(3)]
        self.assertEqual(1, len(self.carrier.asked))
        later.callback(found(Question("example.com", MX), (10, "mx.example.com")))
        for one in waiting:
            self.assertEqual(((10, "mx.example.com"),), self.result(one))

    def test_one_gives_up(self) -> None:
        """Whoever cancels does not take the answer from the others."""
        later = self.delay("example.com", MX)
        one, two = (self.resolver.mail_exchanges("example.com") for _ in range(2))
        assert isinstance(one, Deferred)
        one.cancel()
        self.failureResultOf(one, CancelledError)
        later.callback(found(Question("example.com", MX), (10, "mx.example.com")))
        self.assertEqual(((10, "mx.example.com"),), self.result(two))

    def test_one_who_hears_makes_another_give_up(self) -> None:
        """A waiter that is cancelled while the answer is told is left in peace."""
        later = self.delay("example.com", MX)
        one, two, three = (self.resolver.mail_exchanges("example.com") for _ in range(3))
        assert isinstance(one, Deferred) and isinstance(two, Deferred)
        one.addCallback(lambda _: two.cancel())
        later.callback(found(Question("example.com", MX), (10, "mx.example.com")))
        self.failureResultOf(two, CancelledError)
        self.assertEqual(((10, "mx.example.com"),), self.result(three))

    def test_unexpected_error_reaches_all(self) -> None:
        """A fault of our own is not hidden, and the next question is put anew."""
        later = self.delay("example.com", MX)
        waiting = [self.resolver.mail_exchanges("example.com") for _ in range(2)]
        later.errback(ZeroDivisionError())
        for one in waiting:
            assert isinstance(one, Deferred)
            self.failureResultOf(one, ZeroDivisionError)
        self.hold("example.com", MX, (10, "mx.example.com"))
        self.result(self.resolver.mail_exchanges("example.com"))

    def test_aliases_are_followed(self) -> None:
        """What the name server leaves out is asked for; the shortest TTL of all counts."""
        self.hold("a.example", A, ttl=30, canonical="b.example", complete=False,
                  authenticated=True)  # fmt: skip
        self.hold("b.example", A, "192.0.2.1", ttl=600, authenticated=True)
        answer = self.result(self.resolver.ask("a.example", A))
        self.assertEqual((("192.0.2.1",), 30, "b.example", True, Question("a.example", A)),
                         (answer.values, answer.ttl_seconds, answer.canonical,
                          answer.authenticated, answer.question))  # fmt: skip

    def test_one_link_not_authenticated(self) -> None:
        """A chain is as trustworthy as its weakest link."""
        self.hold("a.example", A, canonical="b.example", complete=False)
        self.hold("b.example", A, "192.0.2.1", authenticated=True)
        self.assertFalse(self.result(self.resolver.ask("a.example", A)).authenticated)

    def test_alias_loop(self) -> None:
        """Aliases over several answers that lead back are 5.4.4."""
        self.hold("a.example", A, canonical="b.example", complete=False)
        self.hold("b.example", A, canonical="a.example", complete=False)
        self.hold("a.example", AAAA)
        self.assertEqual("5.4.4", self.status(self.resolver.addresses, "a.example"))

    def test_chain_of_aliases(self) -> None:
        """Eight aliases are followed, nine are not."""
        for count, verdict in ((MAX_CHAIN, Verdict.ANSWERED), (MAX_CHAIN + 1, Verdict.ENDLESS)):
            for n in range(count):
                name = f"n{n}.{count}x.example"
                self.hold(name, A, canonical=f"n{n + 1}.{count}x.example", complete=False)
            self.hold(f"n{count}.{count}x.example", A, "192.0.2.1")
            answer = self.result(self.resolver.ask(f"n0.{count}x.example", A))
            self.assertIs(verdict, answer.verdict)

    def test_slow_chain_of_aliases(self) -> None:
        """Following aliases ends after a time, as a temporary failure."""
        later = self.delay("a.example", MX)
        waiting = self.resolver.mail_exchanges("a.example")
        self.reactor.advance(6 * self.resolver.timeout_seconds)
        later.callback(found(Question("a.example", MX), canonical="b.example", complete=False))
        problem = self.failureResultOf(waiting, ResolveProblem).value
        self.assertEqual("4.4.3", problem.status)
        self.assertEqual(1, len(self.carrier.asked))

    def test_words_name_the_question(self) -> None:
        """Whoever reads the report learns what was looked for, and no name server's address."""
        self.fail_with(Verdict.FAILED, "example.com", MX)
        waiting = self.resolver.mail_exchanges("example.com")
        words = self.failureResultOf(waiting, ResolveProblem).value.words
        self.assertEqual("example.com (MX): why", words)

    def test_names(self) -> None:
        """An address has the names of its PTR records; no name is no failure."""
        self.hold("1.2.0.192.in-addr.arpa", PTR, "host.example.com")
        for _ in range(2):
            names = self.result(self.resolver.names("192.0.2.1"))
            self.assertEqual(("host.example.com",), names)
        self.assertEqual((), self.result(self.resolver.names("192.0.2.2")))
        self.fail_with(Verdict.FAILED, "3.2.0.192.in-addr.arpa", PTR)
        self.assertEqual("4.4.3", self.status(self.resolver.names, "192.0.2.3"))
        self.fail_with(Verdict.ENDLESS, "4.2.0.192.in-addr.arpa", PTR)
        self.assertEqual((), self.result(self.resolver.names("192.0.2.4")))

    def test_cache_is_bounded(self) -> None:
        """No more answers are kept than was said."""
        resolver = DNSResolver(
            self.reactor, [("192.0.2.53", 53)], cache_count=2, hosts_file=None,
            carrier=self.carrier,
        )  # fmt: skip
        for n in range(3):
            self.hold(f"n{n}.example", MX, (10, "mx.example.com"))
            self.result(resolver.mail_exchanges(f"n{n}.example"))
        self.assertIsInstance(resolver.mail_exchanges("n0.example"), Deferred)
        self.assertEqual(((10, "mx.example.com"),), resolver.mail_exchanges("n2.example"))

    def test_close(self) -> None:
        """Who waits, and who asks later, hears a temporary failure; the cache is empty."""
        self.hold("kept.example", MX, (10, "mx.example.com"))
        self.result(self.resolver.mail_exchanges("kept.example"))
        self.delay("example.com", MX)
        waiting = self.resolver.mail_exchanges("example.com")
        self.successResultOf(self.resolver.close())
        problem = self.failureResultOf(waiting, ResolveProblem).value
        self.assertEqual("4.4.3", problem.status)
        self.assertEqual("4.4.3", self.status(self.resolver.mail_exchanges, "kept.example"))
        self.successResultOf(self.resolver.close())

    def test_answer_keeps_its_question(self) -> None:
        """An answer under another name is remembered under the question that was put."""
        other = evolve(found(Question("b.example", MX), (1, "m.example")))
        self.answers[Question("a.example", MX)] = other
        self.result(self.resolver.mail_exchanges("a.example"))
        self.assertEqual(((1, "m.example"),), self.resolver.mail_exchanges("a.example"))
        self.assertEqual("5.1.2", self.status(self.resolver.mail_exchanges, "b.example"))


class HostsFileTests(ResolverCase):
    hosts = "192.0.2.9 Printer printer.example.com\n192.0.2.10 printer\n"

    def test_hosts_file_goes_first(self) -> None:
        """A name in the hosts file is not looked up."""
        self.assertEqual(("192.0.2.9", "192.0.2.10"), self.resolver.addresses("PRINTER."))
        self.assertEqual(("printer", "printer.example.com"), self.resolver.names("192.0.2.9"))
        self.assertEqual([], self.carrier.asked)

    def test_localhost(self) -> None:
        """localhost is this machine, whatever DNS says, and has no MX (RFC 6761 §6.3)."""
        for name in ("localhost", "x.localhost."):
            self.assertEqual(("127.0.0.1", "::1"), self.resolver.addresses(name))
            self.assertEqual((), self.resolver.mail_exchanges(name))
        self.assertEqual([], self.carrier.asked)

    def test_no_hosts_file(self) -> None:
        """Without a hosts file everything else is looked up."""
        resolver = DNSResolver(
            self.reactor, [("192.0.2.53", 53)], hosts_file=None, carrier=self.carrier
        )
        self.assertEqual("5.1.2", self.status(resolver.addresses, "printer"))
        self.hold("9.2.0.192.in-addr.arpa", PTR, "dns.example.com")
        self.assertEqual(("dns.example.com",), self.result(resolver.names("192.0.2.9")))


class ResolvConfTests(SynchronousTestCase):
    def test_servers_from_the_file(self) -> None:
        """Without given servers those of resolv.conf are asked, and new ones after a change."""
        path, reactor = temporary_path(self), FakeReactor()
        carrier = FakeCarrier(lambda question, server: found(question, (1, "m.example"), ttl=1))
        resolver = DNSResolver(reactor, resolv_conf=path, hosts_file=None, carrier=carrier)
        for address in ("192.0.2.1", "192.0.2.222"):
            with open(path, "w", encoding="ascii") as stream:
                stream.write(f"nameserver {address}\n")
            reactor.advance(60)
            self.successResultOf(resolver.mail_exchanges("example.com"))
        self.assertEqual(
            [("192.0.2.1", 53), ("192.0.2.222", 53)], [server for _, server in carrier.asked]
        )
