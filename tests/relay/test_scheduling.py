"""Scenarios for the scheduling of outbound mail: dead, slow, flapping and busy sites."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, fail

from mailhost.config.settings import DomainSettings, QueueKeys, VirtualServerSettings
from mailhost.errors import SpoolProblem
from mailhost.model.address import Mailbox
from mailhost.model.outcome import Fate, Outcome
from mailhost.model.rate import Rate, RateLimits
from mailhost.model.reply import Reply
from mailhost.relay.gates import Gates
from mailhost.relay.slots import Slots
from mailhost.spool.memory import MemoryQueue
from tests.relay.peers import SchedulingTestCase, make_badmail
from tests.support.world import make_settings

DEAD, BUSY, QUIET = "mx.dead.example", "mx.busy.example", "mx.quiet.example"


def with_connections(**changes: Any) -> VirtualServerSettings:
    settings = make_settings()
    connections = evolve(settings.delivery.connections, **changes)
    return evolve(settings, delivery=evolve(settings.delivery, connections=connections))


def with_delivery(**changes: Any) -> VirtualServerSettings:
    settings = make_settings()
    return evolve(settings, delivery=evolve(settings.delivery, **changes))


class DeadSiteBase(SchedulingTestCase):
    def run_until_taken(self, count: int) -> None:
        for _ in range(2000):
            if self.peers.count(DEAD) >= count:
                return
            self.run_for(0.1)
        self.fail("nothing is taken")


class DeadSiteTests(DeadSiteBase):
    def test_ten_thousand_messages(self) -> None:
        """They cost five connections and five counted attempts, then one probe a round."""
        self.peers.down.add(DEAD)
        self.peers.connect_seconds = 30

        for number in range(10_000):
            self.commit(f"r{number}@dead.example")
        self.run_for(31, step=1)

        self.assertEqual(5, self.peers.refused[DEAD])
        self.assertEqual(Counter({0: 9_995, 1: 5}), self.attempts())
        self.assertEqual(0, len(self.relay._window))

    def test_probes(self) -> None:
        """While it is dead a single connection asks, after one minute, two, four and so on."""
        self.peers.down.add(DEAD)
        for number in range(200):
            self.commit(f"r{number}@dead.example")
        seen = []
        for _ in range(13 * 60):
            before = self.peers.refused[DEAD]
            self.run_for(1, step=1)
            if self.peers.refused[DEAD] > before:
                seen.append(int(self.clock.seconds() % 1000))

        self.assertEqual(5 + 3, self.peers.refused[DEAD])
        gaps = [later - earlier for earlier, later in zip(seen, seen[1:], strict=False)]
        self.assertEqual(3, len(gaps))
        for gap, expected in zip(gaps, (60, 120, 240), strict=True):
            self.assertTrue(0.9 * expected - 2 <= gap <= expected + 3, gaps)

    def test_others_are_not_touched(self) -> None:
        """A dead site's backlog takes no room and no time from others."""
        self.relay.configure(evolve(self.relay._terms, queue=QueueKeys(100)))
        self.peers.down.add(DEAD)
        self.peers.connect_seconds = 30
        for number in range(500):
            self.commit(f"r{number}@dead.example")
        self.run_for(1)

        self.peers.connect_seconds = 0.1
        self.commit("a@quiet.example")
        self.run_for(1)

        self.assertEqual(1, self.peers.count(QUIET))
        self.assertLess(len(self.relay._window), 100)

    def test_recovers_slowly(self) -> None:
        """The probe that succeeds opens the site; connections become more as mail is taken."""
        self.peers.down.add(DEAD)
        for number in range(500):
            self.commit(f"r{number}@dead.example")
        self.run_for(2)
        self.peers.down.clear()
        self.peers.usual_seconds = 1.0

        sizes = []
        for _ in range(5):
            self.run_until_taken(self.peers.count(DEAD) + 1)
            sizes.append(self.peers.most_open[DEAD])
        self.peers.usual_seconds = 0.1
        self.run_for(60)

        self.assertEqual(1, sizes[0])
        self.assertLessEqual(sizes[-1], 4)
        self.assertEqual(500 - 5, self.peers.count(DEAD))
        self.assertIsNone(self.relay._sites.suspensions.find(DEAD))

    def test_new_mail_is_put_off_at_once(self) -> None:
        """With the reason and the time, and without an attempt."""
        self.peers.down.add(DEAD)
        for number in range(6):
            self.commit(f"r{number}@dead.example")
        self.run_for(1)
        refused = self.peers.refused[DEAD]

        message = self.commit("late@dead.example")
        self.run_for(1)

        (recipient,) = message.recipients.values()
        self.assertEqual((0, refused), (recipient.attempts, self.peers.refused[DEAD]))
        view = self.site(DEAD)
        self.assertGreaterEqual(recipient.due_at, view.suspended_until)
        self.assertEqual("mx.dead.example: no answer", view.last_problem)
        (wait,) = view.waits
        self.assertEqual("delivery.suspension", wait.setting)
        self.assertEqual(view.suspended_until, wait.until)

    def test_the_whole_says_so(self) -> None:
        """Who asks about no site hears of suspended ones: all mail may go to one of them."""
        self.assertEqual((), self.relay.waits())
        told = []
        for site in ("dead", "gone"):
            self.peers.down.add(f"mx.{site}.example")
            for number in range(6):
                self.commit(f"r{number}@{site}.example")
            self.run_for(1)
            (wait,) = self.relay.waits()
            self.assertEqual("delivery.suspension", wait.setting)
            told.append(wait.reason)

        words = "mx.{0}.example is suspended after 1 failed rounds: mx.{0}.example: no answer"
        last = f"2 sites are suspended; {words.format('gone')}"
        self.assertEqual([words.format("dead"), last], told)

    def test_sender_hears_of_it(self) -> None:
        """Delay report and expiry come in time, though nothing is tried."""
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        settings = make_settings()
        self.relay._settlement.badmail = make_badmail(Path(folder.name) / "Badmail")
        outbound = evolve(
            settings.delivery.outbound,
            delay_notification_seconds=100,
            expiration_seconds=200,
        )
        self.relay.configure(evolve(self.relay._terms, outbound=outbound))
        self.peers.down.add(DEAD)
        for number in range(5):
            self.commit(f"r{number}@dead.example")
        message = None
        for _ in range(3):
            self.run_for(1)
            message = message or self.commit("late@dead.example", sender=Mailbox("b", "b.example"))
        self.run_for(102)
        told = self.peers.count("mx.b.example")
        self.run_for(100)

        self.assertEqual(1, told)
        self.assertEqual(2, self.peers.count("mx.b.example"))
        self.assertEqual({}, message.recipients if message else None)

    def test_a_job_that_comes_back(self) -> None:
        """What begins to wait at a suspended site goes back to the store as well."""
        self.peers.seconds[DEAD] = 100.0
        for number in range(6):
            last = self.commit(f"r{number}@dead.example")
        self.run_for(1)
        site = self.relay._sites.queues[DEAD]
        problem = Outcome(Fate.DELAYED, "4.4.1", "no answer")
        self.relay._sites.suspensions.suspend(DEAD, problem, self.clock.seconds())
        site.pump()
        self.run_for(1)

        self.assertEqual(0, len(site.waiting))
        (recipient,) = last.recipients.values()
        self.assertGreater(recipient.due_at, self.clock.seconds())
        self.assertEqual(0, recipient.attempts)

    def test_schedule_bounds_it(self) -> None:
        """Who asks for an attempt every ten seconds is not made to wait a minute."""
        settings = make_settings()
        outbound = evolve(settings.delivery.outbound, intervals=(10,))
        self.relay.configure(evolve(self.relay._terms, outbound=outbound))
        self.peers.down.add(DEAD)
        for number in range(50):
            self.commit(f"r{number}@dead.example")
        self.run_for(2)
        self.peers.down.clear()
        self.run_for(15)

        self.assertEqual({}, self.store.messages)

    def test_store_that_cannot_put_off(self) -> None:
        """The messages stay in work, and it is asked again; nothing is lost or doubled."""
        real, broken = self.store.postpone, [True]

        def postpone(parts: Any) -> Deferred[None]:
            return fail(SpoolProblem("disk")) if broken else real(parts)

        store: Any = type("Store", (MemoryQueue,), {"postpone": staticmethod(postpone)})
        self.store = store(self.clock.seconds)
        real = MemoryQueue.postpone.__get__(self.store)
        self.relay = self.make_relay(make_settings())
        self.peers.down.add(DEAD)
        for number in range(50):
            self.commit(f"r{number}@dead.example")
        self.run_for(3)
        held = len(self.relay._window)
        broken.clear()
        self.run_for(5)
        self.peers.down.clear()
        self.run_for(1000, step=1)

        self.assertEqual((45, 0), (held, len(self.store.messages)))
        self.assertEqual(50, self.peers.count(DEAD))


