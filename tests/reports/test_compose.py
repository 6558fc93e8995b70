"""Tests for `mailhost.reports.compose`."""

from __future__ import annotations

from email import message_from_bytes
from email.message import Message
from typing import Any, cast

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.model.address import Mailbox
from mailhost.model.envelope import Envelope
from mailhost.model.outcome import Fate, Outcome
from mailhost.model.queue import Submission
from mailhost.reports.compose import compose_report
from mailhost.reports.values import OriginalMessage, ReportedRecipient, ReportKind

NOW = 1016119918.0
SENDER = Mailbox("sender", "example.org")
RECIPIENT = Mailbox("nobody", "example.net")
REFUSED = Outcome(
    Fate.FAILED, "5.1.1", "550 5.1.1 no such user", peer="mx.example.net", spoken=True
)
LATE = Outcome(Fate.DELAYED, "4.4.1", "no answer from mx.example.net")
CONTENT = (
    b"Received: from client.example.org\r\nFrom: sender@example.org\r\n"
    b"Message-ID: <one@example.org>\r\nSubject: hello\r\n\r\nbody\r\n"
)

#: The fields of every report, in order; those of a threaded one follow.
FIELDS = [
    "From",
    "To",
    "Date",
    "MIME-Version",
    "Content-Type",
    "Message-ID",
    "Subject",
    "Auto-Submitted",
]
THREAD = ["In-Reply-To", "References"]


def original(octets: bytes = CONTENT, **changes: Any) -> OriginalMessage:
    """An ordinary original with *changes*."""
    facts: dict[str, Any] = {
        "reverse_path": SENDER,
        "queue_id": "0123456789abcdef01234567",
        "accepted_at": NOW - 60,
        "hello": "client.example.org",
        "size": len(octets),
        "octets": octets,
    }
    return OriginalMessage(**(facts | changes))


def report(
    kind: ReportKind = ReportKind.FAILURE,
    message: OriginalMessage | None = None,
    recipients: tuple[ReportedRecipient, ...] = (ReportedRecipient(RECIPIENT, REFUSED),),
    **changes: Any,
) -> tuple[Submission, ...]:
    """A report with *changes*."""
    arguments: dict[str, Any] = {
        "fqdn": "mx.example.com",
        "domain": "example.com",
        "now": NOW,
        "boundary_random": bytes(range(16)),
        "max_original_octets": 50_000,
    }
    return compose_report(kind, message or original(), recipients, **(arguments | changes))


def as_ever(submission: Submission) -> Submission:
    """With the types that the standard library takes apart (RFC 6533 §4)."""
    octets = submission.octets
    for kind in (b"delivery-status", b"headers"):
        octets = octets.replace(
            b"Content-Type: message/global-" + kind, b"Content-Type: message/" + kind
        )
    return evolve(submission, octets=octets)


def parsed(submission: Submission) -> tuple[Message, list[Message]]:
    """The report and its parts, as the standard library reads them."""
    message = message_from_bytes(submission.octets)
    parts = message.get_payload()
    assert isinstance(parts, list)
    return message, cast("list[Message]", parts)


