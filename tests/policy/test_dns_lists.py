"""Tests for `mailhost.policy.dns_lists`."""

from __future__ import annotations

from ipaddress import ip_network

from twisted.trial.unittest import SynchronousTestCase

from mailhost.model.dns_list import DNSList
from mailhost.policy.dns_lists import check_listed, is_entry, name_in


class NameTests(SynchronousTestCase):
    def test_names(self) -> None:
        """RFC 5782 §2.1 and §2.4: octets or nibbles, turned round."""
        six = "1." + "0." * 23 + "8.b.d.0.1.0.0.2.bl.example"
        self.assertEqual("99.2.0.192.bl.example", name_in("192.0.2.99", "bl.example"))
        self.assertEqual("99.2.0.192.bl.example", name_in("::ffff:192.0.2.99", "bl.example"))
        self.assertEqual(six, name_in("2001:db8::1%eth0", "bl.example"))
        self.assertIsNone(name_in("somewhere", "bl.example"))


class EntryTests(SynchronousTestCase):
    def test_answers(self) -> None:
        """Any of 127.0.0.0/8, but not what refuses the question, nor an address for sale."""
        plain = DNSList("bl.example", 1)
        few = DNSList("bl.example", 1, (ip_network("127.0.0.2"), ip_network("127.0.1.0/24")))
        for answers, in_plain, in_few in (
            (["127.0.0.2"], True, True),
            (["127.0.0.10"], True, False),
            (["127.0.0.10", "127.0.1.9"], True, True),
            (["127.255.255.254"], False, False),
            (["203.0.113.1"], False, False),
            ([], False, False),
        ):
            self.assertEqual(in_plain, is_entry(plain, answers), answers)
            self.assertEqual(in_few, is_entry(few, answers), answers)


class ScoreTests(SynchronousTestCase):
    def test_scores(self) -> None:
        """They are added; only lists that speak against the client are named."""
        bad, worse, good = (
            DNSList("a.example", 1),
            DNSList("b.example", 3),
            DNSList("w.example", -2),
        )
        self.assertIsNone(check_listed("192.0.2.7", [], 1, 550))
        self.assertIsNone(check_listed("192.0.2.7", [bad, worse, good], 3, 550))
        refused = check_listed("192.0.2.7", [bad, worse, good], 2, 550)
        assert refused is not None
        self.assertTrue(str(refused).startswith("550 5.7.1"))
        self.assertTrue(str(refused).endswith("192.0.2.7 in a.example, b.example"))
