"""
What the server of ``twisted.mail.smtp`` gets wrong in ordinary use, pinned.

Each test passes while upstream has the defect.  One that fails says that it has
been repaired; then read again what `mailhost.net` and `mailhost.smtp` replace,
and why (docs/decisions, docs/architecture.rst).  `tests.smtp` and `tests.net`
show the same cases put right.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import StringTransport
from twisted.mail.interfaces import IMessageDelivery
from twisted.mail.smtp import ESMTP, IMessage
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

REPAIRED = "upstream has repaired this: {}"


@implementer(IMessage)
class Message:
    """Keeps the lines of one content."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def lineReceived(self, line: bytes) -> None:
        self.lines.append(line)

    def eomReceived(self) -> Deferred[None]:
        return succeed(None)

    def connectionLost(self) -> None:
        """Nothing is kept for later."""


@implementer(IMessageDelivery)
class Delivery:
    """Takes everything; a recipient called ``slow`` is decided later."""

    def __init__(self) -> None:
        self.message = Message()
        self.slow: Deferred[Any] = Deferred()

    def receivedHeader(self, helo: Any, origin: Any, recipients: Any) -> bytes:
        return b""

    def validateFrom(self, helo: Any, origin: Any) -> Any:
        return origin

    def validateTo(self, user: Any) -> Any:
        return self.slow if user.dest.local == b"slow" else lambda: self.message


class CountingESMTP(ESMTP):
    """Counts the calls made for lines."""

    line_count = 0

    def lineReceived(self, line: bytes) -> Any:
        self.line_count += 1
        return super().lineReceived(line)


class ESMTPServerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.delivery = Delivery()
        self.protocol = CountingESMTP()
        self.protocol.delivery = self.delivery
        self.protocol.noisy = False
        self.protocol.timeout = None
        self.transport = StringTransport()
        self.protocol.makeConnection(self.transport)
        self.say(b"EHLO client.example")
        self.transport.clear()

    def say(self, *lines: bytes) -> list[bytes]:
        """Send *lines* at once; what was answered, line by line."""
        self.transport.clear()
        self.protocol.dataReceived(b"".join(line + b"\r\n" for line in lines))
        return self.transport.value().splitlines()

    def codes(self, *lines: bytes) -> list[int]:
        return [int(line[:3]) for line in self.say(*lines)]

    def test_works_at_all(self) -> None:
        """The calls used below are right: a plain message goes through."""
        codes = self.codes(
            b"MAIL FROM:<a@example.org>", b"RCPT TO:<b@example.com>", b"DATA", b"", b"hello", b"."
        )
        self.assertEqual([250, 250, 354, 250], codes)
        self.assertEqual([b"", b"hello"], self.delivery.message.lines)

    def test_noop(self) -> None:
        """NOOP, which every server must know (RFC 5321 §4.5.1), is no command."""
        self.assertEqual([500], self.codes(b"NOOP"), REPAIRED.format("NOOP"))

    def test_vrfy(self) -> None:
        """VRFY, which every server must know (RFC 5321 §4.5.1), is no command."""
        self.assertEqual([500], self.codes(b"VRFY b"), REPAIRED.format("VRFY"))

    def test_parameters_are_ignored(self) -> None:
        """A parameter nobody announced is accepted (RFC 5321 §4.1.1.11 wants 555)."""
        codes = self.codes(b"MAIL FROM:<a@example.org> NOSUCH=PARAMETER")
        self.assertEqual([250], codes, REPAIRED.format("unknown ESMTP parameters"))

    def test_no_extensions(self) -> None:
        """EHLO offers none of the extensions that relays live by."""
        answer = b"\n".join(self.say(b"EHLO client.example"))
        offered = [
            word
            for word in (b"PIPELINING", b"SIZE", b"8BITMIME", b"ENHANCEDSTATUSCODES")
            if word in answer
        ]
        self.assertEqual([], offered, REPAIRED.format("EHLO keywords"))

    def test_replies_overtake(self) -> None:
        """The reply to the second RCPT comes first where the first is decided later."""
        self.say(b"MAIL FROM:<a@example.org>")
        early = self.codes(b"RCPT TO:<slow@example.com>", b"NOSUCH")
        self.assertEqual([500], early, REPAIRED.format("order of replies (RFC 2920 §3.2)"))

        self.transport.clear()
        self.delivery.slow.callback(lambda: self.delivery.message)
        self.assertEqual(b"250", self.transport.value()[:3])

    def test_data_does_not_wait(self) -> None:
        """DATA is refused while a recipient that will be accepted is being decided."""
        self.say(b"MAIL FROM:<a@example.org>")
        early = self.codes(b"RCPT TO:<slow@example.com>", b"DATA")
        self.assertEqual([503], early, REPAIRED.format("DATA behind an undecided RCPT"))

    def test_auth_without_argument(self) -> None:
        """AUTH alone ends in an exception, at which a reactor drops the connection."""
        try:
            self.say(b"AUTH")
        except IndexError:
            return
        self.fail(REPAIRED.format("AUTH without argument"))

    def test_eight_bit_verb(self) -> None:
        """A verb with an octet over 127 ends in an exception, too."""
        try:
            self.say(b"N\xd6\xd6P")
        except UnicodeError:
            return
        self.fail(REPAIRED.format("8-bit verbs"))

    def test_one_call_per_line(self) -> None:
        """A content of a thousand lines costs two thousand calls of Python."""
        self.say(b"MAIL FROM:<a@example.org>", b"RCPT TO:<b@example.com>", b"DATA")
        before = self.protocol.line_count
        self.say(*[b"x"] * 1000)
        counted = (self.protocol.line_count - before, len(self.delivery.message.lines))
        # One line more: the blank one upstream puts before a content without header.
        self.assertEqual((1000, 1001), counted, REPAIRED.format("content line by line"))
