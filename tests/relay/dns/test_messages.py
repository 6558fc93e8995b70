"""Tests for `mailhost.relay.dns.messages`."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.relay.dns.messages import (
    AAAA,
    CNAME,
    MAX_CHAIN,
    MAX_RECORDS,
    MX,
    PTR,
    UDP_OCTETS,
    A,
    Answer,
    Query,
    Question,
    Verdict,
    parse_response,
)

SOA = "ns.example. hostmaster.example. 1 3600 900 604800 {}"
TLSA, TXT = 52, 16

Lines = Sequence[tuple[str, int, str, str]]


def response(
    query: Query,
    answers: Lines = (),
    authorities: Lines = (),
    additional: Lines = (),
    rcode: int = 0,
    flags: str = "QR RD RA",
) -> dns.message.Message:
    """A response to *query*; a line is name, TTL, type and data."""
    message = dns.message.make_response(dns.message.from_wire(query.encode()))
    message.flags = dns.flags.from_text(flags)
    message.set_rcode(dns.rcode.Rcode.make(rcode))
    sections = zip(message.sections[1:], (answers, authorities, additional), strict=True)
    for section, lines in sections:
        for name, ttl, kind, data in lines:
            section.append(dns.rrset.from_text(name, ttl, "IN", kind, data))
    return message


def query_for(name: str, kind: int, edns: bool = True) -> Query:
    return Query(Question(name, kind), 4711, edns)


def read(query: Query, message: dns.message.Message, trusted: bool = True) -> Answer | None:
    return parse_response(message.to_wire(max_size=65535), query, trusted)


class QueryTests(SynchronousTestCase):
    def test_what_is_asked(self) -> None:
        """A query wants recursion and AD, and offers 1232 octets (RFC 6891, RFC 6840 §5.7)."""
        message = dns.message.from_wire(query_for("example.com", MX).encode())
        self.assertEqual(4711, message.id)
        self.assertTrue(message.flags & dns.flags.RD)
        self.assertTrue(message.flags & dns.flags.AD)
        self.assertEqual((0, UDP_OCTETS), (message.edns, message.payload))
        self.assertEqual("example.com. IN MX", message.question[0].to_text())

    def test_without_edns(self) -> None:
        """The fallback query has no OPT record."""
        message = dns.message.from_wire(query_for("example.com", MX, edns=False).encode())
        self.assertEqual(-1, message.edns)


class ResponseTests(SynchronousTestCase):
    def answer(
        self,
        name: str,
        kind: int,
        answers: Lines = (),
        authorities: Lines = (),
        rcode: int = 0,
        flags: str = "QR RD RA",
        trusted: bool = True,
    ) -> Answer:
        query = query_for(name, kind)
        found = read(query, response(query, answers, authorities, (), rcode, flags), trusted)
        assert found is not None
        return found

    def test_values(self) -> None:
        """Each type has its plain value; names are in lower case without final dot."""
        for kind, text, data, value in (
            (A, "A", "192.0.2.1", "192.0.2.1"),
            (AAAA, "AAAA", "2001:DB8::1", "2001:db8::1"),
            (MX, "MX", "10 MX.example.com.", (10, "mx.example.com")),
            (MX, "MX", "0 .", (0, "")),
            (PTR, "PTR", "Host.example.com.", "host.example.com"),
            (CNAME, "CNAME", "Other.example.com.", "other.example.com"),
        ):
            answer = self.answer("example.com", kind, [("EXAMPLE.com.", 300, text, data)])
            self.assertEqual((value,), answer.values)
            self.assertEqual((Verdict.ANSWERED, 300), (answer.verdict, answer.ttl_seconds))

    def test_other_types(self) -> None:
        """Records without a plain value are given as dnspython's record data."""
        answer = self.answer(
            "_25._tcp.example.com", TLSA,
            [("_25._tcp.example.com.", 300, "TLSA", "3 1 1 " + "ab" * 32)],
        )  # fmt: skip
        self.assertEqual((3, 1, 1), (answer.records[0].usage, answer.records[0].selector,
                                     answer.records[0].mtype))  # fmt: skip

    def test_least_ttl(self) -> None:
        """An answer holds as long as its shortest part, aliases included."""
        answer = self.answer("www.example.com", A, [
            ("www.example.com.", 20, "CNAME", "b.example.com."),
            ("b.example.com.", 300, "A", "192.0.2.1"),
        ])  # fmt: skip
        self.assertEqual((20, "b.example.com"), (answer.ttl_seconds, answer.canonical))

    def test_top_bit_of_ttl(self) -> None:
        """A TTL of 2^31 or more is 0 (RFC 2181 §8)."""
        query = query_for("example.com", A)
        wire = response(query, [("example.com.", 0x7FFFFFFF, "A", "192.0.2.1")]).to_wire()
        high = wire.replace(b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00")
        self.assertNotEqual(wire, high)
        answer = parse_response(high, query, True)
        assert answer is not None
        self.assertEqual(0, answer.ttl_seconds)

    def test_strange_records_are_passed_over(self) -> None:
        """Records that nobody asked for are not in the answer."""
        answer = self.answer("example.com", A, [
            ("other.example.", 300, "A", "192.0.2.66"),
            ("example.com.", 300, "TXT", "x"),
            ("example.com.", 300, "A", "192.0.2.1"),
        ])  # fmt: skip
        self.assertEqual(("192.0.2.1",), answer.values)

    def test_no_domain(self) -> None:
        """NXDOMAIN holds for the lesser of the SOA's TTL and MINIMUM (RFC 2308 §5)."""
        for ttl, minimum in ((600, 60), (60, 600)):
            answer = self.answer(
                "example.com", MX, (), [("com.", ttl, "SOA", SOA.format(minimum))], rcode=3
            )
            self.assertEqual((Verdict.NO_DOMAIN, 60), (answer.verdict, answer.ttl_seconds))

    def test_no_domain_at_the_end_of_aliases(self) -> None:
        """After aliases NXDOMAIN speaks of the last name (RFC 6604 §3)."""
        answer = self.answer(
            "www.example.com", A, [("www.example.com.", 30, "CNAME", "gone.example.com.")],
            [("com.", 600, "SOA", SOA.format(600))], rcode=3,
        )  # fmt: skip
        self.assertEqual((Verdict.NO_DOMAIN, 30), (answer.verdict, answer.ttl_seconds))

    def test_no_data(self) -> None:
        """NOERROR without records is an answer; it is kept only where an SOA comes along."""
        with_soa = self.answer("example.com", MX, (), [("com.", 60, "SOA", SOA.format(60))])
        self.assertEqual((Verdict.ANSWERED, (), 60), _shape(with_soa))
        without = self.answer("example.com", MX)
        self.assertEqual((Verdict.ANSWERED, (), 0), _shape(without))

    def test_no_proof(self) -> None:
        """An empty answer from a server that does not serve us proves nothing."""
        referral = [("com.", 60, "NS", "ns.example.")]
        for flags, authorities in (("QR RD", referral), ("QR RD RA", referral), ("QR RD", ())):
            answer = self.answer("example.com", MX, (), authorities, flags=flags)
            self.assertIs(Verdict.FAILED, answer.verdict)
        own = self.answer("example.com", MX, (), referral, flags="QR AA")
        self.assertIs(Verdict.ANSWERED, own.verdict)

    def test_failures(self) -> None:
        """SERVFAIL, REFUSED, NOTIMP and unknown codes are failures with the code's name."""
        for rcode, word in ((2, "SERVFAIL"), (5, "REFUSED"), (4, "NOTIMP"), (9, "NOTAUTH")):
            answer = self.answer("example.com", MX, rcode=rcode)
            self.assertIs(Verdict.FAILED, answer.verdict)
            self.assertIn(word, answer.words)

    def test_alias_left_to_us(self) -> None:
        """An alias whose target is not in the message is told as incomplete."""
        answer = self.answer("a.example.com", A, [("a.example.com.", 30, "CNAME", "b.example.")])
        self.assertEqual((False, "b.example", 30),
                         (answer.complete, answer.canonical, answer.ttl_seconds))  # fmt: skip

    def test_alias_loop(self) -> None:
        """Aliases that lead to themselves end."""
        answer = self.answer("a.example", A, [
            ("a.example.", 30, "CNAME", "b.example."), ("b.example.", 30, "CNAME", "A.example."),
        ])  # fmt: skip
        self.assertIs(Verdict.ENDLESS, answer.verdict)

    def test_chain_of_aliases(self) -> None:
        """Eight aliases are followed, nine are not."""
        for count, verdict in ((MAX_CHAIN, Verdict.ANSWERED), (MAX_CHAIN + 1, Verdict.ENDLESS)):
            links = [(f"n{n}.example.", 30, "CNAME", f"n{n + 1}.example.") for n in range(count)]
            end = (f"n{count}.example.", 30, "A", "192.0.2.1")
            self.assertIs(verdict, self.answer("n0.example", A, [*links, end]).verdict)

    def test_authenticated(self) -> None:
        """AD counts from whom we believe (RFC 6840 §5.8)."""
        lines = [("example.com.", 300, "A", "192.0.2.1")]
        for flags, trusted, wanted in (
            ("QR RA AD", True, True), ("QR RA", True, False), ("QR RA AD", False, False),
        ):  # fmt: skip
            answer = self.answer("example.com", A, lines, flags=flags, trusted=trusted)
            self.assertIs(wanted, answer.authenticated)

    def test_truncated(self) -> None:
        """TC is told before anything else is read."""
        answer = self.answer("example.com", A, flags="QR RA TC")
        self.assertIs(Verdict.TRUNCATED, answer.verdict)

    def test_server_without_edns(self) -> None:
        """FORMERR, even header only, and BADVERS ask for a query without EDNS (RFC 6891 §7)."""
        query = query_for("example.com", A)
        bare = struct.pack("!6H", query.ident, 0x8181, 0, 0, 0, 0)
        for wire in (bare, response(query, rcode=1).to_wire(), response(query, rcode=16).to_wire()):
            answer = parse_response(wire, query, True)
            assert answer is not None
            self.assertIs(Verdict.NO_EDNS, answer.verdict)
        plain = query_for("example.com", A, edns=False)
        answer = read(plain, response(plain, rcode=1))
        assert answer is not None
        self.assertIs(Verdict.FAILED, answer.verdict)

    def test_not_the_response(self) -> None:
        """Another identifier, question, type, opcode, or a query, is not the response."""
        query = query_for("example.com", A)
        good = response(query, [("example.com.", 300, "A", "192.0.2.1")])
        self.assertIsNotNone(read(query, good))
        for other in (
            Query(Question("example.com", A), 4712),
            Query(Question("example.net", A), 4711),
            Query(Question("example.com", AAAA), 4711),
        ):
            self.assertIsNone(read(other, good))
        self.assertIsNone(parse_response(query.encode(), query, True))
        good.set_opcode(dns.opcode.NOTIFY)
        self.assertIsNone(read(query, good))

    def test_cut_off(self) -> None:
        """A message cut off anywhere is not the response, and never an error."""
        query = query_for("example.com", MX)
        wire = response(query, [("example.com.", 300, "MX", "10 mx.example.com.")]).to_wire()
        for length in range(len(wire) - 11):
            self.assertIsNone(parse_response(wire[:length], query, True), length)

    def test_many_records(self) -> None:
        """A thousand mail exchanges are cut to what can be of use."""
        query = query_for("example.com", MX)
        lines = [("example.com.", 300, "MX", f"10 mx{n}.example.com.") for n in range(1000)]
        answer = read(query, response(query, lines))
        assert answer is not None
        self.assertEqual(MAX_RECORDS, len(answer.values))

    def test_pointer_to_itself(self) -> None:
        """A compression pointer that leads nowhere is not the response (RFC 1035 §4.1.4)."""
        query = query_for("example.com", MX)
        header = struct.pack("!6H", query.ident, 0x8180, 1, 1, 0, 0)
        question = b"\7example\3com\0" + struct.pack("!HH", MX, 1)
        owner = 12 + len(question)
        pointer = struct.pack("!H", 0xC000 | owner)
        record = pointer + struct.pack("!HHIH", MX, 1, 300, 4) + b"\0\x0a" + pointer
        self.assertIsNone(parse_response(header + question + record, query, True))


def _shape(answer: Answer) -> tuple[Verdict, tuple[object, ...], int]:
    return answer.verdict, answer.values, answer.ttl_seconds


class AnyOctetsTests(SynchronousTestCase):
    @given(st.binary(max_size=300))
    def test_never_an_error(self, octets: bytes) -> None:
        """Any octets behind a fitting header and question are an answer or nothing."""
        query = query_for("example.com", MX)
        head = struct.pack("!2H", query.ident, 0x8180)
        question = b"\7example\3com\0" + struct.pack("!HH", MX, 1)
        for wire in (
            octets,
            head + octets,
            head + struct.pack("!4H", 1, 2, 1, 1) + question + octets,
        ):
            answer = parse_response(wire, query, True)
            self.assertTrue(answer is None or isinstance(answer, Answer))

    @given(st.integers(0, 90), st.integers(0, 255))
    def test_one_octet_changed(self, position: int, octet: int) -> None:
        """A response with any octet changed is an answer or nothing."""
        query = query_for("example.com", MX)
        message = response(
            query, [("example.com.", 300, "MX", "10 mx.example.com.")],
            additional=[("mx.example.com.", 300, "A", "192.0.2.1")],
        )  # fmt: skip
        wire = bytearray(message.to_wire())
        wire[position % len(wire)] = octet
        answer = parse_response(bytes(wire), query, True)
        self.assertTrue(answer is None or isinstance(answer, Answer))
