"""Outbound connections of several virtual servers below one limit: `max_outbound_connections`."""

from __future__ import annotations

from random import Random
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailhost.relay.slots import Slots
from mailhost.server.limits import AllOutgoing
from mailhost.server.portion import Portion, SharedSlots
from mailhost.server.share import ALL_OUTGOING, Share, outgoing_key
from mailhost.spool.memory import MemoryQueue
from mailhost.workers.lender import Lender
from tests.relay.peers import SchedulingTestCase
from tests.support.world import make_settings


@define(eq=False)
class Way:
    """
    A worker's way to the supervisor's lender: what is said on it arrives later.

    :ivar said: what has not arrived yet, in order.
    """

    lender: Lender
    number: int
    said: list[Any] = field(factory=list)

    def borrow(self, key: str) -> Deferred[None]:
        lent: Deferred[None] = Deferred()
        answer = self.lender.borrow
        self.said.append(
            lambda: answer(key, self.number).addCallback(
                lambda nothing: self.said.append(lambda: lent.callback(None))
            )
        )
        return lent

    def borrow_now(self, key: str) -> Deferred[bool]:
        raise NotImplementedError("who connects to other hosts waits in line")

    def give_back(self, key: str) -> None:
        self.said.append(lambda: self.lender.give_back(key, self.number))

    def arrive(self) -> bool:
        """One thing that was said; whether there was any."""
        if self.said:
            self.said.pop(0)()
        return bool(self.said)


@define(eq=False)
class Site:
    """Mail that always wants a connection more, until it is told to stop."""

    slots: Slots
    held: int = 0
    wants: bool = True

    def take(self) -> None:
        if self.wants and self.slots.take(self, self.granted):
            self.held += 1

    def granted(self) -> None:
        self.held += 1

    def give_back(self) -> None:
        if self.held:
            self.held -= 1
            self.slots.give_back(self)

    def end(self) -> None:
        self.wants = False
        self.slots.leave(self)


class World:
    """Workers, in each of them virtual servers, each of them with two sites."""

    def __init__(self, of_all: int | None, of_each: int | None, workers: int, servers: int) -> None:
        self.lender = Lender()
        share = Share(count=workers)
        spares = {ALL_OUTGOING: share.large_spare(of_all)}
        spares |= {outgoing_key(str(n)): share.large_spare(of_each) for n in range(servers)}
        self.lender.set_spares(spares)
        self.spares = spares
        self.ways = [Way(self.lender, number) for number in range(workers)]
        self.sites: dict[tuple[int, int], list[Site]] = {}
        self.all: list[AllOutgoing] = []
        for number, way in enumerate(self.ways):
            share = Share(number, workers, lending=way if workers > 1 else None)
            outgoing = AllOutgoing(of_all, share)
            self.all.append(outgoing)
            for server in range(servers):
                portion = Portion(
                    share.small_part(of_each), share.lending, outgoing_key(str(server))
                )
                shared = SharedSlots(portion, of_each, pool=outgoing.slots)
                slots = Slots(of_each, pool=shared)
                self.sites[number, server] = [Site(slots) for _ in range(2)]

    def held_by(self, server: int) -> int:
        return sum(
            one.held for (_, of), sites in self.sites.items() if of == server for one in sites
        )

    def settle(self) -> None:
        """Until everything that was said has arrived."""
        for _ in range(10_000):
            said = [way.arrive() for way in self.ways]
            if not any(said):
                return
        raise AssertionError("what they say to each other has no end")


