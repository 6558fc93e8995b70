"""Tests for `mailhost.intake.reception`; replies in order are in tests/dialogues."""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.settings import DomainSettings, VirtualServerSettings
from mailhost.errors import ResolveProblem
from mailhost.model.access import AccessList
from mailhost.traces.events import Event
from mailhost.traces.tracer import Tracer
from tests.support.world import World, make_settings

HELLO = b"EHLO client.example\r\n"
MESSAGE = (
    b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nSubject: x\r\n\r\nt\r\n.\r\n"
)


def with_lists(
    connections: AccessList | None = None, relay: AccessList | None = None
) -> VirtualServerSettings:
    settings = make_settings()
    access = settings.access
    return evolve(
        settings,
        access=evolve(
            access, connections=connections or access.connections, relay=relay or access.relay
        ),
    )


class TraceTests(SynchronousTestCase):
    def stored(self, pointer: object, reverse_dns: bool = True) -> bytes:
        settings = make_settings()
        delivery = evolve(settings.delivery, reverse_dns=reverse_dns)
        world = World(evolve(settings, delivery=delivery))
        world.names.pointers["192.0.2.7"] = pointer
        world.names.hosts["client.example"] = ["192.0.2.7"]
        world.names.hosts["other.example"] = ["192.0.2.7"]
        world.names.hosts["liar.example"] = ["198.51.100.1"]
        world.connect().send(HELLO + MESSAGE)
        return world.contents()[0]

    def test_received_field(self) -> None:
        """The stored content begins with our trace field (RFC 5321 §4.4)."""
        stored = self.stored([], reverse_dns=False)

        self.assertTrue(
            stored.startswith(
                b"Received: from client.example ([192.0.2.7]) by mail.example.com with ESMTP id "
            )
        )
        self.assertTrue(stored.endswith(b"\r\nSubject: x\r\n\r\nt\r\n"))

    def test_reverse_dns_notes(self) -> None:
        """DEL-45: nothing where it agrees, else `unverified` or `RDNS failed`; never a refusal."""
        self.assertIn(b"([192.0.2.7]) by", self.stored(["client.example"]))
        self.assertIn(b"([192.0.2.7] unverified) by", self.stored(["other.example"]))
        self.assertIn(b"([192.0.2.7] RDNS failed) by", self.stored(["liar.example"]))
        self.assertIn(b"([192.0.2.7] RDNS failed) by", self.stored(ResolveProblem("4.4.3", "no")))

    def test_what_was_there_stays(self) -> None:
        """Older trace fields keep their form and their order (RFC 5321 §4.4)."""
        older = (
            b"Received: from b by c; Thu, 1 Jan 1970 00:00:01 GMT\r\n"
            b"received: (at home)\r\n by b; yesterday\r\n"
            b"Return-Path: <x@example.net>\r\n\r\nt\r\n"
        )
        world = World()

        world.connect().send(HELLO + MESSAGE.replace(b"Subject: x\r\n\r\nt\r\n", older))

        added, _, rest = world.contents()[0].partition(older)
        self.assertEqual(b"", rest)
        self.assertTrue(added.startswith(b"Received: from client.example ([192.0.2.7]) by "))
        self.assertEqual(2, added.count(b"\r\n"))


class MinimumTests(SynchronousTestCase):
    def test_recipients_and_octets(self) -> None:
        """A hundred recipients, lines of 1000 octets and 64 K of content (RFC 5321 §4.5.3.1)."""
        recipients = b"".join(b"RCPT TO:<r%d@example.com>\r\n" % n for n in range(100))
        content = b"Subject: x\r\n\r\n" + (b"x" * 998 + b"\r\n") * 66
        world = World()

        said = world.connect().send(
            HELLO + b"MAIL FROM:<a@example.org>\r\n" + recipients + b"DATA\r\n" + content + b".\r\n"
        )

        self.assertEqual(100, said.count(b"250 2.1.5 "))
        (message,) = world.accepted
        self.assertEqual(100, len(message.recipients))
        self.assertTrue(world.contents()[0].endswith(content))

    def test_no_recipient_is_named(self) -> None:
        """Nothing of the envelope gets into the header (RFC 5321 §7.2)."""
        world = World()

        world.connect().send(
            HELLO + MESSAGE.replace(b"DATA\r\n", b"RCPT TO:<secret@example.com>\r\nDATA\r\n")
        )

        self.assertEqual(2, len(world.accepted[0].recipients))
        for name in (b"secret@", b"b@example.com"):
            self.assertNotIn(name, world.contents()[0])


