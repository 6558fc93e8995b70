"""Tests for `mailhost.content.headers`."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import compat32

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.content.headers import (
    HeaderFacts,
    header_end,
    remove_fields,
    scan_header,
    split_fields,
    unfold,
)

HEADER = (
    b"Received: from a.example ([192.0.2.1]) by b.example;\r\n"
    b"\t Thu, 14 Mar 2002 15:31:58 +0000\r\n"
    b"RECEIVED: from c.example by d.example; Thu, 14 Mar 2002 15:31:57 +0000\r\n"
    b"From: A <a@example.com>\r\n"
    b"message-id: <one@example.com>\r\n"
    b"Date: Thu, 14 Mar 2002 15:31:58 +0000\r\n"
)

#: Header blocks as a hostile peer might make them.
BLOCKS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"\r\n",
                b"\n",
                b"\r",
                b" ",
                b"\t",
                b":",
                b"<",
                b">",
                b"(",
                b"\0",
                b"Received",
                b"Message-ID:",
                b"Auto-Submitted: no",
                b"Bcc: x@example.com\r\n",
                b"bcc :",
                b"Date:",
            ]
        ),
        st.binary(max_size=20),
    ),
    max_size=30,
).map(b"".join)


class HeaderEndTests(SynchronousTestCase):
    def test_behind_the_blank_line(self) -> None:
        """The offset is that of the body's first octet."""
        octets = HEADER + b"\r\nbody\r\n\r\n"

        self.assertEqual(b"body\r\n\r\n", octets[header_end(octets) :])

    def test_empty_header(self) -> None:
        """A content that begins with CRLF has a header of nothing."""
        self.assertEqual(2, header_end(b"\r\nFrom: body\r\n\r\n"))

    def test_not_there_yet(self) -> None:
        """Without a blank line the answer is -1."""
        for octets in (b"", b"\r", b"From: a\r\n", b"From: a\r\n\r"):
            self.assertEqual(-1, header_end(octets), octets)


class ScanTests(SynchronousTestCase):
    def test_ordinary(self) -> None:
        """All facts of an ordinary header are found, whatever the case of the names."""
        self.assertEqual(
            HeaderFacts(2, b"<one@example.com>", True, True, True, False), scan_header(HEADER)
        )

    def test_nothing_there(self) -> None:
        """Of nothing, nothing is found."""
        nothing = HeaderFacts(0, None, False, False, False, False)

        for block in (b"", b"\r\n", b"\r\n" + HEADER, b"no field at all", b"X: y\r\n\r\n" + HEADER):
            self.assertEqual(nothing, scan_header(block), block)

    def test_within_a_value(self) -> None:
        """A name in the middle of a value, or in a longer name, does not count."""
        facts = scan_header(
            b"Subject: Received: Date: From:\r\n\tDate: no\r\n"
            b"Resent-Date: x\r\nX-From: x\r\nDated: x\r\nResent-Message-ID: <a@example>\r\n"
        )

        self.assertEqual(HeaderFacts(0, None, False, False, False, False), facts)

    def test_space_before_the_colon(self) -> None:
        """The obsolete form counts too (RFC 5322 §4.5.8)."""
        facts = scan_header(
            b"Received : x\r\nreceived\t: y\r\nReceived: z\r\nDate \t: d\r\n"
            b"Message-ID : <a@example.com>\r\nFrom : x\r\nAuto-Submitted : auto-replied\r\n"
        )

        self.assertEqual(HeaderFacts(3, b"<a@example.com>", True, True, True, True), facts)

    def test_message_ids(self) -> None:
        """The token is taken out of folds and comments, or refused where it is absurd."""
        cases: list[tuple[bytes, bytes | None]] = [
            (b"Message-ID:<a@b>", b"<a@b>"),
            (b"Message-ID:\r\n <a@b>\r\nSubject: x", b"<a@b>"),
            (b"Message-ID: (why) <a@b> (because)\r\n", b"<a@b>"),
            (b"Message-ID: <a@b><c@d>\r\n", b"<a@b>"),
            (b"Message-ID: a@b\r\nReferences: <c@d>\r\n", None),
            (b"Message-ID: <a@b\r\nReferences: c@d>\r\n", None),
            (b"Message-ID: <>\r\n", None),
            (b"Message-ID:", None),
            (b"Message-ID: <a b@c>\r\n", None),
            (b"Message-ID: <a\r\n b@c>\r\n", None),
            (b"Message-ID: <a<b@c>\r\n", None),
            (b"Message-ID: <\x01@c>\r\n", None),
            (b"Message-ID: <\xe4@c>\r\n", None),
            (b"Message-ID: <" + b"a" * 300 + b"@c>\r\n", None),
        ]

        for block, expected in cases:
            facts = scan_header(block)
            self.assertTrue(facts.has_message_id, block)
            self.assertEqual(expected, facts.message_id, block)

    def test_auto_submitted(self) -> None:
        """Everything but ``no`` says that a program wrote it (RFC 3834 §5)."""
        for value, expected in (
            (b"auto-replied", True),
            (b"auto-generated; owner-email=x", True),
            (b"No", False),
            (b"no (really); x=y", False),
            (b"\r\n no", False),
            (b"nonsense", True),
        ):
            facts = scan_header(b"Auto-Submitted: %b\r\n" % value)
            self.assertEqual(expected, facts.auto_submitted, value)

    @given(BLOCKS)
    def test_never_fails(self, block: bytes) -> None:
        """Whatever the octets: an answer, and no message id that could break a line."""
        facts = scan_header(block)

        if facts.message_id is not None:
            self.assertTrue(facts.message_id.decode("ascii").isprintable())
            self.assertTrue(facts.has_message_id)


