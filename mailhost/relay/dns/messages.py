"""
One question and one answer, and the octets they travel in.

:Room: ``relay.dns`` -- pure functions on octets; dnspython does names and record data.
:RFC: 1035 §4 (messages), 2308 (negative answers), 6891 (EDNS), 6840 §5.7, §5.8 (AD), 5452 §9.1.
:Called by: `mailhost.relay.dns.transport`.

The sections are walked here and not by ``dns.message``: that reads every record
of every section into sets, which takes seconds of CPU for 64 KB of compressed
names.  Here only wanted records are read, and at most `MAX_RECORDS` of them.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import Any, NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.wire
from attrs import frozen

A = int(dns.rdatatype.A)
AAAA = int(dns.rdatatype.AAAA)
CNAME = int(dns.rdatatype.CNAME)
MX = int(dns.rdatatype.MX)
PTR = int(dns.rdatatype.PTR)
_SOA = int(dns.rdatatype.SOA)
_NS = int(dns.rdatatype.NS)
_OPT = int(dns.rdatatype.OPT)
_IN = int(dns.rdataclass.IN)

#: What we say we can take by UDP: the size that no path fragments (RFC 6891 §6.2.5
#: leaves it to us; 1232 is an IPv6 minimum MTU of 1280 less its headers, RFC 8200 §5).
UDP_OCTETS = 1232
#: RFC 1034 §3.6.2 wants chains followed and loops noticed, without naming a limit.
MAX_CHAIN = 8
#: Records of one answer that are looked at.
MAX_RECORDS = 64

_QR, _AA, _TC, _RA, _AD = 0x8000, 0x0400, 0x0200, 0x0080, 0x0020
_OPCODE = 0x7800
_FORMERR, _NXDOMAIN, _BADVERS = 1, 3, 16


class Question(NamedTuple):
    """
    What is asked: *name* in lower case without final dot, *kind* an RR type (RFC 1035 §3.2.2).

    A plain tuple, since it is the cache's key.
    """

    name: str
    kind: int


class Verdict(Enum):
    """What came of a question."""

    ANSWERED = "records, or the proof that there are none"
    NO_DOMAIN = "the name does not exist (NXDOMAIN)"
    FAILED = "a name server failed or refused"
    SILENT = "no name server answered"
    ENDLESS = "the aliases of the name lead nowhere"
    TRUNCATED = "ask again by TCP"
    NO_EDNS = "ask again without EDNS"


@frozen
class Answer:
    """
    What came of one question.

    :ivar question: the question as it was put first.
    :ivar verdict: see `Verdict`; `TRUNCATED` and `NO_EDNS` do not leave the transport.
    :ivar words: a reason where the verdict is no answer.
    :ivar canonical: the name at the end of the aliases.
    :ivar records: dnspython's record data of the type asked for.
    :ivar values: the same as plain values: addresses as text, ``(preference, host)``
        for MX (host ``""`` for the root), names without final dot for PTR, CNAME and
        NS; empty for other types.
    :ivar ttl_seconds: the least of the answer and its aliases; for a negative answer
        what RFC 2308 §5 allows, 0 where it allows none.
    :ivar authenticated: a name server that is believed set AD.  The bit of another
        could have been set on the way (RFC 6840 §5.8: only from a trusted server
        over a secure channel).
    :ivar complete: `False` where an alias leads to a name that the name server has
        left out, so that it must be asked for.
    """

    question: Question
    verdict: Verdict
    words: str = ""
    canonical: str = ""
    records: tuple[dns.rdata.Rdata, ...] = ()
    values: tuple[Any, ...] = ()
    ttl_seconds: int = 0
    authenticated: bool = False
    complete: bool = True


@frozen
class Query:
    """
    A question on its way.

    :ivar ident: 0-65535, unpredictable (RFC 5452 §9.2).
    :ivar edns: offer `UDP_OCTETS`.
    """

    question: Question
    ident: int
    edns: bool = True

    def encode(self) -> bytes:
        """
        The octets of the query: recursion desired, AD wanted (RFC 6840 §5.7).

        :raises dns.exception.DNSException: the name has no wire form.
        """
        message = dns.message.make_query(
            dns.name.from_text(self.question.name),
            dns.rdatatype.RdataType.make(self.question.kind),
            id=self.ident,
            use_edns=0 if self.edns else False,
            payload=UDP_OCTETS,
        )
        message.flags |= dns.flags.AD
        return message.to_wire()


def failure(question: Question, verdict: Verdict, words: str) -> Answer:
    """An answer that is none."""
    return Answer(question, verdict, words, canonical=question.name)


def parse_response(wire: bytes, query: Query, trusted: bool) -> Answer | None:
    """
    The answer in *wire*; `None` where it is not the response to *query*.

    RFC 5452 §9.1: identifier and question must match; the caller has seen to
    address and port.  What cannot be read is not a response either: the true one
    may still come.

    :param trusted: the name server is believed that DNSSEC has proven an answer.
    """
    if len(wire) < 12:
        return None
    ident, flags, questions, *counts = struct.unpack_from("!6H", wire)
    if ident != query.ident or not flags & _QR or flags & _OPCODE:
        return None
    question = query.question
    if flags & 15 == _FORMERR and query.edns:
        # RFC 6891 §7: a server that does not know EDNS may return the header alone.
        return failure(question, Verdict.NO_EDNS, "") if questions <= 1 else None
    try:
        parser = dns.wire.Parser(wire, 12)
        if questions != 1 or not _is_question(parser, question):
            return None
        if flags & _TC:
            return failure(question, Verdict.TRUNCATED, "")
        sections = _Sections(parser, question.kind, counts)
        return _judge(question, flags, sections, trusted)
    except (dns.exception.DNSException, struct.error, ValueError):
        return None


def _is_question(parser: dns.wire.Parser, question: Question) -> bool:
    name = parser.get_name(decompress=True)
    kind, class_ = parser.get_struct("!HH")
    asked = dns.name.from_text(question.name)
    return bool(name == asked and kind == question.kind and class_ == _IN)


class _Sections:
    """The records of one message that matter for one type."""

    def __init__(self, parser: dns.wire.Parser, kind: int, counts: list[int]) -> None:
        self.found: dict[tuple[dns.name.Name, int], list[tuple[int, dns.rdata.Rdata]]] = {}
        self.extended_rcode = 0
        self.name_servers = False
        self.negative_seconds: int | None = None
        self._names: dict[bytes, dns.name.Name] = {}
        self._kept = 0
        answers, authorities, additional = counts
        for _ in range(answers):
            self._read(parser, (kind, CNAME))
        wanted_kinds = (_SOA,)
        for _ in range(authorities):
            self._read(parser, wanted_kinds)
        for _ in range(additional):
            self._read(parser, ())

    def _read(self, parser: dns.wire.Parser, wanted: tuple[int, ...]) -> None:
        owner_at = parser.current
        _skip_name(parser)
        owner_end = parser.current
        kind, class_, ttl, length = parser.get_struct("!HHIH")
        if kind == _OPT:
            self.extended_rcode = ttl >> 24  # RFC 6891 §6.1.3
        elif kind == _NS:
            self.name_servers = True
        if kind not in wanted or class_ != _IN or self._kept >= MAX_RECORDS:
            parser.get_bytes(length)
            return
        self._kept += 1
        owner = self._owner(parser.wire, owner_at, owner_end)
        with parser.restrict_to(length):
            record = dns.rdata.from_wire_parser(
                dns.rdataclass.IN, dns.rdatatype.RdataType.make(kind), parser
            )
        # RFC 2181 §8: a TTL with the top bit set is 0.
        ttl = 0 if ttl > 0x7FFFFFFF else ttl
        self.found.setdefault((owner, kind), []).append((ttl, record))
        if kind == _SOA and wanted == (_SOA,):
            # RFC 2308 §5: the lesser of the SOA's own TTL and its MINIMUM field.
            self.negative_seconds = min(ttl, record.minimum)  # type: ignore[attr-defined] # an SOA

    def _owner(self, wire: bytes, start: int, end: int) -> dns.name.Name:
        """Most owners are the same two octets: a pointer to the question."""
        octets = wire[start:end]
        name = self._names.get(octets)
        if name is None:
            name = self._names[octets] = dns.wire.Parser(wire, start).get_name(decompress=True)
        return name


def _skip_name(parser: dns.wire.Parser) -> None:
    """Step over a name without following its pointer (RFC 1035 §4.1.4)."""
    while length := parser.get_uint8():
        if length >= 0xC0:
            parser.get_uint8()
            return
        if length > 63:
            raise dns.name.BadLabelType
        parser.get_bytes(length)


def _judge(question: Question, flags: int, sections: _Sections, trusted: bool) -> Answer:
    rcode = flags & 15 | sections.extended_rcode << 4
    if rcode == _BADVERS:
        return failure(question, Verdict.NO_EDNS, "")
    if rcode not in (0, _NXDOMAIN):
        return failure(question, Verdict.FAILED, _rcode_text(rcode))
    chain = _Chain(sections, dns.name.from_text(question.name), question.kind)
    if chain.endless:
        return failure(question, Verdict.ENDLESS, "its aliases form a loop or too long a chain")
    authenticated = trusted and bool(flags & _AD)
    canonical = _text(chain.name)
    if chain.records:
        return Answer(
            question, Verdict.ANSWERED, "", canonical, chain.records,
            tuple(_value(record) for record in chain.records), chain.ttl_seconds, authenticated,
        )  # fmt: skip
    negative = sections.negative_seconds
    if not rcode and negative is None:
        if canonical != question.name:
            return Answer(
                question, Verdict.ANSWERED, "", canonical, ttl_seconds=chain.ttl_seconds,
                authenticated=authenticated, complete=False,
            )  # fmt: skip
        if not flags & _AA and (not flags & _RA or sections.name_servers):
            # RFC 2308 §2.2: name servers but no SOA is a referral, not a proof.
            return failure(question, Verdict.FAILED, "a name server does not serve us")
    return Answer(
        # RFC 6604 §3: after aliases the RCODE speaks of the last name.
        question, Verdict.NO_DOMAIN if rcode else Verdict.ANSWERED,
        # RFC 2308 §5: without an SOA a negative answer is not kept.
        canonical=canonical, ttl_seconds=min(negative or 0, chain.ttl_seconds),
        authenticated=authenticated,
    )  # fmt: skip


class _Chain:
    """Where the aliases in one answer lead to (RFC 1034 §3.6.2)."""

    def __init__(self, sections: _Sections, name: dns.name.Name, kind: int) -> None:
        self.ttl_seconds = 0x7FFFFFFF
        self.records: tuple[dns.rdata.Rdata, ...] = ()
        self.endless = False
        self.name = name
        seen = {name}
        while not self._take(sections.found.get((self.name, kind))):
            alias = sections.found.get((self.name, CNAME))
            if not alias:
                return
            self.ttl_seconds = min(self.ttl_seconds, alias[0][0])
            self.name = alias[0][1].target  # type: ignore[attr-defined] # a CNAME
            if self.name in seen or len(seen) > MAX_CHAIN:
                self.endless = True
                return
            seen.add(self.name)

    def _take(self, found: list[tuple[int, dns.rdata.Rdata]] | None) -> bool:
        if not found:
            return False
        self.ttl_seconds = min(self.ttl_seconds, *(ttl for ttl, _ in found))
        self.records = tuple(dict.fromkeys(record for _, record in found))
        return True


def _rcode_text(rcode: int) -> str:
    return f"a name server said {dns.rcode.to_text(dns.rcode.Rcode.make(rcode))}"


def _text(name: dns.name.Name) -> str:
    return "" if name == dns.name.root else name.to_text(omit_final_dot=True).lower()


def _value(record: Any) -> Any:
    """See `Answer.values`."""
    kind = record.rdtype
    if kind in (A, AAAA):
        return record.address
    if kind == MX:
        return (record.preference, _text(record.exchange))
    if kind in (PTR, CNAME, _NS):
        return _text(record.target)
    return None
