"""Tests for `mailhost.smtp.grammar`: sizes and forms; most of it is in tests/dialogues."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import SyntaxProblem
from mailhost.smtp.grammar import parse_hello, parse_rcpt, parse_verb

LONGEST_DOMAIN = ".".join(["d" * 63, "e" * 63, "f" * 63, "g" * 60])


class SizeTests(SynchronousTestCase):
    def test_longest(self) -> None:
        """What has the sizes of RFC 5321 §4.5.3.1 is taken."""
        for address in (f"{'l' * 64}@example.com", f"a@{LONGEST_DOMAIN}"):
            self.assertEqual(address, str(parse_rcpt(f"TO:<{address}>")[0]))
        self.assertEqual("h" * 255, parse_hello("h" * 255))

    def test_too_long(self) -> None:
        """One octet more is not, in a local part, a label or a path."""
        for address in (f"{'l' * 65}@example.com", f"a@{'d' * 64}.com", f"ab12@{LONGEST_DOMAIN}"):
            with self.assertRaises(SyntaxProblem):
                parse_rcpt(f"TO:<{address}>")


class FormTests(SynchronousTestCase):
    def test_case_of_a_local_part(self) -> None:
        """It is kept as it was given (RFC 5321 §2.4)."""
        self.assertEqual("SmiTh@Example.COM", str(parse_rcpt("to:<SmiTh@Example.COM>")[0]))

    def test_needless_quotes(self) -> None:
        """A quoted local part is the same as the plain one (RFC 5321 §4.1.2)."""
        self.assertEqual(parse_rcpt("TO:<bob@a.example>"), parse_rcpt('TO:<"bob"@a.example>'))

    def test_source_route(self) -> None:
        """It is understood and forgotten (RFC 5321 §4.1.1.3, appendix C)."""
        path, _ = parse_rcpt("TO:<@one.example,@two.example:bob@three.example>")

        self.assertEqual("bob@three.example", str(path))

    def test_address_literals(self) -> None:
        """IPv6 has its tag (RFC 5321 §4.1.3)."""
        for good in ("a@[192.0.2.1]", "a@[IPv6:2001:db8::1]"):
            self.assertEqual(good.lower(), str(parse_rcpt(f"TO:<{good}>")[0]).lower())
        for bad in ("a@[2001:db8::1]", "a@[192.0.2.256]", "a@[moon:1]"):
            with self.assertRaises(SyntaxProblem):
                parse_rcpt(f"TO:<{bad}>")

    def test_control_characters(self) -> None:
        """None of them is part of an address (RFC 5321 §4.1.2)."""
        for odd in ("\x01", "\x1f", "\x7f", "\t"):
            for address in (f"a{odd}b@example.com", f'"a{odd}b"@example.com', f"a@ex{odd}.com"):
                with self.assertRaises(SyntaxProblem):
                    parse_rcpt(f"TO:<{address}>")

    def test_trailing_blanks(self) -> None:
        """They are overlooked (RFC 5321 §4.1.1)."""
        self.assertEqual(("NOOP", ""), parse_verb("noop   "))