class NameTests(SynchronousTestCase):
    def test_relay_by_domain(self) -> None:
        """ACC-31: a client whose confirmed name is listed may relay."""
        world = World(with_lists(relay=AccessList.build(False, ["*.trusted.example"])))
        world.names.pointers["192.0.2.7"] = ["mx.trusted.example"]
        world.names.hosts["mx.trusted.example"] = ["192.0.2.7"]
        session = world.connect()

        said = session.send(HELLO + b"MAIL FROM:<>\r\nRCPT TO:<x@elsewhere.example>\r\n")

        self.assertTrue(said.endswith(b"250 2.1.5 x@elsewhere.example\r\n"))

    def test_a_name_that_does_not_lead_back(self) -> None:
        """Anybody can claim a name in their own reverse zone; it counts for nothing."""
        world = World(with_lists(relay=AccessList.build(False, ["*.trusted.example"])))
        world.names.pointers["192.0.2.7"] = ["mx.trusted.example"]
        world.names.hosts["mx.trusted.example"] = ["198.51.100.1"]
        session = world.connect()

        said = session.send(HELLO + b"MAIL FROM:<>\r\nRCPT TO:<x@elsewhere.example>\r\n")

        self.assertIn(b"550 5.7.1 Unable to relay", said)

    def test_refused_by_domain(self) -> None:
        """ACC-23: connection control by name; the client waits until it is known."""
        world = World(with_lists(connections=AccessList.build(True, ["*.bad.example"])))
        looking: Deferred[list[str]] = Deferred()
        world.names.pointers["192.0.2.7"] = looking
        world.names.hosts["host.bad.example"] = ["192.0.2.7"]
        session = world.connect()
        before = session.send(HELLO)

        looking.callback(["host.bad.example"])

        self.assertEqual(b"", before)
        said = session.read().splitlines()
        self.assertEqual(b"554 5.7.1 Connection refused", said[0])
        self.assertEqual({b"503 5.5.1"}, {line[:9] for line in said[1:]})


class RelayTests(SynchronousTestCase):
    def relayed(self, settings: VirtualServerSettings, peer: str, domain: str) -> bool:
        said = (
            World(settings)
            .connect(peer)
            .send(HELLO + b"MAIL FROM:<>\r\nRCPT TO:<x@%b>\r\n" % domain.encode())
        )
        return said.splitlines()[-1].startswith(b"250")

    def test_lists(self) -> None:
        """Networks of both families, with exceptions either way round."""
        only = with_lists(relay=AccessList.build(False, ["10.0.0.0/8", "2001:db8::/32"]))
        but = with_lists(relay=AccessList.build(True, ["192.0.2.7"]))

        self.assertTrue(self.relayed(only, "10.1.2.3", "elsewhere.example"))
        self.assertTrue(self.relayed(only, "2001:db8::7", "elsewhere.example"))
        self.assertTrue(self.relayed(only, "::ffff:10.1.2.3", "elsewhere.example"))
        self.assertFalse(self.relayed(only, "192.0.2.7", "elsewhere.example"))
        self.assertFalse(self.relayed(but, "192.0.2.7", "elsewhere.example"))
        self.assertTrue(self.relayed(but, "192.0.2.8", "elsewhere.example"))

    def test_remote_domain_that_may_be_relayed_to(self) -> None:
        """DOM-10 overrides the relay list, for that domain only."""
        settings = make_settings(
            domains=(DomainSettings(name="*.partner.example", type="remote", relay=True),)
        )

        self.assertTrue(self.relayed(settings, "192.0.2.7", "a.partner.example"))
        self.assertFalse(self.relayed(settings, "192.0.2.7", "partner.example"))
        self.assertFalse(self.relayed(settings, "192.0.2.7", "elsewhere.example"))


class ReloadTests(SynchronousTestCase):
    def test_session_sees_new_settings(self) -> None:
        """What is reloaded holds from the session's next command on."""
        world = World()
        session = world.connect()
        session.send(HELLO + b"MAIL FROM:<>\r\n")

        world.desk.settings = with_lists(relay=AccessList.build(True))
        said = session.send(b"RCPT TO:<x@elsewhere.example>\r\n")

        self.assertTrue(said.startswith(b"250"))


class Notebook(Tracer):
    """Keeps what it is told."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        super().__init__(on=True)
        self.events: list[Event] = []
        self._now = seconds

    def seconds(self) -> float:
        return self._now()

    def note(self, event: Event) -> None:
        self.events.append(event)


class EventTests(SynchronousTestCase):
    def test_how_it_came(self) -> None:
        """What is traced of an accepted message: its size and the protocol."""
        world = World()
        notes = world.desk.tracer = Notebook(world.clock.seconds)

        world.connect().send(
            b"EHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"
            b"Subject: x\r\n\r\n.\r\n"
        )

        (accepted,), (message,) = notes.events, world.accepted
        self.assertEqual((message.queue_id, "accepted"), accepted[1:3])
        self.assertRegex(accepted[3], rf"^{message.size} octets by ESMTP\b")
