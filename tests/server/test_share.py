"""Tests for `mailhost.server.share`, `mailhost.server.portion` and `mailhost.server.orphans`."""

from __future__ import annotations

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.settings import OutboundConnections, Settings, VirtualServerSettings
from mailhost.model.rate import Rate, RateLimits
from mailhost.model.session import SessionFacts
from mailhost.relay.slots import SiteSlots, Slots
from mailhost.relay.terms import Terms
from mailhost.routing.categorizer import make_categorizer
from mailhost.server.limits import ConnectionLimits
from mailhost.server.orphans import remove_queue
from mailhost.server.portion import Portion, SharedReception, SharedSlots, SiteShare
from mailhost.server.share import ALONE, Share, site_key, spares, worker_directories
from mailhost.spool.lock import QueueLock
from mailhost.workers.lender import Lender
from tests.support.world import World, make_settings


@define(eq=False)
class FakeLending:
    """Lends when the test says so."""

    asked: list[Deferred[None]] = field(factory=list)
    asked_now: list[Deferred[bool]] = field(factory=list)
    returned: int = 0

    def borrow(self, key: str) -> Deferred[None]:
        self.asked.append(Deferred())
        return self.asked[-1]

    def borrow_now(self, key: str) -> Deferred[bool]:
        self.asked_now.append(Deferred())
        return self.asked_now[-1]

    def give_back(self, key: str) -> None:
        self.returned += 1


def limited(most: int | None, per_domain: int | None) -> VirtualServerSettings:
    settings = make_settings()
    connections = OutboundConnections(max=most, max_per_domain=per_domain)
    return evolve(settings, delivery=evolve(settings.delivery, connections=connections))


class ShareTests(SynchronousTestCase):
    def test_parts_and_what_is_left(self) -> None:
        """Whatever the limit and the number of workers, parts and spare are the limit."""
        for limit in (1, 2, 7, 100, 1000):
            for count in (1, 2, 3, 64):
                shares = [Share(number, count) for number in range(count)]
                parts = [share.part(limit) or 0 for share in shares]
                self.assertEqual(limit, sum(parts) + shares[0].spare(limit))
                small = [share.small_part(limit) or 0 for share in shares]
                self.assertEqual(limit, sum(small) + shares[0].large_spare(limit))
        self.assertIsNone(Share(0, 3).part(None))
        self.assertIsNone(Share(0, 3).small_part(None))

    def test_spares_of_a_server(self) -> None:
        """Inbound and outbound connections are lent apart."""
        settings = evolve(limited(5, 100), max_connections=3)

        def of(one: VirtualServerSettings, workers: int, most: int | None = None) -> dict[str, int]:
            return spares(
                Settings(workers, None, max_outbound_connections=most, virtual_servers=(one,))
            )

        self.assertEqual(
            {"all out": 5, "in test": 3, "out test": 3, site_key("test"): 0}, of(settings, 2, 7)
        )
        self.assertEqual(1, of(limited(5, 1), 2)[site_key("test")])
        self.assertEqual({0}, set(of(settings, 1).values()))

    def test_terms(self) -> None:
        """100 per domain is 100 in all, a rate is a rate in all; alone nothing changes."""
        settings = limited(1000, 100)
        rates = RateLimits(messages=Rate(60, 60.0))
        terms = evolve(Terms.of(settings, make_categorizer(settings)), rates=rates)

        shared = Share(1, 4).terms(terms)

        self.assertEqual(25, shared.max_per_site)
        for limit, most in ((1, 1), (3, 3), (101, 26), (None, None)):
            few = Share(1, 4).terms(evolve(terms, max_per_site=limit))
            self.assertEqual(most, few.max_per_site)
        assert shared.rates.messages is not None
        self.assertEqual(0.25, shared.rates.messages.per_second)
        self.assertIs(terms, ALONE.terms(terms))

    def test_who_adopts(self) -> None:
        """A queue without its worker is adopted by one worker, by whichever number there is."""
        with TemporaryDirectory() as folder:
            settings = make_settings(home=Path(folder))
            for name in ("worker-1", "worker-2", "worker-5", "worker-x", "worker-07"):
                (settings.queue_directory / name).mkdir(parents=True)

            self.assertEqual([1, 2, 5], ALONE.orphans(settings))
            self.assertEqual(([2], [5]), tuple(Share(n, 2).orphans(settings) for n in (0, 1)))
            self.assertEqual([], Share(1, 6).orphans(settings))

    def test_directories(self) -> None:
        """The first worker has what a single process has."""
        settings = make_settings(home=Path("home"))

        self.assertEqual(
            (Path("home/Queue"), Path("home/SortTemp")), worker_directories(settings, 0)
        )
        self.assertEqual(
            (Path("home/Queue/worker-3"), Path("home/SortTemp/worker-3")),
            worker_directories(settings, 3),
        )


class SharedSlotsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lending = FakeLending()
        self.slots = SharedSlots(Portion(1, self.lending, "out one"))
        self.granted: list[str] = []

    def take(self, holder: str) -> bool:
        return self.slots.take(holder, lambda: self.granted.append(holder))

    def test_own_part_first(self) -> None:
        """Only what is beyond the own part is borrowed, one at a time, and given back at once."""
        self.assertTrue(self.take("a"))
        self.assertFalse(self.take("b"))
        self.assertFalse(self.take("c"))
        self.assertEqual(1, len(self.lending.asked))

        self.lending.asked[0].callback(None)
        self.assertEqual(["b"], self.granted)
        self.assertEqual(2, len(self.lending.asked))
        self.slots.leave("c")
        self.slots.give_back("a")

        self.assertEqual((1, 1), (self.lending.returned, self.slots.portion.used))

    def test_not_needed_any_more(self) -> None:
        """A loan that comes too late goes back."""
        self.take("a"), self.take("b")
        self.slots.give_back("a")
        self.assertEqual(["b"], self.granted)

        self.lending.asked[0].callback(None)

        self.assertEqual(1, self.lending.returned)

    def test_larger_part(self) -> None:
        """A limit that was raised serves those who wait."""
        self.take("a"), self.take("b")

        self.slots.configure(2, 4)

        self.assertEqual(["b"], self.granted)

    def test_borrowed_is_wanted(self) -> None:
        """A borrowed connection is not kept idle: other workers may wait for it."""
        self.take("a"), self.take("b")
        self.assertTrue(self.slots.is_wanted())
        self.lending.asked[0].callback(None)
        self.assertTrue(self.slots.is_wanted())

        self.slots.give_back("b")

        self.assertFalse(self.slots.is_wanted())

    def test_below_the_slots_of_a_relay(self) -> None:
        """It is the pool of a relay's own slots."""
        lower = Slots(10, pool=self.slots)
        taken = [lower.take(name, lambda name=name: self.granted.append(name)) for name in "ab"]
        self.lending.asked[0].callback(None)

        self.assertEqual(([True, False], ["b"]), (taken, self.granted))
        lower.give_back("a"), lower.give_back("b")
        self.assertEqual((0, 1), (self.slots.portion.used, self.lending.returned))


@define(eq=False)
class OneWorker:
    """What a worker has of the supervisor's lender, without the way between."""

    lender: Lender
    number: int

    def borrow(self, key: str) -> Deferred[None]:
        return self.lender.borrow(key, self.number)

    async def borrow_now(self, key: str) -> bool:
        return self.lender.borrow_now(key, self.number)

    def give_back(self, key: str) -> None:
        self.lender.give_back(key, self.number)