class FlappingTests(DeadSiteBase):
    def test_falls_back_at_once(self) -> None:
        """A site that dies again while it is tried out is suspended for longer, by one failure."""
        self.peers.down.add(DEAD)
        for number in range(300):
            self.commit(f"r{number}@dead.example")
        self.run_for(2)
        first = self.relay._sites.suspensions.find(DEAD)
        self.peers.down.clear()
        self.run_until_taken(1)
        taken = self.peers.count(DEAD)
        self.peers.down.add(DEAD)
        refused = self.peers.refused[DEAD]
        self.run_for(5)

        second = self.relay._sites.suspensions.find(DEAD)
        assert first is not None and second is not None
        self.assertGreater(taken, 0)
        self.assertEqual((1, 2), (first.strikes, second.strikes))
        self.assertLessEqual(self.peers.refused[DEAD] - refused, 2)

    def test_up_and_down_for_an_hour(self) -> None:
        """Everything arrives once, with few connections in vain."""
        for number in range(1000):
            self.commit(f"r{number}@dead.example")
        for minute in range(120):
            if minute % 3:
                self.peers.down.discard(DEAD)
            else:
                self.peers.down.add(DEAD)
            self.run_for(30, step=0.5)
        self.peers.down.clear()
        self.run_for(4 * 3600, step=5)

        self.assertEqual({}, self.store.messages)
        self.assertEqual(1000, self.peers.count(DEAD))
        self.assertLess(self.peers.refused[DEAD], 60)


