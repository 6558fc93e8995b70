"""Tests for `mailhost.server.pulse`."""

from __future__ import annotations

import threading
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mailhost.logs import event_text
from mailhost.server.pulse import BEAT_SECONDS, TELL_AGAIN_SECONDS, Pulse


class PulseTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.pulse = Pulse(self.clock)
        self.lines: list[str] = []

        def hear(event: dict[str, Any]) -> None:
            if "stood still" in event_text(event):
                self.lines.append(event_text(event))

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)

    def start(self) -> None:
        self.pulse.start()
        self.addCleanup(self.pulse.stop)

    def test_in_time(self) -> None:
        """Who comes when he is asked is not late, and nothing is said."""
        self.start()
        self.clock.pump([BEAT_SECONDS] * 8)
        self.assertEqual((8, 0), (self.pulse.lateness.counts[0], self.pulse.stalls))
        self.assertEqual([], self.lines)

    def test_late(self) -> None:
        """A turn that took too long is counted, and told once a minute."""
        self.start()
        for _ in range(3):
            self.clock.advance(BEAT_SECONDS + 0.3)
        self.assertEqual(3, self.pulse.stalls)
        self.assertAlmostEqual(0.9, self.pulse.lateness.total)
        self.assertEqual(1, len(self.lines))
        self.clock.pump([BEAT_SECONDS] * int(TELL_AGAIN_SECONDS / BEAT_SECONDS))
        self.clock.advance(BEAT_SECONDS + 0.3)
        self.assertEqual(2, len(self.lines))

    def test_what_it_is_in_the_middle_of(self) -> None:
        """The stack of the thread that does not come, as it is then."""
        self.start()
        here = threading.get_ident()

        def compute_for_long() -> None:
            self.clock.rightNow += BEAT_SECONDS + 0.3
            looking = threading.Thread(target=self.pulse.look, args=(here,))
            looking.start()
            looking.join()

        compute_for_long()
        self.clock.advance(0)

        (line,) = self.lines
        self.assertIn("stood still for 0.30 s", line)
        self.assertIn("in compute_for_long", line)

    def test_stopped(self) -> None:
        """Nothing is left behind."""
        self.pulse.start()
        self.pulse.stop()
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertNotIn("pulse", [one.name for one in threading.enumerate()])