class SiteShareTests(SynchronousTestCase):
    """DEL-32, where several workers deliver to one domain."""

    def setUp(self) -> None:
        self.lender = Lender()
        self.granted: list[int] = []

    def workers(self, limit: int, count: int, all_sites: int = 10) -> list[SiteShare]:
        share = Share(count=count)
        self.lender.set_spares({site_key("one"): share.spare(limit)})
        key = site_key("one", "example.net")
        return [
            SiteShare(
                Portion(share.part(limit), OneWorker(self.lender, number), key), Slots(all_sites)
            )
            for number in range(count)
        ]

    def take(self, workers: list[SiteShare], number: int) -> bool:
        return workers[number].take(number, lambda: self.granted.append(number))

    def open_count(self, workers: list[SiteShare]) -> int:
        return sum(one.slots.open_count for one in workers)

    def test_fewer_than_workers(self) -> None:
        """A limit of 1 is 1 in all, and every worker has its turn."""
        workers = self.workers(1, 3)
        self.assertEqual([False] * 3, [self.take(workers, number) for number in range(3)])
        self.assertEqual((1, [0]), (self.open_count(workers), self.granted))
        self.assertTrue(workers[0].is_wanted())

        workers[0].give_back(0)
        self.take(workers, 0)
        self.assertEqual((1, [0, 1]), (self.open_count(workers), self.granted))
        workers[1].give_back(1)
        workers[2].give_back(2)

        self.assertEqual((1, [0, 1, 2, 0]), (self.open_count(workers), self.granted))

    def test_never_more_than_the_limit(self) -> None:
        """Whoever takes and gives back in whatever order."""
        chance = Random(7)
        for limit, count in ((1, 2), (2, 4), (3, 2), (5, 3), (7, 8)):
            workers = self.workers(limit, count)
            for _ in range(400):
                number = chance.randrange(count)
                worker = workers[number]
                if chance.random() < 0.6:
                    self.take(workers, number)
                elif worker.slots.open_count:
                    worker.give_back(number)
                else:
                    worker.leave(number)
                self.assertLessEqual(self.open_count(workers), limit)
            for number, worker in enumerate(workers):
                worker.leave(number)
            for number, worker in enumerate(workers):
                while worker.slots.open_count:
                    worker.give_back(number)
            self.assertEqual(0, self.lender.lent(site_key("one", "example.net")))
            self.assertEqual([0] * count, [one.portion.used for one in workers])

    def test_one_for_all_sites(self) -> None:
        """What is admitted to its site may still have to wait for a connection at all."""
        (worker,) = self.workers(2, 1, all_sites=1)
        self.assertTrue(worker.slots.take("other", lambda: None))

        self.assertFalse(self.take([worker], 0))
        self.assertEqual("delivery.connections.max", worker.used_up().setting)
        self.assertTrue(worker.is_waiting(0))
        worker.slots.give_back("other")

        self.assertEqual(([0], False), (self.granted, worker.is_waiting(0)))

    def test_gone_while_admitted(self) -> None:
        """A site that wants nothing any more keeps nothing."""
        first, second = workers = self.workers(1, 2, all_sites=1)
        first.slots.take("other", lambda: None)
        self.take(workers, 0), self.take(workers, 1)
        self.assertEqual([], self.granted)

        first.leave(0)

        self.assertEqual([1], self.granted)
        self.assertEqual((0, 1), (first.portion.used, second.portion.used))


