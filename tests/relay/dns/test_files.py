"""Tests for `mailhost.relay.dns.files`."""

from __future__ import annotations

import os
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.relay.dns.files import (
    CHECK_SECONDS,
    WatchedFile,
    parse_hosts,
    parse_resolv_conf,
)
from tests.relay.dns.fakes import temporary_path


class ResolvConfTests(SynchronousTestCase):
    def test_servers_in_order(self) -> None:
        """The first three usable name servers count; comments and other lines do not."""
        text = (
            "# nameserver 192.0.2.99\n; nameserver 192.0.2.98\nsearch example.com\n"
            "nameserver 192.0.2.1 # first\nnameserver\nnameserver not-an-address\n"
            "nameserver 2001:db8::1\nnameserver fe80::1%eth0\nnameserver 192.0.2.4\n"
        )
        self.assertEqual(
            (("192.0.2.1", 53), ("2001:db8::1", 53), ("fe80::1%eth0", 53)),
            parse_resolv_conf(text),
        )

    def test_default(self) -> None:
        """Without a name server line the local machine is asked (resolv.conf(5))."""
        self.assertEqual((("127.0.0.1", 53),), parse_resolv_conf("options rotate\n"))


class HostsTests(SynchronousTestCase):
    def test_both_ways(self) -> None:
        """A name may have several addresses and an address several names."""
        table = parse_hosts(
            "192.0.2.1 Relay.example.com relay # ours\n2001:db8::1 relay\n"
            "not-an-address x\n192.0.2.1 relay\n\n"
        )
        self.assertEqual(("192.0.2.1", "2001:db8::1"), table.addresses["relay"])
        self.assertEqual(("192.0.2.1",), table.addresses["relay.example.com"])
        self.assertEqual(("relay.example.com", "relay"), table.names["192.0.2.1"])
        self.assertNotIn("x", table.addresses)


class WatchedFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.path = temporary_path(self)
        self.parsed: list[str] = []
        self.file = WatchedFile(self.path, self.parse, self.clock)

    def parse(self, text: str) -> str:
        self.parsed.append(text)
        return text

    def write(self, text: str, modified: int) -> None:
        with open(self.path, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.utime(self.path, (modified, modified))

    def test_missing_is_empty(self) -> None:
        """A file that is not there says nothing, until it is there."""
        self.assertEqual("", self.file.read())
        self.write("now", 1)
        self.clock.advance(CHECK_SECONDS)
        self.assertEqual("now", self.file.read())

    def test_read_again_after_a_change(self) -> None:
        """A change is noticed after `CHECK_SECONDS`; an unchanged file is not parsed again."""
        self.write("one", 1)
        self.assertEqual("one", self.file.read())
        self.clock.advance(CHECK_SECONDS)
        self.assertEqual("one", self.file.read())
        self.assertEqual(["one"], self.parsed)
        self.write("two", 2)
        self.assertEqual("one", self.file.read())
        self.clock.advance(CHECK_SECONDS)
        self.assertEqual("two", self.file.read())

    def test_unreadable_keeps_what_it_said(self) -> None:
        """An error while reading is told in the log and changes nothing."""
        self.write("one", 1)
        self.file.read()
        self.clock.advance(CHECK_SECONDS)
        with mock.patch("os.stat", side_effect=PermissionError("no")):
            self.assertEqual("one", self.file.read())

    def test_never_readable_is_empty(self) -> None:
        """A file that could never be read says nothing."""
        os.mkdir(self.path)
        self.assertEqual("", self.file.read())
