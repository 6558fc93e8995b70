"""Tests for `mailhost.net.proxy_header` and `mailhost.net.proxied`."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import SyntaxProblem
from mailhost.net.proxied import ProxiedProtocol
from mailhost.net.proxy_header import Proxied, ProxyHeaderReader
from tests.support.world import World, make_settings

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
CLIENT = Proxied("203.0.113.9", 40001, "198.51.100.1", 25)
LINE = b"PROXY TCP4 203.0.113.9 198.51.100.1 40001 25\r\n"
SIX = b"PROXY TCP6 2001:db8::9 2001:db8::1 40001 25\r\n"


def binary(
    peer: str, local: str, command: int = 0x21, family: int | None = None, more: bytes = b""
) -> bytes:
    """A header of version 2, from port 40001 to port 25."""
    one, other = ip_address(peer), ip_address(local)
    default = 0x11 if one.version == 4 else 0x21
    ends = one.packed + other.packed + (40001).to_bytes(2, "big") + (25).to_bytes(2, "big") + more
    kind = default if family is None else family
    return SIGNATURE + bytes([command, kind]) + len(ends).to_bytes(2, "big") + ends


BINARY = binary(CLIENT.peer, CLIENT.local, more=b"\x04\x00\x02hi")


class HeaderTests(SynchronousTestCase):
    GOOD = (
        (LINE, CLIENT),
        (SIX, Proxied("2001:db8::9", 40001, "2001:db8::1", 25)),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
        (BINARY, CLIENT),
        (
            binary("2001:db8::9", "2001:db8::1"),
            Proxied("2001:db8::9", 40001, "2001:db8::1", 25),
        ),
        (binary(CLIENT.peer, CLIENT.local, command=0x20), None),
    )
    BAD = (
        b"EHLO client.example\r\n",
        b"PROXX",
        b"PROXY TCP4 203.0.113.9 198.51.100.1 40001\r\n",
        b"PROXY TCP4 203.0.113.9 198.51.100.1 40001 25 \r\n",
        b"PROXY TCP4  203.0.113.9 198.51.100.1 40001 25\r\n",
        b"PROXY TCP4 2001:db8::9 2001:db8::1 40001 25\r\n",
        b"PROXY TCP4 203.0.113.9 198.51.100.1 70000 25\r\n",
        b"PROXY TCP4 203.0.113.9 198.51.100.1 -1 25\r\n",
        b"PROXY TCP4 203.0.113.9 198.51.100.1 \xc2\xb2 25\r\n",
        b"PROXY UDP4 203.0.113.9 198.51.100.1 40001 25\r\n",
        b"PROXY " + b"x" * 200,
        binary(CLIENT.peer, CLIENT.local, command=0x11),
        binary(CLIENT.peer, CLIENT.local, family=0x12),
        binary(CLIENT.peer, CLIENT.local, family=0x21),
        SIGNATURE + b"\x21\x11\xff\xff",
        SIGNATURE + b"\x21\x11\x00\x04abcd",
    )

    def test_good(self) -> None:
        """Both versions, at once and octet by octet; what follows is left alone."""
        for header, meant in self.GOOD:
            for step in (1, 7, len(header) + 100):
                reader, octets, rest = ProxyHeaderReader(), header + b"EHLO x\r\n", b""
                for start in range(0, len(octets), step):
                    part = octets[start : start + step]
                    rest += part if reader.ended else reader.feed(part)
                self.assertEqual((meant, True, b"EHLO x\r\n"), (reader.found, reader.ended, rest))

    def test_bad(self) -> None:
        for header in self.BAD:
            for step in (1, 500):
                reader = ProxyHeaderReader()
                with self.assertRaises(SyntaxProblem):
                    for start in range(0, len(header), step):
                        reader.feed(header[start : start + step])
                self.assertIsNone(reader.found)

    @given(st.binary(max_size=300), st.sampled_from((b"", b"PROXY ", SIGNATURE, BINARY[:14])))
    def test_anything(self, octets: bytes, beginning: bytes) -> None:
        """Whatever comes is a header, the beginning of one, or none; nothing else happens."""
        reader = ProxyHeaderReader()
        try:
            reader.feed(beginning + octets)
        except SyntaxProblem:
            self.assertFalse(reader.ended)


class ProxiedTests(SynchronousTestCase):
    def setUp(self) -> None:
        settings = make_settings()
        access = evolve(settings.access, proxies=(ip_network("192.0.2.0/24"),), early_talkers=False)
        self.world = World(evolve(settings, access=access))
        self.world.factory.proxies = access.is_proxy

    def connect(self, peer: str = "192.0.2.7") -> StringTransport:
        address = IPv4Address("TCP", peer, 5)
        transport = StringTransport(
            hostAddress=IPv4Address("TCP", "127.0.0.1", 25), peerAddress=address
        )
        transport.protocol = self.world.factory.buildProtocol(address)
        transport.protocol.makeConnection(transport)
        return transport

    def test_session_of_the_client(self) -> None:
        """Whoever the header names has the session; the proxy is forgotten."""
        transport = self.connect()
        self.assertEqual(b"", transport.value())

        transport.protocol.dataReceived(LINE)
        self.assertEqual(b"220 ", transport.value()[:4])
        transport.protocol.dataReceived(b"EHLO x\r\n")

        self.assertIn(b"Hello [203.0.113.9]", transport.value())
        (session,) = self.world.factory.sessions
        facts = session.session
        self.assertEqual(
            ("203.0.113.9", 40001, "198.51.100.1", 25),
            (facts.peer, facts.peer_port, facts.local, facts.local_port),
        )

    def test_proxy_for_itself(self) -> None:
        transport = self.connect()
        transport.protocol.dataReceived(b"PROXY UNKNOWN\r\n")
        transport.protocol.dataReceived(b"EHLO x\r\n")
        self.assertIn(b"Hello [192.0.2.7]", transport.value())

    def test_client_that_talks_early(self) -> None:
        """What comes with the header has not waited for the greeting either."""
        transport = self.connect()
        transport.protocol.dataReceived(LINE + b"EHLO x\r\n")
        self.assertEqual(b"554 5.5.0", transport.value()[:9])

    def test_cut_off(self) -> None:
        """No proxy of ours, no header, and no header in time: nothing is said."""
        stranger = self.connect("203.0.113.9")
        stranger.protocol.dataReceived(LINE)
        wrong = self.connect()
        wrong.protocol.dataReceived(b"EHLO x\r\n")
        silent = self.connect()
        for _ in range(12):
            self.world.clock.advance(1)
        for transport in (stranger, wrong, silent):
            self.assertEqual((b"", True), (transport.value(), transport.disconnected))
        self.assertFalse(self.world.factory.sessions)

    def test_stopped_before_the_header(self) -> None:
        transport = self.connect()
        self.assertIsInstance(transport.protocol, ProxiedProtocol)
        self.successResultOf(self.world.factory.end_sessions())
        self.assertTrue(transport.disconnected)
