"""Tests for `mailhost.config.units`."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.config import units
from mailhost.config.settings import LISTEN, ListenAddress
from mailhost.model.address import Mailbox
from mailhost.model.rate import Rate
from mailhost.model.route import NextHop


class _KindTests(SynchronousTestCase):
    def assert_reads(self, kind: units.Kind, rows: dict[str, Any]) -> None:
        """Every text of *rows* gives its value, within bounds."""
        for text, value in rows.items():
            parsed = kind.parse(text)
            kind.check(parsed)
            self.assertEqual(value, parsed, text)

    def assert_refuses(self, kind: units.Kind, *texts: str) -> None:
        """Every text is refused by the parser or by the bounds."""
        for text in texts:
            with self.assertRaises(ValueError, msg=text):
                kind.check(kind.parse(text))


class RateTests(_KindTests):
    def test_rate(self) -> None:
        """So many in so long; none lifts it; what it is written as reads the same."""
        kind = units.rate()
        self.assert_reads(
            kind,
            {
                "100/1m": Rate(100, 60),
                "20/1s": Rate(20, 1),
                " 5 / 2h ": Rate(5, 7200),
                "7/m": Rate(7, 60),
                "1/1d": Rate(1, 86400),
                "none": None,
                "unlimited": None,
            },
        )
        self.assert_refuses(
            kind, "", "100", "/1m", "100/", "0/1m", "10/0s", "1/2d", "1.5/1m", "-1/1m", "1/0.5s"
        )

    @given(st.integers(1, 10**9), st.integers(1, 86400))
    def test_written_and_read(self, count: int, seconds: int) -> None:
        """The text of a rate is that rate."""
        self.assertEqual(Rate(count, seconds), units.rate().parse(str(Rate(count, seconds))))


class NumberTests(_KindTests):
    def test_whole(self) -> None:
        """Whole numbers are decimal digits within bounds, and nothing YAML 1.1 makes of them."""
        self.assert_reads(units.whole(1, 65535), {"1": 1, " 25 ": 25, "65535": 65535, "010": 10})
        self.assert_refuses(
            units.whole(1, 65535),
            "0",
            "65536",
            "-1",
            "1.5",
            "0x10",
            "1_000",
            "1:30",
            "",
            "٣",
            "unlimited",
            "9" * 5000,
        )

    def test_lifted(self) -> None:
        """A limit that can be lifted is lifted by two words in any case, not by 0."""
        kind = units.whole(1, lifted=True)

        self.assert_reads(kind, {"unlimited": None, "None": None, "7": 7})
        self.assert_refuses(kind, "0", "no", "infinite")

    def test_size(self) -> None:
        """Sizes take K, M and G of 1024; 0 lifts (MSG-01)."""
        self.assert_reads(
            units.size(1024),
            {
                "1024": 1024,
                "2M": 2 << 20,
                "10 m": 10 << 20,
                "1k": 1024,
                "1G": 1 << 30,
                "0": None,
                "0K": None,
                "none": None,
                "unlimited": None,
            },
        )
        self.assert_refuses(units.size(1024), "1023", "2MB", "1.5M", "M", "-1", "1T", "2 M M", "")

    def test_span(self) -> None:
        """Times take s, m, h and d, and are at least a second."""
        self.assert_reads(
            units.span(), {"1": 1, "10m": 600, "12h": 43200, "2 d": 172800, "5S": 5, "0.5m": 30}
        )
        self.assert_refuses(units.span(), "0", "0s", "0.5", "10 min", "1w", "none", "9999999d", "")

    def test_span_lifted(self) -> None:
        """A time that may never come takes "none"."""
        self.assert_reads(units.span(lifted=True), {"none": None, "12h": 43200})

    def test_short_span(self) -> None:
        """A resolver's time-out may have a fraction of a second."""
        self.assert_reads(units.SHORT_SPAN, {"0.5": 0.5, "5s": 5.0, "1m": 60.0})
        self.assert_refuses(units.SHORT_SPAN, "0", "301", "1h", "five")


class WordTests(_KindTests):
    def test_truth(self) -> None:
        """Six words in any case, and no numbers."""
        self.assert_reads(
            units.TRUTH,
            {"true": True, "YES": True, "on": True, "False": False, "no": False, "off": False},
        )
        self.assert_refuses(units.TRUTH, "1", "0", "y", "", "maybe")

    def test_name(self) -> None:
        """A name is safe on a command line and in an INI section's head."""
        self.assert_reads(units.NAME, {n: n for n in ("default", "a", "Site 2", "x.y-z_0")})
        self.assert_refuses(units.NAME, "", " a", "a ", "a/b", "a]b", "é", "a\n", "-a", "x" * 65)

    def test_comment(self) -> None:
        """A comment is one printable line."""
        self.assert_reads(units.COMMENT, {"Größe 2 #1": "Größe 2 #1", "": ""})
        self.assert_refuses(units.COMMENT, "a\nb", "\x07", "x" * 257)

    def test_path(self) -> None:
        """Paths are kept as they are given; what would surprise is refused."""
        self.assert_reads(
            units.PATH, {"mailroot/a": Path("mailroot/a"), "/srv/a b": Path("/srv/a b")}
        )
        self.assert_refuses(units.PATH, "", "  ", "~", "~/mail", "a\0b", "a\nb")


