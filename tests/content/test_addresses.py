"""Tests for `mailhost.content.addresses`."""

from __future__ import annotations

import sys
from types import FrameType

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.content.addresses import addresses_in
from mailhost.errors import SyntaxProblem

ATOMS = st.text("abcXYZ019!#$%&'*+-/=?^_`{|}~", min_size=1, max_size=8)
DOT_ATOMS = st.lists(ATOMS, min_size=1, max_size=3).map(".".join)
DOMAINS = st.lists(st.from_regex(r"\A[a-z0-9]{1,8}\Z"), min_size=1, max_size=3).map(".".join)
QUOTED = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12)


def quoted(text: str) -> str:
    """*text* as a quoted string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def count_events(value: bytes) -> int:
    """How many calls, of Python and C, it takes to read *value*."""
    events = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal events
        events += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        addresses_in(value)
    except SyntaxProblem:
        events += 1
    finally:
        sys.setprofile(before)
    return events


class GoodListTests(SynchronousTestCase):
    def test_forms(self) -> None:
        """Every form of RFC 5322 §3.4, and those that programs really write."""
        cases: list[tuple[bytes, list[str]]] = [
            (b"", []),
            (b" \r\n ", []),
            (b"a@example.com", ["a@example.com"]),
            (b"a@example.com, b@example.com", ["a@example.com", "b@example.com"]),
            (b"a@example.com; b@example.com;", ["a@example.com", "b@example.com"]),
            (b",, a@example.com ,,\r\n ,", ["a@example.com"]),
            (b"John Q. Public <john@example.com>", ["john@example.com"]),
            (b'"Public, John" <john@example.com>', ["john@example.com"]),
            (b'"a \\" b" <john@example.com>', ["john@example.com"]),
            (b"<john@example.com>", ["john@example.com"]),
            (b"john@example.com (John, who else) ", ["john@example.com"]),
            (b"(a(b)\\)c) john (x) @ (y) example.com", ["john@example.com"]),
            (b"john . doe @ example . com", ["john.doe@example.com"]),
            (
                b"Team: a@example.com, B <b@example.com>; c@example.com",
                ["a@example.com", "b@example.com", "c@example.com"],
            ),
            (b"undisclosed-recipients:;", []),
            (b"Empty: (nobody) ; , a@example.com", ["a@example.com"]),
            (b"<@one.example,@two.example:a@example.com>", ["a@example.com"]),
            (b"=?utf-8?q?M=C3=BCller=2C_A?= <a@example.com>", ["a@example.com"]),
            (
                b"=?utf-8?Q?M=C3=BCller,_(A)?= <a@example.com>, b@example.com",
                ["a@example.com", "b@example.com"],
            ),
            (b"M\xfcller <a@example.com>", ["a@example.com"]),
            (b"a@example.com <b@example.com>", ["b@example.com"]),
            (b"[Sales] a.b <b@example.com>", ["b@example.com"]),
            (b"mailto:a@example.com", ["a@example.com"]),
            (b"Sender", ["Sender"]),
            (b"postmaster, a@example.com", ["postmaster", "a@example.com"]),
            (b'"a b"@example.com', ['"a b"@example.com']),
            (b'"a.b"@example.com', ["a.b@example.com"]),
            (b'"a@b"@example.com', ['"a@b"@example.com']),
            (b'"a\\"b"@example.com', ['"a\\"b"@example.com']),
            (b'""@example.com', ['""@example.com']),
            (b'"a".b."c d"@example.com', ['"a.b.c d"@example.com']),
            (b"a@[192.0.2.1]", ["a@[192.0.2.1]"]),
            (b"a@[IPv6:2001:db8::1]", ["a@[IPv6:2001:db8::1]"]),
            (b"user%example.net@EXAMPLE.com", ["user%example.net@EXAMPLE.com"]),
        ]

        for value, expected in cases:
            self.assertEqual(expected, addresses_in(value), value)

    @given(
        st.lists(
            st.tuples(
                st.one_of(DOT_ATOMS, QUOTED.map(quoted)),
                DOMAINS,
                QUOTED,
                st.sampled_from(["{0}", "<{0}>", "{1} <{0}>", "{0} (c(d))", "\r\n {0}"]),
                st.sampled_from([",", ";", ", ,", ";\r\n\t"]),
            )
        )
    )
    def test_round_trip(self, entries: list[tuple[str, str, str, str, str]]) -> None:
        """What is well formed is read back, and reading the result changes nothing."""
        value = "".join(
            shape.format(f"{local}@{domain}", quoted(name)) + separator
            for local, domain, name, shape, separator in entries
        )

        found = addresses_in(value.encode())

        self.assertEqual(len(entries), len(found))
        self.assertEqual([e[1] for e in entries], [a.rpartition("@")[2] for a in found])
        self.assertEqual(found, addresses_in(", ".join(found).encode()))


class BadListTests(SynchronousTestCase):
    def test_each_fault_is_named(self) -> None:
        """What is wrong is said in words an operator can act on."""
        cases = {
            b"<a@example.com": "'<' without '>'",
            b"a@example.com>": "'>' without '<'",
            b"<<a@example.com>>": "'<' within '<'",
            b"(a@example.com": "'(' without ')'",
            b"(a\\)": "'(' without ')'",
            b"a) b@example.com": "does not belong",
            b'"a@example.com': "quotation mark",
            b'"a\\': "quotation mark",
            b"a@[192.0.2.1": "'[' without ']'",
            b"a]@example.com": "does not belong",
            b"a\\b@example.com": "does not belong",
            b"a\x00b@example.com": "does not belong",
            b"John Doe": "no address in",
            b"John Doe a@example.com": "no local part in",
            b"a@b@example.com": "more than one '@'",
            b"@example.com": "without a local part",
            b"a@": "without a domain",
            b"a@exam ple.com": "no domain in",
            b"a@b..example": "is no domain",
            b"a@.example": "is no domain",
            b"a@ex!ample": "is no domain",
            b'a@"example"': "no domain in",
            b"a@[192.0.2.1]x": "no domain in",
            b"a@[[192.0.2.1]": "no address literal",
            b"a@[19 2]": "no address literal",
            b".a@example.com": "no local part",
            b"a..b@example.com": "no local part",
            b"\xe4@example.com": "8-bit",
            b"a@\xe4.example": "8-bit",
            b'"a\tb"@example.com': "control character",
            b'"a\\\rb"@example.com': "control character",
            b"<>": "empty address",
            b"X <  >": "empty address",
            b"<@a.example>": "route without ':'",
            b"<a@example.com> b@example.com": "no comma behind",
            b"<a@example.com> <b@example.com>": "no comma behind",
            b": a@example.com": "name of a group",
            b"a@b: c@example.com": "name of a group",
            b"x: y: a@example.com;": "a group within a group",
        }

        for value, words in cases.items():
            problem = self.assertRaises(SyntaxProblem, addresses_in, value)
            self.assertIn(words, str(problem), value)

    @given(
        st.lists(
            st.one_of(st.sampled_from(list('()<>[]:;@\\,"., ab=?q\r\n\0')), st.text(max_size=3)),
            max_size=40,
        )
    )
    def test_nothing_else_is_raised(self, pieces: list[str]) -> None:
        """Any octets give addresses of one line each, or a `SyntaxProblem` of one line."""
        value = "".join(pieces).encode("utf-8", "surrogatepass")

        try:
            words = addresses_in(value)
        except SyntaxProblem as problem:
            words = [str(problem)]

        for word in words:
            self.assertTrue(word.isprintable(), word)


class EffortTests(SynchronousTestCase):
    """attacks.md A33: the effort grows with the length and no faster."""

    def test_nested_comments(self) -> None:
        """Fifty levels are read, 3,000 refused; neither exhausts the stack."""
        self.assertEqual(["a@b"], addresses_in(b"(" * 50 + b")" * 50 + b"a@b"))
        self.assertRaises(SyntaxProblem, addresses_in, b"(" * 3000 + b")" * 3000 + b"a@b")

    def test_ten_thousand_addresses(self) -> None:
        """All are found."""
        value = b", ".join(b'"U, %d" <u%d@example.com>' % (n, n) for n in range(10_000))

        self.assertEqual(10_000, len(addresses_in(value)))

    def test_linear(self) -> None:
        """Ten times the length takes at most eleven times the calls, whatever the shape."""
        for piece in (
            b"a@example.com,",
            b'"x, y" <a@example.com>;',
            b"(c)",
            b"()a.",
            b"a ",
            b"=?",
            b"=?a?q?",
            b"<",
            b"g:",
            b"\\",
            b'"\\""',
            b"[",
            b"[]",
            b"a@",
            b",",
            b"\r\n ",
            b".",
            b"<a@b>",
        ):
            short, long = count_events(piece * 300), count_events(piece * 3000)
            self.assertLessEqual(long, 11 * short, piece)
