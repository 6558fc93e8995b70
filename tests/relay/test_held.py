"""Mail that waits until its domain asks for it (RFC 1985, 2645; IIS DOM-20, DOM-21)."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from mailhost.config.settings import DomainSettings
from mailhost.model.held import HeldDomains, Holding
from mailhost.model.listing import QueueFilter
from mailhost.model.parameters import MailParameters
from mailhost.model.queue import QueuedMessage
from mailhost.model.schedule import DAY, HOUR
from tests.relay.test_asked import AskedCase
from tests.support.hosts import HANG_UP, Host, connected
from tests.support.world import make_settings

REMOTE = HeldDomains(("remote.example",))


class HeldCase(AskedCase):
    def setUp(self) -> None:
        super().setUp()
        held = DomainSettings("remote.example", "remote", hold=Holding())
        below = DomainSettings("*.below.example", "remote", hold=Holding())
        self.relay = self.make_relay(evolve(make_settings(), domains=(held, below)))
        self.names.exchanges["a.below.example"] = self.names.exchanges["remote.example"]

    def waits(self, *names: str) -> bool:
        waiting = Deferred.fromCoroutine(self.relay.held.waits(HeldDomains(names)))
        return bool(self.successResultOf(waiting))

    def start(self, domains: HeldDomains) -> bool:
        starting = Deferred.fromCoroutine(self.relay.held.start(domains, "a test"))
        return bool(self.successResultOf(starting))

    def attempts(self, message: QueuedMessage) -> list[int]:
        return [one.attempts for one in message.recipients.values()]


class WaitingTests(HeldCase):
    def test_held(self) -> None:
        """It waits, and no attempt is counted; its sender hears of the delay and of the end."""
        message = self.submit("a@remote.example")
        self.submit("b@elsewhere.example")
        self.run_for(11 * HOUR)

        self.assertEqual((0, [0]), (self.host.connections, self.attempts(message)))
        self.run_for(2 * HOUR)
        self.assertEqual([("delayed", "4.4.0")], self.statuses()[1:])
        for _ in range(50):
            self.run_for(HOUR)
        self.assertEqual(("failed", "4.4.7"), self.statuses()[-1])
        self.assertEqual(({}, 0), (self.store.messages, self.host.connections))

    def test_who_has_mail(self) -> None:
        """By name, and below a name."""
        self.assertFalse(self.waits("remote.example"))
        self.submit("a@remote.example", "b@a.below.example")

        self.assertTrue(self.waits("remote.example"))
        self.assertTrue(self.waits("other.example", "*.below.example"))
        self.assertFalse(self.waits("below.example", "*.remote.example"))


class StartedTests(HeldCase):
    def test_nothing_waits(self) -> None:
        """It is told, and when something comes it can be started at once."""
        self.assertFalse(self.start(REMOTE))
        self.submit("a@remote.example")

        self.assertTrue(self.start(REMOTE))
        self.run_for(5)
        self.assertEqual([["a@remote.example"]], self.rcpts())
        self.assertEqual(1, self.relay.held.tally.etrn_messages)

    def test_started(self) -> None:
        """ETRN: to the hosts of the domain, once; the mail of others goes on waiting."""
        for _ in range(3):
            self.submit("a@remote.example", "b@a.below.example")

        self.start(REMOTE)
        self.run_for(5)

        self.assertEqual([["a@remote.example"]] * 3, self.rcpts())
        self.submit("a@remote.example")
        self.run_for(HOUR)
        self.assertEqual(3, len(self.taken()))
        self.start(HeldDomains(("*.below.example",)))
        self.run_for(5)
        self.assertEqual([["b@a.below.example"]] * 3, self.rcpts()[3:])

    def test_host_is_down(self) -> None:
        """It waits for the next time it is asked for."""
        del self.net.hosts["192.0.2.1"]
        message = self.submit("a@remote.example")
        self.start(REMOTE)
        self.run_for(5)
        self.assertEqual([1], self.attempts(message))
        self.net.hosts["192.0.2.1"] = self.host

        self.run_for(HOUR)
        self.assertEqual(0, self.host.connections)
        self.start(REMOTE)
        self.run_for(5)
        self.assertEqual(1, len(self.taken()))

    def test_again_and_again(self) -> None:
        """Whoever asks without end makes little more work than who asks once."""
        host = self.net.hosts.pop("192.0.2.1")
        self.submit("a@remote.example")
        taken: list[int] = []
        select = self.store.select

        def noted(wanted: QueueFilter, after: int, limit: int) -> Any:
            # One is wanted where it is only asked whether there is any.
            taken.extend([limit] if limit > 1 else [])
            return select(wanted, after, limit)

        self.patch(self.store, "select", noted)

        for _ in range(100):
            self.assertTrue(self.start(REMOTE))
            self.run_for(0)

        self.assertEqual(1, len(taken))
        self.net.hosts["192.0.2.1"] = host
        self.run_for(9)
        self.assertEqual([], self.taken())
        self.run_for(2)
        self.assertEqual((2, 1), (len(taken), len(self.taken())))
        self.run_for(60)
        self.assertEqual(2, len(taken))

    def test_stopped_meanwhile(self) -> None:
        """Nothing is left of it, whether it was asked for once or more often."""
        self.submit("a@remote.example")
        for _ in range(2):
            self.assertTrue(self.start(REMOTE))
        self.run_for(1)
        self.submit("a@remote.example")
        self.assertTrue(self.start(REMOTE))

        stopped = self.relay.stop(1)
        self.run_for(30)

        self.successResultOf(stopped)
        self.assertEqual(1, len(self.taken()))

    def test_many(self) -> None:
        """Page by page, so that as much waits in memory as anybody's mail may."""
        settings = self.relay._terms
        self.relay._window.limit = 210
        for _ in range(450):
            self.submit("a@remote.example", run=False)
            self.clock.advance(0)
        self.run_for(1)
        self.assertEqual(450, len(self.store.messages))

        self.start(REMOTE)
        most = 0
        for _ in range(60):
            self.run_for(0.5)
            most = max(most, len(self.relay._window))

        self.assertEqual({}, self.store.messages)
        self.assertLess(most, 211)
        self.assertIs(settings, self.relay._terms)