class WindowTests(SchedulingTestCase):
    def test_grows_to_the_ceiling(self) -> None:
        """Five connections at first, then more, up to max_per_domain and never beyond."""
        self.relay = self.make_relay(with_connections(max_per_domain=12))
        for number in range(2000):
            self.commit(f"r{number}@busy.example")
        self.run_for(0.3)
        early = self.peers.most_open[BUSY]
        self.run_for(20)

        self.assertEqual((5, 12), (early, self.peers.most_open[BUSY]))

    def test_refused_recipients_shrink_nothing(self) -> None:
        """450 for every recipient is about them, not about the site."""
        self.peers.say = lambda recipients: Reply(450, "4.2.1", ("later",))
        for number in range(100):
            self.commit(f"r{number}@busy.example")
        self.run_for(20)

        self.assertIsNone(self.relay._sites.suspensions.find(BUSY))
        self.assertEqual(Counter({1: 100}), self.attempts())

    def test_421_of_a_whole_site_closes_it(self) -> None:
        """421 to every fresh session is a failure of the site."""
        self.peers.say = lambda recipients: Reply(421, "4.3.2", ("busy",))
        for number in range(100):
            self.commit(f"r{number}@busy.example")
        self.run_for(20)

        self.assertIsNotNone(self.site(BUSY).suspended_until)
        self.assertLessEqual(self.attempts()[1], 10)


