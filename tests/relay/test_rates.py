"""Tests for `mailhost.relay.rates`."""

from __future__ import annotations

from attrs import define, field
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.model.rate import Rate, RateLimits
from mailhost.relay.rates import Charge, RateGate

ONE = Charge(1, 0, 1)


@define(eq=False)
class Sender:
    """Sends as much as the gate lets through."""

    gate: RateGate
    charge: Charge = field(factory=lambda: ONE)
    left: int = 1_000_000
    sent: list[float] = field(factory=list)

    def go(self) -> None:
        while self.left:
            if self.gate.find_wait(self, self.charge) is not None:
                self.gate.line_up(self, self.go, self.charge)
                return
            self.gate.take(self, self.charge)
            self.left -= 1
            self.sent.append(self.gate.clock.seconds())


class RateGateTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000_000)
        self.gate = RateGate(self.clock, "delivery.rates")

    def run_for(self, seconds: float) -> None:
        for _ in range(int(seconds * 10)):
            self.clock.advance(0.1)

    def test_open(self) -> None:
        """Without rates nothing waits."""
        self.gate.configure(RateLimits())

        self.assertTrue(self.gate.is_open)
        self.assertIsNone(self.gate.find_wait(self, ONE))

    def test_evenly(self) -> None:
        """Ten in a minute are one every six seconds, also at the beginning."""
        self.gate.configure(RateLimits(Rate(10, 60)))
        sender = Sender(self.gate)
        sender.go()
        self.run_for(61)

        gaps = [b - a for a, b in zip(sender.sent, sender.sent[1:], strict=False)]
        self.assertEqual(11, len(sender.sent))
        self.assertTrue(all(5.9 <= gap <= 6.2 for gap in gaps), gaps)

    def test_unused_time_is_not_saved(self) -> None:
        """After a quiet hour no more than a second's share goes at once."""
        self.gate.configure(RateLimits(Rate(300, 60)))
        self.run_for(3600)
        sender = Sender(self.gate)
        sender.go()

        self.assertEqual(5, len(sender.sent))

    def test_reason(self) -> None:
        """A wait names the rate, its setting and the time."""
        self.gate.configure(RateLimits(Rate(10, 60)))
        Sender(self.gate).go()
        wait = self.gate.find_wait(self, ONE)
        assert wait is not None and wait.until is not None

        self.assertEqual(("10/1m messages", "delivery.rates.messages"), (wait.reason, wait.setting))
        self.assertApproximates(1_000_000_006, wait.until, 0.01)

    def test_the_slowest_decides(self) -> None:
        """Of several rates the one that takes longest is named."""
        self.gate.configure(RateLimits(Rate(10, 1), None, Rate(1, 60)))
        sender = Sender(self.gate)
        sender.go()
        self.run_for(1)
        wait = self.gate.find_wait(sender, ONE)

        assert wait is not None
        self.assertEqual("delivery.rates.recipients", wait.setting)

    def test_turns(self) -> None:
        """Those who wait take turns; who comes later does not overtake."""
        self.gate.configure(RateLimits(Rate(60, 60)))
        senders = [Sender(self.gate) for _ in range(3)]
        for sender in senders:
            sender.go()
        self.run_for(30)
        late = Sender(self.gate)
        late.go()
        self.run_for(0.5)

        counts = [len(sender.sent) for sender in senders]
        self.assertLessEqual(max(counts) - min(counts), 1)
        self.assertEqual([], late.sent)

    def test_who_leaves_holds_nobody_up(self) -> None:
        """The line goes on without those who want nothing any more."""
        self.gate.configure(RateLimits(Rate(1, 1)))
        first, second, third = (Sender(self.gate, left=1) for _ in range(3))
        first.go(), second.go(), third.go()
        second.left = 0
        self.gate.leave(second)
        self.run_for(1.2)

        self.assertEqual(1, len(third.sent))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_one_timer(self) -> None:
        """However many wait, one timer runs."""
        self.gate.configure(RateLimits(Rate(1, 1)))
        for _ in range(50):
            Sender(self.gate).go()
        counts = set()
        for _ in range(20):
            self.run_for(1)
            counts.add(len(self.clock.getDelayedCalls()))

        self.assertEqual({1}, counts)

    def test_given_back(self) -> None:
        """What was not used can be had by the next."""
        self.gate.configure(RateLimits(connections=Rate(1, 60)))
        charge = Charge(1, 1, 1)
        self.gate.take(self, charge)
        self.gate.give_back(Charge(0, 1, 0))

        self.assertIsNone(self.gate.find_wait(self, charge))


class RateTests(SynchronousTestCase):
    def test_words(self) -> None:
        """A rate is written as an operator writes it."""
        rates = [Rate(100, 60), Rate(20, 1), Rate(5, 3600), Rate(1, 86400), Rate(7, 90)]

        self.assertEqual(["100/1m", "20/1s", "5/1h", "1/1d", "7/90s"], list(map(str, rates)))
        with self.assertRaises(ValueError):
            Rate(0, 1)