class NameTests(_KindTests):
    def test_domain(self) -> None:
        """A domain keeps its case; addresses, wildcards and empty labels are none."""
        self.assert_reads(
            units.DOMAIN,
            {
                "example.com": "example.com",
                "Mail.Example.COM.": "Mail.Example.COM",
                "host": "host",
                "Bücher.example": "xn--bcher-kva.example",
            },
        )
        self.assert_refuses(
            units.DOMAIN,
            "",
            ".",
            "a..b",
            "*.example.com",
            "192.0.2.1",
            "[192.0.2.1]",
            "a b",
            "-a.example",
            "☕️.example",
            "x" * 64 + ".example",
            "a@b",
            "2001:db8::1",
            "1",
        )

    def test_domain_pattern(self) -> None:
        """A pattern is a domain in lower case that may begin with a wildcard."""
        self.assert_reads(
            units.DOMAIN_PATTERN,
            {"*.Partner.example": "*.partner.example", "Example.net": "example.net"},
        )
        self.assert_refuses(units.DOMAIN_PATTERN, "*", "*.", "a.*.b", "*example.com", "*.*.a")

    def test_address(self) -> None:
        """Addresses of both families, with or without brackets, an IPv6 scope included."""
        self.assert_reads(
            units.ADDRESS,
            {
                "192.0.2.1": "192.0.2.1",
                "[2001:DB8::1]": "2001:db8::1",
                "fe80::1%eth0": "fe80::1%eth0",
            },
        )
        self.assert_refuses(
            units.ADDRESS, "", "host", "1.2.3", "300.1.1.1", "01.2.3.4", "fe80::1%a b", "1.2.3.4/8"
        )

    def test_listen(self) -> None:
        """An identity is an address and a port (GEN-04)."""
        self.assert_reads(
            LISTEN,
            {
                "0.0.0.0:25": ListenAddress("0.0.0.0", 25),
                "[::]:25": ListenAddress("::", 25),
                "127.0.0.1:65535": ListenAddress("127.0.0.1", 65535),
            },
        )
        self.assert_refuses(
            LISTEN,
            "25",
            ":25",
            "*:25",
            "localhost:25",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "::1:25",
            "[::1]",
            "[::1]25",
            "[::1:25",
            "1.2.3.4:2 5",
        )

    def test_name_server(self) -> None:
        """The port of a name server may be left out, with and without brackets."""
        self.assert_reads(
            units.NAME_SERVER,
            {
                "192.0.2.1": ("192.0.2.1", 53),
                "127.0.0.1:5353": ("127.0.0.1", 5353),
                "::1": ("::1", 53),
                "[::1]": ("::1", 53),
                "[::1]:5353": ("::1", 5353),
            },
        )
        self.assert_refuses(units.NAME_SERVER, "system", "ns.example.com", "127.0.0.1:dns", "")

    def test_next_hop(self) -> None:
        """Brackets say address and no DNS (DEL-43); names are lower case; ports are optional."""
        self.assert_reads(
            units.NEXT_HOP,
            {
                "[192.0.2.10]": NextHop("192.0.2.10", None, True),
                "[192.0.2.20]:2525": NextHop("192.0.2.20", 2525, True),
                "[2001:db8::1]:25": NextHop("2001:db8::1", 25, True),
                "[IPv6:2001:db8::1]": NextHop("2001:db8::1", None, True),
                "Relay.Example.net:587": NextHop("relay.example.net", 587),
                "relay": NextHop("relay"),
            },
        )
        self.assert_refuses(
            units.NEXT_HOP,
            "",
            "192.0.2.10",
            "192.0.2.10:25",
            "2001:db8::1",
            "[relay]",
            "[]",
            "relay:",
            "relay:0",
            "relay:99999",
            "[192.0.2.1]x",
            "[192.0.2.1",
            "*.example.net",
        )

    def test_mailbox(self) -> None:
        """One address with a domain."""
        self.assert_reads(
            units.MAILBOX, {"Post.Master@Example.com": Mailbox("Post.Master", "Example.com")}
        )
        self.assert_refuses(
            units.MAILBOX,
            "postmaster",
            "@example.com",
            "a@",
            "a b@example.com",
            "a@b@c",
            ".a@example.com",
            "<a@example.com>",
            "a@example.com, b@example.com",
            "x" * 65 + "@a",
            "a\r\nRCPT@example.com",
            "ä@example.com",
        )

    def test_access_entry(self) -> None:
        """Addresses, networks in both notations and domains (ACC-21..23)."""
        self.assert_reads(
            units.ACCESS_ENTRY,
            {
                "192.0.2.1": ip_network("192.0.2.1/32"),
                "10.0.0.0/8": ip_network("10.0.0.0/8"),
                "10.0.0.0/255.0.0.0": ip_network("10.0.0.0/8"),
                "2001:db8::/32": ip_network("2001:db8::/32"),
                "::1": ip_network("::1/128"),
                "*.Bad.example": "*.bad.example",
                "bad.example": "bad.example",
            },
        )
        self.assert_refuses(
            units.ACCESS_ENTRY,
            "",
            "10.0.0.0/33",
            "300.1.1.1",
            "a b",
            "*",
            "::ffff:10.0.0.1",
            "::ffff:10.0.0.0/104",
            "10.0.0.0-10.0.0.9",
            "1.2.3",
        )


class AnyTextTests(SynchronousTestCase):
    @given(st.text() | st.from_regex(r"[\[\]0-9a-f:.%/*@~kKmMsd ,;-]*", fullmatch=True))
    def test_value_or_words(self, text: str) -> None:
        """Every parser takes every text, or refuses it with a `ValueError` on one line."""
        parsers: list[Callable[[str], Any]] = [
            kind.parse for kind in vars(units).values() if isinstance(kind, units.Kind)
        ]
        parsers += [LISTEN.parse, units.parse_size, units.parse_seconds, units.parse_whole]
        self.assertGreater(len(parsers), 12)
        for parse in parsers:
            try:
                parse(text)
            except ValueError as wrong:
                self.assertTrue(str(wrong).isprintable())
                self.assertTrue(str(wrong))