class FairnessTests(SchedulingTestCase):
    def test_a_list_and_a_letter(self) -> None:
        """50,000 recipients at one site with two connections: two recipients wait no longer than
        one transaction."""
        self.relay = self.make_relay(with_connections(max_per_domain=2))
        self.peers.usual_seconds = 1.0
        self.commit(*[f"r{number}@busy.example" for number in range(50_000)])
        self.run_for(5)
        began = self.clock.seconds()

        self.commit("a@busy.example", "b@busy.example", sender=Mailbox("bob", "example.com"))
        self.run_for(5)

        (arrived,) = [at for at, _, _, paths in self.peers.taken if len(paths) == 2]
        self.assertLessEqual(arrived - began, 3)

    def test_a_list_and_a_letter_of_one_sender(self) -> None:
        """The messages of one sender take turns as well."""
        self.relay = self.make_relay(with_connections(max_per_domain=1))
        self.peers.usual_seconds = 1.0
        self.commit(*[f"r{number}@busy.example" for number in range(10_000)])
        self.run_for(5)
        self.commit("a@busy.example", "b@busy.example")
        self.run_for(4)

        self.assertIn(2, [len(paths) for _, _, _, paths in self.peers.taken])

    def test_a_mailing_of_single_messages(self) -> None:
        """5,000 messages of one sender do not hold up one message of another."""
        self.relay = self.make_relay(with_connections(max_per_domain=2))
        self.peers.usual_seconds = 1.0
        for number in range(5000):
            self.commit(f"r{number}@busy.example")
        self.run_for(5)
        self.commit("a@busy.example", sender=Mailbox("bob", "example.com"))
        self.run_for(3)

        self.assertIn("bob", [path.local for _, _, path, _ in self.peers.taken if path])

    def test_reports_have_a_lane(self) -> None:
        """A report behind a thousand senders has one of the next four turns."""
        self.relay = self.make_relay(with_connections(max_per_domain=1))
        self.peers.usual_seconds = 1.0
        for number in range(1000):
            self.commit("r@busy.example", sender=Mailbox(f"s{number}", "example.com"))
        self.run_for(3)
        self.commit("r@busy.example", sender=None)
        self.run_for(5)

        self.assertIn(None, [path for _, _, path, _ in self.peers.taken])

    def test_the_list_goes_on_meanwhile(self) -> None:
        """A stream of single messages does not stop a list."""
        self.relay = self.make_relay(with_connections(max_per_domain=1))
        self.commit(*[f"r{number}@busy.example" for number in range(1000)])
        for number in range(100):
            self.commit(f"x{number}@busy.example", sender=Mailbox("bob", "example.com"))
        self.run_for(3)

        sizes = Counter(len(paths) for _, _, _, paths in self.peers.taken)
        self.assertGreater(sizes[100], 5)
        self.assertGreater(sizes[1], 5)

    def test_between_sites(self) -> None:
        """A busy site with all connections gives some up for others, down to equal shares."""
        self.relay = self.make_relay(with_connections(max=10, max_per_domain=10))
        self.peers.usual_seconds = 1.0
        for number in range(500):
            self.commit(f"r{number}@busy.example")
        self.run_for(30)
        alone = self.peers.open_now[BUSY]
        for number in range(500):
            self.commit(f"r{number}@quiet.example")
        self.run_for(30)

        self.assertEqual(8, alone)
        self.assertLessEqual(abs(self.peers.open_now[BUSY] - self.peers.open_now[QUIET]), 2)
        self.assertLessEqual(self.peers.most_in_all, 10)

    def test_first_connection_at_once(self) -> None:
        """A site that has none finds the slot that is kept for it."""
        self.relay = self.make_relay(with_connections(max=10, max_per_domain=10))
        self.peers.usual_seconds = 60.0
        for number in range(500):
            self.commit(f"r{number}@busy.example")
        self.run_for(600, step=1)
        self.peers.seconds[QUIET] = 0.1
        self.commit("a@quiet.example")
        self.run_for(1)

        self.assertEqual(1, self.peers.count(QUIET))

    def test_between_virtual_servers(self) -> None:
        """Two relays with one pool of connections come to equal shares."""
        pool = Slots(12, "connections")
        self.relay = self.make_relay(make_settings(), pool)
        other = self.make_relay(make_settings(), pool, MemoryQueue(self.clock.seconds))
        self.peers.usual_seconds = 1.0
        for number in range(2000):
            self.commit(f"r@d{number % 20}.example")
        self.run_for(20)
        alone = self.relay._slots.open_count
        for number in range(2000):
            self.commit(f"r@d{number % 20}.example", relay=other)
        self.run_for(60)

        self.assertGreaterEqual(alone, 10)
        self.assertLessEqual(abs(self.relay._slots.open_count - other._slots.open_count), 2)
        self.assertLessEqual(self.peers.most_in_all, 12)


