"""A connection goes on, or ends and gives its slot back, whatever a step of it comes to."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from attrs import evolve
from twisted.internet.defer import Deferred

from mailhost.errors import SpoolProblem
from mailhost.relay.connection import IDLE_SECONDS
from mailhost.spool.memory import MemoryQueue
from tests.relay.peers import SchedulingTestCase, Session
from tests.support.world import make_settings

KEY = "mx.one.example"


class StepTests(SchedulingTestCase):
    def _nothing_open(self) -> None:
        self.assertEqual(0, sum(self.peers.open_now.values()))
        self.assertEqual(0, self.relay._slots.open_count)

    def test_goodbye(self) -> None:
        """The slot is given back when the connection is closed, not when QUIT is sent."""
        settings = make_settings()
        connections = evolve(settings.delivery.connections, max=1, max_per_domain=1)
        delivery = evolve(settings.delivery, connections=connections)
        messages = evolve(settings.messages, max_messages_per_connection=1)
        self.relay = self.make_relay(evolve(settings, delivery=delivery, messages=messages))
        self.peers.goodbye_seconds = 5.0
        for domain in ("one", "two", "one"):
            self.commit(f"x@{domain}.example")
        self.run_for(4)
        self.assertEqual(1, len(self.peers.taken))
        self.run_for(20)
        self.assertEqual((3, 1), (len(self.peers.taken), self.peers.most_in_all))
        self._nothing_open()

    def test_content_that_comes_later(self) -> None:
        coming: Deferred[Any] = Deferred()
        opened = self.store.open_content
        with patch.object(MemoryQueue, "open_content", lambda store, message: coming):
            message = self.commit("x@one.example")
            self.run_for(1)
        self.assertEqual(0, self.peers.count(KEY))
        coming.callback(opened(message))
        self.run_for(1)
        self.assertEqual(1, self.peers.count(KEY))
        self.commit("y@one.example")
        self.run_for(1)
        self.assertEqual(1, self.peers.opened[KEY])
        self.assertEqual(2, self.peers.count(KEY))

    def test_content_that_does_not_come(self) -> None:
        coming: Deferred[Any] = Deferred()
        with patch.object(MemoryQueue, "open_content", lambda store, message: coming):
            self.commit("x@one.example")
            self.run_for(1)
            coming.errback(SpoolProblem("not now"))
        self.commit("y@one.example")
        self.run_for(2)
        self.assertEqual(1, self.peers.count(KEY))
        self.assertEqual({1: 1}, self.attempts())

    def test_nobody_has_foreseen_it(self) -> None:
        """P4: what is not foreseen is a delay; the connection is given up."""

        def stumbles(*arguments: Any) -> None:
            raise ZeroDivisionError

        for where, name in ((MemoryQueue, "open_content"), (Session, "send")):
            with self.subTest(name=name):
                with patch.object(where, name, stumbles):
                    self.commit("x@one.example")
                    self.run_for(1)
                self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
                self.assertEqual({1: 1}, self.attempts())
                self._nothing_open()
                self.run_for(3600, 60)
                self.assertEqual({}, self.attempts())

    def test_outcome_that_nobody_takes(self) -> None:
        def stumbles(*arguments: Any) -> None:
            raise ZeroDivisionError

        with patch("mailhost.relay.connection.transcript_outcomes", stumbles):
            self.commit("x@one.example")
            self.run_for(1)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self._nothing_open()

    def test_idle(self) -> None:
        self.commit("x@one.example")
        self.run_for(IDLE_SECONDS - 1)
        self.assertEqual(1, self.peers.open_now[KEY])
        self.run_for(3)
        self._nothing_open()
