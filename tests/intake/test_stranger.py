"""Tests for `mailhost.intake.stranger`: what clients that are not the operator's own hear."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailhost.errors import ResolveProblem
from mailhost.intake.stranger import Stranger
from mailhost.model.access import AccessList
from mailhost.model.address import Mailbox
from mailhost.model.client import ClientLimits, Tarpit
from mailhost.model.dns_list import DNSList
from mailhost.model.rate import Rate
from mailhost.model.session import SessionFacts
from mailhost.relay.dns.resolver import DNSResolver
from mailhost.smtp import replies
from tests.support.dns_server import DNSServer
from tests.support.world import World, make_settings

HELLO = b"EHLO client.example\r\n"
MAIL = b"MAIL FROM:<a@example.org>\r\n"
ELSEWHERE = b"RCPT TO:<x@elsewhere.example>\r\n"


def world_with(**access: Any) -> World:
    settings = make_settings()
    return World(evolve(settings, access=evolve(settings.access, early_talkers=False, **access)))


class GreetDelayTests(SynchronousTestCase):
    def test_who_waits_is_greeted(self) -> None:
        """The banner comes after the delay, not before."""
        world = world_with(greet_delay=5.0)
        session = world.connect()
        world.clock.advance(4.9)
        early = session.read()
        world.clock.advance(0.1)

        self.assertEqual(b"", early)
        self.assertTrue(session.read().startswith(b"220 "))

    def test_who_talks_is_refused(self) -> None:
        """A20: what was said before the greeting is not read."""
        world = world_with(greet_delay=5.0)
        session = world.connect()
        self.assertEqual(b"", session.send(HELLO))
        world.clock.advance(5.0)

        self.assertEqual(replies.NOT_IN_STEP.octets, session.read())
        self.assertTrue(session.closed)

    def test_the_operators_own(self) -> None:
        """Nobody in access.trusted waits."""
        world = world_with(greet_delay=5.0, trusted=(ip_network("192.0.2.0/24"),))

        self.assertTrue(world.connect().read().startswith(b"220 "))

    def test_proxies(self) -> None:
        """A proxy is greeted at once: it is the client behind it that waits."""
        world = world_with(
            greet_delay=5.0,
            per_address=ClientLimits(connections=1),
            proxies=(ip_network("192.0.2.7"),),
        )
        world.connect()
        session = world.connect()
        self.assertTrue(session.read().startswith(b"220 "))
        session.send(HELLO)
        self.assertEqual(b"", session.send(b"XCLIENT ADDR=198.51.100.9\r\n"))
        world.clock.advance(5.0)
        self.assertTrue(session.read().startswith(b"220 "))

    def test_gone_before_the_greeting(self) -> None:
        """A client that does not wait leaves no timer and is in no table."""
        world = world_with(greet_delay=5.0, per_address=ClientLimits(connections=1))
        session = world.connect()
        session.protocol.connectionLost()

        self.assertEqual([], world.clock.getDelayedCalls())
        self.assertEqual(0, len(world.desk.clients))


class TarpitTests(SynchronousTestCase):
    def greeted(self, **access: Any) -> Any:
        session = (world := world_with(**access)).connect()
        session.send(HELLO)
        return world, session

    def wait(self, world: World, session: Any) -> float:
        """How long the reply takes."""
        for tenths in range(200):
            if session.read():
                return tenths / 10
            world.clock.advance(0.1)
        raise AssertionError("no reply")

    def test_later_and_later(self) -> None:
        """Each refused recipient is answered later, up to the limit; good ones at once."""
        world, session = self.greeted(tarpit=Tarpit(1.0, 2.5, 1))
        session.send(MAIL)
        waits = []
        for _ in range(5):
            session.protocol.dataReceived(ELSEWHERE)
            waits.append(round(self.wait(world, session)))
        self.assertEqual([0, 1, 2, 2, 2], waits)
        self.assertTrue(session.send(b"RCPT TO:<b@example.com>\r\n").startswith(b"250 2.1.5"))

    def test_wrong_commands(self) -> None:
        """P5: what is pipelined behind a slow reply waits; the tenth error ends the session."""
        world, session = self.greeted(tarpit=Tarpit(1.0, 1.0, 0))
        self.assertEqual(b"", session.send(b"WHAT\r\nNOOP\r\n"))
        world.clock.advance(1.0)
        self.assertEqual([b"500", b"250"], [line[:3] for line in session.read().splitlines()])
        for _ in range(9):
            session.send(b"WHAT\r\n")
            self.assertFalse(session.closed)
            world.clock.advance(1.0)
        self.assertTrue(session.read().endswith(replies.TOO_MANY_ERRORS.octets))
        self.assertTrue(session.closed)

    def test_refused_data_is_never_commands(self) -> None:
        """Rule 3 of the dialogue holds while the refusal is on its way."""
        world, session = self.greeted(tarpit=Tarpit(1.0, 1.0, 0))
        session.send(b"DATA\r\n" + MAIL)
        world.clock.advance(1.0)

        self.assertEqual(replies.NEED_MAIL.octets, session.read())
        self.assertTrue(session.closed)
        self.assertEqual(b"", session.send(b"NOOP\r\n"))

    def test_gone_while_waiting(self) -> None:
        """No timer is left behind."""
        world, session = self.greeted(tarpit=Tarpit(1.0, 1.0, 0))
        session.send(b"WHAT\r\n")
        session.protocol.connectionLost()

        self.assertEqual([], world.clock.getDelayedCalls())


class ErrorTests(SynchronousTestCase):
    def test_errors_of_an_address(self) -> None:
        """Too many end the session, and the next connections too, until time has passed."""
        world = world_with(per_address=ClientLimits(errors=Rate(2, 60)))
        session = world.connect()
        session.send(HELLO + b"")
        session.send(MAIL)
        said = [session.send(ELSEWHERE)[:3] for _ in range(3)]

        self.assertEqual([b"550", b"550", b"421"], said)
        self.assertTrue(session.closed)
        session.protocol.connectionLost()
        again = replies.errs_too_much("address").octets
        self.assertEqual(again, world.connect().read())
        self.assertTrue(world.connect("192.0.2.8").read().startswith(b"220"))
        world.clock.advance(31)
        self.assertTrue(world.connect().read().startswith(b"220"))

    def test_networks(self) -> None:
        """All clients of a /24 share the limits of their network; of IPv6 a /48."""
        world = world_with(per_network=ClientLimits(connections=2))
        for peer in ("192.0.2.7", "192.0.2.8", "192.0.3.7", "2001:db8:0:1::1", "2001:db8:0:2::1"):
            self.assertTrue(world.connect(peer).read().startswith(b"220"), peer)
        full = replies.has_too_many("network").octets
        for peer in ("192.0.2.9", "2001:db8:0:3::1"):
            self.assertEqual(full, world.connect(peer).read())
        for session in tuple(world.factory.sessions):
            session.connectionLost()
        self.assertEqual(0, len(world.desk.networks))


BAD, WORSE, GOOD = DNSList("bl.example", 1), DNSList("worse.example", 2), DNSList("wl.example", -2)
RECIPIENT = b"RCPT TO:<b@example.com>\r\n"


class ListTests(SynchronousTestCase):
    def listed(self, *zones: str, peer: str = "192.0.2.7", **access: Any) -> Any:
        world = world_with(**{"dns_lists": (BAD, WORSE, GOOD), **access})
        for zone in zones:
            world.names.hosts[f"7.2.0.192.{zone}"] = ["127.0.0.2"]
        session = world.connect(peer)
        session.send(HELLO)
        session.send(MAIL)
        return world, session

    def test_refused_at_the_first_recipient(self) -> None:
        """550 with the names of the lists; postmaster can be written to."""
        _, session = self.listed("bl.example", "worse.example")
        said = session.send(RECIPIENT)
        self.assertTrue(said.startswith(b"550 5.7.1"))
        self.assertTrue(said.endswith(b"192.0.2.7 in bl.example, worse.example\r\n"))
        self.assertTrue(session.send(b"RCPT TO:<Postmaster@example.com>\r\n").startswith(b"250"))

    def test_not_refused(self) -> None:
        """In no list, in a good one as well, below the limit, or one of our own."""
        for zones, access in (
            ((), {}),
            (("bl.example", "wl.example"), {}),
            (("bl.example",), {"dns_lists_refuse_at": 2}),
            (("worse.example",), {"trusted": (ip_network("192.0.2.7"),)}),
            (("worse.example",), {"relay": AccessList.build(False, ["192.0.2.7"])}),
        ):
            _, session = self.listed(*zones, **access)
            self.assertTrue(session.send(RECIPIENT).startswith(b"250 2.1.5"), (zones, access))

    def test_relaying_comes_first(self) -> None:
        """What is refused in any case asks nobody."""
        _, session = self.listed("bl.example")
        self.assertIn(b"Unable to relay", session.send(ELSEWHERE))

    def test_asked_at_once_and_remembered(self) -> None:
        """The second list is asked before the first has answered; once in a session."""
        world, session = self.listed()
        first: Deferred[list[str]] = Deferred()
        second: Deferred[list[str]] = Deferred()
        world.names.hosts["7.2.0.192.bl.example"] = first
        world.names.hosts["7.2.0.192.worse.example"] = second
        self.assertEqual(b"", session.send(RECIPIENT + b"NOOP\r\n"))
        second.callback(["127.0.0.2"])
        first.errback(ResolveProblem("4.4.3", "no answer"))

        said = session.read().splitlines()
        self.assertEqual([b"550", b"250"], [line[:3] for line in said])
        self.assertTrue(said[0].endswith(b"in worse.example"))
        world.names.hosts.clear()
        self.assertTrue(session.send(RECIPIENT).startswith(b"550"))

    def test_faults_count_nothing(self) -> None:
        """P4: nobody is refused because DNS is in trouble."""
        world, session = self.listed()
        for zone in ("bl.example", "worse.example", "wl.example"):
            world.names.hosts[f"7.2.0.192.{zone}"] = ResolveProblem("4.4.3", "no answer")
        self.assertTrue(session.send(RECIPIENT).startswith(b"250"))

    def test_in_place_of_the_greeting(self) -> None:
        """dns_lists_at: connect refuses with 554; whoever is let in waits no longer than told."""
        world = world_with(dns_lists=(BAD,), dns_lists_at="connect", greet_delay=5.0)
        world.names.hosts["7.2.0.192.bl.example"] = ["127.0.0.2"]
        session = world.connect()
        self.assertTrue(session.read().startswith(b"554 5.7.1"))
        self.assertTrue(session.send(HELLO).startswith(b"503"))
        slow: Deferred[list[str]] = Deferred()
        world.names.hosts["8.2.0.192.bl.example"] = slow
        other = world.connect("192.0.2.8")
        world.clock.advance(3.0)
        slow.callback([])
        world.clock.advance(2.0)
        self.assertTrue(other.read().startswith(b"220"))


class RealListTests(TestCase):
    async def test_a_name_server(self) -> None:
        """The lists are asked by the resolver that asks for everything, and it keeps answers."""
        server = DNSServer(reactor)
        self.addCleanup(server.stop)
        port = server.start({"7.2.0.192.bl.example": {"A": ["127.0.0.2"]}})
        resolver = DNSResolver(reactor, [("127.0.0.1", port)], 10.0, hosts_file=None)
        self.addCleanup(resolver.close)
        world = world_with(dns_lists=(BAD, GOOD))
        world.desk.resolver = resolver
        for _ in range(2):
            stranger = Stranger(world.desk, SessionFacts("1", "192.0.2.7"))
            refused = await stranger.inquire(None, Mailbox("b", "example.com"))
            self.assertTrue(str(refused).endswith("192.0.2.7 in bl.example"))
        self.assertEqual(1, server.count("7.2.0.192.bl.example", "A"))
