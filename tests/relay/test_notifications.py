"""What a sender wants to hear of his mail, and hears (RFC 3461)."""

from __future__ import annotations

from typing import Any

from mailhost.model.directory import Expansion, disabled
from mailhost.model.envelope import Envelope, Handling
from mailhost.model.parameters import MailParameters, RecipientParameters
from mailhost.model.queue import QueuedMessage
from mailhost.model.schedule import DAY, HOUR
from tests.relay.test_manager import CONTENT, SENDER, RelayTestCase
from tests.support.directory import FakeDirectory, mailbox, part

NAMED = MailParameters("", "QQ+2B1")
WITH_DSN = "250-peer.example\r\n250-PIPELINING\r\n250 DSN"


class NotifyCase(RelayTestCase):
    def ask(
        self,
        to: dict[str, str],
        mail: MailParameters = NAMED,
        group: str = "",
        sender: Any = SENDER,
    ) -> QueuedMessage:
        """A message to addresses, each with its NOTIFY words."""
        incoming = self.store.new_message(b"", None)
        incoming.write(CONTENT)
        special = {}
        for number, (path, words) in enumerate(to.items()):
            notify = tuple(words.split(",")) if words else ()
            asked = RecipientParameters(notify, f"rfc822;was-{path}")
            special[number] = Handling(parameters=asked, group=group)
        envelope = Envelope(sender, tuple(map(mailbox, to)), special=special, parameters=mail)
        message = self.successResultOf(
            self.store.commit(
                incoming, self.store.new_queue_id(), envelope, "", self.clock.seconds()
            )
        )
        self.relay.accept(message)
        self.run_for(1)
        return message

    def told(self) -> list[tuple[str, str, str]]:
        """Original recipient, action and status of each recipient in each report."""
        return [
            (str(group["Original-Recipient"]), str(group["Action"]), str(group["Status"]))
            for report in self.reports()
            for group in report.get_payload()[1].get_payload()[1:]
        ]


class SuccessTests(NotifyCase):
    def test_delivered(self) -> None:
        """Final delivery is told to whom has asked for it, and to nobody else."""
        self.ask(
            {"b@example.com": "SUCCESS,FAILURE", "c@example.com": "", "d@example.com": "DELAY"}
        )

        self.assertEqual([("rfc822;was-b@example.com", "delivered", "2.0.0")], self.told())
        (report,) = self.reports()
        self.assertEqual("Delivery Status Notification (Success)", report["Subject"])
        self.assertEqual("QQ+1", report.get_payload()[1].get_payload()[0]["Original-Envelope-Id"])
        self.assertEqual("text/rfc822-headers", report.get_payload()[2].get_content_type())

    def test_relayed_to_who_does_not_tell(self) -> None:
        """RFC 3461 §5.2.2: a host without DSN has it, and that is all that will be heard."""
        self.ask({"b@remote.example": "SUCCESS", "c@remote.example": "FAILURE"})

        self.assertEqual([("rfc822;was-b@remote.example", "relayed", "2.0.0")], self.told())
        ((mail, rcpts, _),) = self.host.envelopes
        self.assertNotIn("ENVID", mail)
        self.assertNotIn("NOTIFY", "".join(rcpts))

    def test_relayed_to_who_tells(self) -> None:
        """A host with DSN hears what was asked, and will tell itself."""
        self.host.says["EHLO"] = WITH_DSN

        self.ask({"b@remote.example": "SUCCESS"})

        ((mail, rcpts, _),) = self.host.envelopes
        self.assertIn("ENVID=QQ+2B1", mail)
        self.assertEqual(
            ["RCPT TO:<b@remote.example> NOTIFY=SUCCESS ORCPT=rfc822;was-b@remote.example"], rcpts
        )
        self.assertEqual([], self.told())

    def test_null_reverse_path(self) -> None:
        """There is nobody to tell (RFC 3461 §4.1)."""
        self.ask({"b@example.com": "SUCCESS"}, sender=None)

        self.assertEqual([], self.told())
        self.assertEqual({}, self.store.messages)


