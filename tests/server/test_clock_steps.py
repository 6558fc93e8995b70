"""The clock of the machine is set by a day, either way, while the server runs."""

from __future__ import annotations

import time
from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mailhost.model.outcome import Fate, Outcome
from mailhost.model.rate import Rate, RateLimits
from mailhost.net.deadlines import Deadlines, steady_seconds
from mailhost.policy.overload import CALM_SECONDS, Level, Load, Overload
from mailhost.relay.rates import Charge, RateGate
from mailhost.relay.suspension import Suspensions
from mailhost.server.clock_steps import ClockSteps

DAY = 86400.0


class Machine(Clock):
    """A clock that can be set, and one that cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.rightNow = 1_000_000_000.0
        self._set = 0.0

    def set(self, seconds: float) -> None:
        self.rightNow += seconds
        self._set += seconds

    def steady_seconds(self) -> float:
        return self.seconds() - 1_000_000_000.0 - self._set

    def callFromThread(self, function: Any, *given: Any) -> None:
        function(*given)


class Patient:
    """Waits for ten seconds."""

    def __init__(self, deadlines: Deadlines) -> None:
        self.deadline_at = deadlines.seconds() + 10
        self.expired = 0
        deadlines.watch(self)

    def expire(self) -> None:
        self.expired += 1
        self.deadline_at += 1000


class ClockTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.machine = Machine()
        self.steps = ClockSteps(self.machine, self.machine.steady_seconds)
        self.said: list[str] = []

    def plan(self, seconds: float, what: str) -> None:
        self.machine.callLater(seconds, self.said.append, what)


class TimerTests(ClockTestCase):
    def test_back(self) -> None:
        """What was planned in a minute comes in a minute, not in a day; once."""
        self.plan(60, "retry"), self.plan(0, "now"), self.plan(2 * DAY, "expiry")
        self.machine.set(-DAY)
        self.plan(5, "planned after it")
        self.steps.look()

        self.machine.advance(0)
        self.assertEqual(["now"], self.said)
        self.machine.pump([1.0] * 61)
        self.assertEqual(["now", "planned after it", "retry"], self.said)
        self.machine.pump([3600.0] * 48)
        self.assertEqual("expiry", self.said[-1])

    def test_forward(self) -> None:
        """Nothing is moved: what is early asks again when it is due."""
        self.plan(2 * DAY, "expiry")
        self.machine.set(DAY)
        self.steps.look()

        self.machine.advance(DAY + 1)
        self.assertEqual(["expiry"], self.said)

    def test_drift(self) -> None:
        """A clock that is brought into line little by little is never set."""
        events: list[str] = []
        observer = lambda event: events.append(formatEvent(event))  # noqa: E731  # removed below
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.plan(1000, "later")
        for _ in range(100):
            self.machine.set(-0.5)
            self.steps.look()
        self.assertEqual([], events)
        self.assertEqual(1050.0, self.machine.calls[0].getTime() - self.machine.seconds())

        self.machine.set(-DAY)
        self.steps.look()
        self.assertEqual(["The clock of the machine was set back by 86400 s"], events)


class PatienceTests(ClockTestCase):
    def test_deadlines(self) -> None:
        """Nobody's patience ends by it, nor lasts longer."""
        for step in (DAY, -DAY):
            deadlines = Deadlines(self.machine)
            client = Patient(deadlines)
            self.machine.set(step)
            self.steps.look()
            self.machine.pump([1.0] * 9)
            early = client.expired
            self.machine.pump([1.0] * 3)

            self.assertEqual((0, 1), (early, client.expired), step)
            deadlines.forget(client)

    def test_of_a_reactor(self) -> None:
        """A reactor's own waits are measured by a clock that cannot be set."""
        self.assertIs(time.monotonic, steady_seconds(reactor))
        clock = Clock()
        self.assertEqual(clock.seconds, steady_seconds(clock))


class RelayTests(ClockTestCase):
    def test_rates(self) -> None:
        """What may leave once in ten seconds leaves ten seconds later, not a day."""
        gate = RateGate(self.machine, "delivery.rates")
        gate.configure(RateLimits(Rate(6, 60)))
        gate.take(self, Charge(1))
        self.machine.set(-DAY)

        wait = gate.find_wait(self, Charge(1))
        assert wait is not None and wait.until is not None
        self.assertAlmostEqual(10, wait.until - self.machine.seconds(), places=3)
        self.machine.advance(10)
        self.assertIsNone(gate.find_wait(self, Charge(1)))

    def test_suspension(self) -> None:
        """A site is not left alone for a day longer than the longest suspension."""
        known = Suspensions(60, 3600, Random(7))
        known.suspend("mx.example", Outcome(Fate.DELAYED, "4.4.1", "no"), self.machine.seconds())
        self.assertIsNotNone(known.in_force("mx.example", self.machine.seconds()))

        self.machine.set(-DAY)
        self.assertIsNone(known.in_force("mx.example", self.machine.seconds()))
        self.assertEqual({}, known.all_in_force(self.machine.seconds()))

    def test_overload(self) -> None:
        """What is given up because of too much is taken up again in time."""
        overload = Overload()
        much = Load("lag", 9.0, (2.0, 4.0, 8.0), "overload.lag", "9 s late")
        overload.weigh((much,), self.machine.seconds())
        self.assertIs(Level.FULL, overload.level)
        self.machine.set(-DAY)
        for _ in range(3):
            overload.weigh((), self.machine.seconds())
            self.machine.advance(CALM_SECONDS)

        self.assertIs(Level.NORMAL, overload.level)