class FormTests(SynchronousTestCase):
    def test_failure_byte_for_byte(self) -> None:
        """Sentences, fields and their order are IIS's (iis-smtp.md §10.6)."""
        (submission,) = report()

        message, _parts = parsed(submission)
        boundary = message.get_boundary()
        assert boundary is not None
        self.assertRegex(boundary, r"\A9B095B5ADSN=_[0-9A-F]{16}[0-9a-f]{32}\Z")
        self.assertRegex(message["Message-ID"], r"\A<MX[0-9A-Za-z]{13}[0-9a-f]{8}@mx.example.com>")
        expected = f"""\
From: postmaster@example.com
To: sender@example.org
Date: Thu, 14 Mar 2002 15:31:58 +0000
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="{boundary}"
Message-ID: {message["Message-ID"]}
Subject: Delivery Status Notification (Failure)
Auto-Submitted: auto-replied
In-Reply-To: <one@example.org>
References: <one@example.org>

This is a MIME-formatted message.{"  "}
Portions of this message may be unreadable without a MIME-capable mail program.

--{boundary}
Content-Type: text/plain; charset=us-ascii

This is an automatically generated Delivery Status Notification.

Delivery to the following recipients failed.

       nobody@example.net

The reasons given:

       nobody@example.net
          550 5.1.1 no such user

--{boundary}
Content-Type: message/delivery-status

Reporting-MTA: dns;mx.example.com
Received-From-MTA: dns;client.example.org
Arrival-Date: Thu, 14 Mar 2002 15:30:58 +0000
X-Mailhost-Queue-ID: 0123456789abcdef01234567

Final-Recipient: rfc822;nobody@example.net
Action: failed
Status: 5.1.1
Remote-MTA: dns;mx.example.net
Diagnostic-Code: smtp;550 5.1.1 no such user
Last-Attempt-Date: Thu, 14 Mar 2002 15:31:58 +0000

--{boundary}
Content-Type: message/rfc822

""".replace("\n", "\r\n").encode()
        self.assertEqual(expected + CONTENT + f"\r\n--{boundary}--\r\n".encode(), submission.octets)

    def test_envelope(self) -> None:
        """From nobody, to the sender (RFC 5321 §4.5.5)."""
        (submission,) = report()

        self.assertEqual(Envelope(None, (SENDER,), "7BIT"), submission.envelope)

    def test_delay(self) -> None:
        """A warning, and until when we go on trying (RFC 3464 §2.3.9)."""
        recipient = ReportedRecipient(RECIPIENT, LATE, NOW + 86400, attempted_at=NOW - 30)

        (submission,) = report(ReportKind.DELAY, recipients=(recipient,))

        message, parts = parsed(submission)
        self.assertEqual("Delivery Status Notification (Delay)", message["Subject"])
        self.assertIn(
            "THIS IS A WARNING MESSAGE ONLY.\r\n\r\nYOU DO NOT NEED TO RESEND YOUR MESSAGE."
            "\r\n\r\nDelivery to the following recipients has been delayed.\r\n",
            str(parts[0].get_payload()),
        )
        self.assertEqual(
            [
                ("Final-Recipient", "rfc822;nobody@example.net"),
                ("Action", "delayed"),
                ("Status", "4.4.1"),
                ("Diagnostic-Code", "x-mailhost;no answer from mx.example.net"),
                ("Last-Attempt-Date", "Thu, 14 Mar 2002 15:31:28 +0000"),
                ("Will-Retry-Until", "Fri, 15 Mar 2002 15:31:58 +0000"),
            ],
            cast("list[Message]", parts[1].get_payload())[1].items(),
        )

    def test_success(self) -> None:
        """Each recipient has its own action; nothing is retried."""
        recipients = tuple(
            ReportedRecipient(RECIPIENT, Outcome(fate, "2.0.0", "fine"), NOW)
            for fate in (Fate.DELIVERED, Fate.RELAYED, Fate.EXPANDED)
        )

        (submission,) = report(ReportKind.SUCCESS, recipients=recipients)

        message, parts = parsed(submission)
        self.assertEqual("Delivery Status Notification (Success)", message["Subject"])
        groups = cast("list[Message]", parts[1].get_payload())[1:]
        self.assertEqual(["delivered", "relayed", "expanded"], [g["Action"] for g in groups])
        self.assertEqual([None] * 3, [g["Will-Retry-Until"] for g in groups])

    def test_from_pickup(self) -> None:
        """Where no host called itself anything, none is named."""
        (submission,) = report(message=original(hello=""))

        self.assertNotIn(b"Received-From-MTA", submission.octets)

    def test_copy(self) -> None:
        """MSG-05: the copy of a failure is the same content; nothing else is copied."""
        postmaster = Mailbox("postmaster", "example.com")

        first, second = report(copy_to=postmaster)

        self.assertEqual(first.octets, second.octets)
        self.assertEqual(Envelope(None, (postmaster,), "7BIT"), second.envelope)
        delayed = (ReportedRecipient(RECIPIENT, LATE),)
        self.assertEqual(1, len(report(ReportKind.DELAY, recipients=delayed, copy_to=postmaster)))
        self.assertEqual(1, len(report(copy_to=SENDER)))

    def test_eight_bits(self) -> None:
        """An 8-bit original makes the report 8-bit, on the outside too (RFC 2045 §6.4)."""
        (submission,) = report(message=original(b"Subject: x\r\n\r\nb\xf6dy\r\n"))

        message, parts = parsed(submission)
        self.assertEqual("8BITMIME", submission.envelope.body)
        self.assertEqual("8bit", message["Content-Transfer-Encoding"])
        self.assertEqual("8bit", parts[2]["Content-Transfer-Encoding"])

    def test_header_only(self) -> None:
        """Of a large original the header goes back, in 7 bits in any case."""
        (submission,) = report(
            message=original(b"Subject: \xe4\r\n\r\nb\xf6dy\r\n"), max_original_octets=10
        )

        _message, parts = parsed(submission)
        self.assertEqual("7BIT", submission.envelope.body)
        self.assertEqual("text/rfc822-headers", parts[2].get_content_type())
        self.assertEqual(b"Subject: \xe4\r\n", parts[2].get_payload(decode=True))


class RefusalTests(SynchronousTestCase):
    def test_nobody_to_tell(self) -> None:
        """A report about a report is never made (attacks.md A61)."""
        for path in (None, Mailbox("mailer-daemon", "example.org")):
            with self.assertRaises(ValueError):
                report(message=original(reverse_path=path))

    def test_nothing_to_tell(self) -> None:
        """No recipients, no report."""
        with self.assertRaises(ValueError):
            report(recipients=())

    def test_predictable_boundary(self) -> None:
        """Less than 128 bits of chance are refused (attacks.md A58)."""
        with self.assertRaises(ValueError):
            report(boundary_random=bytes(15))


