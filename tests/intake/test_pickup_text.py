"""Tests for `mailhost.intake.local_text`."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.intake.local_text import LocalText, to_crlf
from mailhost.intake.pickup_file import BadPickupFile

TEXT = st.text("\r\nab.", max_size=40).map(str.encode)
PIECES = st.lists(TEXT, max_size=6)


def converted(*blocks: bytes, limit: int | None = None) -> bytes:
    """What *blocks* become."""
    text = LocalText(limit)
    return b"".join([*map(text.feed, blocks), text.end()])


def whole(text: bytes) -> bytes:
    """The same, without blocks: split at line ends, and put together."""
    lines = re.split(rb"\r\n|\r|\n", text)
    if lines[-1] == b"":
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines)


class LineEndTests(SynchronousTestCase):
    @given(TEXT)
    def test_every_split(self, text: bytes) -> None:
        """Wherever a block ends, the outcome is that of the whole."""
        expected = whole(text)

        self.assertEqual(expected, converted(text))
        for at in range(len(text) + 1):
            self.assertEqual(expected, converted(text[:at], text[at:]), at)
        self.assertEqual(expected, converted(*[text[at : at + 1] for at in range(len(text))]))

    @given(PIECES)
    def test_many_splits(self, blocks: list[bytes]) -> None:
        """Nor do more borders matter."""
        self.assertEqual(whole(b"".join(blocks)), converted(*blocks))

    @given(TEXT)
    def test_idempotent(self, text: bytes) -> None:
        """What has CRLF throughout stays as it is."""
        self.assertEqual(to_crlf(text), to_crlf(to_crlf(text)))

    def test_pic_07(self) -> None:
        """A dot alone, or at the start of a line, is content (PIC-07)."""
        self.assertEqual(b"a\r\n.\r\n..b\r\n.c\r\n", converted(b"a\n.\n..b\n.c"))

    def test_mark(self) -> None:
        """The mark at the beginning of UTF-8 text goes, and only that one."""
        self.assertEqual(b"a\xef\xbb\xbf\r\n", converted(b"\xef\xbb\xbfa\xef\xbb\xbf"))


class CheckTests(SynchronousTestCase):
    @given(PIECES, st.integers(0, 8))
    def test_line_length(self, blocks: list[bytes], limit: int) -> None:
        """Refused exactly where a line is longer, wherever blocks end."""
        longest = max(map(len, whole(b"".join(blocks)).split(b"\r\n")))

        if longest > limit:
            self.assertRaises(BadPickupFile, converted, *blocks, limit=limit)
        else:
            converted(*blocks, limit=limit)

    def test_no_limit(self) -> None:
        """Where lines may be of any length they are."""
        self.assertEqual(100_002, len(converted(b"a" * 100_000)))

    def test_nul(self) -> None:
        """NUL, and so UTF-16, is no mail."""
        with self.assertRaisesRegex(BadPickupFile, "NUL"):
            converted("From: a".encode("utf-16"))

    def test_eight_bit(self) -> None:
        """An octet over 127 anywhere makes it 8BITMIME."""
        text = LocalText(None)
        text.feed(b"a")
        self.assertFalse(text.eight_bit)
        text.feed("ü".encode())
        text.feed(b"b")
        self.assertTrue(text.eight_bit)