class ActiveWindowTests(SchedulingTestCase):
    def test_a_slow_site_fills_half(self) -> None:
        """A backlog for one slow site leaves room, and is sent back without attempts."""
        self.relay.configure(evolve(self.relay._terms, queue=QueueKeys(1000)))
        self.peers.seconds[BUSY] = 100.0
        for number in range(3000):
            self.commit(f"r{number}@busy.example")
        self.run_for(2)
        active = len(self.relay._window)
        self.commit("a@quiet.example")
        self.run_for(1)

        self.assertTrue(400 <= active <= 550, active)
        self.assertEqual(1, self.peers.count(QUIET))
        self.assertEqual(Counter({0: 3000}), self.attempts())
        self.assertGreater(self.site(BUSY).postponed, 2000)

    def test_what_was_sent_back_arrives(self) -> None:
        """A fast site gets everything, though little of it may be in memory at a time."""
        self.relay.configure(evolve(self.relay._terms, queue=QueueKeys(100)))
        for number in range(3000):
            self.commit(f"r{number}@busy.example")
        self.run_for(300, step=0.5)

        self.assertEqual({}, self.store.messages)
        self.assertEqual(3000, self.peers.count(BUSY))
        self.assertEqual(0, len(self.relay._window))

    def test_many_slow_sites(self) -> None:
        """Ten backlogs do not keep an eleventh site's mail waiting, from the store either."""
        self.relay.configure(evolve(self.relay._terms, queue=QueueKeys(1000)))
        for site in range(10):
            self.peers.seconds[f"mx.s{site}.example"] = 1000.0
        for number in range(5000):
            self.commit(f"r{number}@s{number % 10}.example")
        self.run_for(5)
        self.commit("a@quiet.example")
        self.run_for(1)

        self.assertEqual(1, self.peers.count(QUIET))

    def test_reports_have_a_reserve(self) -> None:
        """A window full of mail for distinct sites still takes a report."""
        self.relay.configure(evolve(self.relay._terms, queue=QueueKeys(100)))
        self.peers.usual_seconds = 1000.0
        for number in range(200):
            self.commit(f"r@d{number}.example")
        self.run_for(1)
        full = len(self.relay._window)
        self.peers.seconds[QUIET] = 0.1
        self.commit("r@quiet.example", sender=None)
        self.run_for(1)

        self.assertEqual((95, 1), (full, self.peers.count(QUIET)))
        self.assertTrue(self.relay.pressure.backlog)
        self.assertEqual(["delivery.queue.max_active"], [w.setting for w in self.relay.waits()])