#: Words that try to get out of where they stand.
HOSTILE = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            "a\r\nBcc: victim@example.org",
            "a\nSubject: x",
            "a\rX: y",
            "\r\n\r\n--x",
            "\0",
            "--9B095B5ADSN=_",
            "x" * 3000,
            "(",
            '"',
            "\x0b\x0c\x1c\x85\u2028X: y",
            "\ud800",
        ]
    ),
)
MAILBOXES = st.builds(Mailbox, HOSTILE, HOSTILE)
OUTCOMES = st.builds(
    Outcome, st.sampled_from(Fate), HOSTILE, HOSTILE, st.none() | HOSTILE, st.booleans()
)
PIECES = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b"x" * 1200,
    b"--9B095B5ADSN=_",
    b"--",
    b"Message-ID: ",
    b"<a@b>",
    b"Content-Type: multipart/mixed; boundary=x\r\n",
    b"--x\r\n",
    b"--x--\r\n",
    b"Content-Type: message/rfc822\r\n\r\n",
    b"From: a\r\n",
    b": ",
    b" ",
]
CONTENTS = st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join)


class HostileTests(SynchronousTestCase):
    """attacks.md A58: nothing from outside changes the structure of a report."""

    @settings(max_examples=300)
    @given(
        st.sampled_from(ReportKind),
        MAILBOXES.filter(lambda path: "mailer" not in path.local.lower()),
        st.lists(
            st.builds(ReportedRecipient, MAILBOXES, OUTCOMES, st.none() | st.just(NOW)),
            min_size=1,
            max_size=3,
        ),
        HOSTILE,
        CONTENTS,
        st.integers(-1, 1),
        st.sampled_from([0, 10, 10**6]),
    )
    def test_structure(
        self,
        kind: ReportKind,
        sender: Mailbox,
        recipients: list[ReportedRecipient],
        hello: str,
        octets: bytes,
        more: int,
        limit: int,
    ) -> None:
        """Three parts, our fields and no others, lines that mail can carry."""
        message = original(octets, reverse_path=sender, hello=hello, size=len(octets) + more)

        (submission,) = report(kind, message, tuple(recipients), max_original_octets=limit)

        utf8 = not sender.in_ascii.is_ascii
        self.assertEqual(
            utf8, b"\nContent-Type: message/global-delivery-status" in submission.octets
        )
        whole, parts = parsed(as_ever(submission))
        eight = submission.envelope.body == "8BITMIME"
        names = [name for name in whole if name != "Content-Transfer-Encoding"]
        self.assertIn(names, (FIELDS, FIELDS + THREAD))
        self.assertEqual(eight, "Content-Transfer-Encoding" in whole)
        self.assertEqual(eight, utf8 or not submission.octets.isascii())
        self.assertEqual("multipart/report", whole.get_content_type())
        self.assertEqual([], whole.defects)
        kinds = [part.get_content_type() for part in parts]
        self.assertEqual(["text/plain", "message/delivery-status"], kinds[:2])
        self.assertIn(kinds[2:], (["message/rfc822"], ["text/rfc822-headers"]))
        groups = cast("list[Message]", parts[1].get_payload())
        self.assertEqual(1 + len(recipients), len(groups))
        for group, recipient in zip(groups[1:], recipients, strict=True):
            self.assertEqual(["Final-Recipient", "Action", "Status"], group.keys()[:3])
            self.assertEqual(recipient.outcome.fate.value, group["Action"])
        self.assert_lines(submission.octets)

    def assert_lines(self, octets: bytes) -> None:
        """Every line ends with CRLF, is at most 998 octets long, and has no CR, LF or NUL."""
        self.assertTrue(octets.endswith(b"\r\n"))
        for line in octets.split(b"\r\n"):
            self.assertLessEqual(len(line), 998)
            self.assertFalse(set(line) & {0, 10, 13})

    def test_boundary_in_the_original(self) -> None:
        """A boundary that occurs in the original is not used."""
        message, _parts = parsed(report()[0])
        boundary = message.get_boundary()
        assert boundary is not None
        trap = CONTENT + f"--{boundary}\r\n\r\n--{boundary}--\r\n".encode()

        again, parts = parsed(report(message=original(trap))[0])

        self.assertNotEqual(boundary, again.get_boundary())
        self.assertEqual(3, len(parts))

    def test_long_words(self) -> None:
        """Of what a peer said 512 octets are passed on."""
        outcome = Outcome(Fate.FAILED, "5.0.0", "x" * 600, "mx.example.net", spoken=True)

        (submission,) = report(recipients=(ReportedRecipient(RECIPIENT, outcome),))

        self.assertIn(b"Diagnostic-Code: smtp;" + b"x" * 512 + b"\r\n", submission.octets)

    def test_status_that_is_none(self) -> None:
        """Something that is no status becomes "other" of the right class (RFC 3463 §2)."""
        for fate, expected in (
            (Fate.FAILED, "5.0.0"),
            (Fate.DELAYED, "4.0.0"),
            (Fate.RELAYED, "2.0.0"),
        ):
            outcome = Outcome(fate, "5.1", "words")
            _whole, parts = parsed(report(recipients=(ReportedRecipient(RECIPIENT, outcome),))[0])
            group = cast("list[Message]", parts[1].get_payload())[1]
            self.assertEqual(expected, group["Status"])
