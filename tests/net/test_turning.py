"""ATRN: the session is somebody else's from the 250 on."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.settings import DomainSettings
from mailhost.config.settings.access import BasicKeys
from mailhost.errors import SpoolProblem
from mailhost.model.held import Holding
from tests.authentication.passwords import Passwords
from tests.support.world import Session, World, make_settings

LOGIN = b"AUTH PLAIN AGtpbUBleGFtcGxlLmNvbQBwZW5jaWw=\r\n"
OUT_OF_STEP = b"554 5.5.0 Protocol synchronization error"


class TurningTests(SynchronousTestCase):
    def setUp(self) -> None:
        settings = make_settings()
        basic = BasicKeys(enabled=True, require_tls=False, default_domain="example.com")
        access = evolve(settings.access, basic=basic, early_talkers=False)
        held = DomainSettings("branch.example", "remote", hold=Holding(("kim",)))
        self.world = World(
            evolve(settings, access=access, domains=(held,)),
            passwords=Passwords({"kim@example.com": "pencil"}),
        )
        self.world.held.domains.add("branch.example")

    def logged_in(self) -> Session:
        session = self.world.connect()
        session.send(b"EHLO client\r\n")
        self.assertTrue(session.send(LOGIN).startswith(b"235 "))
        return session

    def test_handed_over(self) -> None:
        """What comes behind the 250 goes to the one who takes over; the session has ended."""
        session = self.logged_in()

        said = session.send(b"ATRN\r\n")

        self.assertEqual(b"250 2.0.0 OK now reversing the connection\r\n", said)
        ((names, peer, protocol),) = self.world.held.turned
        self.assertEqual((("branch.example",), "192.0.2.7"), (names, peer))
        transport: Any = session.transport
        self.assertIs(protocol, transport.protocol)
        self.assertTrue(protocol.connected)
        self.assertIsNone(transport.producer)
        self.assertEqual((set(), 0), (self.world.factory.sessions, self.world.desk.open_sessions))
        self.assertFalse(session.closed)

    def test_out_of_step(self) -> None:
        """What stands behind ATRN was said before its answer: no command, and no greeting."""
        for behind in (b"220 x\r\n", b"NOOP\r\n", b"2"):
            session = self.logged_in()
            self.assertTrue(session.send(b"ATRN\r\n" + behind).startswith(OUT_OF_STEP))
            self.assertTrue(session.closed)
        self.assertEqual([], self.world.held.turned)

    def test_queue_cannot_be_read(self) -> None:
        """P4: 4yz, and the session goes on."""
        self.world.held.problem = SpoolProblem("disk")
        session = self.logged_in()

        self.assertTrue(session.send(b"ATRN\r\n").startswith(b"451 4.3.0 "))
        self.assertTrue(session.send(b"ETRN branch.example\r\n").startswith(b"458 4.3.0 "))
        self.assertTrue(session.send(b"NOOP\r\n").startswith(b"250 "))
