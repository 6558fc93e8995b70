"""What the relay counts."""

from __future__ import annotations

from typing import Any

from mailhost.model.schedule import MINUTE
from mailhost.model.tally import Tally
from mailhost.relay.manager import RelayManager
from tests.relay.test_manager import RelayTestCase


class TallyTests(RelayTestCase):
    def make_relay(self, settings: Any, **told: Any) -> RelayManager:
        self.tally = Tally()
        return super().make_relay(settings, tally=self.tally, **told)

    def counted(self, *names: str) -> tuple[int, ...]:
        return tuple(getattr(self.tally, name) for name in names)

    def test_relayed(self) -> None:
        """One transaction, two recipients; its age."""
        message = self.submit("a@remote.example", "b@remote.example")

        found = self.counted("relayed_messages", "relayed_recipients", "relayed_octets")
        self.assertEqual((1, 2, message.size), found)
        self.assertEqual((1, 0), self.counted("outbound_connections", "unreachable_connections"))
        self.assertEqual(1, sum(self.tally.age_seconds.counts))
        self.assertEqual(0, self.tally.delivered_messages)

    def test_delivered(self) -> None:
        """Into Drop, and to nobody else."""
        self.submit("a@example.com", "b@example.com")

        self.assertEqual((1, 2), self.counted("delivered_messages", "delivered_recipients"))
        self.assertEqual((0, 0), self.counted("relayed_messages", "outbound_connections"))

    def test_delayed_then_failed(self) -> None:
        """An attempt that comes to nothing, one that is refused, and the report of it."""
        host = self.net.hosts.pop("192.0.2.1")
        self.submit("a@remote.example")
        self.net.hosts["192.0.2.1"] = host
        host.says["RCPT"] = "550 5.1.1 nobody"
        early = self.counted("delayed_recipients", "relay_retries", "failed_recipients")
        self.run_for(15 * MINUTE + 1)

        self.assertEqual((1, 0, 0), early)
        found = self.counted("delayed_recipients", "relay_retries", "failed_recipients")
        self.assertEqual((1, 1, 1), found)
        self.assertEqual((1, 0), self.counted("failure_reports", "badmail_reports"))
        self.assertEqual((2, 1), self.counted("outbound_connections", "unreachable_connections"))

    def test_badmail(self) -> None:
        """What cannot be returned is no report."""
        self.host.says["RCPT"] = "550 5.1.1 nobody"

        self.submit("a@remote.example", sender=None)

        self.assertEqual((1, 0), self.counted("badmail_reports", "failure_reports"))

    def test_report_that_cannot_be_made(self) -> None:
        """The failure is not recorded, and not counted as one."""
        self.host.says["RCPT"] = "550 5.1.1 nobody"
        self.relay._settlement.badmail = None

        self.submit("a@remote.example", sender=None)

        found = self.counted("report_problems", "failed_recipients", "delayed_recipients")
        self.assertEqual((1, 0, 1), found)

    def test_store_that_fails(self) -> None:
        """An outcome counts once, when it is on stable storage."""
        self.store.broken = True
        self.submit("a@remote.example")
        early = self.tally.relayed_messages
        self.store.broken = False

        self.run_for(11)

        self.assertEqual((0, 1), (early, self.tally.relayed_messages))

    def test_octets(self) -> None:
        """What is said in a session, both ways, contents and all."""
        message = self.submit("a@remote.example")

        sent, received = self.counted("sent_octets", "received_octets")
        self.assertGreater(sent, message.size + 80)
        self.assertGreater(received, 80)
        self.assertEqual((1,), self.counted("routed_recipients"))
