"""
One world: the whole server among hosts, clients, disks and clocks that fail, from a seed.

What is real: sessions, reception, desk, relay manager with all its rooms, settlement, reports.
What is played: octets on their way, other hosts, DNS, the disk, Drop, Badmail and the time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from random import Random
from typing import Any, cast
from unittest.mock import patch

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, globalLogPublisher

from mailhost.config.settings import QueueKeys, VirtualServerSettings
from mailhost.intake.desk import Desk
from mailhost.intake.reception import Reception
from mailhost.net.factory import ESMTPFactory
from mailhost.relay import settlement
from mailhost.relay.mail_exchange import MailExchangeResolver
from mailhost.relay.manager import RelayManager
from mailhost.relay.terms import Terms
from mailhost.routing.categorizer import make_categorizer
from mailhost.smtp.rules import Rules
from mailhost.spool.badmail import Badmail
from tests.simulation.clients import Client
from tests.simulation.disk import Disk, LifeQueue
from tests.simulation.hosts import Internet
from tests.simulation.machine import BadmailShelf, Drop, Names, Shelves
from tests.simulation.plan import DomainPlan, Plan, draw_plan
from tests.simulation.timeline import EndlessWorld, LifeReactor, Timeline

#: A server that was told to end in good order has done so by then.
_STOP_SECONDS = 700.0
_GRACE_SECONDS = 30.0
_GOODBYE_SECONDS = 40.0


@frozen
class _Window:
    max_active: int
    max_messages: int | None = None


@define(eq=False)
class Life:
    """One process of the server."""

    number: int
    reactor: LifeReactor
    store: LifeQueue
    relay: RelayManager
    desk: Desk
    factory: ESMTPFactory
    stopping: bool = False


@define(eq=False)
class World:
    """
    :ivar acknowledged: recipients that the server has promised to serve.
    :ivar life: the process there is; `None`: there is none now.
    :ivar problems: what went wrong while it was going on.
    """

    plan: Plan
    timeline: Timeline = field(factory=Timeline)
    random: Random = field(init=False)
    internet: Internet = field(init=False)
    disk: Disk = field(init=False)
    shelves: Shelves = field(factory=Shelves)
    acknowledged: set[str] = field(factory=set)
    clients: set[Client] = field(factory=set)
    life: Life | None = None
    lives: list[Life] = field(factory=list)
    problems: list[str] = field(factory=list)
    settings: VirtualServerSettings = field(init=False)
    _all_clients: list[Client] = field(factory=list)
    _events_left: int = 0

    def __attrs_post_init__(self) -> None:
        self.random = Random(f"chance {self.plan.seed}")
        self.internet = Internet(
            self.timeline, self.random, {one.address: one for one in self.plan.hosts}
        )
        self.disk = Disk(self.timeline)
        self.settings = self.plan.settings[0][1]

    # ---- chance

    def strikes(self, name: str) -> bool:
        """Whether an operation of this machine is in trouble now."""
        elapsed = self.timeline.elapsed
        troubles = self.plan.troubles.get(name, ())
        return any(one.strikes(elapsed, self.random) for one in troubles)

    def _dns_trouble(self, domain: DomainPlan) -> bool:
        elapsed = self.timeline.elapsed
        return any(one.strikes(elapsed, self.random) for one in domain.troubles)

    # ---- the server

    @property
    def factory(self) -> ESMTPFactory | None:
        """Takes connections, if there is a server that does."""
        life = self.life
        return life.factory if life is not None and not life.stopping else None

    def begin_life(self) -> None:
        """The server starts."""
        number = len(self.lives) + 1
        reactor = LifeReactor(self.timeline)
        draw = self.random.random
        store = LifeQueue(self.disk, self.plan, reactor, self.strikes, draw, number)
        names = Names(self.plan, self.timeline, reactor, self._dns_trouble, draw)
        seconds = self.plan.store_seconds
        directories = (self.shelves, self.timeline, reactor, self.strikes, seconds, number)
        categorizer = make_categorizer(self.settings)
        relay = RelayManager(
            store,
            self._exchanges(names, reactor),
            reactor,
            self._terms(),
            Drop(*directories),
            cast("Badmail", BadmailShelf(*directories)),
            random=self.random,
        )
        relay._line.connect = self.internet.connector(reactor, number)
        desk = Desk(self.settings, categorizer, store, names, reactor, relay.accept)
        factory = ESMTPFactory(
            lambda session: Reception(desk, session),
            cast("Any", reactor),
            Rules(self.settings.fqdn, max_message_octets=None),
            self.settings.connection_timeout,
        )
        self.life = Life(number, reactor, store, relay, desk, factory)
        self.lives.append(self.life)
        relay.start()

    def _terms(self) -> Terms:
        terms = Terms.of(self.settings, make_categorizer(self.settings))
        terms.queue = cast("QueueKeys", _Window(self.plan.max_active))
        return terms

    def _exchanges(self, names: Names, reactor: LifeReactor) -> MailExchangeResolver:
        return MailExchangeResolver(
            names,
            cast("Any", reactor),
            own_names=frozenset({self.settings.fqdn}),
            random=self.random,
        )

    def kill(self) -> None:
        """The process is gone, in the middle of whatever it did."""
        life, self.life = self.life, None
        if life is None:
            return
        life.reactor.kill()
        self.internet.kill(life.number)
        for client in list(self.clients):
            client.killed()

    def end_life(self, then: Callable[[], None]) -> None:
        """The process ends in good order; it may be killed meanwhile."""
        life = self.life
        if life is None or life.stopping:
            then()
            return
        life.stopping = True
        ended: list[Deferred[Any]] = [life.factory.end_sessions()]
        for client in list(self.clients):
            client.lost()
        ended.append(life.relay.stop(_GRACE_SECONDS))
        self._wait_for_end(life, ended, self.timeline.elapsed + _STOP_SECONDS, then)

    def _wait_for_end(
        self, life: Life, ended: list[Deferred[Any]], until: float, then: Callable[[], None]
    ) -> None:
        if life.reactor.dead:
            then()
        elif all(one.called for one in ended):
            # Whoever was told goodbye may take his time to answer.
            self.timeline.callLater(_GOODBYE_SECONDS, self._has_ended, life, then)
        elif self.timeline.elapsed > until:
            self.problems.append(f"life {life.number} does not end")
            self.kill()
            then()
        else:
            self.timeline.callLater(1.0, self._wait_for_end, life, ended, until, then)

    def _has_ended(self, life: Life, then: Callable[[], None]) -> None:
        """Nothing is planned, nothing is open."""
        if life.reactor.dead:
            then()
            return
        for call in life.reactor.getDelayedCalls():
            self.problems.append(f"life {life.number} has left a timer: {call.func.__qualname__}")
        if any(wire.life == life.number for wire in self.internet.wires):
            self.problems.append(f"life {life.number} has left a connection")
        life.reactor.kill()
        self.internet.kill(life.number)
        self.life = None
        then()

    def acknowledge(self, paths: list[str]) -> None:
        """A client has read the 250 to its final dot."""
        self.acknowledged.update(paths)

    # ---- what happens

    def _restart(self, kill: bool, seconds: float) -> None:
        def again() -> None:
            self.timeline.callLater(seconds, self._come_back)

        if kill:
            self.kill()
            again()
        else:
            self.end_life(again)

    def _come_back(self) -> None:
        self._events_left -= 1
        if self.life is None:
            self.begin_life()

    def _reconfigure(self, settings: VirtualServerSettings) -> None:
        self._events_left -= 1
        self.settings = settings
        if self.life is not None:
            categorizer = make_categorizer(settings)
            self.life.desk.settings, self.life.desk.categorizer = settings, categorizer
            self.life.relay.configure(self._terms())

    def _jump(self, seconds: float) -> None:
        self._events_left -= 1
        self.timeline.jump(seconds)

    def _plan_all(self) -> None:
        plan, call_at = self.plan, self.timeline.call_at
        for message in plan.messages:
            client = Client(self, message)
            self._all_clients.append(client)
            call_at(message.at, client.submit)
        for at, kill, seconds in plan.restarts:
            call_at(at, self._restart, kill, seconds)
        for at, settings in plan.settings[1:]:
            call_at(at, self._reconfigure, settings)
        for at, seconds in plan.jumps:
            call_at(at, self._jump, seconds)
        self._events_left = len(plan.restarts) + len(plan.settings) - 1 + len(plan.jumps)

    def run(self) -> None:
        """Until nothing is left to do, or it takes too long."""
        self.begin_life()
        self._plan_all()
        while not self._is_over():
            if self.timeline.elapsed > self.plan.end or not self.timeline.calls:
                self._hangs()
                break
            self.timeline.step()
            self._damage()
        over: list[bool] = []
        self.end_life(lambda: over.append(True))
        while not over:
            self.timeline.step()

    def _is_over(self) -> bool:
        return (
            not self._events_left
            and all(client.done for client in self._all_clients)
            and not self.clients
            and not self.disk.queue.messages
        )

    def _hangs(self) -> None:
        waiting = [
            f"{message.queue_id}:{recipient.forward_path} due {recipient.due_at:.0f}"
            for message in self.disk.queue.messages.values()
            for recipient in message.recipients.values()
        ]
        now = self.timeline.seconds()
        self.problems.append(
            f"at {now:.0f} there still wait {waiting}, {len(self.clients)} clients"
        )

    def _damage(self) -> None:
        """The disk loses the contents that it is to lose, as soon as it has them."""
        numbers = {one.number for one in self.plan.messages if one.damaged}
        if not numbers:
            return
        for one in self.disk.accepted.values():
            if not one.about and int(one.paths[0][1:].partition("t")[0]) in numbers:
                self.disk.damaged.add(one.queue_id)

    def digest(self) -> str:
        """What happened; the same for the same seed."""
        story = [
            *((one.elapsed, one.path, one.outcome.fate.value) for one in self.disk.recorded),
            *((one.elapsed, one.host, one.paths, one.taken) for one in self.internet.dots),
            sorted(self.acknowledged),
            self.shelves.bad,
        ]
        return hashlib.sha256(repr(story).encode()).hexdigest()


#: Words of the log about failures that a world makes by itself.
_FORESEEN = "nobody has foreseen this"


def run_world(seed: int) -> World:
    """The world called *seed*, from its beginning to its end."""
    world = World(draw_plan(seed))

    def observe(event: Any) -> None:
        failure = event.get("log_failure")
        if event["log_level"] is LogLevel.critical and _FORESEEN not in str(failure):
            world.problems.append(f"in the log: {failure.getTraceback() if failure else event}")

    globalLogPublisher.addObserver(observe)
    try:
        with patch.object(settlement, "secrets", _Secrets(world.random)):
            world.run()
    except EndlessWorld as problem:
        world.problems.append(str(problem))
    finally:
        globalLogPublisher.removeObserver(observe)
    return world


@define
class _Secrets:
    """The chance in reports is the world's."""

    random: Random

    def token_bytes(self, count: int) -> bytes:
        return self.random.randbytes(count)
