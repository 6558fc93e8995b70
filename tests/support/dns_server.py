"""
A small name server on loopback, for tests that want real sockets.

It answers like a resolver: aliases followed, SOA with negative answers, RA set.
What it holds may be changed while it runs, and it can be told to misbehave about a
name (`Fault`).  Every query is noted in `DNSServer.queries`.

    server = DNSServer(reactor)
    port = server.start({"example.com": {"MX": ["10 mx.example.com."]}})
    ...
    yield server.stop()
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
from attrs import define, field, frozen
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.protocols.basic import Int16StringReceiver

Zones = Mapping[str, Mapping[str, Sequence[str]]]


class Fault(Enum):
    """How to misbehave."""

    SERVFAIL = "answers SERVFAIL"
    REFUSED = "answers REFUSED"
    FORMERR = "answers FORMERR, header only, to queries with EDNS"
    SILENCE = "does not answer"
    SILENT_UDP = "answers by TCP only"
    TRUNCATED = "cuts UDP answers short (TC); TCP has the whole"
    TRUNCATED_ALWAYS = "sets TC by TCP too"
    WRONG_ID = "answers under another identifier"
    WRONG_QUESTION = "answers another question"
    OTHER_PORT = "answers from another port"
    GARBAGE = "answers octets that are no message"
    REFERRAL = "answers like a server that does not serve us: NS, no SOA, no RA"
    PARTIAL = "leaves out what an alias leads to"
    CLOSED_TCP = "cuts UDP answers short, and closes TCP without an answer"


class Seen(NamedTuple):
    """One query."""

    name: str
    kind: str
    by: str


@frozen
class _Misbehaviour:
    fault: Fault
    then_right: bool


@define
class _Held:
    values: list[str]
    ttl: int


@define(eq=False)
class DNSServer:
    """
    One name server, UDP and TCP on the same port.

    :ivar interface: the loopback address to listen on.
    :ivar queries: what was asked, in order.
    :ivar negative_seconds: TTL and MINIMUM of the SOA in negative answers; `None`: no SOA.
    :ivar signed: names whose answers carry AD to those who ask for it.
    :ivar wires: the octets of every query by UDP.
    """

    reactor: Any
    interface: str = "127.0.0.1"
    queries: list[Seen] = field(factory=list)
    wires: list[bytes] = field(factory=list)
    negative_seconds: int | None = 60
    signed: set[str] = field(factory=set)
    port: int = 0
    _held: dict[tuple[str, str], _Held] = field(factory=dict)
    _faults: dict[tuple[str, str | None], _Misbehaviour] = field(factory=dict)
    _ports: list[Any] = field(factory=list)
    _streams: set[_Stream] = field(factory=set)

    def start(self, zones: Zones | None = None, ttl: int = 300) -> int:
        """
        Listen, holding *zones*: ``{name: {type: [record data as in a zone file]}}``.

        :returns: the port the kernel has given.
        """
        for name, kinds in (zones or {}).items():
            for kind, values in kinds.items():
                self.set(name, kind, values, ttl)
        for _ in range(20):
            tcp = self.reactor.listenTCP(0, _Streams(self), interface=self.interface)
            number: int = tcp.getHost().port
            try:
                udp = self.reactor.listenUDP(number, _Datagrams(self), interface=self.interface)
            except CannotListenError:
                tcp.stopListening()
                continue
            self._ports = [tcp, udp]
            self.port = number
            return number
        raise AssertionError("no port is free for both UDP and TCP")

    def stop(self) -> Deferred[None]:
        """Close everything; fires when it is closed."""
        ports, self._ports = self._ports, []
        closing = [maybeDeferred(port.stopListening) for port in ports]
        for stream in list(self._streams):
            closing.append(stream.closed)
            stream.transport.abortConnection()
        return gatherResults(closing).addCallback(lambda _: None)

    def set(self, name: str, kind: str, values: Sequence[str], ttl: int = 300) -> None:
        """Hold *values* from now on; an empty list makes the name exist without that type."""
        self._held[name.lower(), kind] = _Held(list(values), ttl)

    def remove(self, name: str) -> None:
        """Know nothing of *name* any more."""
        for key in [key for key in self._held if key[0] == name.lower()]:
            del self._held[key]

    def misbehave(
        self, name: str, fault: Fault | None, kind: str | None = None, then_right: bool = False
    ) -> None:
        """
        Misbehave about *name*, or about one type of it; `None` ends that.

        :param then_right: send the right answer too, after the wrong one.
        """
        if fault is None:
            self._faults.pop((name, kind), None)
        else:
            self._faults[name, kind] = _Misbehaviour(fault, then_right)

    def count(self, name: str, kind: str | None = None, by: str | None = None) -> int:
        """How often *name* was asked for."""
        return sum(
            seen.name == name and kind in (None, seen.kind) and by in (None, seen.by)
            for seen in self.queries
        )

    # ---- answering

    def replies(self, wire: bytes, by: str) -> tuple[list[bytes], list[bytes]]:
        """
        What to send for the query *wire*.

        :returns: messages from the right port, messages from another.
        """
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.queries.append(Seen(name, kind, by))
        wrong = self._faults.get((name, kind)) or self._faults.get((name, None))
        if wrong is None:
            return [self._right(query, name, kind).to_wire(max_size=65535)], []
        here, elsewhere = self._wrong(wrong.fault, query, name, kind, by)
        if wrong.then_right:
            here = [*here, self._right(query, name, kind).to_wire(max_size=65535)]
        return here, elsewhere

    def _right(
        self, query: dns.message.Message, name: str, kind: str, partial: bool = False
    ) -> dns.message.Message:
        response = dns.message.make_response(query, recursion_available=True)
        current = name
        for _ in range(40):
            held = self._held.get((current, kind))
            alias = self._held.get((current, "CNAME"))
            if held is None and alias is not None:
                response.answer.append(_rrset(current, "CNAME", alias))
                current = alias.values[0].removesuffix(".").lower()
                if partial:
                    return response
                continue
            if held is not None:
                # One set a record: dnspython shuffles within a set.
                for value in held.values:
                    response.answer.append(_rrset(current, kind, _Held([value], held.ttl)))
            break
        if name in self.signed and query.flags & dns.flags.AD:
            response.flags |= dns.flags.AD
        if not any(rrset.rdtype == dns.rdatatype.from_text(kind) for rrset in response.answer):
            self._negative(response, current)
        return response

    def _negative(self, response: dns.message.Message, name: str) -> None:
        if not any(held == name or held.endswith(f".{name}") for held, _ in self._held):
            response.set_rcode(dns.rcode.NXDOMAIN)
        seconds = self.negative_seconds
        if seconds is not None:
            data = f"ns.example. hostmaster.example. 1 3600 900 604800 {seconds}"
            response.authority.append(_rrset("example", "SOA", _Held([data], seconds)))

    def _wrong(
        self, fault: Fault, query: dns.message.Message, name: str, kind: str, by: str
    ) -> tuple[list[bytes], list[bytes]]:
        right = self._right(query, name, kind, partial=fault is Fault.PARTIAL)
        if fault in (Fault.SERVFAIL, Fault.REFUSED):
            response = dns.message.make_response(query)
            response.set_rcode(dns.rcode.from_text(fault.name))
            return [response.to_wire()], []
        if fault is Fault.FORMERR and query.edns >= 0:
            return [struct.pack("!6H", query.id, 0x8181, 0, 0, 0, 0)], []
        if fault is Fault.SILENCE or (fault is Fault.SILENT_UDP and by == "udp"):
            return [], []
        if fault is Fault.CLOSED_TCP and by == "tcp":
            return [b""], []
        cuts = fault in (Fault.TRUNCATED, Fault.CLOSED_TCP) and by == "udp"
        if cuts or fault is Fault.TRUNCATED_ALWAYS:
            right.flags |= dns.flags.TC
            right.answer.clear()
        elif fault is Fault.WRONG_ID:
            right.id = (query.id + 1) % 0x10000
        elif fault is Fault.WRONG_QUESTION:
            right.question = [_question("other.example.net", kind)]
        elif fault is Fault.GARBAGE:
            wire = right.to_wire()
            return [b"", b"x", wire[:11], wire[:20], wire[:2] + b"\xff" * 40], []
        elif fault is Fault.REFERRAL:
            right = dns.message.make_response(query)
            right.authority.append(_rrset("example", "NS", _Held(["ns.example."], 300)))
        elif fault is Fault.OTHER_PORT:
            return [], [right.to_wire(max_size=65535)]
        return [right.to_wire(max_size=65535)], []


def _rrset(name: str, kind: str, held: _Held) -> dns.rrset.RRset:
    return dns.rrset.from_text_list(f"{name}.", held.ttl, "IN", kind, held.values)


def _question(name: str, kind: str) -> dns.rrset.RRset:
    return dns.message.make_query(name, kind).question[0]


class _Datagrams(DatagramProtocol):
    noisy = False
    transport: Any

    def __init__(self, server: DNSServer) -> None:
        self._server = server

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Answer one query."""
        self._server.wires.append(datagram)
        here, elsewhere = self._server.replies(datagram, "udp")
        for octets in elsewhere:
            self._from_elsewhere(octets, addr)
        for octets in here:
            self.transport.write(octets, addr)

    def _from_elsewhere(self, octets: bytes, addr: Any) -> None:
        port = self._server.reactor.listenUDP(
            0, DatagramProtocol(), interface=self._server.interface
        )
        port.write(octets, addr)
        port.stopListening()


class _Streams(Factory):
    noisy = False

    def __init__(self, server: DNSServer) -> None:
        self._server = server

    def buildProtocol(self, addr: Any) -> _Stream:
        """One connection."""
        return _Stream(self._server)


class _Stream(Int16StringReceiver):
    transport: Any

    def __init__(self, server: DNSServer) -> None:
        self._server = server
        self.closed: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        """Note the connection."""
        self._server._streams.add(self)

    def stringReceived(self, string: bytes) -> None:
        """Answer one query; an empty answer closes the connection."""
        for octets in self._server.replies(string, "tcp")[0]:
            if octets:
                self.transport.write(struct.pack("!H", len(octets)) + octets)
            else:
                self.transport.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        """Forget the connection."""
        self._server._streams.discard(self)
        self.closed.callback(None)
