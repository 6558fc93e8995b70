"""Tests for XCLIENT: parsing, and the session that takes the place of the proxy's."""

from __future__ import annotations

import contextlib
from ipaddress import ip_network

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import SyntaxProblem
from mailhost.model.session import SpokenFor
from mailhost.smtp.extensions.xclient import parse_xclient
from tests.support.world import Session, World, make_settings

PROXY = "192.0.2.7"
XCLIENT = b"XCLIENT ADDR=203.0.113.9 PORT=40001 NAME=client.example LOGIN=kim\r\n"
MAIL = b"MAIL FROM:<a@example.org>\r\n"


class ParseTests(SynchronousTestCase):
    def test_good(self) -> None:
        for argument, meant in (
            ("ADDR=203.0.113.9", SpokenFor(peer="203.0.113.9")),
            ("addr=IPV6:2001:db8::9 PORT=25", SpokenFor(peer="2001:db8::9", peer_port=25)),
            ("NAME=[UNAVAILABLE]", SpokenFor(peer_names=())),
            ("NAME=client.example", SpokenFor(peer_names=("client.example",))),
            (
                "HELO=client.example PROTO=ESMTP",
                SpokenFor(hello="client.example", protocol="ESMTP"),
            ),
            ("LOGIN=kim+40example.com", SpokenFor(login="kim@example.com")),
            ("LOGIN=[UNAVAILABLE]", SpokenFor(login="")),
            ("DESTADDR=198.51.100.1 DESTPORT=25", SpokenFor(local="198.51.100.1", local_port=25)),
        ):
            self.assertEqual(meant, parse_xclient(argument), argument)

    def test_bad(self) -> None:
        """An address that is not available is none: the client is not taken for the proxy."""
        for argument in (
            "",
            "ADDR",
            "ADDR=",
            "ADDR=[UNAVAILABLE]",
            "ADDR=203.0.113.900",
            "ADDR=2001:db8::9",
            "ADDR=203.0.113.9 ADDR=203.0.113.9",
            "SHOE=8",
            "PORT=70000",
            "PORT=-1",
            "PROTO=HTTP",
            "HELO=a+20b",
            "NAME=a+0Ab",
            "NAME=a=b",
        ):
            self.assertRaises(SyntaxProblem, parse_xclient, argument)

    @given(st.text(max_size=60))
    def test_anything(self, argument: str) -> None:
        """No other exception."""
        with contextlib.suppress(SyntaxProblem):
            parse_xclient("NAME=x " + argument)


class SessionTests(SynchronousTestCase):
    def setUp(self) -> None:
        settings = make_settings()
        access = evolve(
            settings.access, proxies=(ip_network(PROXY),), early_talkers=False, anonymous=False
        )
        self.world = World(evolve(settings, access=access))

    def greeted(self, peer: str = PROXY) -> Session:
        session = self.world.connect(peer)
        session.read()
        self.said = session.send(b"EHLO proxy.example\r\n")
        return session

    def test_client_takes_its_place(self) -> None:
        """The banner is said anew; then the session is the client's, with its login."""
        session = self.greeted()
        self.assertIn(b"XCLIENT NAME ADDR ", self.said)

        self.assertEqual(b"220 ", session.send(XCLIENT)[:4])
        self.assertEqual(b"503", session.send(MAIL)[:3])
        said = session.send(b"EHLO client.example\r\n")

        self.assertIn(b"Hello [203.0.113.9]", said)
        self.assertNotIn(b"XCLIENT", said)
        facts = session.protocol.session
        self.assertEqual(("203.0.113.9", 40001), (facts.peer, facts.peer_port))
        self.assertEqual(("client.example",), facts.peer_names)
        self.assertEqual(b"250", session.send(MAIL)[:3])
        self.assertEqual(b"502", session.send(XCLIENT)[:3])
        session.protocol.connectionLost()
        self.assertEqual(0, self.world.desk.open_sessions)

    def test_not_for_everybody(self) -> None:
        session = self.greeted("203.0.113.8")
        self.assertNotIn(b"XCLIENT", self.said)
        self.assertEqual(b"502", session.send(XCLIENT)[:3])
        self.assertEqual("203.0.113.8", session.protocol.session.peer)

    def test_refused_client(self) -> None:
        """What holds for clients holds for those that a proxy speaks for."""
        settings = self.world.settings
        connections = evolve(settings.access.connections, networks=(ip_network("203.0.113.9"),))
        self.world.desk.settings = evolve(
            settings, access=evolve(settings.access, connections=connections)
        )
        session = self.greeted()
        self.assertEqual(b"554 5.7.1", session.send(XCLIENT)[:9])
        self.assertEqual(b"503 5.5.1", session.send(b"EHLO x\r\n")[:9])

    def test_in_step(self) -> None:
        """Whatever stands behind XCLIENT was said by the proxy, not by the client."""
        session = self.greeted()
        self.assertEqual(b"554 5.5.0", session.send(XCLIENT + MAIL)[:9])
        self.assertTrue(session.closed)

    def test_not_in_a_transaction(self) -> None:
        session = self.greeted()
        session.send(b"XCLIENT LOGIN=kim\r\n")
        session.send(b"EHLO x\r\n")
        session.send(MAIL)
        self.assertEqual(b"503", session.send(XCLIENT)[:3])
