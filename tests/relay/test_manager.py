"""Tests for `mailhost.relay.manager` and the rooms below it, on a clock and a net of ours."""

from __future__ import annotations

import email
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.mail.relaymanager import RelayStateHelper, SmartHostESMTPRelayingManager
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailhost.config.settings import DomainSettings, VirtualServerSettings
from mailhost.errors import DirectoryProblem, ResolveProblem, SpoolProblem
from mailhost.interfaces import IDelivery, IStoredContent
from mailhost.model.address import Mailbox
from mailhost.model.envelope import Envelope
from mailhost.model.queue import QueuedMessage
from mailhost.model.route import HostAddress, NextHop
from mailhost.model.schedule import DAY, HOUR, MINUTE
from mailhost.relay.mail_exchange import MailExchangeResolver
from mailhost.relay.manager import RelayManager
from mailhost.relay.terms import Terms
from mailhost.routing.categorizer import make_categorizer
from mailhost.spool.badmail import Badmail
from mailhost.spool.memory import MemoryQueue
from tests.support.hosts import HANG_UP, Host, Net
from tests.support.world import START, FakeNames, make_settings

CONTENT = b"Subject: hello\r\n\r\ntext\r\n"
SENDER = Mailbox("alice", "example.com")


@implementer(IDelivery)
@define
class Shelf:
    """Final delivery into a list."""

    taken: list[tuple[QueuedMessage, list[str], bytes]] = field(factory=list)
    problem: Exception | None = None

    def deliver(
        self, message: QueuedMessage, recipients: Sequence[Mailbox], content: IStoredContent
    ) -> Deferred[None]:
        if self.problem is not None:
            return fail(self.problem)
        octets = content.read()
        assert isinstance(octets, bytes)
        self.taken.append((message, [str(path) for path in recipients], octets))
        return succeed(None)


class BreakableQueue(MemoryQueue):
    """A store that can be told to fail."""

    broken = False
    slow: Any = None

    def load_due(self, *given: Any) -> Deferred[list[QueuedMessage]]:
        return self.slow(*given) if self.slow else super().load_due(*given)

    def record(self, *given: Any) -> Deferred[list[QueuedMessage]]:
        return fail(SpoolProblem("disk")) if self.broken else super().record(*given)


