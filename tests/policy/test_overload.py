"""Tests for `mailhost.policy.overload`: up at once, down slowly."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailhost.policy.overload import CALM_SECONDS, Level, Load, Overload


def load(value: float, name: str = "memory") -> Load:
    return Load(name, value, (80, 90, 100), f"overload.{name}", f"{value} of 100")


class OverloadTests(SynchronousTestCase):
    def test_up_at_once(self) -> None:
        """The worst of all loads decides, and is the cause."""
        overload = Overload()
        self.assertFalse(overload.weigh((load(79), load(10, "disk")), 0))
        for value, level in ((80, Level.HASTY), (95, Level.CLOSED), (100, Level.FULL)):
            self.assertTrue(overload.weigh((load(79), load(value, "disk")), 0))
            self.assertIs(level, overload.level)
        assert overload.cause is not None
        self.assertEqual("disk", overload.cause.name)

    def test_down_slowly(self) -> None:
        """One level at a time, each after a calm."""
        overload, levels = Overload(), []
        overload.weigh((load(100),), 0)
        for now in range(0, 50, 5):
            overload.weigh((load(10),), now)
            levels.append(int(overload.level))
        self.assertEqual([3, 3, 2, 2, 1, 1, 0, 0, 0, 0], levels)
        self.assertIsNone(overload.cause)

    def test_hysteresis(self) -> None:
        """A little less than too much is no calm; a peak in the calm begins it anew."""
        overload = Overload()
        overload.weigh((load(80),), 0)
        self.assertFalse(overload.weigh((load(73),), 100))
        self.assertFalse(overload.weigh((load(71),), 100 + CALM_SECONDS - 1))
        self.assertFalse(overload.weigh((load(75),), 110))
        self.assertFalse(overload.weigh((load(71),), 115))
        self.assertTrue(overload.weigh((load(71),), 120))
        self.assertIs(Level.NORMAL, overload.level)

    def test_a_load_without_levels(self) -> None:
        """Sessions alone never close the door: max_connections does."""
        sessions = Load("sessions", 99, (80, None, None), "overload.sessions", "99 of 100")
        self.assertIs(Level.HASTY, sessions.level())
