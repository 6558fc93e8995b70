"""Tests for `mailhost.policy.clients`: one client and its part."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from mailhost.model.access import AccessList
from mailhost.model.client import ClientLimits
from mailhost.model.rate import Rate
from mailhost.policy.clients import MAX_REMEMBERED, ClientTable
from mailhost.smtp import replies
from tests.support.world import World, make_settings

HELLO = b"EHLO client.example\r\n"
MESSAGE = (
    b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nSubject: x\r\n\r\nt\r\n.\r\n"
)


class TableTests(SynchronousTestCase):
    def test_connections_at_once(self) -> None:
        """One too many is told; when another has gone there is room again."""
        table, limits = ClientTable(), ClientLimits(connections=2)
        peer = "192.0.2.7"
        self.assertIsNone(table.enter(peer, limits, 0.0))
        self.assertIsNone(table.enter(peer, limits, 0.0))
        self.assertEqual(replies.has_too_many("address"), table.enter(peer, limits, 0.0))
        self.assertIsNone(table.enter("192.0.2.8", limits, 0.0))
        table.leave(peer)
        table.leave(peer)
        self.assertIsNone(table.enter(peer, limits, 0.0))

    def test_rate_survives_the_connection(self) -> None:
        """Coming anew makes no new bucket; time fills it."""
        table, limits = ClientTable(), ClientLimits(connection_rate=Rate(2, 60))
        said = []
        for now in (0.0, 0.0, 0.0, 29.0, 31.0, 31.0):
            said.append(table.enter("192.0.2.7", limits, now) is None)
            table.leave("192.0.2.7")
        self.assertEqual([True, True, False, False, True, False], said)

    def test_one_network(self) -> None:
        """A /64 network is one client."""
        table, limits = ClientTable(), ClientLimits(connections=1)
        table.enter("2001:db8::1", limits, 0.0)
        self.assertIsNotNone(table.enter("2001:db8::2", limits, 0.0))
        self.assertIsNone(table.enter("2001:db8:0:1::1", limits, 0.0))

    def test_bounded(self) -> None:
        """P7: clients that have gone are forgotten, the first ones first; present ones never."""
        table, limits = ClientTable(), ClientLimits(messages=Rate(1, 60))
        table.enter("present", limits, 0.0)
        self.assertIsNone(table.check_message("present", limits, 0.0))
        for number in range(MAX_REMEMBERED + 5):
            table.enter(f"peer{number}", limits, 0.0)
            table.check_message(f"peer{number}", limits, 0.0)
            table.leave(f"peer{number}")
        self.assertEqual(MAX_REMEMBERED + 1, len(table))
        self.assertIsNotNone(table.check_message("present", limits, 0.0))

    def test_nothing_is_kept_without_limits_of_rate(self) -> None:
        """Who has gone and has no bucket leaves nothing."""
        table = ClientTable()
        table.enter("192.0.2.7", ClientLimits(connections=1), 0.0)
        table.leave("192.0.2.7")
        self.assertEqual(0, len(table))


class SessionTests(SynchronousTestCase):
    def world(self, **limits: Any) -> World:
        settings = make_settings()
        access = evolve(settings.access, per_address=ClientLimits(**limits))
        return World(evolve(settings, access=access))

    def test_connections(self) -> None:
        """421 in place of the banner, and only for that client; a lost session counts no more."""
        world = self.world(connections=1)
        first = world.connect()
        self.assertTrue(first.read().startswith(b"220"))
        self.assertTrue(world.connect().read().startswith(b"421 4.7.0"))
        self.assertTrue(world.connect("192.0.2.8").read().startswith(b"220"))
        for session in tuple(world.factory.sessions):
            session.connectionLost()
        self.assertEqual(0, len(world.desk.clients))
        self.assertTrue(world.connect().read().startswith(b"220"))

    def test_messages(self) -> None:
        """451 to MAIL when the bucket is empty; a minute later mail is taken again."""
        world = self.world(messages=Rate(2, 60))
        session = world.connect()
        session.send(HELLO)
        for _ in range(2):
            self.assertIn(b"250 2.6.0", session.send(MESSAGE))
        self.assertTrue(session.send(b"MAIL FROM:<a@example.org>\r\n").startswith(b"451 4.7.1"))
        world.clock.advance(60)
        self.assertTrue(session.send(b"MAIL FROM:<a@example.org>\r\n").startswith(b"250"))

    def test_recipients(self) -> None:
        """451 to RCPT; those accepted before stay."""
        world = self.world(recipients=Rate(2, 60))
        session = world.connect()
        session.send(HELLO + b"MAIL FROM:<a@example.org>\r\n")
        said = [session.send(b"RCPT TO:<u%d@example.com>\r\n" % n)[:3] for n in range(3)]
        self.assertEqual([b"250", b"250", b"451"], said)
        session.send(b"DATA\r\n")
        self.assertIn(b"250 2.6.0", session.send(b"Subject: x\r\n\r\n.\r\n"))

    def test_exempt(self) -> None:
        """Trusted networks have no limits."""
        exempt = AccessList(False, (ip_network("192.0.2.0/24"),))
        world = self.world(connections=1, exempt=exempt)
        for _ in range(3):
            self.assertTrue(world.connect().read().startswith(b"220"))