class SplitTests(SynchronousTestCase):
    def test_fields_in_order(self) -> None:
        """Names in lower case, values as they stand, folds included."""
        fields = split_fields(b"To: a@b,\r\n\tc@d\r\nX-Receiver :e@f\r\nEmpty:\r\n\r\nBody: x\r\n")

        self.assertEqual(
            [(b"to", b" a@b,\r\n\tc@d"), (b"x-receiver", b"e@f"), (b"empty", b"")], fields
        )

    def test_line_feeds_alone(self) -> None:
        """A file written on Unix is taken apart as well."""
        self.assertEqual(
            [(b"to", b" a@b,\n c@d"), (b"cc", b" e@f")],
            split_fields(b"To: a@b,\n c@d\nCc: e@f\n\nBcc: no\n"),
        )

    def test_garbage_is_left_out(self) -> None:
        """Lines that are no fields go, with their continuations; the rest stays."""
        block = b" lost\r\nFrom someone Thu Mar 14\r\n more: x\r\n: y\r\nb\xe4d: z\r\nTo: a@b"

        self.assertEqual([(b"to", b" a@b")], split_fields(block))

    def test_unfold(self) -> None:
        """A fold goes, the white space that made it stays (RFC 5322 §2.2.3)."""
        self.assertEqual(b"a,\tb, c", unfold(b" a,\r\n\tb,\n c "))

    def test_many_fields(self) -> None:
        """200,000 fields are 200,000 steps, not their square (attacks.md A33)."""
        self.assertEqual(200_000, len(split_fields(b"a:\r\n" * 200_000)))
        self.assertEqual(1, len(split_fields(b"a:\r\n" + b" b\r\n" * 200_000)))

    @given(BLOCKS)
    def test_never_fails(self, block: bytes) -> None:
        """Whatever the octets: names that are names."""
        for name, _value in split_fields(block):
            self.assertRegex(name, rb"\A[!-9;-~]+\Z")

    @given(st.lists(st.tuples(st.from_regex(r"\A[A-Za-z-]{1,9}\Z"), st.text("ab \t", max_size=9))))
    def test_agrees_with_the_standard_library(self, pairs: list[tuple[str, str]]) -> None:
        """Of a well-formed header both see the same fields."""
        block = "".join(f"{name}: x{value}\r\n" for name, value in pairs).encode()

        theirs = message_from_bytes(block + b"\r\n", policy=compat32).items()

        self.assertEqual(
            [(name.lower(), value.strip()) for name, value in theirs],
            [(name.decode(), unfold(value).decode()) for name, value in split_fields(block)],
        )


class RemoveTests(SynchronousTestCase):
    def test_all_of_them_with_their_folds(self) -> None:
        """Every such field goes, every other octet stays, the body too."""
        content = (
            b"x-sender: a@b\r\nX-Receiver: c@d\r\nSubject: s\r\n\tBcc: no\r\n"
            b"Bcc: e@f,\r\n g@h\r\nTo: i@j\r\n\r\nBcc: body\r\n"
        )

        self.assertEqual(
            b"Subject: s\r\n\tBcc: no\r\nTo: i@j\r\n\r\nBcc: body\r\n",
            remove_fields(content, frozenset({b"x-sender", b"x-receiver", b"bcc"})),
        )

    @given(BLOCKS)
    def test_nothing_of_that_name_is_left(self, block: bytes) -> None:
        """What `split_fields` finds is what goes; without names nothing does."""
        rest = remove_fields(block, frozenset({b"bcc"}))

        self.assertNotIn(b"bcc", dict(split_fields(rest)))
        self.assertEqual(block, remove_fields(block, frozenset()))
