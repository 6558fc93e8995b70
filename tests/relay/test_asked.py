"""What a sender asks of the relay: its order, its times, and the limits of hosts."""

from __future__ import annotations

from mailhost.model.address import Mailbox
from mailhost.model.envelope import Envelope, Handling
from mailhost.model.parameters import MailParameters, RecipientParameters
from mailhost.model.queue import QueuedMessage
from mailhost.model.schedule import HOUR
from mailhost.smtp.extensions.limits import PeerLimits, read_limits
from tests.relay.test_manager import CONTENT, SENDER, RelayTestCase


class AskedCase(RelayTestCase):
    def ask(
        self,
        asked: MailParameters,
        *paths: str,
        special: dict[int, Handling] | None = None,
        run: bool = True,
    ) -> QueuedMessage:
        incoming = self.store.new_message(b"", None)
        incoming.write(CONTENT)
        forward = tuple(Mailbox(*path.split("@")) for path in paths or ("b@remote.example",))
        envelope = Envelope(SENDER, forward, special=special or {}, parameters=asked)
        message: QueuedMessage = self.successResultOf(
            self.store.commit(
                incoming, self.store.new_queue_id(), envelope, "", self.clock.seconds()
            )
        )
        self.relay.accept(message)
        if run:
            self.run_for(1)
        return message

    def offer(self, *keywords: str) -> None:
        lines = ["peer.example", "PIPELINING", *keywords]
        self.host.says["EHLO"] = "\r\n".join(
            f"250{' ' if line is lines[-1] else '-'}{line}" for line in lines
        )

    def taken(self) -> list[tuple[str, list[str], bytes]]:
        """Transactions with a recipient."""
        return [one for one in self.host.envelopes if one[1]]

    def statuses(self) -> list[tuple[str, str]]:
        """Action and status of each recipient in each report."""
        return [
            (str(group["Action"]), str(group["Status"]))
            for report in self.reports()
            for group in report.get_payload()[1].get_payload()[1:]
        ]

    def rcpts(self) -> list[list[str]]:
        return [[one.partition("<")[2][:-1] for one in rcpts] for _, rcpts, _ in self.taken()]


class HeldTests(AskedCase):
    def test_until_its_time(self) -> None:
        """RFC 4865: nothing is tried before; its delays count from then."""
        release_at = self.clock.seconds() + 13 * HOUR
        self.ask(MailParameters(holduntil=release_at))
        self.run_for(12.9 * HOUR)
        self.assertEqual([], self.taken())
        self.host.says["RCPT"] = "451 4.2.0 later"

        self.run_for(HOUR)
        self.run_for(HOUR)
        self.assertEqual([], self.statuses())
        for _ in range(12):
            self.run_for(HOUR)
        self.assertEqual([("delayed", "4.2.0")], self.statuses())
        self.host.says["RCPT"] = "250 ok"
        for _ in range(5):
            self.run_for(HOUR)

        ((mail, _, _),) = self.taken()
        self.assertNotIn("HOLD", mail)


class DeliverByTests(AskedCase):
    RETURN = MailParameters(by=(3600, "R"))

    def test_sent_on_with_what_is_left(self) -> None:
        """RFC 2852 §4.1.4: the time that we took is taken from it."""
        self.offer("DELIVERBY 60")
        self.host.says["RCPT"] = ["451 4.2.0 later", "250 ok"]

        self.ask(self.RETURN)
        self.run_for(900)

        ((mail, _, _),) = self.taken()
        self.assertRegex(mail, r" BY=2(69\d|700);R$")

    def test_returned_in_time(self) -> None:
        """Its time is over: the sender hears at once, and nothing is sent any more."""
        self.offer("DELIVERBY")
        self.host.says["RCPT"] = "451 4.2.0 later"
        message = self.ask(self.RETURN)
        self.run_for(3500)
        self.assertEqual([], self.statuses())
        self.host.says["RCPT"] = "250 ok"

        self.run_for(101)

        self.assertEqual([("failed", "5.4.7")], self.statuses())
        self.assertEqual([], self.taken())
        self.assertEqual({}, message.recipients)

    def test_told_in_time(self) -> None:
        """With N the sender hears of the delay, and the mail goes on."""
        self.host.says["RCPT"] = "451 4.2.0 later"
        self.ask(MailParameters(by=(3600, "N")))

        self.run_for(3601)

        self.assertEqual([("delayed", "4.2.0")], self.statuses())
        self.host.says["RCPT"] = "250 ok"
        self.run_for(2 * HOUR)
        self.assertEqual(1, len(self.taken()))

    def test_host_that_does_not_know(self) -> None:
        """It might keep the mail for days; with N it may (§4.1.4)."""
        self.ask(self.RETURN)
        self.assertEqual([("failed", "5.3.3")], self.statuses())
        self.run_for(10)  # the session ends
        self.offer("DELIVERBY 7200")
        self.ask(self.RETURN)
        self.assertEqual(("failed", "5.4.7"), self.statuses()[1])
        self.assertEqual([], self.taken())

    def test_traced(self) -> None:
        """With T the sender hears of each host, unless he wants to hear nothing."""
        self.offer("DELIVERBY", "DSN")
        never = Handling(parameters=RecipientParameters(("NEVER",)))

        self.ask(
            MailParameters(by=(3600, "NT")),
            "b@remote.example",
            "c@remote.example",
            special={1: never},
        )

        self.assertEqual([("relayed", "2.0.0")], self.statuses())


class PriorityTests(AskedCase):
    def test_order(self) -> None:
        """RFC 6710: of what waits for a connection the highest goes first; it is sent on."""
        self.offer("MT-PRIORITY")
        self.relay._slots.limit = 0
        for priority in (0, -9, 3, 9, 0, -1):
            self.ask(MailParameters(mt_priority=priority, envid=f"x{priority}"), run=False)
        self.run_for(0)
        self.relay._slots.limit = 1
        self.relay._slots.serve()
        self.run_for(1)

        sent = [mail.partition("MT-PRIORITY=")[2] for mail, _, _ in self.taken()]
        self.assertEqual(["9", "3", "", "", "-1", "-9"], sent)


class LimitTests(AskedCase):
    def test_read(self) -> None:
        """RFC 9422 §3: what is not understood is passed over."""
        read = read_limits("rcptmax=5 MAILMAX=0 MAILMAX=7 RCPTDOMAINMAX=x FOO=1 RCPTMAX")
        self.assertEqual(PeerLimits(7, 5, None), read)

    def test_recipients(self) -> None:
        """So many in one transaction; the next message is split from the start."""
        self.offer("LIMITS RCPTMAX=2")
        for _ in range(2):
            self.ask(MailParameters(), *(f"u{n}@remote.example" for n in range(5)))

        self.assertEqual([2, 2, 1, 2, 2, 1], [len(one) for one in self.rcpts()])
        self.assertEqual({}, self.store.messages)

    def test_domains(self) -> None:
        """So many domains in one transaction."""
        self.names.exchanges["other.example"] = self.names.exchanges["remote.example"]
        self.offer("LIMITS RCPTDOMAINMAX=1")

        self.ask(MailParameters(), "a@remote.example", "b@remote.example", "c@other.example")

        self.assertEqual(
            [["a@remote.example", "b@remote.example"], ["c@other.example"]], sorted(self.rcpts())
        )

    def test_messages(self) -> None:
        """So many in one session."""
        self.offer("LIMITS MAILMAX=2")
        for _ in range(5):
            self.ask(MailParameters())

        self.assertEqual((5, 3), (len(self.taken()), self.host.connections))