class RelayTestCase(SynchronousTestCase):
    """A relay for example.com; remote.example has one exchange at 192.0.2.1."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.names = FakeNames()
        self.names.exchanges["remote.example"] = [(10, "mx1.remote.example")]
        self.names.hosts["mx1.remote.example"] = ["192.0.2.1"]
        self.names.hosts["mx2.remote.example"] = ["192.0.2.2"]
        self.host, self.second = Host(), Host()
        self.net = Net(self.clock, {"192.0.2.1": self.host, "192.0.2.2": self.second})
        self.store = BreakableQueue(self.clock.seconds)
        self.shelf = Shelf()
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.badmail = Badmail(Path(folder.name) / "Badmail", execute)
        self.badmail.start()
        self.relay = self.make_relay(make_settings())

    def make_relay(self, settings: VirtualServerSettings, **told: Any) -> RelayManager:
        """:param told: who else hears of it."""
        exchanges = MailExchangeResolver(
            self.names, self.clock, own_names=frozenset({settings.fqdn})
        )
        terms = Terms.of(settings, make_categorizer(settings))
        relay = RelayManager(
            self.store, exchanges, self.clock, terms, self.shelf, self.badmail, **told
        )
        relay._line.connect = self.net.connect
        return relay

    def submit(
        self,
        *paths: str,
        sender: Mailbox | None = SENDER,
        content: bytes = CONTENT,
        body: str = "7BIT",
        run: bool = True,
    ) -> QueuedMessage:
        """Put a message into the queue, and give the relay time for one attempt."""
        incoming = self.store.new_message(b"", None)
        incoming.write(content)
        forward = tuple(Mailbox(*path.split("@")) for path in paths)
        message = self.successResultOf(
            self.store.commit(
                incoming,
                self.store.new_queue_id(),
                Envelope(sender, forward, body),
                "client.example",
                self.clock.seconds(),
            )
        )
        self.relay.accept(message)
        if run:
            self.run_for(1)
        return message

    def run_for(self, seconds: float) -> None:
        """Let *seconds* pass, and everything that happens at once happen."""
        for _ in range(40):
            self.clock.advance(0)
        self.clock.advance(seconds)
        for _ in range(40):
            self.clock.advance(0)

    def reports(self) -> list[Any]:
        """Delivery reports that reached the shelf, parsed."""
        found = [email.message_from_bytes(octets) for _, _, octets in self.shelf.taken]
        return [one for one in found if one.get_content_type() == "multipart/report"]

    def status_of(self, report: Any) -> Any:
        """The fields about the first recipient of a report."""
        return report.get_payload()[1].get_payload()[1]


class DeliveryTests(RelayTestCase):
    def test_relayed(self) -> None:
        """A remote recipient goes to the exchange of its domain and leaves the queue."""
        self.submit("bob@remote.example")

        ((mail, rcpts, content),) = self.host.envelopes
        self.assertTrue(mail.startswith("MAIL FROM:<alice@example.com>"))
        self.assertEqual(["RCPT TO:<bob@remote.example>"], rcpts)
        self.assertEqual(CONTENT, content)
        self.assertEqual({}, self.store.messages)

    def test_local(self) -> None:
        """A local recipient goes to final delivery."""
        self.submit("bob@example.com", "carol@example.com")

        ((_, recipients, octets),) = self.shelf.taken
        self.assertEqual(["bob@example.com", "carol@example.com"], recipients)
        self.assertEqual(CONTENT, octets)
        self.assertEqual({}, self.store.messages)

    def test_domains_of_one_site_share_a_transaction(self) -> None:
        """Two domains with the same exchanges are one destination."""
        self.names.exchanges["other.example"] = [(10, "mx1.remote.example")]

        self.submit("a@remote.example", "b@other.example", "c@example.com")

        ((_, rcpts, _),) = self.host.envelopes
        self.assertEqual(2, len(rcpts))
        self.assertEqual(1, len(self.shelf.taken))
        self.assertEqual({}, self.store.messages)

    def test_session_is_reused_and_then_said_goodbye(self) -> None:
        """Two messages for one site use one connection, which does not stay open for ever."""
        self.submit("a@remote.example")
        self.submit("b@remote.example")
        used = self.host.connections
        self.run_for(10)

        self.assertEqual((1, 0), (used, self.host.open))
        self.assertEqual((), self.relay.sites())

    def test_messages_per_connection(self) -> None:
        """MSG-03: after so many messages a further connection is opened."""
        settings = make_settings()
        messages = evolve(settings.messages, max_messages_per_connection=2)
        self.relay = self.make_relay(evolve(settings, messages=messages))

        for _ in range(5):
            self.submit("a@remote.example", run=False)
        self.run_for(1)

        self.assertEqual(5, len(self.host.envelopes))
        self.assertGreaterEqual(self.host.connections, 3)

    def test_recipients_are_split(self) -> None:
        """MSG-04: 105 recipients at a limit of 100 go in two transactions."""
        self.submit(*[f"r{n}@remote.example" for n in range(105)])

        sizes = sorted(len(rcpts) for _, rcpts, _ in self.host.envelopes)
        self.assertEqual([5, 100], sizes)

    def test_masquerade(self) -> None:
        """DEL-41: a local sender leaves under the masquerade domain."""
        settings = make_settings()
        delivery = evolve(settings.delivery, masquerade_domain="public.example")
        self.relay = self.make_relay(evolve(settings, delivery=delivery))

        self.submit("a@remote.example")
        self.submit("a@remote.example", sender=Mailbox("x", "elsewhere.example"))

        mails = [mail.split(" SIZE")[0] for mail, _, _ in self.host.envelopes]
        self.assertEqual(
            ["MAIL FROM:<alice@public.example>", "MAIL FROM:<x@elsewhere.example>"], mails
        )

    def test_session_limit_of_the_peer(self) -> None:
        """421 to the MAIL of a kept session means a new session, not a delay."""
        self.submit("a@remote.example")
        self.host.says["MAIL"] = ["421 enough", "250 ok"]
        self.submit("b@remote.example")

        self.assertEqual((2, 2), (len(self.host.envelopes), self.host.connections))

    def test_closed_idle_session_is_no_failure(self) -> None:
        """A peer that closes a kept session as the next message comes costs nothing."""
        self.submit("a@remote.example")
        self.host.says["MAIL"] = [HANG_UP, "250 ok"]
        self.submit("b@remote.example")

        self.assertEqual(2, len(self.host.envelopes))
        self.assertEqual({}, self.store.messages)


class RouteTests(RelayTestCase):
    def route(self, **delivery: Any) -> None:
        settings = make_settings()
        self.relay = self.make_relay(
            evolve(settings, delivery=evolve(settings.delivery, **delivery))
        )

    def test_smart_host_before_mx(self) -> None:
        """Everything that has no route of its own goes to the smart host."""
        self.route(smart_host=(NextHop("192.0.2.2", literal=True),))

        self.submit("a@remote.example")

        self.assertEqual((0, 1), (len(self.host.envelopes), len(self.second.envelopes)))

    def test_two_smart_hosts_on_one_address(self) -> None:
        """Another port is another host."""
        self.route(
            smart_host=(
                NextHop("192.0.2.9", 2525, literal=True),
                NextHop("192.0.2.9", 2526, literal=True),
            )
        )
        ports = []
        self.relay._line.connect = lambda place, factory: (
            ports.append(place.port) or self.net.connect(place, factory)  # type: ignore[func-returns-value]  # for its effect
        )

        self.submit("a@remote.example")

        self.assertEqual([2525, 2526], ports)

    def test_direct_first(self) -> None:
        """DEL-44: MX first, the smart host when no exchange answers."""
        self.route(smart_host=(NextHop("192.0.2.2", literal=True),), direct_first=True)

        self.submit("a@remote.example")
        del self.net.hosts["192.0.2.1"]
        self.run_for(10)
        self.submit("b@remote.example")
        self.submit("c@nowhere.example")

        self.assertEqual((1, 2), (len(self.host.envelopes), len(self.second.envelopes)))

    def test_remote_domain_route_before_smart_host(self) -> None:
        """DOM-14 beats the virtual server's smart host; wildcards cover sub-domains."""
        settings = make_settings(
            domains=(
                DomainSettings(
                    name="*.remote.example",
                    type="remote",
                    route=(NextHop("192.0.2.2", literal=True),),
                ),
            )
        )
        delivery = evolve(settings.delivery, smart_host=(NextHop("192.0.2.1", literal=True),))
        self.relay = self.make_relay(evolve(settings, delivery=delivery))

        self.submit("a@sub.remote.example", "b@remote.example")

        self.assertEqual(["RCPT TO:<a@sub.remote.example>"], self.second.envelopes[0][1])
        self.assertEqual(["RCPT TO:<b@remote.example>"], self.host.envelopes[0][1])

    def test_helo(self) -> None:
        """DOM-11: HELO, and no extension used."""
        settings = make_settings(
            domains=(DomainSettings(name="remote.example", type="remote", helo=True),)
        )
        self.relay = self.make_relay(settings)

        self.submit("a@remote.example")

        self.assertEqual("MAIL FROM:<alice@example.com>", self.host.envelopes[0][0])


