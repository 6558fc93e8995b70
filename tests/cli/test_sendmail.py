"""Tests for `mailhost.cli.sendmail`."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.cli.sendmail import (
    Invocation,
    NotSendable,
    NotUsable,
    pickup_file,
    read_arguments,
    read_message,
)
from mailhost.content.headers import header_end
from mailhost.intake.pickup_file import read_header


class ArgumentTests(SynchronousTestCase):
    def test_as_programs_call_it(self) -> None:
        """cron, PHP, git send-email, mutt, smartmontools."""
        for words, expected in (
            (
                ("-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root"),
                Invocation(("root",), None, "CronDaemon", False, False),
            ),
            (("-t", "-i"), Invocation((), None, "", True, False)),
            (("-ti", "-fme@x.example"), Invocation((), "me@x.example", "", True, False)),
            (
                ("-i", "a@b.example", "-c"),
                Invocation(("a@b.example", "-c"), None, "", False, False),
            ),
            (
                ("-oem", "-oi", "-f", "<>", "--", "-x@b.example"),
                Invocation(("-x@b.example",), "", "", False, False),
            ),
            (("-bm", "-r", "<a@b.example>", "c"), Invocation(("c",), "a@b.example")),
            (("-odi", "-N", "failure,delay", "-R", "hdrs", "-V", "x", "c"), Invocation(("c",))),
        ):
            self.assertEqual(expected, read_arguments(words), words)

    def test_not_done(self) -> None:
        """Daemons, queues and alias files are other programs here."""
        for words in ((), ("-bs",), ("-bd", "x"), ("-bp",), ("-q", "x"), ("-z", "x"), ("-f",)):
            self.assertRaises(NotUsable, read_arguments, words)
        self.assertRaises(NotUsable, read_arguments, ("-F", "a\nBcc: x@y.example", "z"))

    def test_dot(self) -> None:
        """It ends the message, unless it was said that it does not."""
        text = b"a\n..\n.\nb\n"
        self.assertEqual(b"a\n..\n", read_message(io.BytesIO(text), True))
        self.assertEqual(text, read_message(io.BytesIO(text), False))


class FileTests(SynchronousTestCase):
    def make(self, message: bytes, *words: str) -> bytes:
        return pickup_file(read_arguments(words), message, "olga", "example.com")

    def envelope(self, message: bytes, *words: str) -> tuple[str, list[str]]:
        """As Pickup understands it."""
        made = self.make(message, *words)
        header = read_header(made[: header_end(made)])
        return str(header.reverse_path), [str(one) for one in header.recipients]

    def test_file(self) -> None:
        """The envelope in front, line ends of the network, a From field."""
        self.assertEqual(
            b"x-sender: <olga@example.com>\r\nx-receiver: bob@example.com\r\n"
            b"From: olga@example.com\r\nSubject: x\r\n\r\ntext\r\n",
            self.make(b"Subject: x\n\ntext\n", "bob"),
        )

    def test_envelopes(self) -> None:
        """Arguments, fields, and both."""
        text = b"From: F <f@x.example>\nTo: a@x.example, B <b>\nBcc: c@x.example\n\n"
        for words, sender, recipients in (
            (("z@x.example",), "olga@example.com", ["z@x.example"]),
            (("-t",), "olga@example.com", ["a@x.example", "b@example.com", "c@x.example"]),
            (
                ("-t", "-f", "me", "a@x.example", "z@x.example"),
                "me@example.com",
                ["a@x.example", "z@x.example", "b@example.com", "c@x.example"],
            ),
            (("-f", "<>", "z@x.example"), "None", ["z@x.example"]),
        ):
            self.assertEqual((sender, recipients), self.envelope(text, *words), words)

    def test_no_header(self) -> None:
        """What does not begin with a field is the body."""
        for text in (b"hello: world is no\nfield\n", b"hello\n", b"\nhello\n", b""):
            made = self.make(text, "bob")
            self.assertEqual(["bob@example.com"], self.envelope(text, "bob")[1])
            self.assertEqual(1, made.count(b"From: olga"))
        self.assertTrue(self.make(b"hello\n", "bob").endswith(b"\r\n\r\nhello\r\n"))
        self.assertTrue(self.make(b"A: b", "bob").endswith(b"\r\nA: b\r\n\r\n"))
        self.assertNotIn(b"\nFrom x", self.make(b"From x@y Mon\nA: b\n\n", "bob"))

    def test_no_envelope_of_others(self) -> None:
        """Who writes the header does not write the envelope."""
        text = b"X-Receiver: spy@y.example\n more\nx-sender : spy@y.example\nSubject: x\n\n"
        self.assertEqual(("olga@example.com", ["bob@example.com"]), self.envelope(text, "bob"))

    def test_full_name(self) -> None:
        """As it may stand in a From field; only where there is none."""
        for name, expected in (
            ("Olga B", b"From: Olga B <olga@example.com>"),
            ('O. "B"', b'From: "O. \\"B\\"" <olga@example.com>'),
            ("Ólga", b"From: =?utf-8?b?w5NsZ2E=?= <olga@example.com>"),
        ):
            self.assertIn(expected + b"\r\n", self.make(b"A: b\n\n", "-F", name, "bob"))
        self.assertNotIn(b"Olga", self.make(b"From: x@y.example\n\n", "-F", "Olga", "bob"))

    def test_not_sendable(self) -> None:
        """Addresses that are none, nobody in the header."""
        for words in (("a b",), ("",), ("-f", "a b@x", "bob"), ("-t",)):
            self.assertRaises(NotSendable, self.make, b"Subject: x\n\n", *words)
        self.assertRaises(NotSendable, self.make, b"To: <a b\n\n", "-t")

    @given(st.binary(max_size=200))
    def test_any_text(self, text: bytes) -> None:
        """Whatever it is, only those get it who were named."""
        self.assertEqual(("olga@example.com", ["bob@example.com"]), self.envelope(text, "bob"))
