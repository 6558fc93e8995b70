"""What the relay tells of the life of a message."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from mailhost.model.listing import QueueFilter
from mailhost.model.queue import QueuedMessage
from mailhost.model.schedule import HOUR, MINUTE
from mailhost.relay.manager import RelayManager
from mailhost.relay.steward import Action, Order
from mailhost.traces.events import Event, TracedEvent, row
from mailhost.traces.tracer import Tracer
from tests.relay.test_manager import RelayTestCase
from tests.support.hosts import HANG_UP
from tests.support.world import make_settings


class Notebook(Tracer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(on=True)
        self.events: list[TracedEvent] = []

    def note(self, event: Event) -> None:
        *facts, due_at, other, dialogue = row(event)
        made: Any = TracedEvent
        self.events.append(made(*facts, due_at or None, other, dialogue))


class TracingTests(RelayTestCase):
    def make_relay(self, settings: Any, **told: Any) -> RelayManager:
        self.notes = Notebook()
        return super().make_relay(settings, tracer=self.notes, **told)

    def of(self, message: QueuedMessage) -> list[TracedEvent]:
        return [one for one in self.notes.events if one.id == message.queue_id]

    def test_relayed(self) -> None:
        """The outcome says it all."""
        message = self.submit("bob@remote.example")

        (outcome,) = self.of(message)
        self.assertEqual(
            ("mx1.remote.example [192.0.2.1]", None, ""),
            (outcome.peer, outcome.due_at, outcome.dialogue),
        )
        self.assertEqual(("relayed", "bob@remote.example"), (outcome.kind, outcome.paths))
        self.assertEqual("2.0.0 250 2.0.0 taken", outcome.words)

    def test_delayed_twice_half_refused_and_reported(self) -> None:
        """The whole life: why it waited, until when, what the host said, who was told."""
        host = self.net.hosts.pop("192.0.2.1")
        message = self.submit("a@remote.example", "b@remote.example")
        self.net.hosts["192.0.2.1"] = host
        host.says["MAIL"] = "451 4.3.0 not now"
        self.run_for(15 * MINUTE + 1)
        del host.says["MAIL"]
        host.says["RCPT TO:<b@remote.example>"] = "550 5.1.1 nobody"
        self.run_for(30 * MINUTE + 1)

        told = [(one.kind, one.paths) for one in self.of(message)]
        both = "a@remote.example,b@remote.example"
        self.assertEqual(
            [
                ("attempt", both),
                ("delayed", both),
                ("attempt", both),
                ("delayed", both),
                ("attempt", both),
                ("relayed", "a@remote.example"),
                ("failed", "b@remote.example"),
            ],
            told,
        )
        first, delayed, second, _, third, _, failed = self.of(message)
        self.assertIn("refused", first.words)
        self.assertAlmostEqual(15 * MINUTE, (delayed.due_at or 0) - delayed.at, delta=5)
        self.assertIn("C: MAIL FROM:<alice@example.com>", second.dialogue)
        self.assertIn("S: 451 4.3.0 not now", second.dialogue)
        self.assertIn("C: RCPT TO:<b@remote.example>", third.dialogue)
        self.assertIn("C: (content)", third.dialogue)
        self.assertNotIn("Subject", third.dialogue)
        self.assertIn("550 5.1.1 nobody", failed.words)
        (report,) = [one for one in self.notes.events if one.kind == "report"]
        self.assertEqual(message.queue_id, report.other)

    def test_in_doubt(self) -> None:
        """P3: the trace says so."""
        self.host.says["."] = HANG_UP

        message = self.submit("bob@remote.example")

        attempt, outcome = self.of(message)
        self.assertIn("connection lost", attempt.words)
        self.assertIn("4.4.2 (in doubt)", outcome.words)

    def test_waits(self) -> None:
        """Mail for a suspended site waits without an attempt, and that is told."""
        self.net.hosts.clear()
        for _ in range(6):
            self.submit("bob@remote.example", run=False)
        self.run_for(1)

        message = self.submit("bob@remote.example")

        (wait,) = self.of(message)
        self.assertEqual("wait", wait.kind)
        self.assertIn("no attempt before", wait.words)
        self.assertGreater(wait.due_at or 0, wait.at)

    def test_operators(self) -> None:
        """What they did, and who."""
        host = self.net.hosts.pop("192.0.2.1")
        message = self.submit("bob@remote.example")
        self.net.hosts["192.0.2.1"] = host
        for action in (Action.HOLD, Action.DELETE):
            order = Order(action, "olga")
            done = self.relay.steward.carry_out(order, [message.queue_id], QueueFilter())
            self.successResultOf(Deferred.fromCoroutine(done))

        told = [(one.kind, one.words) for one in self.of(message)[-3:]]
        self.assertEqual(("held", "by olga"), told[0])
        self.assertEqual(("failed", "5.7.1 deleted by an operator"), told[1])
        self.assertEqual(("deleted", "by olga"), told[2])

    def test_badmail(self) -> None:
        """What could not be returned."""
        self.host.says["RCPT"] = "550 5.1.1 nobody"
        message = self.submit("bob@remote.example", sender=None)
        self.assertIn("to Badmail as ", self.of(message)[-1].words + self.of(message)[-2].words)

    def test_expired(self) -> None:
        """The end of a long wait."""
        settings = make_settings()
        self.relay = self.make_relay(evolve(settings))
        self.net.hosts.clear()
        message = self.submit("bob@remote.example")
        for _ in range(13):
            self.run_for(4 * HOUR)

        self.assertEqual("failed", self.of(message)[-1].kind)
        self.assertIn("delivery time expired", self.of(message)[-1].words)