class SeveralQueuesTests(SynchronousTestCase):
    """One process that has its own queue and those it has adopted."""

    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = Path(folder.name)
        self.granted: list[str] = []

    def limits(self, per_domain: int) -> ConnectionLimits:
        settings = make_settings(home=self.home)
        connections = evolve(settings.delivery.connections, max_per_domain=per_domain)
        delivery = evolve(settings.delivery, connections=connections)
        return ConnectionLimits(evolve(settings, delivery=delivery), Share(), Clock())

    def take(self, site: SiteSlots, who: str) -> bool:
        return site.take(who, lambda: self.granted.append(who))

    def test_nothing_adopted(self) -> None:
        """Nobody counts twice where there is nobody to share with."""
        self.assertIsNone(self.limits(2).site_slots)

    def test_in_all(self) -> None:
        """DEL-32: a limit of two to one domain is two in all, and who waits has his turn."""
        (self.home / "Queue" / "worker-1").mkdir(parents=True)
        limits = self.limits(2)
        assert limits.site_slots is not None
        own, adopted = (limits.site_slots("example.net", Slots(10)) for _ in range(2))
        elsewhere = limits.site_slots("example.org", Slots(10))

        self.assertTrue(self.take(own, "own"))
        self.assertTrue(self.take(own, "own"))
        self.assertFalse(self.take(adopted, "adopted"))
        self.assertTrue(self.take(elsewhere, "elsewhere"))
        self.assertTrue(own.is_wanted())
        self.assertTrue(own.is_over_share("own"))
        self.assertEqual("delivery.connections.max_per_domain", adopted.used_up().setting)

        own.give_back("own")
        self.assertEqual(["adopted"], self.granted)
        self.assertFalse(own.is_over_share("own"))
        self.assertFalse(self.take(own, "own"))
        own.leave("own")
        adopted.give_back("adopted")
        self.assertEqual(["adopted"], self.granted)
        self.assertTrue(self.take(adopted, "adopted"))

    def test_raised(self) -> None:
        """A reload that raises the limit serves who waits."""
        (self.home / "Queue" / "worker-1").mkdir(parents=True)
        limits = self.limits(1)
        assert limits.site_slots is not None
        own, adopted = (limits.site_slots("example.net", Slots(10)) for _ in range(2))
        self.take(own, "own"), self.take(adopted, "adopted")
        self.assertEqual([], self.granted)

        settings = make_settings(home=self.home)
        limits.configure(settings)

        self.assertEqual(["adopted"], self.granted)


class SharedReceptionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lending = FakeLending()
        self.world = World()
        self.portion = Portion(0, self.lending, "in one")

    def connect(self) -> tuple[SharedReception, Deferred[object]]:
        reception = SharedReception(self.world.desk, SessionFacts("1", "192.0.2.7"), self.portion)
        return reception, Deferred.fromCoroutine(reception.connected())  # type: ignore[arg-type]  # it has to ask

    def test_refused(self) -> None:
        """GEN-06: where all workers together have the limit, 421."""
        reception, asked = self.connect()
        self.lending.asked_now[0].callback(False)

        self.assertEqual(421, self.successResultOf(asked).code)  # type: ignore[attr-defined]  # a Reply
        reception.disconnected()
        self.assertEqual(0, self.lending.returned)

    def test_let_in_and_gone(self) -> None:
        """What was borrowed for a session goes back with it."""
        reception, asked = self.connect()
        self.lending.asked_now[0].callback(True)
        self.assertEqual(250, self.successResultOf(asked).code)  # type: ignore[attr-defined]  # a Reply

        reception.disconnected()

        self.assertEqual((1, 0), (self.lending.returned, self.portion.used))

    def test_gone_while_asking(self) -> None:
        """A client that does not wait for the answer keeps nothing."""
        reception, _ = self.connect()
        reception.disconnected()
        self.lending.asked_now[0].callback(True)

        self.assertEqual((1, 0), (self.lending.returned, self.portion.used))


class RemoveTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.queue, self.parts = Path(folder.name) / "queue", Path(folder.name) / "parts"
        self.queue.mkdir(), self.parts.mkdir()
        for name in ("queue.sqlite", "queue.sqlite-wal", "queue.sqlite-shm", "ballast", "lock"):
            (self.queue / name).touch()

    def test_removed(self) -> None:
        """What the spool has made goes, with its directories."""
        self.assertTrue(remove_queue(self.queue, self.parts))
        self.assertEqual((False, False), (self.queue.exists(), self.parts.exists()))

    def test_foreign_file(self) -> None:
        """A file that is not the spool's keeps everything where it is."""
        (self.queue / "corrupt").mkdir()

        self.assertFalse(remove_queue(self.queue, self.parts))
        self.assertTrue((self.queue / "queue.sqlite").exists())

    def test_in_use(self) -> None:
        """A queue that somebody has opened meanwhile is left alone."""
        lock = QueueLock(self.queue / "lock")
        self.addCleanup(lock.release)

        self.assertFalse(remove_queue(self.queue, self.parts))
        self.assertTrue((self.queue / "queue.sqlite").exists())