class FailoverTests(RelayTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.names.exchanges["remote.example"] = [
            (10, "mx1.remote.example"),
            (20, "mx2.remote.example"),
        ]

    def test_next_host_when_one_is_down(self) -> None:
        """RFC 5321 §5.1: the second exchange gets what the first cannot."""
        del self.net.hosts["192.0.2.1"]

        self.submit("a@remote.example")

        self.assertEqual(1, len(self.second.envelopes))

    def test_next_host_after_a_temporary_refusal(self) -> None:
        """A 4xx from the first exchange is not the end of the attempt (IIS P19)."""
        for verb, reply in (("banner", "421 busy"), ("RCPT", "450 no"), (".", "451 no")):
            self.host.says = {verb: reply}
            self.second.envelopes.clear()

            self.submit("a@remote.example")
            self.run_for(10)

            self.assertEqual(1, len(self.second.envelopes), verb)
        self.assertEqual({}, self.store.messages)

    def test_an_exchange_without_address(self) -> None:
        """A second host that leads nowhere fails nobody who was not tried at the first (P4)."""
        looking: Deferred[list[str]] = Deferred()
        self.names.hosts["mx2.remote.example"] = looking
        self.host.says["RCPT TO:<u0@remote.example>"] = "421 busy"
        self.submit("u0@remote.example", run=False)
        for _ in range(30):
            self.clock.advance(0)
        self.submit("u1@remote.example", run=False)
        del self.names.hosts["mx2.remote.example"]
        looking.errback(ResolveProblem("5.1.2", "no such host"))
        self.run_for(1)

        self.assertEqual([], self.reports())
        taken = [rcpts for _, rcpts, _ in self.host.envelopes]
        self.assertEqual([["RCPT TO:<u1@remote.example>"]], taken)

    def test_only_the_refused_go_on(self) -> None:
        """Who was taken by the first host is not sent to the second."""
        self.host.says["RCPT TO:<b@remote.example>"] = "450 later"

        self.submit("a@remote.example", "b@remote.example", "c@remote.example")

        self.assertEqual(2, len(self.host.envelopes[0][1]))
        self.assertEqual(["RCPT TO:<b@remote.example>"], self.second.envelopes[0][1])
        self.assertEqual({}, self.store.messages)

    def test_all_hosts_refuse_for_now(self) -> None:
        """Then, and only then, the recipient is delayed, with the last host's words."""
        self.host.says["RCPT"] = "450 4.2.1 first"
        self.second.says["RCPT"] = "450 4.2.1 second"

        message = self.submit("a@remote.example")

        (recipient,) = message.recipients.values()
        self.assertEqual(1, recipient.attempts)
        self.assertApproximates(START + 15 * MINUTE, recipient.due_at, 2)

    def test_permanent_refusal_is_final(self) -> None:
        """A 5xx is not carried to another host."""
        self.host.says["RCPT"] = "550 5.1.1 nobody"

        self.submit("a@remote.example")

        self.assertEqual(0, self.second.connections)
        self.assertEqual("5.1.1", self.status_of(self.reports()[0])["Status"])

    def test_doubt_is_not_sent_elsewhere_at_once(self) -> None:
        """P3: the first host may have it; it waits for the schedule."""
        self.host.says["."] = HANG_UP

        message = self.submit("a@remote.example")

        self.assertEqual(0, self.second.connections)
        self.assertEqual([1], [r.attempts for r in message.recipients.values()])


class ScheduleTests(RelayTestCase):
    def test_retry_intervals(self) -> None:
        """DEL-01..04: 15, 30, 60 minutes, then every 240, each from the attempt before."""
        del self.net.hosts["192.0.2.1"]
        message = self.submit("a@remote.example")
        seen = []
        for wait in (15, 30, 60, 240):
            (recipient,) = message.recipients.values()
            seen.append(recipient.due_at - self.clock.seconds())
            self.run_for(wait * MINUTE)

        for expected, found in zip((15, 30, 60, 240), seen, strict=True):
            self.assertApproximates(expected * MINUTE, found, 5)

    def test_arrives_when_the_host_is_back(self) -> None:
        """What was delayed is delivered at its next attempt."""
        del self.net.hosts["192.0.2.1"]
        self.submit("a@remote.example")
        self.net.hosts["192.0.2.1"] = self.host

        self.run_for(15 * MINUTE + 1)

        self.assertEqual(1, len(self.host.envelopes))
        self.assertEqual({}, self.store.messages)

    def test_delay_report_once_then_failure(self) -> None:
        """DEL-05, DEL-06: a warning after 12 hours, once; the failure after 2 days."""
        del self.net.hosts["192.0.2.1"]
        self.submit("a@remote.example")

        for _ in range(5 * 12):
            self.run_for(HOUR)

        subjects = [report["Subject"] for report in self.reports()]
        self.assertEqual(
            [
                "Delivery Status Notification (Delay)",
                "Delivery Status Notification (Failure)",
            ],
            subjects,
        )
        self.assertEqual("4.4.7", self.status_of(self.reports()[1])["Status"])
        self.assertEqual({}, self.store.messages)

    def test_times_of_reports(self) -> None:
        """Neither report comes before its time, nor much after it."""
        del self.net.hosts["192.0.2.1"]
        self.submit("a@remote.example")

        counts = []
        for wait in (12 * HOUR - 10, 20, 36 * HOUR - 30, 40):
            step, left = 10 * MINUTE, wait
            while left > 0:
                self.run_for(min(step, left))
                left -= step
            counts.append(len(self.reports()))

        self.assertEqual([0, 1, 1, 2], counts)

    def test_restart(self) -> None:
        """A new relay on the same queue takes up what is due, and waits for what is not."""
        del self.net.hosts["192.0.2.1"]
        self.submit("a@remote.example")
        self.net.hosts["192.0.2.1"] = self.host
        self.successResultOf(self.stop(self.relay))

        self.relay = self.make_relay(make_settings())
        self.relay.start()
        self.run_for(10 * MINUTE)
        early = len(self.host.envelopes)
        self.run_for(6 * MINUTE)

        self.assertEqual((0, 1), (early, len(self.host.envelopes)))

    def stop(self, relay: RelayManager) -> Deferred[None]:
        stopping = relay.stop()
        self.run_for(1)
        return stopping


class ReportTests(RelayTestCase):
    def test_refused_recipient(self) -> None:
        """A 5xx gives one report with the peer's words; the others get their mail."""
        self.host.says["RCPT TO:<b@remote.example>"] = "550 5.1.1 no such user"

        self.submit("a@remote.example", "b@remote.example")

        (report,) = self.reports()
        fields = self.status_of(report)
        self.assertEqual("alice@example.com", report["To"])
        self.assertIn("b@remote.example", fields["Final-Recipient"])
        self.assertEqual("failed", fields["Action"])
        self.assertEqual("smtp;550 5.1.1 no such user", fields["Diagnostic-Code"])
        self.assertEqual(1, len(self.host.envelopes))
        self.assertEqual({}, self.store.messages)

    def test_no_such_domain(self) -> None:
        """A domain that does not exist fails at once (5.1.2)."""
        self.names.exchanges["nowhere.example"] = ResolveProblem("5.1.2", "no such domain")

        self.submit("a@nowhere.example")

        self.assertEqual("5.1.2", self.status_of(self.reports()[0])["Status"])

    def test_null_mx(self) -> None:
        """RFC 7505: the domain takes no mail."""
        self.names.exchanges["mute.example"] = [(0, "")]

        self.submit("a@mute.example")

        self.assertEqual("5.1.10", self.status_of(self.reports()[0])["Status"])

    def test_dns_trouble_is_delay(self) -> None:
        """P4: SERVFAIL is never a failure."""
        self.names.exchanges["ill.example"] = ResolveProblem("4.4.3", "SERVFAIL")

        message = self.submit("a@ill.example")

        self.assertEqual([], self.reports())
        self.assertEqual([1], [r.attempts for r in message.recipients.values()])

    def test_loop_to_ourselves(self) -> None:
        """A domain whose best exchange is this host fails with 5.4.6."""
        self.names.exchanges["loop.example"] = [(10, "mail.example.com")]

        self.submit("a@loop.example")

        self.assertEqual("5.4.6", self.status_of(self.reports()[0])["Status"])

    def test_no_report_about_a_report(self) -> None:
        """RFC 5321 §4.5.5: what has the null reverse-path goes to Badmail instead."""
        self.host.says["RCPT"] = "550 5.1.1 no"

        message = self.submit("a@remote.example", sender=None)

        self.assertEqual([], self.shelf.taken)
        suffixes = sorted(path.suffix for path in self.badmail.directory.iterdir())
        self.assertEqual([".BAD", ".BDP", ".BDR"], suffixes)
        self.assertEqual({}, message.recipients)
        self.assertEqual({}, self.store.messages)

    def test_report_that_cannot_be_returned(self) -> None:
        """An NDR that its own addressee's host refuses becomes a Badmail triple."""
        self.host.says["RCPT"] = "550 5.1.1 no"

        self.submit("a@remote.example", sender=Mailbox("x", "remote.example"))
        self.run_for(1)

        self.assertEqual(3, len(list(self.badmail.directory.iterdir())))
        self.assertEqual({}, self.store.messages)

    def test_badmail_that_cannot_be_written(self) -> None:
        """Nothing is lost: the message stays queued until Badmail works."""
        self.host.says["RCPT"] = "550 5.1.1 no"
        self.badmail.directory.rmdir()
        self.badmail.directory.write_text("in the way", "utf-8")

        self.submit("a@remote.example", sender=None)
        waiting = dict(self.store.messages)
        self.badmail.directory.unlink()
        self.badmail.start()
        self.run_for(DAY)

        self.assertEqual(1, len(waiting))
        self.assertEqual({}, self.store.messages)
        self.assertEqual(3, len(list(self.badmail.directory.iterdir())))

    def test_copy_of_failure_reports(self) -> None:
        """MSG-05."""
        settings = make_settings()
        copy_to = Mailbox("postmaster", "example.com")
        messages = evolve(settings.messages, copy_ndr_to=copy_to)
        self.relay = self.make_relay(evolve(settings, messages=messages))
        self.host.says["RCPT"] = "550 5.1.1 no"

        self.submit("a@remote.example")

        receivers = sorted(paths[0] for _, paths, _ in self.shelf.taken)
        self.assertEqual(["alice@example.com", "postmaster@example.com"], receivers)

    def test_eight_bit_content_for_a_seven_bit_host(self) -> None:
        """RFC 6152 §3: converted where it can be, else the sender is told; 7-bit content goes."""
        self.host.says["EHLO"] = "250-peer.example\r\n250 SIZE"
        contents = (b"\r\nplain\r\n", b"\r\nna\xefve\r\n.\r\n", b"Subject: \xe4\r\n\r\n\r\n")

        for content in contents:
            self.submit("a@remote.example", content=content, body="8BITMIME")

        (_, _, plain), (mail, _, encoded) = self.host.envelopes
        self.assertEqual(contents[0], plain)
        self.assertEqual(
            b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n"
            b"Content-Transfer-Encoding: quoted-printable\r\n\r\nna=EFve\r\n=2E\r\n",
            encoded,
        )
        self.assertIn(f" SIZE={len(encoded)}", mail)
        (report,) = self.reports()
        self.assertEqual("5.6.3", self.status_of(report)["Status"])


class TroubleTests(RelayTestCase):
    def test_drop_cannot_be_written(self) -> None:
        """Local trouble delays, on the local schedule, and loses nothing (P4)."""
        self.shelf.problem = DirectoryProblem("Drop is full")
        message = self.submit("bob@example.com")
        self.shelf.problem = None
        (recipient,) = message.recipients.values()
        due_at = recipient.due_at

        self.run_for(HOUR + 1)

        self.assertApproximates(START + HOUR, due_at, 2)
        self.assertEqual(1, len(self.shelf.taken))

    def test_outcome_that_cannot_be_recorded(self) -> None:
        """Nothing is sent twice while the process lives: the record is repeated, not the mail."""
        self.store.broken = True
        self.submit("a@remote.example")
        self.relay.checkState()
        self.run_for(1)
        self.store.broken = False

        self.run_for(6)

        self.assertEqual(1, len(self.host.envelopes))
        self.assertEqual({}, self.store.messages)

    def test_dead_site_fails_together(self) -> None:
        """Many messages for a host that is down cost few connection attempts."""
        held: list[Deferred[Any]] = []

        def connect(place: HostAddress, factory: Factory) -> Deferred[Any]:
            held.append(Deferred())
            return held[-1]

        self.relay._line.connect = connect

        messages = [self.submit("a@remote.example", run=False) for _ in range(100)]
        for connecting in held:
            connecting.errback(ConnectionError("refused"))
        self.run_for(1)

        self.assertEqual(5, len(held))
        attempts = [r.attempts for m in messages for r in m.recipients.values()]
        self.assertEqual((5, 95), (attempts.count(1), attempts.count(0)))

    def test_a_site_that_refuses_everything_for_now(self) -> None:
        """Hundreds of delayed jobs leave no job, no slot and no connection behind."""
        self.host.says["RCPT"] = "451 later"

        messages = [self.submit("a@remote.example", run=False) for _ in range(400)]
        for _ in range(60):
            self.run_for(1)

        attempts = [r.attempts for message in messages for r in message.recipients.values()]
        self.assertEqual([1] * 400, attempts)
        self.assertEqual(0, self.relay._slots.open_count)
        self.assertEqual((), self.relay.sites())

    def test_stop_with_a_refusal_under_way(self) -> None:
        """A job that is refused while the relay stops does not hold the stop up."""
        self.host.says["RCPT"] = "451 later"
        self.submit("a@remote.example", run=False)
        for _ in range(6):
            self.clock.advance(0)

        stopping = self.relay.stop(5)
        for _ in range(10):
            self.run_for(1)

        self.successResultOf(stopping)

    def test_slots_go_to_whoever_needs_one(self) -> None:
        """DEL-30: at the limit nobody who waits is forgotten."""
        settings = make_settings()
        connections = evolve(settings.delivery.connections, max=1)
        delivery = evolve(settings.delivery, connections=connections)
        self.relay = self.make_relay(evolve(settings, delivery=delivery))
        self.names.exchanges["dead.example"] = [(10, "mx9.remote.example")]
        self.names.hosts["mx9.remote.example"] = ["192.0.2.9"]

        for _ in range(3):
            self.submit("a@dead.example", run=False)
        self.submit("b@remote.example", run=False)
        self.run_for(1)

        self.assertEqual(1, len(self.host.envelopes))

    def test_stop_leaves_the_queue(self) -> None:
        """Mail that was not sent before the stop is in the store after it."""
        self.relay._line.connect = lambda place, factory: Deferred()
        message = self.submit("a@remote.example")

        stopping = self.relay.stop(1)
        self.run_for(1)

        self.successResultOf(stopping)
        self.assertEqual([message], list(self.store.messages.values()))
        self.assertEqual([0], [r.attempts for r in message.recipients.values()])

    def test_stop_ends_lookups(self) -> None:
        """A question to DNS does not hold the stop up."""
        self.names.exchanges["slow.example"] = Deferred()
        self.submit("a@slow.example")

        stopping = self.relay.stop(1)
        self.run_for(1)

        self.successResultOf(stopping)
        self.assertEqual(1, len(self.store.messages))

    def test_done_while_the_store_was_asked(self) -> None:
        """An answer that is older than a delivery does not deliver again."""
        answers: list[Deferred[list[QueuedMessage]]] = []
        real = self.store.load_due

        def later(*given: Any) -> Deferred[list[QueuedMessage]]:
            answers.append(Deferred())
            return answers[-1].addCallback(lambda nothing: stale)

        message = self.submit("a@remote.example", run=False)
        stale = [evolve(message)]
        self.store.slow = later
        self.relay.checkState()
        self.run_for(1)
        self.store.slow = real
        answers[0].callback(None)
        self.run_for(1)

        self.assertEqual(1, len(self.host.envelopes))

    def test_upstreams_face(self) -> None:
        """It is a relaying manager of Twisted's, and its helper may poll it."""
        self.assertIsInstance(self.relay, SmartHostESMTPRelayingManager)
        self.assertIs(self.store, self.relay.queue)
        self.assertEqual({}, self.relay.managed)
        helper = RelayStateHelper(self.relay, 60)
        helper.clock = self.clock
        del self.net.hosts["192.0.2.1"]
        helper.startService()
        self.addCleanup(helper.stopService)
        self.run_for(61)
        self.assertEqual(
            (1000, 20), (self.relay.maxConnections, self.relay.maxMessagesPerConnection)
        )
