"""ETRN and ATRN with two workers as real processes (RFC 1985, 2645)."""

from __future__ import annotations

import contextlib
import os
import signal
import smtplib
from typing import Any

from tests.peers.test_held import serve
from tests.peers.test_logins import SECRET, LoginCase
from tests.support.peer_case import content
from tests.workers.house import House, HouseCase


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


class TurnTests(LoginCase, HouseCase):
    def start_holding(self) -> House:
        """Two workers that hold the mail of branch.example for kim."""
        hold = {"enabled": True, "accounts": ["kim"]}
        access = {
            **self.tls_settings(),
            "users": str(self.users),
            "basic": {"enabled": True, "default_domain": "example.com"},
            "relay": {"default": "allow"},
        }
        held = {"name": "branch.example", "type": "remote", "hold": hold}
        return self.start_house(access=access, domains=[held])

    def turn(self, house: House) -> tuple[int, smtplib.SMTP]:
        client = self.session(house)
        client.login("kim@example.com", SECRET)
        return client.docmd("ATRN")[0], client

    def test_all_queues(self) -> None:
        """One session gets what both have, through its TLS; who is killed loses nothing."""
        house = self.start_holding()
        for number, sessions in house.sessions_of_both().items():
            for name in ("first", "second"):
                words = content(f"{name}-{number}")
                sessions[0].sendmail("a@example.com", ["user@branch.example"], words)
        house.process.wait_until(lambda: house.waiting() == [2, 2], "mail in both queues")
        taken: list[str] = []
        killed: list[str] = []

        def take(name: str) -> None:
            """Kills the worker whose turn is the second, in doubt about its first message."""
            taken.append(name)
            if len(taken) == 3:
                killed.append(name[-1])
                os.kill(house.worker_pids()[int(name[-1])], signal.SIGKILL)

        code, client = self.turn(house)
        self.assertEqual(250, code)
        with contextlib.suppress(OSError):  # so does such an end look to some
            serve(client.sock, take)

        self.assertEqual(3, len(taken))
        house.process.wait_until(lambda: sorted(house.waiting()) == [0, 2], "what is in doubt")
        house.process.wait_until(lambda: len(house.mailhost.running()) == 3, "another worker")
        code, client = self.turn(house)
        self.assertEqual(250, code)
        serve(client.sock, taken.append)

        self.assertEqual({f"{name}-{killed[0]}" for name in ("first", "second")}, {*taken[3:]})
        self.assertEqual((5, 4), (len(taken), len(set(taken))))
        house.process.wait_until(lambda: house.waiting() == [0, 0], "empty queues")
        self.assertEqual(453, self.turn(house)[0])