class FailureTests(NotifyCase):
    def test_who_wants_to_hear(self) -> None:
        """Failures of those for whom it was not asked are kept quiet; the mail is gone."""
        self.host.says["RCPT"] = "550 5.1.1 nobody"
        to = {
            "a@remote.example": "NEVER",
            "b@remote.example": "SUCCESS",
            "c@remote.example": "DELAY,FAILURE",
            "d@remote.example": "",
        }

        self.ask(to)

        expected = [(f"rfc822;was-{one}@remote.example", "failed", "5.1.1") for one in "cd"]
        self.assertEqual(expected, self.told())
        self.assertEqual({}, self.store.messages)

    def test_nobody_wants_to_hear(self) -> None:
        """No report at all, and nothing in Badmail."""
        self.host.says["RCPT"] = "550 5.1.1 nobody"

        self.ask({"a@remote.example": "NEVER"})

        self.assertEqual([], self.shelf.taken)
        self.assertEqual([], list(self.badmail.directory.iterdir()))
        self.assertEqual({}, self.store.messages)

    def test_what_is_returned(self) -> None:
        """RFC 3461 §4.3: RET=HDRS gets the header, FULL and nothing the message."""
        self.host.says["RCPT"] = "550 5.1.1 nobody"
        for ret, expected in (
            ("HDRS", "text/rfc822-headers"),
            ("FULL", "message/rfc822"),
            ("", "message/rfc822"),
        ):
            self.shelf.taken.clear()
            self.ask({"a@remote.example": "FAILURE"}, MailParameters(ret))
            (report,) = self.reports()
            self.assertEqual(expected, report.get_payload()[2].get_content_type())


class DelayTests(NotifyCase):
    def test_who_wants_to_hear(self) -> None:
        """A delay is told where it was asked for, or nothing was said."""
        self.host.says["RCPT"] = "451 4.2.0 later"
        self.ask(
            {"a@remote.example": "FAILURE", "b@remote.example": "DELAY", "c@remote.example": ""}
        )

        for _ in range(13):
            self.run_for(HOUR)

        expected = [(f"rfc822;was-{one}@remote.example", "delayed", "4.2.0") for one in "bc"]
        self.assertEqual(expected, self.told())
        self.shelf.taken.clear()
        for _ in range(4):
            self.run_for(DAY)
        failed = [(path, action) for path, action, _ in self.told()]
        expected_failed = [(f"rfc822;was-{one}@remote.example", "failed") for one in "ac"]
        self.assertEqual(expected_failed, failed)


class GroupTests(NotifyCase):
    def setUp(self) -> None:
        super().setUp()
        self.directory = FakeDirectory()
        self.relay.directory = self.directory

    def test_expanded(self) -> None:
        """RFC 3461 §5.2.7.3: the group is told of, its members only where they fail."""
        self.host.says["EHLO"] = WITH_DSN
        self.host.says["RCPT"] = "550 5.1.1 nobody"
        self.directory.groups["cn=all"] = Expansion((part("b@example.com", "c@remote.example"),))

        self.ask({"all@example.com": "SUCCESS,FAILURE"}, group="cn=all")

        self.assertEqual(
            [
                ("rfc822;was-all@example.com", "expanded", "2.0.0"),
                ("rfc822;was-all@example.com", "failed", "5.1.1"),
            ],
            sorted(self.told()),
        )

    def test_list_of_an_owner(self) -> None:
        """RFC 3461 §5.2.7.1: a list with its own return path has the mail with that."""
        self.host.says["EHLO"] = WITH_DSN
        self.directory.groups["cn=all"] = Expansion(
            (part("c@remote.example", owner="o@example.com"),)
        )

        self.ask({"all@example.com": "SUCCESS"}, group="cn=all")

        self.assertEqual([("rfc822;was-all@example.com", "delivered", "2.0.0")], self.told())
        ((mail, rcpts, _),) = self.host.envelopes
        self.assertEqual("MAIL FROM:<o@example.com>", mail.partition(" SIZE")[0])
        self.assertEqual(["RCPT TO:<c@remote.example>"], rcpts)

    def test_member_that_cannot_be_reached(self) -> None:
        """Who does not want to hear of failures does not hear of members either."""
        lost = part(refused={"x@example.com": disabled(mailbox("x@example.com"))})
        self.directory.groups["cn=all"] = Expansion((lost,))

        self.ask({"all@example.com": "NEVER"}, group="cn=all")
        self.assertEqual([], self.told())
        self.ask({"all@example.com": "FAILURE"}, group="cn=all")
        self.assertEqual([("rfc822;was-all@example.com", "failed", "5.2.1")], self.told())
