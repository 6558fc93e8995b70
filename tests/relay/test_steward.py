"""Tests for `mailhost.relay.steward`: what operators do, and what is being sent meanwhile."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher

from mailhost.errors import SpoolProblem
from mailhost.logs import event_text
from mailhost.model.listing import QueueFilter
from mailhost.model.parameters import MailParameters
from mailhost.model.queue import HELD_AT, QueuedMessage
from mailhost.model.route import NextHop
from mailhost.model.schedule import DAY, MINUTE
from mailhost.relay.steward import Action, Done, Order
from tests.relay.test_manager import RelayTestCase
from tests.support.hosts import SILENT
from tests.support.world import make_settings


class StewardCase(RelayTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.lines: list[str] = []

        def hear(event: dict[str, Any]) -> None:
            self.lines.append(event_text(event))

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)

    def order(self, action: Action, *messages: QueuedMessage, **given: Any) -> Done:
        """Have *action* done to *messages*; the rest of what is given is a filter or an order."""
        orders = {name: given.pop(name) for name in ("host", "report") if name in given}
        ids = [one.queue_id for one in messages]
        asked = self.relay.steward.carry_out(
            Order(action, "olga", **orders), ids, QueueFilter(**given)
        )
        return self.successResultOf(Deferred.fromCoroutine(asked))

    def due_at(self, message: QueuedMessage) -> list[float]:
        stored = self.store.messages[message.key]
        return [one.due_at for one in stored.recipients.values()]

    def delayed(self, *paths: str) -> QueuedMessage:
        """A message that has failed once, since its site is down."""
        host = self.net.hosts.pop("192.0.2.1")
        message = self.submit(*(paths or ("bob@remote.example",)))
        self.net.hosts["192.0.2.1"] = host
        return message

    def outcomes(self, message: QueuedMessage) -> list[str]:
        """The log's lines about terminal outcomes of *message*."""
        words = (" failed ", " relayed ", " delivered ")
        return [
            line
            for line in self.lines
            if line.startswith(f"{message.queue_id}: to=") and any(word in line for word in words)
        ]


