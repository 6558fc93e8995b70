"""What of a session comes into the protocol log: in, on the wire, and out."""

from __future__ import annotations

import base64
from typing import Any

from attrs import define, field
from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.settings.access import AccessSettings
from mailhost.model.protocol_log import OUTBOUND_COMMAND, OUTBOUND_RESPONSE, Turn
from mailhost.model.session import SessionFacts
from mailhost.protocol_log.log import ProtocolLog
from mailhost.relay.manager import RelayManager
from mailhost.smtp.server_dialogue import ServerDialogue
from tests.authentication.passwords import Passwords
from tests.relay.test_manager import RelayTestCase
from tests.support.world import START, Session, World, make_settings

PASSWORD = "Yellow-submarine-7"


@define(eq=False)
class Heard(ProtocolLog):
    """Keeps what it is told."""

    turns: list[Turn] = field(factory=list)
    facts: list[tuple[Any, ...]] = field(factory=list)

    def inbound(self, at: float, session: SessionFacts, turn: Turn) -> None:
        self.turns.append(turn)
        self.facts.append((at, session.peer, session.hello, session.local, session.local_port))

    def outbound(self, at: float, peer: str, port: int, name: str, turn: Turn) -> None:
        self.turns.append(turn)
        self.facts.append((at, peer, name, port))


class InboundTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.log = Heard(on=True)

    def world(self, **settings: Any) -> World:
        world = World(make_settings(**settings), passwords=Passwords({"kim": PASSWORD}))
        world.factory._protocol_log = self.log
        return world

    def told(self) -> list[tuple[str, str, int]]:
        return [(turn.verb, turn.argument, turn.status) for turn in self.log.turns]

    def test_whole_session(self) -> None:
        """Each command with its reply, one after the other; DATA with what it brought."""
        world = self.world()
        session = world.connect()
        session.read()
        text = b"Message-ID: <m1@x.example>\r\nSubject: x\r\n\r\nHello.\r\n.\r\n"
        session.send(b"EHLO client.example\r\nMAIL FROM:<a@example.org>\r\n")
        session.send(b"RCPT TO:<b@example.com>\r\nRCPT TO:<c@elsewhere.example>\r\nDATA\r\n")
        session.send(text)
        session.send(b"NOOP\r\nQUIT\r\n")

        self.assertEqual(
            [
                ("EHLO", "client.example", 250),
                ("MAIL", "FROM:<a@example.org>", 250),
                ("RCPT", "TO:<b@example.com>", 250),
                ("RCPT", "TO:<c@elsewhere.example>", 550),
                ("DATA", "<m1@x.example>", 250),
                ("NOOP", "", 250),
                ("QUIT", "", 221),
            ],
            self.told(),
        )
        data = self.log.turns[4]
        self.assertEqual(len(b"DATA\r\n" + text), data.received)
        self.assertEqual((START, "192.0.2.7", "client.example"), self.log.facts[1][:3])
        self.assertGreater(self.log.turns[0].sent, 100)

    def test_pipelined_in_pieces(self) -> None:
        """However the octets come, each reply is that of its command."""
        octets = (
            b"EHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@elsewhere.example>\r\n"
            b"RSET\r\nVRFY b\r\nNOOP\r\n"
        )
        found = []
        for size in (1, 7, len(octets)):
            self.log.turns.clear()
            session = self.world().connect()
            for start in range(0, len(octets), size):
                session.send(octets[start : start + size])
            found.append(self.told())
        self.assertEqual([250, 250, 550, 250, 252, 250], [status for _, _, status in found[0]])
        self.assertEqual([found[0]] * 2, found[1:])

    def test_time(self) -> None:
        """From the command to the reply, content and all."""
        world = self.world()
        session = world.connect()
        session.send(b"EHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")
        world.clock.advance(1.5)
        session.send(b"x\r\n.\r\n")
        self.assertEqual(1.5, self.log.turns[-1].seconds)

    def test_time_out(self) -> None:
        """A reply to no command has a line of its own."""
        world = self.world(connection_timeout=60)
        world.connect()
        world.clock.pump([1.0] * 62)
        self.assertEqual([("", "", 421)], self.told())

    def test_nothing_secret(self) -> None:
        """Neither what AUTH says, nor what a client says that has lost its way."""
        access = AccessSettings(early_talkers=True, users=None)
        world = self.world(access=access)
        encoded = base64.b64encode(b"\0kim\0" + PASSWORD.encode())
        session = world.connect()
        session.send(b"EHLO x\r\n")
        session.send(b"AUTH PLAIN " + encoded + b"\r\n")
        session.send(encoded + b"\r\n")
        session.send(PASSWORD.encode() + b" " + encoded + b"\r\n")

        said = repr(self.told())
        self.assertNotIn(PASSWORD, said)
        self.assertNotIn(encoded.decode(), said)
        self.assertEqual(
            ["EHLO", "AUTH", "UNKNOWN", "UNKNOWN"], [turn.verb for turn in self.log.turns]
        )
        self.assertEqual("PLAIN", self.log.turns[1].argument)

    def test_off(self) -> None:
        """Nothing is told, and the dialogue is the plain one."""
        self.log.on = False
        session: Session = self.world().connect()
        session.send(b"EHLO x\r\nQUIT\r\n")
        self.assertEqual([], self.log.turns)
        self.assertIs(ServerDialogue, type(session.protocol._dialogue))


class OutboundTests(RelayTestCase):
    def make_relay(self, settings: Any, **told: Any) -> RelayManager:
        self.log = Heard(on=True)
        return super().make_relay(settings, protocol_log=self.log, **told)

    def test_whole_transaction(self) -> None:
        """GEN-12: a line for each command and each reply, as IIS tells them apart; no content."""
        self.submit("bob@remote.example")

        lines = [
            (name == OUTBOUND_COMMAND, turn.verb, turn.argument.partition(" ")[0])
            for (_, _, name, _), turn in zip(self.log.facts, self.log.turns, strict=True)
        ]
        self.assertIn((True, "EHLO", "mail.example.com"), lines)
        self.assertIn((True, "MAIL", "FROM:<alice@example.com>"), lines)
        self.assertIn((True, "RCPT", "TO:<bob@remote.example>"), lines)
        self.assertIn((True, "DATA", ""), lines)
        self.assertIn((False, "", "354"), lines)
        self.assertNotIn("hello", repr(lines))
        self.assertEqual({("192.0.2.1", 25)}, {(peer, port) for _, peer, _, port in self.log.facts})
        self.assertEqual({OUTBOUND_COMMAND, OUTBOUND_RESPONSE}, {one[2] for one in self.log.facts})

    def test_off(self) -> None:
        """Nothing is told."""
        self.log.on = False
        self.submit("bob@remote.example")
        self.assertEqual([], self.log.turns)
