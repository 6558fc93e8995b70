"""How many lines of the log a message is worth, and what is in them."""

from __future__ import annotations

from typing import Any

from twisted.logger import LogLevel, globalLogPublisher

from mailhost.logs import event_facts, event_text
from mailhost.model.schedule import MINUTE
from tests.relay.test_manager import RelayTestCase
from tests.support.hosts import Host

#: Of these the acceptance has one, in the room that takes the message.
MOST_LINES = 6 - 1


class VolumeTests(RelayTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.hosts = [self.site(number) for number in range(12)]

    def site(self, number: int) -> Host:
        """One more host, for a domain of its own."""
        name, address = f"mx.site{number}.example", f"198.51.100.{number}"
        self.names.exchanges[f"site{number}.example"] = [(10, name)]
        self.names.hosts[name] = [address]
        host = self.net.hosts[address] = Host()
        return host

    def told(self, id: str) -> list[dict[str, Any]]:
        """The events of level info about the message *id*, or what came of it."""
        return [
            event
            for event in self.events
            if event.get("id") == id and event["log_level"] is LogLevel.info
        ]

    def test_many_sites(self) -> None:
        """Twelve sites, half of which refuse, are told of in as many lines as are allowed."""
        for number, host in enumerate(self.hosts[::2]):
            host.says["RCPT"] = f"550 5.1.1 nobody, says {number}"
        message = self.submit(*(f"bob@site{number}.example" for number in range(12)))

        events = self.told(message.queue_id)

        self.assertEqual(MOST_LINES, len(events))
        first = event_facts(events[0])
        self.assertEqual(message.queue_id, first["id"])
        self.assertEqual(1, len(first["recipients"]))
        words = event_text(events[-1])
        rest = [int(part.split()[0]) for part in words.partition(": and ")[2].split(", ")]
        ended = sum(event.get("fate") in ("relayed", "failed") for event in events[:-1])
        reported = sum("report" in event for event in events[:-1])
        self.assertEqual(12 + 6, ended + reported + sum(rest))
        self.assertIn(f"mailhost trace {message.queue_id}", words)

    def test_next_attempt_is_told_again(self) -> None:
        """The lines are those of an attempt, not of a message's whole life."""
        for host in self.hosts:
            host.says["RCPT"] = "450 4.2.1 later"
        message = self.submit(*(f"bob@site{number}.example" for number in range(12)))
        self.events.clear()
        self.run_for(15 * MINUTE + 1)

        events = self.told(message.queue_id)
        self.assertEqual(MOST_LINES, len(events))
        self.assertEqual("8 more delayed", event_text(events[-1]).split("and ")[1].split(";")[0])

    def test_few(self) -> None:
        """Two recipients of one site are one line; the outcome's parts are told apart."""
        message = self.submit("a@site1.example", "b@site1.example")
        (event,) = self.told(message.queue_id)

        facts = event_facts(event)
        self.assertEqual(
            ("relayed", "a@site1.example,b@site1.example"), (facts["fate"], facts["paths"])
        )
        self.assertEqual([0, 1], sorted(facts["recipients"]))

    def test_ids(self) -> None:
        """Where an outcome was heard, and in which attempt; none where nothing was heard."""
        self.hosts[1].says["RCPT"] = "450 4.2.1 later"
        message = self.submit("a@site1.example", "b@site1.example")
        again = self.submit("c@site1.example")
        self.run_for(15 * MINUTE + 1)
        self.net.hosts.pop("198.51.100.2")
        lost = self.submit("d@site2.example")

        first, second = map(event_facts, self.told(message.queue_id))
        (other, _) = map(event_facts, self.told(again.queue_id))
        (unheard,) = map(event_facts, self.told(lost.queue_id))
        self.assertEqual(([1, 1], [2, 2]), (first["attempts"], second["attempts"]))
        self.assertEqual((1, 2), (first["transaction"], other["transaction"]))
        self.assertEqual(first["session"], other["session"])
        self.assertNotEqual(first["session"], second["session"])
        self.assertTrue(first["session"].startswith("out-"))
        self.assertNotIn("session", unheard)
        self.assertEqual([1], unheard["attempts"])