class RateTests(SchedulingTestCase):
    def test_an_hour(self) -> None:
        """100 a minute are 6,000 an hour, evenly."""
        self.relay = self.make_relay(with_delivery(rates=RateLimits(Rate(100, 60))))
        for number in range(7000):
            self.commit(f"r{number}@d{number % 3}.example")
        began = self.clock.seconds()
        self.run_for(3600, step=0.5)

        self.assertTrue(5990 <= len(self.peers.taken) <= 6002, len(self.peers.taken))
        minutes = Counter(int((at - began) // 60) for at, _, _, _ in self.peers.taken)
        self.assertTrue(all(98 <= minutes[minute] <= 102 for minute in range(1, 59)), minutes)
        sites = Counter(site for _, site, _, _ in self.peers.taken)
        self.assertLess(max(sites.values()) - min(sites.values()), 10)

    def test_of_one_remote_domain(self) -> None:
        """A rate of a remote domain holds for all it covers, and for nobody else."""
        domain = DomainSettings(
            name="*.busy.example", type="remote", rates=RateLimits(recipients=Rate(10, 1))
        )
        self.relay = self.make_relay(make_settings(domains=(domain,)))
        for number in range(200):
            self.commit(f"r{number}@a.busy.example")
            self.commit(f"r{number}@b.busy.example")
            self.commit(f"r{number}@quiet.example")
        self.run_for(10)

        limited = sum(1 for _, site, _, _ in self.peers.taken if "busy" in site)
        self.assertTrue(95 <= limited <= 111, limited)
        self.assertEqual(200, self.peers.count(QUIET))
        view = next(view for view in self.relay.sites() if "a.busy" in view.key)
        self.assertEqual(
            ["domains[*.busy.example].rates.recipients"], [wait.setting for wait in view.waits]
        )

    def test_of_each_site(self) -> None:
        """Sites have a rate each, which holds when a site's queue has been empty as well."""
        rates = RateLimits(Rate(6, 60))
        self.relay = self.make_relay(with_delivery(rates_per_site=rates))
        for number in range(60):
            self.commit(f"r{number}@busy.example")
            if number % 20 == 0:
                self.commit(f"r{number}@quiet.example")
            self.run_for(1)

        self.assertTrue(6 <= self.peers.count(BUSY) <= 7, self.peers.taken)
        self.assertEqual(3, self.peers.count(QUIET))
        self.assertEqual(
            ["delivery.rates_per_site.messages"], [wait.setting for wait in self.site(BUSY).waits]
        )
        for number in range(10):
            self.commit(f"s{number}@quiet.example")
            self.run_for(6)  # longer than an idle connection is kept
        self.assertTrue(3 + 6 <= self.peers.count(QUIET) <= 3 + 7, self.peers.taken)

        self.relay.configure(evolve(self.relay._terms, site_rates=RateLimits()))
        self.run_for(60)
        self.assertEqual((60, 13), (self.peers.count(BUSY), self.peers.count(QUIET)))

    def test_of_several_queues(self) -> None:
        """A process that empties several queues keeps to a rate in all of them together."""
        gates = Gates(self.clock)
        settings = with_delivery(rates=RateLimits(Rate(60, 60)))
        relays = [
            self.make_relay(settings, store=MemoryQueue(self.clock.seconds), gates=gates)
            for _ in range(3)
        ]
        for number in range(60):
            for relay in relays:
                self.commit(f"r{number}@busy.example", relay=relay)
        self.run_for(30)

        self.assertTrue(29 <= len(self.peers.taken) <= 32, len(self.peers.taken))

    def test_connections(self) -> None:
        """Two connections a second, whatever the window allows."""
        settings = with_delivery(rates=RateLimits(connections=Rate(2, 1)))
        self.relay = self.make_relay(settings)
        for number in range(100):
            self.commit(f"r@d{number}.example")
        self.run_for(10)

        self.assertTrue(20 <= sum(self.peers.opened.values()) <= 22, self.peers.opened)

    def test_many_recipients_at_once(self) -> None:
        """A transaction larger than a second's share goes, and is waited for afterwards."""
        settings = with_delivery(rates=RateLimits(recipients=Rate(600, 60)))
        self.relay = self.make_relay(settings)
        self.commit(*[f"r{number}@busy.example" for number in range(1000)])
        self.run_for(60, step=0.5)

        sent = sum(len(paths) for _, _, _, paths in self.peers.taken)
        self.assertTrue(600 <= sent <= 710, sent)

    def test_lifted_by_a_reload(self) -> None:
        """What waits goes when the rate is taken away."""
        self.relay = self.make_relay(with_delivery(rates=RateLimits(Rate(1, 60))))
        for number in range(50):
            self.commit(f"r{number}@busy.example")
        self.run_for(5)
        few = len(self.peers.taken)
        self.relay.configure(evolve(self.relay._terms, rates=RateLimits()))
        self.run_for(10)

        self.assertEqual((1, 50), (few, len(self.peers.taken)))


class PressureTests(SchedulingTestCase):
    def test_counts(self) -> None:
        """It knows what is queued, in work, and how large that is."""
        self.peers.down.add(DEAD)
        self.relay.start()
        message = self.commit("a@dead.example", "b@dead.example")
        before = self.relay.pressure
        self.run_for(1)
        after = self.relay.pressure

        self.assertEqual((1, 2, message.size), (before.active, before.recipients, before.octets))
        self.assertEqual((0, 0, 0, 1), (after.active, after.recipients, after.octets, after.queued))
        self.assertIsNone(after.wait)

    def test_operators_limit(self) -> None:
        """At the limit it says which, and when the queue drains it says so no more."""
        self.relay.configure(evolve(self.relay._terms, queue=QueueKeys(20000, 2)))
        self.relay.start()
        self.commit("a@quiet.example")
        self.commit("b@quiet.example")
        pressure = self.relay.pressure
        assert pressure.wait is not None
        self.assertEqual("delivery.queue.max_messages", pressure.wait.setting)
        self.assertEqual("2 messages are queued", pressure.wait.reason)
        self.run_for(2)

        self.assertEqual((0, None), (self.relay.pressure.queued, self.relay.pressure.wait))


class DoubtTests(SchedulingTestCase):
    def test_a_later_report_says_so(self) -> None:
        """P3: the doubt is in the outcome's words, is kept, and stands in the NDR."""
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        badmail = make_badmail(Path(folder.name) / "Badmail")
        self.relay._settlement.badmail = badmail
        message = self.commit("a@dead.example", sender=None)
        self.run_for(0.15, step=0.05)
        self.peers.down.add(DEAD)
        self.peers.doubtful = True
        self.run_for(1)
        (recipient,) = message.recipients.values()
        in_doubt = recipient.in_doubt
        self.run_for(3 * 86400, step=60)

        self.assertTrue(in_doubt)
        (reason,) = [p for p in badmail.directory.iterdir() if p.suffix == ".BDR"]
        self.assertIn("in doubt", reason.read_text("utf-8"))