class LimitTests(SynchronousTestCase):
    def test_turns(self) -> None:
        """Who has all of them gives them up, one after another, to who has none."""
        world = World(8, 100, 1, 2)
        (busy, _), (quiet, _) = world.sites[0, 0], world.sites[0, 1]
        for _ in range(10):
            busy.take()
        self.assertTrue(busy.slots.is_waiting(busy))
        self.assertEqual("max_outbound_connections", busy.slots.used_up().setting)
        self.assertEqual(8, busy.slots.used_up().limit)
        # One is kept for who has none, and one for reports.
        quiet.take()
        self.assertEqual((6, 1), (busy.held, quiet.held))
        for held in (2, 3):
            quiet.take()
            while quiet.held < held:
                busy.take()
                self.assertTrue(busy.slots.is_over_share(busy))
                busy.give_back()
        self.assertEqual((3, 3), (busy.held, quiet.held))
        quiet.take()
        self.assertFalse(busy.slots.is_over_share(busy))

    def test_own_limit_first(self) -> None:
        """A virtual server's own limit holds below it, and is what is named."""
        world = World(100, 2, 1, 2)
        (site, _) = world.sites[0, 0]
        for _ in range(3):
            site.take()

        self.assertEqual(2, site.held)
        self.assertEqual("delivery.connections.max", site.slots.used_up().setting)

    def test_changed(self) -> None:
        """A higher limit serves those who wait, a lower one is reached as connections end."""
        world = World(2, None, 1, 1)
        (site, other) = world.sites[0, 0]
        for _ in range(3):
            site.take()
        self.assertEqual(2, site.held)
        world.all[0].configure(None)
        self.assertEqual(3, site.held)
        world.all[0].configure(1)
        site.give_back(), site.give_back()
        other.take()
        self.assertEqual((1, 0), (site.held, other.held))
        site.give_back()
        self.assertEqual(1, other.held)

    def test_idle_workers(self) -> None:
        """Who has all the work has nearly all connections, and gives them up when others come."""
        world = World(40, 40, 4, 1)
        busy, idle = world.sites[0, 0][0], world.sites[1, 0][0]
        for _ in range(100):
            busy.take()
            world.settle()
        # Three workers have parts of five, and of forty connections four are kept.
        self.assertEqual(25, busy.held)
        for _ in range(5):
            idle.take()
        self.assertEqual(5, idle.held)
        idle.take()
        world.settle()
        self.assertEqual(5, idle.held)
        self.assertTrue(busy.slots.is_wanted())
        # Both want one more, and have it in turn.
        for _ in range(2):
            busy.give_back()
            world.settle()
        self.assertEqual((24, 6), (busy.held, idle.held))

    def test_any_order(self) -> None:
        """Never more than a limit, in all and of each; nobody waits for what is free."""
        chance = Random(11)
        for of_all, of_each, workers, servers in (
            (1, 5, 1, 2), (5, 3, 1, 3), (7, None, 1, 2), (1, 1, 3, 2), (5, 4, 2, 2),
            (9, 3, 4, 3), (None, 3, 2, 2),
        ):  # fmt: skip
            world = World(of_all, of_each, workers, servers)
            everyone = [one for sites in world.sites.values() for one in sites]
            for _ in range(1500):
                site, way = chance.choice(everyone), chance.choice(world.ways)
                chance.choice((site.take, site.give_back, way.arrive, way.arrive))()
                held = [world.held_by(server) for server in range(servers)]
                self.assertLessEqual(sum(held), of_all or 10_000)
                self.assertLessEqual(max(held), of_each or 10_000)
            self.assert_ends(world, everyone)

    def assert_ends(self, world: World, everyone: list[Site]) -> None:
        """Each in turn has all it wants when the others have ended, and nothing is left over."""
        world.settle()
        for last in everyone:
            for one in everyone:
                one.wants = one is last
                if one is not last:
                    one.end()
                while one.held:
                    one.give_back()
                    world.settle()
            last.take()
            world.settle()
            self.assertGreaterEqual(last.held, 1)
        everyone[-1].end()
        while everyone[-1].held:
            everyone[-1].give_back()
        world.settle()
        self.assertEqual(0, sum(outgoing.slots.open_count for outgoing in world.all))
        self.assertEqual(0, sum(map(world.lender.lent, world.spares)))


class SchedulingTests(SchedulingTestCase):
    def test_two_virtual_servers(self) -> None:
        """One with thousands of messages leaves the other its half, and its first at once."""
        everything = AllOutgoing(12, Share())
        mine, others = (
            SharedSlots(Portion(1000, None, name), 1000, pool=everything.slots) for name in "ab"
        )
        self.relay = self.make_relay(make_settings(), mine)
        other = self.make_relay(make_settings(), others, MemoryQueue(self.clock.seconds))
        self.peers.usual_seconds = 1.0
        for number in range(2000):
            self.commit(f"r@d{number % 20}.example")
        self.run_for(20)
        self.assertGreaterEqual(everything.slots.open_count, 10)
        self.commit("r@quiet.example", relay=other)
        self.run_for(3)
        self.assertEqual(1, self.peers.count("mx.quiet.example"))
        for number in range(2000):
            self.commit(f"r@d{number % 20}.example", relay=other)
        self.run_for(60)

        self.assertLessEqual(abs(self.relay._slots.open_count - other._slots.open_count), 2)
        self.assertLessEqual(self.peers.most_in_all, 12)
