"""Tests for `mailhost.content.trace` and `mailhost.content.words`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.content.trace import (
    filetime,
    message_id,
    original_arrival_time,
    received_field,
    received_from_pickup,
    return_path_field,
    rfc5322_date,
)
from mailhost.content.words import mailbox_octets, token_octets
from mailhost.model.address import Mailbox

#: 14 Mar 2002 15:31:58.324 UTC, the instant of IIS's sample (iis-smtp.md §10.4).
NOW = 1016119918.324
QUEUE_ID = "0123456789abcdef01234567"


def received(hello: str = "mail.example.net", peer: str = "192.0.2.1") -> bytes:
    """A Received field with everything else ordinary."""
    return received_field(hello, peer, "", "mx.example.com", "ESMTP", QUEUE_ID, NOW)


class DateTests(SynchronousTestCase):
    def test_form(self) -> None:
        """RFC 5322 §3.3, in UTC."""
        self.assertEqual(b"Thu, 14 Mar 2002 15:31:58 +0000", rfc5322_date(NOW))

    @given(st.floats(min_value=0, max_value=4e9))
    def test_agrees_with_the_standard_library(self, now: float) -> None:
        """Every date is read back as the second it was made from."""
        found = parsedate_to_datetime(rfc5322_date(now).decode())

        self.assertEqual(datetime.fromtimestamp(int(now), UTC), found)


class ReceivedTests(SynchronousTestCase):
    def test_form(self) -> None:
        """IIS's shape with a registered protocol and our queue id (RFC 5321 §4.4)."""
        self.assertEqual(
            b"Received: from mail.example.net ([192.0.2.1]) by mx.example.com with ESMTP"
            b" id 0123456789abcdef01234567;\r\n\t Thu, 14 Mar 2002 15:31:58 +0000\r\n",
            received(),
        )

    def test_notes(self) -> None:
        """The result of reverse DNS stands behind the address (IIS DEL-45)."""
        unverified = received_field("a", "192.0.2.1", " unverified", "b", "SMTP", QUEUE_ID, NOW)
        failed = received_field("a", "192.0.2.1", " RDNS failed", "b", "SMTP", QUEUE_ID, NOW)

        self.assertIn(b"from a ([192.0.2.1] unverified) by b with SMTP ", unverified)
        self.assertIn(b"from a ([192.0.2.1] RDNS failed) by b with SMTP ", failed)

    def test_addresses(self) -> None:
        """IPv6 has its tag, without zone; IPv4 in IPv6 is IPv4 (RFC 5321 §4.1.3)."""
        for peer, expected in (
            ("2001:db8::1", b"([IPv6:2001:db8::1])"),
            ("fe80::1%eth0", b"([IPv6:fe80::1])"),
            ("::ffff:192.0.2.1", b"([192.0.2.1])"),
        ):
            self.assertIn(expected, received(peer=peer))

    def test_hello_forms(self) -> None:
        """An address literal is kept; nothing becomes a word."""
        self.assertIn(b"from [192.0.2.1] ([", received("[192.0.2.1]"))
        self.assertIn(b"from [IPv6:2001:db8::1] ([", received("[IPv6:2001:db8::1]"))
        self.assertIn(b"from unknown ([", received(""))
        self.assertIn(b"from ?a??b ([", received("[a)(b"))

    @given(st.text(), st.text())
    @example("", "[]")
    def test_no_injection(self, hello: str, peer: str) -> None:
        """Whatever the client says, it is one field of two short lines with one date."""
        field = received(hello, peer)

        self.assertRegex(
            field,
            rb"\AReceived: from [^\s()<>;,\"\\]+ \(\[[^\s()<>\[\];,\"\\]*\]\) by mx\.example\.com"
            rb" with ESMTP id [0-9a-f]{24};\r\n\t [^\r\n]+\r\n\Z",
        )
        self.assertLessEqual(max(map(len, field.split(b"\r\n"))), 998)

    def test_pickup(self) -> None:
        """IIS's words for a message that was a file (PIC-09)."""
        self.assertEqual(
            b"Received: from mail pickup service by mx.example.com id 0123456789abcdef01234567;"
            b"\r\n\t Thu, 14 Mar 2002 15:31:58 +0000\r\n",
            received_from_pickup("mx.example.com", QUEUE_ID, NOW),
        )


class DeliveryFieldTests(SynchronousTestCase):
    def test_return_path(self) -> None:
        """The reverse-path between angle brackets, the null one too."""
        self.assertEqual(
            b"Return-Path: <a@example.com>\r\n", return_path_field(Mailbox("a", "example.com"))
        )
        self.assertEqual(b"Return-Path: <>\r\n", return_path_field(None))

    def test_arrival_time(self) -> None:
        """Byte for byte IIS's sample."""
        self.assertEqual(
            b"X-OriginalArrivalTime: 14 Mar 2002 15:31:58.0324 (UTC)"
            b" FILETIME=[610D9B40:01C1CB6D]\r\n",
            original_arrival_time(NOW),
        )

    @given(st.floats(min_value=0, max_value=4e9))
    def test_arrival_time_is_one_instant(self, now: float) -> None:
        """The date and the FILETIME of a field are the same millisecond."""
        match = re.fullmatch(
            rb"X-OriginalArrivalTime: (.*)\.(\d{4}) \(UTC\) FILETIME=\[(\w{8}):(\w{8})\]\r\n",
            original_arrival_time(now),
        )

        assert match is not None
        second = datetime.strptime(f"{match[1].decode()} +0000", "%d %b %Y %H:%M:%S %z")
        ticks = (int(match[4], 16) << 32) + int(match[3], 16)
        self.assertEqual(filetime(second.timestamp()) + int(match[2]) * 10_000, ticks)
        self.assertLessEqual(abs(filetime(now) - ticks), 10_000)


class MessageIdTests(SynchronousTestCase):
    def test_form(self) -> None:
        """Host in capitals, 13 random characters, a counter (iis-smtp.md §10.4)."""
        self.assertRegex(
            message_id("napier.example.com", bytes(range(16)), 1),
            rb"\A<NAPIER[0-9A-Za-z]{13}00000001@napier\.example\.com>\Z",
        )

    def test_differs(self) -> None:
        """Other chance or another count makes another id."""
        ids = {message_id("a.example", bytes([n]) * 10, m) for n in range(9) for m in range(9)}

        self.assertEqual(81, len(ids))

    def test_too_little_chance(self) -> None:
        """Nine octets can be guessed."""
        self.assertRaises(ValueError, message_id, "a.example", bytes(9), 1)

    def test_odd_hosts(self) -> None:
        """A name that would not fit into an id is made to fit."""
        for fqdn in ("", "a b", "\xe4.example", "x>\r\n", "host-name_that.is-long"):
            self.assertRegex(message_id(fqdn, bytes(16), 1), rb"\A<[0-9A-Za-z]+@[!-=?-~]+>\Z")


class WordTests(SynchronousTestCase):
    @given(st.text(), st.text())
    def test_safe(self, one: str, other: str) -> None:
        """Neither a token nor a mailbox can end its line."""
        self.assertRegex(token_octets(one), rb"\A[!-~]*\Z")
        self.assertRegex(mailbox_octets(Mailbox(one, other)), rb"\A[ -~\x80-\xff]{0,512}\Z")