class IdleTests(StewardCase):
    def test_hold_and_release(self) -> None:
        """Held it is tried by nothing, however late; released it goes at once."""
        message = self.delayed()

        self.assertEqual(Done(1, 1), self.order(Action.HOLD, message))
        self.assertEqual([HELD_AT], self.due_at(message))
        self.run_for(3 * DAY)
        self.relay.checkState()
        self.run_for(1)
        self.assertEqual([], self.host.envelopes)
        self.assertEqual(Done(1, 1), self.order(Action.RELEASE, message))
        self.run_for(1)

        self.assertEqual(1, len(self.host.envelopes))
        self.assertIn(f"held by olga: {message.queue_id}", self.lines)
        self.assertIn(f"released by olga: {message.queue_id}", self.lines)

    def test_some_recipients(self) -> None:
        """Only those that are meant; the others go on."""
        self.names.exchanges["other.example"] = [(10, "mx2.remote.example")]
        second = self.net.hosts.pop("192.0.2.2")
        message = self.delayed("a@remote.example", "b@other.example")
        self.net.hosts["192.0.2.2"] = second

        self.assertEqual(Done(1, 1), self.order(Action.HOLD, message, domain="other.example"))
        self.run_for(16 * MINUTE)

        self.assertEqual((1, 0), (len(self.host.envelopes), len(self.second.envelopes)))
        self.assertEqual([HELD_AT], self.due_at(message))
        self.assertEqual(Done(1, 1), self.order(Action.DELETE, message))
        self.assertEqual({}, self.store.messages)

    def test_retry(self) -> None:
        """At once, and at a site that is suspended too."""
        self.net.hosts.clear()
        messages = [self.submit("bob@remote.example", run=False) for _ in range(6)]
        self.run_for(1)
        (site,) = self.relay.sites()
        self.assertIsNotNone(site.suspended_until)
        self.net.hosts["192.0.2.1"] = self.host

        self.assertEqual(Done(1, 1), self.order(Action.RETRY, messages[0]))
        self.run_for(1)

        self.assertEqual(1, len(self.host.envelopes))
        self.assertNotIn(messages[0].key, self.store.messages)

    def test_not_before_its_time(self) -> None:
        """What its sender wants sent later waits for that, retried and released (RFC 4865)."""
        message = self.delayed()
        later = self.clock.seconds() + 3 * DAY
        message.parameters = MailParameters(holduntil=later)

        self.order(Action.RETRY, message)
        self.assertEqual([later], self.due_at(message))
        self.order(Action.HOLD, message)
        self.order(Action.RELEASE, message)

        self.assertEqual([later], self.due_at(message))
        self.run_for(DAY)
        self.assertEqual([], self.host.envelopes)

    def test_retry_of_nothing(self) -> None:
        """Unknown, gone, or somebody else's: passed over."""
        message = self.delayed()
        self.order(Action.DELETE, message)

        self.assertEqual(Done(), self.order(Action.RETRY, message))
        self.assertEqual(Done(), self.order(Action.HOLD))

    def test_delete(self) -> None:
        """One terminal outcome for each recipient, in the log; nobody is told."""
        message = self.delayed("a@remote.example", "b@remote.example")

        self.assertEqual(Done(1, 2), self.order(Action.DELETE, message))
        self.run_for(DAY)

        (line,) = self.outcomes(message)
        self.assertIn("to=a@remote.example,b@remote.example failed 5.7.1: deleted", line)
        self.assertIn(f"deleted by olga: {message.queue_id}", self.lines)
        self.assertEqual(({}, []), (self.store.messages, self.shelf.taken))

    def test_delete_with_report(self) -> None:
        """The sender is told, as of every failure."""
        message = self.delayed()

        self.order(Action.DELETE, message, report=True)
        self.run_for(1)

        (report,) = self.reports()
        self.assertEqual("5.7.1", self.status_of(report)["Status"])
        self.assertEqual({}, self.store.messages)
        self.assertEqual(0, self.relay.pressure.queued)

    def test_delete_report_of_report(self) -> None:
        """What may not be returned goes to Badmail."""
        host = self.net.hosts.pop("192.0.2.1")
        message = self.submit("bob@remote.example", sender=None)
        self.net.hosts["192.0.2.1"] = host

        self.order(Action.DELETE, message, report=True)

        self.assertEqual(1, len(list(self.badmail.directory.glob("*.BDR"))))
        self.assertEqual({}, self.store.messages)

    def test_reroute(self) -> None:
        """To another host from the next attempt on, and back."""
        message, other = self.delayed(), self.delayed()
        there = NextHop("192.0.2.2", literal=True)

        self.assertEqual(Done(2, 2), self.order(Action.REROUTE, message, other, host=there))
        self.assertEqual(Done(1, 1), self.order(Action.REROUTE, other, host=None))
        self.run_for(16 * MINUTE)

        self.assertEqual((1, 1), (len(self.host.envelopes), len(self.second.envelopes)))

    def test_by_site(self) -> None:
        """By its key or a host of it, as the way is now."""
        self.names.exchanges["other.example"] = [(10, "mx2.remote.example")]
        self.net.hosts.pop("192.0.2.2")
        message = self.delayed("a@remote.example", "b@other.example", "c@nowhere.example")
        for expected, site in (
            ([], "mx3.remote.example"),
            (["a"], "MX1.remote.example"),
            (["b"], "mx2.remote.example"),
        ):
            chosen = self.successResultOf(
                Deferred.fromCoroutine(self.relay.steward.chosen([message], QueueFilter(site=site)))
            )
            found = [one.forward_path.local for _, them in chosen for one in them]
            self.assertEqual(expected, found, site)

    def test_store_that_fails(self) -> None:
        """It is told, nothing is changed, and the message goes on."""
        message = self.delayed()
        self.store.broken = True
        asked = self.relay.steward.carry_out(
            Order(Action.DELETE, "olga"), [message.queue_id], QueueFilter()
        )
        self.failureResultOf(Deferred.fromCoroutine(asked), SpoolProblem)
        self.store.broken = False
        self.assertEqual([], self.outcomes(message))

        self.run_for(16 * MINUTE)

        self.assertEqual(1, len(self.host.envelopes))


