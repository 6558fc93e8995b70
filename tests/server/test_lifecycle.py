"""Tests for `mailhost.server.lifecycle`."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailhost.server.lifecycle import Parts, make_lifecycle


class LifecycleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.log: list[str] = []
        self.closed: Deferred[None] = Deferred()
        self.life = make_lifecycle(
            Parts(
                lambda: self.log.append("unlisten"),
                lambda: self.closed,
                [],
            )
        )

    def test_pause_and_go_on(self) -> None:
        """SES-04: pausing only closes the door, once; asking twice changes nothing."""
        self.life.pause()
        self.life.start(), self.life.start()
        self.life.pause(), self.life.pause()
        state = self.life.state()
        self.life.start()

        self.assertEqual(["unlisten"], self.log)
        self.assertEqual(("paused", "running"), (state, self.life.state()))

    def test_stop(self) -> None:
        """Everybody who asked for the stop hears of its end."""
        self.life.start()
        first, second = self.life.stop(), self.life.stop()
        self.life.start()
        self.assertEqual("stopping", self.life.state())
        self.assertNoResult(first)
        states: list[str] = []
        first.addCallback(lambda nothing: states.append(self.life.state()))

        self.closed.callback(None)

        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(["stopped"], states)
        self.assertEqual(["unlisten"], self.log)

    def test_stop_when_paused(self) -> None:
        """The door is closed already; the rest closes too."""
        self.life.start()
        self.life.pause()
        stopping = self.life.stop()
        self.closed.callback(None)

        self.successResultOf(stopping)
        self.assertEqual(1, self.log.count("unlisten"))

    def test_stop_when_stopped(self) -> None:
        """Nothing to do, and done."""
        self.successResultOf(self.life.stop())
