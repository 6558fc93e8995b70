"""ETRN with two workers as real processes (RFC 1985)."""

from __future__ import annotations

import os
import signal
import smtplib
from typing import Any

from tests.support.peer_case import content
from tests.workers.house import HouseCase


class StartTests(HouseCase):
    def ask(self, client: smtplib.SMTP, domain: str = "branch.example") -> int:
        return client.docmd("ETRN", domain)[0]

    def queue_with(
        self, client: smtplib.SMTP, name: str, recipient: str = "user@branch.example"
    ) -> None:
        client.sendmail("a@example.com", [recipient], content(name))

    def test_whoever_hears_it(self) -> None:
        """Mail of both is started; one that stands still keeps nobody waiting, and is told."""
        sink = self.start_sink()

        def held(name: str) -> dict[str, Any]:
            hold = {"enabled": True}
            return {"name": name, "type": "remote", "hold": hold, "route": sink.next_hop}

        house = self.start_house(
            access={"relay": {"default": "allow"}},
            domains=[held("branch.example"), held("other.example")],
        )
        sessions = house.sessions_of_both()
        one, two = sessions[0][0], sessions[1][0]
        self.assertEqual(251, self.ask(one))
        self.queue_with(one, "first")
        self.queue_with(two, "second")
        house.process.wait_until(lambda: house.waiting() == [1, 1], "mail in both queues")
        self.assertEqual([], sink.taken())

        self.assertEqual(250, self.ask(one))
        sink.wait_for("first", "second")
        house.process.wait_until(lambda: house.waiting() == [0, 0], "empty queues")
        self.assertEqual(251, self.ask(two))
        self.queue_with(two, "third", "user@other.example")

        pid = house.worker_pids()[1]
        os.kill(pid, signal.SIGSTOP)
        self.addCleanup(os.kill, pid, signal.SIGCONT)
        self.assertEqual(458, self.ask(one, "other.example"))
        house.process.wait_for_words("Worker 1 does not say whether it has mail")
        os.kill(pid, signal.SIGCONT)
        sink.wait_for("first", "second", "third")
