"""
What ``twisted.mail.relaymanager.MXCalculator`` gets wrong, pinned.

Each test passes while upstream has the defect.  One that fails says that it has
been repaired, and that `mailhost.relay.mail_exchange` may have less to replace;
`tests.relay.test_mail_exchange` shows the same cases put right.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.mail.relaymanager import MXCalculator
from twisted.names import dns
from twisted.names.error import DNSNameError
from twisted.trial.unittest import SynchronousTestCase


class Records:
    """An ``IResolver`` that holds the MX records of example.com."""

    def __init__(self, *exchanges: tuple[int, str]) -> None:
        self.exchanges = exchanges
        self.hosts_asked: list[Any] = []

    def lookupMailExchange(self, name: str | bytes) -> Deferred[Any]:
        """The records."""
        answers = [
            dns.RRHeader("example.com", dns.MX, payload=dns.Record_MX(preference, host))
            for preference, host in self.exchanges
        ]
        return succeed((answers, [], []))

    def getHostByName(self, name: str | bytes) -> Deferred[str]:
        """An address, whatever the name."""
        self.hosts_asked.append(name)
        return succeed("192.0.2.1")


def calculator(*exchanges: tuple[int, str]) -> MXCalculator:
    return MXCalculator(Records(*exchanges), Clock())


class MXCalculatorTests(SynchronousTestCase):
    def test_works_at_all(self) -> None:
        """The calls used below are right: different preferences and text give the best host."""
        mx = self.successResultOf(
            calculator((20, "b.example"), (10, "a.example")).getMX("example.com")
        )
        self.assertEqual("a.example", str(mx.name))

    def test_equal_preferences(self) -> None:
        """Two hosts of equal preference cannot be sorted."""
        getting = calculator((10, "a.example"), (10, "b.example")).getMX("example.com")
        self.failureResultOf(getting, TypeError)

    def test_octets(self) -> None:
        """For a domain in octets, as documented, MX records are not found: its address is used."""
        records = Records((10, "a.example"))
        mx = self.successResultOf(MXCalculator(records, Clock()).getMX(b"example.com"))
        self.assertEqual("192.0.2.1", str(mx.name))
        self.assertEqual([b"example.com"], records.hosts_asked)

    def test_null_mx(self) -> None:
        """A null MX (RFC 7505) is given as a host without a name."""
        mx = self.successResultOf(calculator((0, "")).getMX("example.com"))
        self.assertEqual("", str(mx.name))

    def test_implicit_mx_is_an_address(self) -> None:
        """Without MX the host's name, which a certificate would be checked against, is lost."""
        mx = self.successResultOf(calculator().getMX("example.com"))
        self.assertEqual("192.0.2.1", str(mx.name))

    def test_no_domain(self) -> None:
        """A domain that does not exist is asked for its address all the same."""
        records = Records()
        records.lookupMailExchange = lambda name: _failed(DNSNameError(name))
        mx = self.successResultOf(MXCalculator(records, Clock()).getMX("example.com"))
        self.assertEqual("192.0.2.1", str(mx.name))

    def test_mark_octets_bad(self) -> None:
        """A host marked bad in octets, as documented, is used, and stays marked for ever."""
        mxs = calculator((10, "a.example"), (20, "b.example"))
        mxs.markBad(b"a.example")
        self.assertEqual("a.example", str(self.successResultOf(mxs.getMX("example.com")).name))
        mxs.markGood(b"a.example")
        self.assertEqual(1, len(mxs.badMXs))


def _failed(error: Exception) -> Deferred[Any]:
    failed: Deferred[Any] = Deferred()
    failed.errback(error)
    return failed