class BusyTests(StewardCase):
    def setUp(self) -> None:
        super().setUp()
        settings = make_settings()
        connections = evolve(settings.delivery.connections, max_per_domain=1, first_per_domain=1)
        delivery = evolve(settings.delivery, connections=connections)
        self.relay = self.make_relay(evolve(settings, delivery=delivery))
        self.host.says["DATA"] = SILENT
        self.sending = self.submit("slow@remote.example")
        self.waiting = self.submit("a@remote.example", "b@remote.example")

    def go_on(self) -> None:
        """We lose our patience with the peer, who takes everything from now on."""
        del self.host.says["DATA"]
        self.run_for(600)
        self.run_for(16 * MINUTE)

    def test_what_is_sent_is_left_alone(self) -> None:
        """Said so, and its only outcome is that of its attempt."""
        for action in Action:
            done = self.order(action, self.sending)
            self.assertEqual(Done(0, 0, 1, 1), done, action)
        self.go_on()

        (line,) = self.outcomes(self.sending)
        self.assertIn(" relayed ", line)

    def test_what_waits_is_held(self) -> None:
        """It leaves the line for a connection; the other recipient stays in it."""
        done = self.order(Action.HOLD, self.waiting, recipient="a@*")

        self.assertEqual(Done(1, 1), done)
        self.go_on()
        rcpts = [line for _, told, _ in self.host.envelopes for line in told]
        self.assertIn("RCPT TO:<b@remote.example>", rcpts)
        self.assertNotIn("RCPT TO:<a@remote.example>", rcpts)
        self.assertEqual([HELD_AT], self.due_at(self.waiting))

    def test_what_waits_is_deleted(self) -> None:
        """Whole, with its one outcome each."""
        self.assertEqual(Done(1, 2), self.order(Action.DELETE, self.waiting))

        self.assertNotIn(self.waiting.key, self.store.messages)
        self.go_on()
        self.assertEqual(1, len(self.outcomes(self.waiting)))
        self.assertEqual({}, self.store.messages)
        self.assertEqual(0, self.relay.pressure.active)

    def test_what_waits_is_rerouted(self) -> None:
        """It goes to the other host without waiting any longer."""
        there = NextHop("192.0.2.2", literal=True)

        self.assertEqual(Done(1, 2), self.order(Action.REROUTE, self.waiting, host=there))
        self.run_for(1)

        self.assertEqual(2, len(self.second.envelopes[0][1]))
        self.go_on()
        self.assertEqual({}, self.store.messages)

    def test_store_that_fails(self) -> None:
        """What was taken out of the line is in it again."""
        self.store.broken = True
        asked = self.relay.steward.carry_out(
            Order(Action.DELETE, "olga"), [self.waiting.queue_id], QueueFilter()
        )
        self.failureResultOf(Deferred.fromCoroutine(asked), SpoolProblem)
        self.store.broken = False

        self.go_on()

        self.assertEqual({}, self.store.messages)
        self.assertEqual(1, len(self.outcomes(self.waiting)))

    def test_held_one_of_a_message_in_work(self) -> None:
        """It is in no attempt, so it can be released, and goes too."""
        self.order(Action.HOLD, self.waiting, recipient="a@*")

        self.assertEqual(Done(1, 1, 0, 0), self.order(Action.RELEASE, self.waiting, held=True))
        self.go_on()

        self.assertEqual({}, self.store.messages)

    def test_two_orders_at_once(self) -> None:
        """The second finds it reserved, and a load that is under way does not bring it."""
        message = self.delayed_elsewhere()
        loading: Deferred[list[QueuedMessage]] = Deferred()
        self.store.slow = lambda *given: loading
        self.relay.checkState()

        self.assertEqual(Done(1, 1), self.order(Action.HOLD, message))
        self.store.slow = None
        loading.callback([message])

        self.assertNotIn(message.key, self.relay._window)

    def delayed_elsewhere(self) -> QueuedMessage:
        self.names.exchanges["third.example"] = [(10, "mx2.remote.example")]
        second = self.net.hosts.pop("192.0.2.2")
        message = self.submit("x@third.example")
        self.net.hosts["192.0.2.2"] = second
        return message
