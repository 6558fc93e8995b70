"""Tests for `mailhost.smtp.content`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.smtp import replies
from mailhost.smtp.content import ContentReader, ContentWriter, has_bare_ends

LINES = st.lists(
    st.sampled_from([b"", b".", b"..", b"...", b"text", b".text", b"x" * 30]), max_size=8
)
CUTS = st.lists(st.integers(1, 9), min_size=1, max_size=60)


def pieces(octets: bytes, cuts: list[int]) -> list[bytes]:
    """*octets* cut up; the last cut repeats."""
    found, position = [], 0
    for number in range(len(octets) + 1):
        step = cuts[min(number, len(cuts) - 1)]
        found.append(octets[position : position + step])
        position += step
    return [piece for piece in found if piece]


def read(reader: ContentReader, parts: list[bytes]) -> tuple[bytes, bytes]:
    """Feed until the end; content and what follows it."""
    content = b""
    for number, part in enumerate(parts):
        block, rest = reader.feed(part)
        content += block
        if reader.ended:
            return content, rest + b"".join(parts[number + 1 :])
    return content, b""


class RoundTripTests(SynchronousTestCase):
    @given(LINES, CUTS, CUTS)
    def test_any_lines_at_any_borders(
        self, lines: list[bytes], written: list[int], taken: list[int]
    ) -> None:
        """What one side stuffs the other un-stuffs, wherever blocks and segments end."""
        content = b"".join(line + b"\r\n" for line in lines)
        writer = ContentWriter()
        wire = b"".join(map(writer.stuff, pieces(content, written))) + writer.end()

        reader = ContentReader()
        found, rest = read(reader, pieces(wire + b"QUIT\r\n", taken))

        self.assertEqual((content, b"QUIT\r\n"), (found, rest))
        self.assertIsNone(reader.fault)
        self.assertFalse(writer.bare)

    @given(LINES, CUTS, CUTS)
    def test_what_need_not_be_looked_at_again(
        self, lines: list[bytes], taken: list[int], written: list[int]
    ) -> None:
        """A content is ready for the wire when stuffing would leave it alone, and only then."""
        wire = b"".join(line + b"\r\n" for line in lines) + b".\r\n"
        reader = ContentReader()
        content, _ = read(reader, pieces(wire, taken))
        stuffing, passing = ContentWriter(), ContentWriter(wire_ready=True)

        stuffed = b"".join(map(stuffing.stuff, pieces(content, written))) + stuffing.end()
        passed = b"".join(map(passing.stuff, pieces(content, written))) + passing.end()

        if reader.wire_ready:
            self.assertEqual(stuffed, passed)
        else:
            self.assertTrue(any(line.startswith(b".") for line in lines))

    @given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"\0", b"x"]), max_size=14), CUTS)
    def test_only_crlf_dot_crlf_ends(self, tokens: list[bytes], cuts: list[int]) -> None:
        """P6: whatever the octets, the end is at the first CRLF.CRLF, and no bare one passes."""
        wire = b"".join(tokens) + b"\r\n.\r\n"
        end = (b"\r\n" + wire).find(b"\r\n.\r\n")

        reader = ContentReader(max_line_octets=None)
        content, rest = read(reader, pieces(wire, cuts))

        self.assertEqual(wire[end + 3 :], rest)
        clean = content.replace(b"\r\n", b"")
        if reader.fault is None:
            self.assertNotIn(b"\r", clean)
            self.assertNotIn(b"\n", clean)
            self.assertNotIn(b"\0", clean)

    @given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"x"]), max_size=14), CUTS)
    def test_writer_sees_every_bare_one(self, tokens: list[bytes], cuts: list[int]) -> None:
        """`bare` is set exactly when the content has a CR or LF outside CRLF."""
        content = b"".join(tokens)
        writer = ContentWriter()
        for piece in pieces(content, cuts):
            writer.stuff(piece)
        writer.end()

        clean = content.replace(b"\r\n", b"")
        self.assertEqual(b"\r" in clean or b"\n" in clean, writer.bare)


class FaultTests(SynchronousTestCase):
    def test_first_fault_stays(self) -> None:
        """The reply names the first thing that was wrong."""
        reader = ContentReader()
        reader.feed(b"a\nb\r\n")
        reader.feed(b"\0\r\n.\r\n")

        self.assertEqual(replies.BARE_CR_OR_LF, reader.fault)
        self.assertTrue(reader.ended)

    @given(st.lists(st.sampled_from([b"abcd", b"abcde", b".abcd", b"abcdef", b""])), CUTS)
    def test_line_limit(self, lines: list[bytes], cuts: list[int]) -> None:
        """A line counts without its CRLF and without the transparent dot (§4.5.3.1.6)."""
        writer = ContentWriter()
        wire = writer.stuff(b"".join(line + b"\r\n" for line in lines)) + writer.end()
        reader = ContentReader(max_line_octets=5)
        read(reader, pieces(wire, cuts))

        self.assertEqual(any(len(line) > 5 for line in lines), reader.fault is not None)

    def test_missing_last_line_end(self) -> None:
        """Content that does not end a line gets a CRLF before the final dot."""
        writer = ContentWriter()

        self.assertEqual(b"text\r\n.\r\n", writer.stuff(b"text") + writer.end())


class BareEndTests(SynchronousTestCase):
    @given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"\x0b", b"\x1c", b"\x85"])))
    def test_as_by_counting(self, parts: list[bytes]) -> None:
        """Exactly those octets are bare that are in no CRLF; nothing else ends a line."""
        block = b"".join(parts)
        pairs = block.count(b"\r\n")
        counted = block.count(b"\r") != pairs or block.count(b"\n") != pairs

        self.assertEqual(counted, has_bare_ends(block))


class MendTests(SynchronousTestCase):
    """Bare line ends of clients that the operator trusts."""

    @given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\r\n"]), max_size=14), CUTS)
    def test_same_at_any_borders(self, tokens: list[bytes], cuts: list[int]) -> None:
        """What comes out is the same however it came, ends where it did, and is strict (P6)."""
        octets = b"".join(tokens) + b"\r\n.\r\nQUIT\r\n"
        strict, rest_strict = read(ContentReader(), pieces(octets, [len(octets)]))
        whole, rest_whole = read(ContentReader(mends=True), pieces(octets, [len(octets)]))
        reader = ContentReader(mends=True)

        found, rest = read(reader, pieces(octets, cuts))

        self.assertEqual((whole, rest_whole), (found, rest))
        self.assertEqual(rest_strict, rest)
        self.assertFalse(has_bare_ends(found))
        self.assertIsNone(reader.fault)
        if not has_bare_ends(strict):
            self.assertEqual(strict, found)

    def test_what_they_mean(self) -> None:
        """A bare LF ends a line, whose dot was stuffed if it begins with one; a CR is a blank."""
        for given_, meant in (
            (b"one\ntwo", b"one\r\ntwo\r\n"),
            (b"one\n..two", b"one\r\n.two\r\n"),
            (b"one\n.\ntwo", b"one\r\n\r\ntwo\r\n"),
            (b"one\rtwo", b"one two\r\n"),
            (b"one\r\r\ntwo", b"one \r\ntwo\r\n"),
        ):
            found, _ = read(ContentReader(mends=True), [given_ + b"\r\n.\r\n"])
            self.assertEqual(meant, found)
