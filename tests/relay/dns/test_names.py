"""Tests for `mailhost.relay.dns.names`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import ResolveProblem
from mailhost.relay.dns.names import check_name, is_address, is_localhost, reverse_name


class CheckNameTests(SynchronousTestCase):
    def test_canonical_form(self) -> None:
        """Case and final dot do not matter; a single label and underscores are names."""
        for text, name in (
            ("Example.COM.", "example.com"),
            ("relay", "relay"),
            ("_25._tcp.mx.example.com", "_25._tcp.mx.example.com"),
        ):
            self.assertEqual(name, check_name(text))

    def test_u_labels(self) -> None:
        """U-labels are asked for as A-labels (RFC 5891 §4)."""
        self.assertEqual("xn--bcher-kva.example", check_name("B\u00fccher.example"))

    def test_longest(self) -> None:
        """63 octets a label and 253 characters a name, and not one more."""
        label = "a" * 63
        longest = ".".join([label, label, label, "b" * 61])
        self.assertEqual(longest, check_name(longest))
        self._refused(f"{longest}b")
        self._refused(f"{'a' * 64}.example")

    def test_cannot_exist(self) -> None:
        """What is no name, or must not be asked for, is 5.1.2 at once."""
        for text in (
            "", ".", "..", "a..b", ".example", "two words.example", "a@b.example",
            "192.0.2.1", "example.123", "x.invalid", "x.onion", "b\u00fc cher.example",
            "\u00fc" * 300, "\u2488example.com", "nul\0.example", "example.com..",
        ):  # fmt: skip
            self._refused(text)

    def _refused(self, text: str) -> None:
        problem = self.assertRaises(ResolveProblem, check_name, text)
        self.assertEqual("5.1.2", problem.status)
        self.assertTrue(problem.words.isascii())
        self.assertLess(len(problem.words), 500)


class AddressTests(SynchronousTestCase):
    def test_is_address(self) -> None:
        """Addresses of both families are told from names, zones included."""
        for text in ("192.0.2.1", "::1", "2001:db8::1", "fe80::1%eth0"):
            self.assertTrue(is_address(text), text)
        for text in ("", "example.com", "192.0.2", "host1", "1.2.3.4.5", ":", "[::1]"):
            self.assertFalse(is_address(text), text)

    def test_reverse_names(self) -> None:
        """An IPv4-mapped address is looked up as the IPv4 address it is."""
        self.assertEqual("1.2.0.192.in-addr.arpa", reverse_name("192.0.2.1"))
        self.assertEqual("1.2.0.192.in-addr.arpa", reverse_name("::ffff:192.0.2.1"))
        self.assertTrue(reverse_name("2001:db8::1").endswith("8.b.d.0.1.0.0.2.ip6.arpa"))
        self.assertRaises(ValueError, reverse_name, "example.com")

    def test_localhost(self) -> None:
        """Names below localhost are localhost; names that end like it are not."""
        self.assertTrue(is_localhost("localhost"))
        self.assertTrue(is_localhost("a.localhost"))
        self.assertFalse(is_localhost("notlocalhost"))
