"""Tests for `mailhost.net.message_delivery`: twisted.mail applications behind our protocol."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.mail.interfaces import IMessageDelivery, IMessageDeliveryFactory
from twisted.mail.smtp import IMessage, SMTPBadRcpt, SMTPBadSender
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailhost.net.factory import ESMTPFactory
from mailhost.smtp.rules import Rules
from tests.support.world import Session, World


@implementer(IMessage)
class Message:
    """Collects lines, as twisted.mail's own examples do."""

    def __init__(self, log: list[Any], outcome: Deferred[None]) -> None:
        self.log, self.outcome, self.lines = log, outcome, []

    def lineReceived(self, line: bytes) -> None:
        self.lines.append(line)

    def eomReceived(self) -> Deferred[None]:
        self.log.append(self.lines)
        return self.outcome

    def connectionLost(self) -> None:
        self.log.append("lost")


@implementer(IMessageDelivery)
class Delivery:
    """Takes mail for one user."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.outcome: Deferred[None] = succeed(None)

    def receivedHeader(self, helo: Any, origin: Any, recipients: Any) -> bytes:
        return b"Received: by us"

    def validateFrom(self, helo: Any, origin: Any) -> Any:
        if str(origin) == "bad@example.org":
            raise SMTPBadSender(origin)
        return origin

    def validateTo(self, user: Any) -> Any:
        if user.dest.local != b"bob":
            raise SMTPBadRcpt(user)
        return lambda: Message(self.log, self.outcome)


class MessageDeliveryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.delivery = Delivery()
        self.world = World()
        self.world.factory = self.factory(self.delivery)
        self.session = Session(self.world, "192.0.2.7")
        self.session.send(b"EHLO x\r\n")

    def factory(self, delivery: Any) -> ESMTPFactory:
        rules = Rules("host.example", max_message_octets=1000, early_talkers=True)
        return ESMTPFactory(delivery, self.world.clock, rules)

    def test_a_message(self) -> None:
        """Lines come one by one, without line ends, the trace field first."""
        said = self.session.send(
            b"MAIL FROM:<a@example.org>\r\nRCPT TO:<bob@example.com>\r\nDATA\r\n"
            b"Subject: x\r\n\r\n..dot\r\n.\r\n"
        )

        self.assertEqual([[b"Received: by us", b"Subject: x", b"", b".dot"]], self.delivery.log)
        self.assertEqual([b"250", b"250", b"354", b"250"], [r[:3] for r in said.splitlines()])

    def test_refusals(self) -> None:
        """The application's own codes reach the client, in order, and the session goes on."""
        said = self.session.send(
            b"MAIL FROM:<bad@example.org>\r\nMAIL FROM:<>\r\n"
            b"RCPT TO:<carol@example.com>\r\nRCPT TO:<bob@example.com>\r\n"
        )

        self.assertEqual([b"550", b"250", b"550", b"250"], [r[:3] for r in said.splitlines()])

    def test_storage_trouble_is_temporary(self) -> None:
        """A failing eomReceived is 451, not 550: it may heal."""
        self.delivery.outcome = fail(OSError("disk"))

        said = self.session.send(b"MAIL FROM:<>\r\nRCPT TO:<bob@example.com>\r\nDATA\r\n\r\n.\r\n")

        self.assertEqual(b"451", said.splitlines()[-1][:3])
        self.assertEqual(1, len(self.flushLoggedErrors(OSError)))

    def test_a_line_that_cannot_be_taken(self) -> None:
        """P1: after a failing lineReceived there is no 250, whatever eomReceived says."""

        def fail_once(message: Message, line: bytes) -> None:
            if line == b"two":
                raise OSError("disk")

        self.patch(Message, "lineReceived", fail_once)
        said = self.session.send(
            b"MAIL FROM:<>\r\nRCPT TO:<bob@example.com>\r\nDATA\r\none\r\ntwo\r\n"
        ) + self.session.send(b"three\r\n.\r\n")

        self.assertEqual(b"451", said.splitlines()[-1][:3])
        self.assertEqual(["lost"], self.delivery.log)
        self.assertEqual(1, len(self.flushLoggedErrors(OSError)))

    def test_too_big(self) -> None:
        """The limit holds for content that lied about its size; the messages are dropped."""
        said = self.session.send(
            b"MAIL FROM:<> SIZE=10\r\nRCPT TO:<bob@example.com>\r\nDATA\r\n"
            + b"x" * 600 + b"\r\n" + b"x" * 600 + b"\r\n.\r\n"
        )  # fmt: skip

        self.assertEqual(b"552", said.splitlines()[-1][:3])
        self.assertEqual(["lost"], self.delivery.log)

    def test_disconnected(self) -> None:
        """A message that is not complete hears that the connection is lost."""
        self.session.send(b"MAIL FROM:<>\r\nRCPT TO:<bob@example.com>\r\nDATA\r\nhalf\r\n")
        self.session.protocol.connectionLost()

        self.assertEqual(["lost"], self.delivery.log)

    def test_a_delivery_for_each_session(self) -> None:
        """An IMessageDeliveryFactory is asked once per connection."""
        made: list[Delivery] = []

        @implementer(IMessageDeliveryFactory)
        class Deliveries:
            def getMessageDelivery(self) -> Delivery:
                made.append(Delivery())
                return made[-1]

        self.world.factory = self.factory(Deliveries())
        Session(self.world, "192.0.2.7")
        Session(self.world, "192.0.2.8")

        self.assertEqual(2, len(made))
