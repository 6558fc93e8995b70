"""Tests for `mailhost.relay.dispatch`: recipients to sites, while DNS is cold."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from mailhost.config.settings import DomainSettings, QueueKeys
from mailhost.errors import ResolveProblem
from mailhost.model.rate import Rate, RateLimits
from tests.relay.test_manager import RelayTestCase
from tests.support.world import make_settings

MX = [(10, "mx1.remote.example")]


class ColdTests(RelayTestCase):
    def cold(self, *domains: str) -> list[Deferred[Any]]:
        """*domains* are being looked up; each answer comes when its Deferred fires."""
        asked: list[Deferred[Any]] = [Deferred() for _ in domains]
        self.names.exchanges.update(zip(domains, asked, strict=True))
        return asked

    def sizes(self) -> list[int]:
        """How many recipients each transaction had."""
        return [len(rcpts) for _, rcpts, _ in self.host.envelopes]

    def test_two_domains_of_one_site(self) -> None:
        """One transaction, though the answers come one after the other."""
        first, second = self.cold("a.example", "b.example")
        self.submit("x@a.example", "y@b.example", run=False)
        first.callback(MX)
        self.run_for(0.5)
        early = self.sizes()
        second.callback(MX)
        self.run_for(0.1)

        self.assertEqual(([], [2]), (early, self.sizes()))

    def test_with_one_that_is_known(self) -> None:
        """A domain that is in the cache waits for the others of its message too."""
        (cold,) = self.cold("a.example")
        self.submit("x@a.example", "y@remote.example", run=False)
        cold.callback(MX)
        self.run_for(0.1)

        self.assertEqual([2], self.sizes())

    def test_not_for_ever(self) -> None:
        """Who is known goes after a second; the slow one follows when it is known."""
        first, second, slow = self.cold("a.example", "b.example", "c.example")
        self.submit("x@a.example", "y@b.example", "z@c.example", run=False)
        first.callback(MX)
        second.callback(MX)
        self.run_for(1.5)
        early = self.sizes()
        slow.callback(MX)
        self.run_for(1)

        self.assertEqual(([2], [2, 1]), (early, self.sizes()))
        self.assertEqual({}, self.store.messages)

    def test_one_that_fails(self) -> None:
        """A domain that does not exist fails, and holds up nobody."""
        first, second = self.cold("a.example", "b.example")
        self.submit("x@a.example", "y@b.example", run=False)
        second.errback(ResolveProblem("5.1.2", "no such domain"))
        first.callback(MX)
        self.run_for(1)

        self.assertEqual([1], self.sizes())
        self.assertEqual("5.1.2", self.status_of(self.reports()[0])["Status"])
        self.assertEqual({}, self.store.messages)

    def test_a_domain_that_dns_does_not_answer_for(self) -> None:
        """Its mail takes no more than its share of the window, and is not attempted."""
        self.relay.configure(evolve(self.relay._terms, queue=QueueKeys(100)))
        self.cold("slow.example")
        messages = [self.submit("x@slow.example", run=False) for _ in range(200)]
        self.run_for(0.1)
        active = len(self.relay._window)
        self.submit("y@remote.example")

        self.assertTrue(40 <= active <= 60, active)
        self.assertEqual([1], self.sizes())
        self.assertEqual({0}, {r.attempts for m in messages for r in m.recipients.values()})

    def test_other_rates_are_another_transaction(self) -> None:
        """Recipients whose domains have rates of their own are not mixed with others."""
        domain = DomainSettings(
            name="a.example", type="remote", rates=RateLimits(messages=Rate(1000, 1))
        )
        self.names.exchanges.update({"a.example": MX, "b.example": MX})
        self.relay = self.make_relay(make_settings(domains=(domain,)))
        self.submit("x@a.example", "y@b.example", "z@remote.example")

        self.assertEqual([1, 2], sorted(self.sizes()))

    def test_doubt_is_told_later(self) -> None:
        """P3: the log line, the store and the report at the expiry speak of it."""
        self.host.says["."] = "hang up"
        message = self.submit("a@remote.example")
        (recipient,) = message.recipients.values()
        in_doubt = recipient.in_doubt
        del self.net.hosts["192.0.2.1"]
        for _ in range(50):
            self.run_for(3600)

        self.assertTrue(in_doubt)
        texts = [report.as_string() for report in self.reports()]
        self.assertEqual(2, len(texts))
        for text in texts:
            self.assertIn("in doubt since an earlier attempt", text)
