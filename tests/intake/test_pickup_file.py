"""Tests for `mailhost.intake.pickup_file`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.intake.pickup_file import BadPickupFile, PickupHeader, read_header
from mailhost.model.address import Mailbox

ANN = Mailbox("ann", "example.com")
BOB = Mailbox("bob", "example.net")
CARL = Mailbox("carl", "example.org")


def header(*lines: str) -> PickupHeader:
    """The header that *lines* make."""
    return read_header("".join(f"{line}\r\n" for line in (*lines, "")).encode("utf-8"))


class EnvelopeFieldsTests(SynchronousTestCase):
    def test_envelope(self) -> None:
        """x-sender and x-receiver rule, and do not leave (PIC-02, PIC-03)."""
        found = header(
            "x-sender: ann@example.com",
            "x-receiver: bob@example.net",
            "x-receiver: carl@example.org",
            "From: other@example.com",
            "To: nobody@example.com",
            "Subject: test",
        )

        self.assertEqual((ANN, (BOB, CARL)), (found.reverse_path, found.recipients))
        self.assertEqual(
            b"From: other@example.com\r\nTo: nobody@example.com\r\nSubject: test\r\n\r\n",
            found.octets,
        )

    def test_system_net_mail(self) -> None:
        """The fields as .NET's SpecifiedPickupDirectory writes them."""
        found = header(
            "X-Sender: ann@example.com",
            "X-Receiver: bob@example.net",
            "X-Receiver: carl@example.org",
            "MIME-Version: 1.0",
            "From: Ann <ann@example.com>",
            "To: bob@example.net",
            "Date: 14 Mar 2002 15:31:58 +0000",
            "Subject: test",
            "Content-Type: text/plain; charset=us-ascii",
            "Content-Transfer-Encoding: quoted-printable",
        )

        self.assertEqual((ANN, (BOB, CARL)), (found.reverse_path, found.recipients))
        self.assertTrue(found.octets.startswith(b"MIME-Version: 1.0\r\nFrom: Ann"))
        self.assertEqual((True, False), (found.has_date, found.has_message_id))

    def test_any_spelling(self) -> None:
        """Case, white space before the colon, folds, brackets and semicolons do no harm."""
        found = header(
            "X-SENDER :", " <ann@example.com>", "x-Receiver:bob@example.net; carl@example.org"
        )

        self.assertEqual((ANN, (BOB, CARL)), (found.reverse_path, found.recipients))

    def test_null_sender(self) -> None:
        """Empty and <> are the null reverse-path, which is a sender."""
        for value in ("", " ", "<>", " <> "):
            found = header(f"x-sender:{value}", "x-receiver: bob@example.net")
            self.assertEqual((None, True), (found.reverse_path, found.sender_known), value)

    def test_half(self) -> None:
        """What one of the two does not say is taken from the other fields."""
        found = header("x-receiver: bob@example.net", "From: ann@example.com", "To: carl")
        self.assertEqual((ANN, (BOB,)), (found.reverse_path, found.recipients))

        found = header("x-sender: ann@example.com", "From: x@example.com", "To: bob@example.net")
        self.assertEqual((ANN, (BOB,)), (found.reverse_path, found.recipients))

    def test_only_at_the_top(self) -> None:
        """Further down they are content: of a forwarded Drop file, say."""
        found = header(
            "x-sender: ann@example.com",
            "x-receiver: bob@example.net",
            "Return-Path: <ann@example.com>",
            "x-receiver: carl@example.org",
            "X-Sender: carl@example.org",
        )

        self.assertEqual((ANN, (BOB,)), (found.reverse_path, found.recipients))
        self.assertIn(b"x-receiver: carl@example.org\r\n", found.octets)
        self.assertIn(b"X-Sender: carl@example.org\r\n", found.octets)

    def test_two_senders(self) -> None:
        """One message has one sender."""
        for lines in (
            ("x-sender: ann@example.com", "x-sender: bob@example.net"),
            ("x-sender: ann@example.com, bob@example.net",),
        ):
            with self.assertRaisesRegex(BadPickupFile, "x-sender"):
                header(*lines, "x-receiver: carl@example.org")


class OrdinaryFieldsTests(SynchronousTestCase):
    def test_ordinary(self) -> None:
        """From sends; To, Cc and Bcc receive, in that order; Bcc does not leave (PIC-04)."""
        found = header(
            "Bcc: carl@example.org",
            "Cc: Bob <bob@example.net>, unqualified",
            "From: Ann <ann@example.com>",
            "To: dora@example.com",
            "Resent-Bcc: x@example.com,",
            " y@example.com",
            "Return-Path: <z@example.com>",
        )

        self.assertEqual(ANN, found.reverse_path)
        self.assertEqual(
            ("dora@example.com", "bob@example.net", "unqualified", "carl@example.org"),
            tuple(map(str, found.recipients)),
        )
        self.assertEqual(
            b"Cc: Bob <bob@example.net>, unqualified\r\n"
            b"From: Ann <ann@example.com>\r\nTo: dora@example.com\r\n\r\n",
            found.octets,
        )

    def test_bcc_with_envelope(self) -> None:
        """Nor does it where the envelope is given."""
        found = header("x-sender: a", "x-receiver: b", "BCC: c@example.com", "Subject: d")

        self.assertEqual(b"Subject: d\r\n\r\n", found.octets)

    def test_sender(self) -> None:
        """Sender where From names nobody; the first address of several."""
        found = header("From:", "Sender: ann@example.com", "To: bob@example.net")
        self.assertEqual(ANN, found.reverse_path)

        found = header("From: ann@example.com, bob@example.net", "To: bob@example.net")
        self.assertEqual(ANN, found.reverse_path)

    def test_no_sender(self) -> None:
        """PIC-05; what is known of the rest is told."""
        with self.assertRaisesRegex(BadPickupFile, "no sender") as caught:
            header("To: bob@example.net", "Subject: x")

        known = caught.exception.header
        assert known is not None
        self.assertEqual((False, (BOB,)), (known.sender_known, known.recipients))

    def test_no_recipients(self) -> None:
        """PIC-06."""
        with self.assertRaisesRegex(BadPickupFile, "no recipients") as caught:
            header("From: ann@example.com", "To: undisclosed-recipients:;")

        known = caught.exception.header
        assert known is not None
        self.assertEqual((ANN, True), (known.reverse_path, known.sender_known))

    def test_malformed(self) -> None:
        """The address is named, and the field that holds it."""
        for line, words in (
            ("To: a@@example.com", "to field.*a @ @ example.com"),
            ("Cc: <a@example.com", "cc field"),
            ("Bcc: " + "a" * 65 + "@example.com", "64 octets"),
            ("To: b\x85cher@example.com", "8-bit"),
        ):
            with self.assertRaisesRegex(BadPickupFile, words):
                header("From: ann@example.com", line)

    def test_no_blank_line(self) -> None:
        """A file may end with its header; the blank line is added."""
        found = read_header(b"From: ann@example.com\r\nTo: bob@example.net\r\n")

        self.assertTrue(found.octets.endswith(b"net\r\n\r\n"))

    def test_received(self) -> None:
        """Hops are counted in what leaves (A60)."""
        found = header(*["Received: from a by b; date"] * 3, "From: a@b.example", "To: c")

        self.assertEqual(3, found.received_count)

    @given(st.binary(max_size=300))
    def test_anything(self, octets: bytes) -> None:
        """Any octets give an envelope or a reason on one line."""
        try:
            found = read_header(octets)
        except BadPickupFile as bad:
            self.assertTrue(bad.reason.isprintable(), bad.reason)
        else:
            self.assertTrue(found.recipients)
