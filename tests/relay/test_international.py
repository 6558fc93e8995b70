"""Mail in every script on its way out: to hosts with SMTPUTF8, and to those without (RFC 6531)."""

from __future__ import annotations

from typing import Any

from mailhost.model.address import Mailbox
from mailhost.model.envelope import Envelope
from mailhost.model.parameters import NO_MAIL_PARAMETERS, MailParameters
from mailhost.model.queue import QueuedMessage
from tests.relay.test_manager import CONTENT, SENDER, RelayTestCase

WITH_UTF8 = "250-peer.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8"
UTF8 = MailParameters(smtputf8=True)
HEADER = "Subject: größer\r\n\r\ntext\r\n".encode()
JÖRG = Mailbox("jörg", "example.com")


class InternationalCase(RelayTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.names.exchanges["xn--bcher-kva.example"] = [(10, "mx1.remote.example")]

    def ask(
        self,
        *paths: str,
        sender: Mailbox | None = SENDER,
        content: bytes = CONTENT,
        asked: MailParameters = UTF8,
    ) -> QueuedMessage:
        incoming = self.store.new_message(b"", None)
        incoming.write(content)
        forward = tuple(Mailbox(*path.split("@")) for path in paths)
        envelope = Envelope(sender, forward, "8BITMIME", parameters=asked)
        message: QueuedMessage = self.successResultOf(
            self.store.commit(
                incoming, self.store.new_queue_id(), envelope, "", self.clock.seconds()
            )
        )
        self.relay.accept(message)
        self.run_for(1)
        return message

    def failed(self) -> list[tuple[str, str]]:
        """Final recipient and status of each report's recipients."""
        return [
            (str(group["Final-Recipient"]), str(group["Status"]))
            for report in self.reports()
            for group in report.get_payload()[1].get_payload()[1:]
        ]


class SpokenTests(InternationalCase):
    def setUp(self) -> None:
        super().setUp()
        self.host.says["EHLO"] = WITH_UTF8

    def test_sent_as_it_is(self) -> None:
        """U-labels lead to the host of the A-labels, and are said as they were given."""
        self.ask("jörg@bücher.example", sender=JÖRG, content=HEADER)

        ((mail, rcpts, content),) = self.host.envelopes
        self.assertTrue(mail.startswith("MAIL FROM:<jörg@example.com>"))
        self.assertTrue(mail.endswith(" SMTPUTF8"))
        self.assertEqual(["RCPT TO:<jörg@bücher.example>"], rcpts)
        self.assertEqual(HEADER, content)

    def test_not_asked_for(self) -> None:
        """An address from a directory needs it, whoever has sent the mail."""
        self.ask("jörg@remote.example", asked=NO_MAIL_PARAMETERS)

        ((mail, _, _),) = self.host.envelopes
        self.assertTrue(mail.endswith(" SMTPUTF8"))


class NotSpokenTests(InternationalCase):
    def test_not_needed(self) -> None:
        """Nothing in it needs SMTPUTF8 after all."""
        self.ask("bob@remote.example", "bob@bücher.example")

        ((mail, rcpts, _),) = self.host.envelopes
        self.assertNotIn("SMTPUTF8", mail)
        self.assertEqual(
            ["RCPT TO:<bob@remote.example>", "RCPT TO:<bob@xn--bcher-kva.example>"], rcpts
        )
        self.assertEqual({}, self.store.messages)

    def test_recipient(self) -> None:
        """Who cannot be named there fails, the others get it."""
        self.ask("jörg@remote.example", "bob@remote.example")

        ((_, rcpts, _),) = self.host.envelopes
        self.assertEqual(["RCPT TO:<bob@remote.example>"], rcpts)
        self.assertEqual([("utf-8;j\\x{F6}rg@remote.example", "5.6.7")], self.failed())

    def test_header(self) -> None:
        """A header cannot be said otherwise."""
        self.ask("bob@remote.example", content=HEADER)

        self.assertEqual([], self.host.envelopes)
        self.assertEqual([("rfc822;bob@remote.example", "5.6.9")], self.failed())

    def test_sender(self) -> None:
        """Nor can a sender; he hears of it in his own letters (RFC 6533)."""
        self.ask("bob@remote.example", sender=JÖRG, content=HEADER)

        self.assertEqual([], self.host.envelopes)
        ((report, paths, octets),) = self.shelf.taken
        self.assertEqual((["jörg@example.com"], None), (paths, report.reverse_path))
        self.assertEqual(UTF8, report.parameters)
        self.assertIn("\r\nTo: jörg@example.com\r\n".encode(), octets)
        self.assertIn(b"Content-Type: message/global-delivery-status\r\n", octets)
        self.assertIn(b"Content-Type: message/global\r\n", octets)
        self.assertIn(HEADER, octets)

    def test_report_that_any_host_can_carry(self) -> None:
        """A sender in ASCII hears in ASCII."""
        self.ask("jörg@remote.example", content=HEADER)

        ((_, _, octets),) = self.shelf.taken
        self.assertTrue(octets.isascii())
        report: Any = self.reports()[0]
        self.assertEqual("text/rfc822-headers", report.get_payload()[2].get_content_type())
        self.assertIn("größer", report.get_payload()[2].get_payload(decode=True).decode())