class TurnedTests(HeldCase):
    def turn(self, *names: str, host: Host | None = None) -> Host:
        """A host that has asked for its mail by ATRN."""
        asker = host or Host()
        session = self.relay.held.session(HeldDomains(names), "192.0.2.99", 40000)
        connected(asker, self.clock, session)
        return asker

    def test_over_its_own_session(self) -> None:
        """Everything for its domains, in one session; then it is said goodbye."""
        for _ in range(30):
            self.submit("a@remote.example", "b@a.below.example")

        asker = self.turn("remote.example")
        self.run_for(0.2)
        self.submit("late@remote.example", run=False)
        for _ in range(10):
            self.run_for(1)

        rcpts = [one.partition("<")[2][:-1] for _, given, _ in asker.envelopes for one in given]
        self.assertEqual(["a@remote.example"] * 30 + ["late@remote.example"], rcpts)
        self.assertEqual(0, self.relay.held.tally.etrn_messages)
        self.assertEqual((1, 0, 0), (asker.connections, asker.open, self.host.connections))
        self.assertEqual((), self.relay.sites())
        self.submit("a@remote.example")
        self.run_for(HOUR)
        self.assertEqual(31, len(asker.envelopes))

    def test_it_goes_away(self) -> None:
        """What it has not got waits; one attempt is counted for what was under way."""
        asker = Host({"DATA": ["354 go on", HANG_UP]})
        messages = [self.submit("a@remote.example") for _ in range(5)]

        self.turn("remote.example", host=asker)
        for _ in range(5):
            self.run_for(1)

        self.assertEqual(1, len(asker.envelopes))
        self.assertEqual(4, len(self.store.messages))
        self.assertEqual((), self.relay.sites())
        self.assertEqual(1, sum(sum(self.attempts(one)) > 0 for one in messages[:2]))
        again = self.turn("remote.example")
        for _ in range(5):
            self.run_for(1)
        self.assertEqual(4, len(again.envelopes))

    def test_it_does_not_greet(self) -> None:
        """Nothing is lost."""
        message = self.submit("a@remote.example")

        self.turn("remote.example", host=Host({"banner": "554 no"}))
        for _ in range(5):
            self.run_for(1)

        self.assertEqual([1], self.attempts(message))

    def test_nothing_after_all(self) -> None:
        """What there was has gone another way meanwhile: it is said goodbye."""
        asker = self.turn("remote.example")
        for _ in range(5):
            self.run_for(1)

        self.assertEqual((1, 0), (asker.connections, asker.open))

    def test_stopped(self) -> None:
        """A session that nobody has taken does not keep the relay from ending."""
        self.turn("remote.example", host=Host({"banner": "silent"}))
        stopped = self.relay.stop(1)
        self.run_for(2)

        self.successResultOf(stopped)

    def test_requiretls(self) -> None:
        """RFC 8689: nobody knows what the asker's host would do with it."""
        self.ask(MailParameters(requiretls=True))

        asker = self.turn("remote.example")
        for _ in range(5):
            self.run_for(1)

        self.assertEqual([], asker.envelopes)

    def test_given_up(self) -> None:
        """It expires as any other mail does."""
        self.submit("a@remote.example")
        self.run_for(3 * DAY)
        self.run_for(1)
        self.assertEqual({}, self.store.messages)
