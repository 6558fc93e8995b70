"""Tests for `mailhost.reports.returned`."""

from __future__ import annotations

from quopri import decodestring

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.model.address import Mailbox
from mailhost.reports.returned import MAX_HEADER_OCTETS, ReturnedPart, returned_part
from mailhost.reports.values import OriginalMessage

HEADER = b"From: a@example.com\r\nSubject: hello\r\n"
SENDER = Mailbox("a", "example.com")


def returned(octets: bytes, size: int | None = None, limit: int = 100_000) -> ReturnedPart:
    """What is returned of a message that begins with *octets*."""
    size = len(octets) if size is None else size
    return returned_part(OriginalMessage(SENDER, "0" * 24, 0.0, "", size, octets), limit)


class ReturnedTests(SynchronousTestCase):
    def test_whole(self) -> None:
        """A small message in 7 bits goes back as it is."""
        content = HEADER + b"\r\nbody\r\n"

        self.assertEqual(ReturnedPart(b"message/rfc822", b"7bit", content), returned(content))

    def test_whole_in_8_bits(self) -> None:
        """A small message in 8 bits goes back as it is, and is said to have 8 bits."""
        content = HEADER + b"\r\nb\xf6dy\r\n"

        self.assertEqual(ReturnedPart(b"message/rfc822", b"8bit", content), returned(content))

    def test_too_large(self) -> None:
        """Of a message over the limit, or not all there, the header alone goes back."""
        content = HEADER + b"\r\nbody\r\n"
        header = ReturnedPart(b"text/rfc822-headers", b"7bit", HEADER)

        self.assertEqual(header, returned(content, limit=len(content) - 1))
        self.assertEqual(header, returned(content, size=len(content) + 1))
        self.assertEqual(header, returned(content, limit=0))
        self.assertEqual(b"message/rfc822", returned(content, limit=len(content)).content_type)

    def test_lines_that_cannot_stand_in_mail(self) -> None:
        """An overlong line, NUL, bare CR or LF in the body: the header alone goes back."""
        for body in (b"x" * 999, b"a\0b", b"a\rb", b"a\nb"):
            part = returned(HEADER + b"\r\n" + body + b"\r\n")
            self.assertEqual(ReturnedPart(b"text/rfc822-headers", b"7bit", HEADER), part)
        self.assertEqual(
            b"message/rfc822", returned(HEADER + b"\r\n" + b"x" * 998 + b"\r\n").content_type
        )

    def test_header_in_8_bits(self) -> None:
        """A header alone is always returned in 7 bits (RFC 6522 §4)."""
        part = returned(b"Subject: \xe4=\r\n\r\n", limit=0)

        self.assertEqual(
            ReturnedPart(b"text/rfc822-headers", b"quoted-printable", b"Subject: =E4=3D\r\n"), part
        )

    def test_header_without_end(self) -> None:
        """It is cut behind a line, and at the limit."""
        self.assertEqual(HEADER, returned(HEADER + b"To: b@exa", size=10**6).octets)
        self.assertEqual(b"From: a@exa", returned(b"From: a@exa", size=10**6).octets)
        self.assertEqual(
            MAX_HEADER_OCTETS // 8 * 8, len(returned(b"a: bcd\r\n" * 100_000, limit=0).octets)
        )

    def test_no_header(self) -> None:
        """Nothing is nothing."""
        self.assertEqual(b"", returned(b"\r\nbody\r\n", limit=0).octets)
        self.assertEqual(b"", returned(b"", size=5).octets)

    @given(
        st.lists(
            st.sampled_from(
                [
                    b"\r\n",
                    b"\r",
                    b"\n",
                    b"\0",
                    b"=",
                    b" ",
                    b".",
                    b"x" * 200,
                    b"\xff",
                    b"From: a",
                    b"\t",
                ]
            ),
            max_size=20,
        ).map(b"".join)
    )
    def test_always_fit_for_mail(self, octets: bytes) -> None:
        """What is returned has lines of at most 998 octets, ended by CRLF, and can be read back."""
        for limit in (0, 10**6):
            part = returned(octets, limit=limit)
            lines = part.octets.split(b"\r\n")
            self.assertLessEqual(max(map(len, lines)), 998)
            for line in lines:
                self.assertFalse(set(line) & {0, 10, 13}, octets)
            self.assertTrue(part.encoding == b"8bit" or part.octets.isascii())
            if part.encoding == b"quoted-printable":
                self.assertTrue(octets.startswith(decodestring(part.octets)), octets)
