"""
What a world is made of: everything here is drawn from the seed before anything happens.

Times are seconds of the world's existence.  Troubles of this machine (store, Drop, Badmail)
end before `TROUBLES_END`; hosts and names may be in trouble for ever.
"""

from __future__ import annotations

from random import Random

from attrs import evolve, field, frozen

from mailhost.config.settings import DeliverySettings, VirtualServerSettings
from mailhost.model.access import AccessList
from mailhost.model.rate import Rate, RateLimits
from mailhost.model.route import NextHop
from mailhost.model.schedule import RetrySchedule
from tests.support.world import make_settings

LOCAL = "example.com"
TROUBLES_END = 5 * 3600.0
_PHASES = ("banner", "EHLO", "MAIL", "RCPT", "DATA", ".")
_SCHEDULES = (
    RetrySchedule((60,), None, 1800),
    RetrySchedule((60, 300, 900), 900, 7200),
    RetrySchedule((300, 1800), 3600, 8 * 3600),
    RetrySchedule((900, 1800, 3600, 14400), 12 * 3600, 2 * 86400),
)


@frozen
class Trouble:
    """*chance* of trouble from *start* to *end*."""

    start: float
    end: float
    chance: float

    def strikes(self, elapsed: float, random: Random) -> bool:
        return self.start <= elapsed < self.end and random.random() < self.chance


@frozen
class Manner:
    """
    How a host behaves from *start* on.

    :ivar connect: ``""`` it takes connections, ``"refused"``, or ``"timeout"``.
    :ivar faults: per phase, (chance, what): a reply, ``"hang up"`` or ``"silent"``; at the dot
        ``"taken, hang up"`` and ``"taken, silent"`` too.
    """

    start: float
    connect: str = ""
    faults: tuple[tuple[str, float, str], ...] = ()


@frozen
class HostPlan:
    address: str
    extensions: tuple[str, ...]
    latency_seconds: float
    manners: tuple[Manner, ...]


@frozen
class DomainPlan:
    """
    :ivar kind: ``"mx"``, ``"implicit"``, or for ever without a host: ``"nxdomain"``,
        ``"null mx"``, ``"no host"``.
    """

    name: str
    kind: str
    exchanges: tuple[tuple[int, str], ...] = ()
    troubles: tuple[Trouble, ...] = ()
    latency_seconds: float = 0.0

    @property
    def hopeless(self) -> bool:
        return self.kind in ("nxdomain", "null mx", "no host")


@frozen
class MessagePlan:
    """
    :ivar sender: domain of the reverse-path; empty: the null one.
    :ivar domains: of its recipients.
    :ivar body: ``"7BIT"`` or ``"8BITMIME"``.
    :ivar damaged: its content cannot be read back.
    :ivar hangs_up: its client is gone before the reply to the dot.
    """

    number: int
    at: float
    sender: str
    domains: tuple[str, ...]
    octets: int
    body: str
    damaged: bool
    hangs_up: bool


@frozen
class Plan:
    """
    :ivar settings: in force one after the other, with the time from which on.
    :ivar troubles: of the store, by operation, and of ``"drop"`` and ``"badmail"``.
    :ivar store_seconds: about so long an operation of the store takes.
    :ivar max_active: messages in memory; fewer than an operator may ask for, so that there is
        a backlog among a handful of messages.
    :ivar restarts: (when, whether it is a kill, how long it is gone).
    :ivar jumps: of the wall clock.
    """

    seed: int
    hosts: tuple[HostPlan, ...]
    host_addresses: dict[str, tuple[str, ...]]
    domains: tuple[DomainPlan, ...]
    settings: tuple[tuple[float, VirtualServerSettings], ...]
    messages: tuple[MessagePlan, ...]
    troubles: dict[str, tuple[Trouble, ...]]
    store_seconds: float
    max_active: int
    restarts: tuple[tuple[float, bool, float], ...]
    jumps: tuple[tuple[float, float], ...] = field(default=())

    @property
    def expirations(self) -> list[int]:
        return [
            schedule.expiration_seconds
            for _, settings in self.settings
            for schedule in (settings.delivery.outbound, settings.delivery.local)
        ]

    @property
    def end(self) -> float:
        """The queue must be empty by then: a message and a report about it have expired."""
        last = max([one.at for one in self.messages], default=0.0) + 3600
        jumps = sum(abs(seconds) for _, seconds in self.jumps)
        return max(last, TROUBLES_END) + 2 * max(self.expirations) + jumps + 12 * 3600


def draw_plan(seed: int) -> Plan:
    """The world called *seed*."""
    random = Random(seed)
    hosts = tuple(_host(random, number) for number in range(1, random.randint(1, 6) + 1))
    names = {f"mx{n}.example": (host.address,) for n, host in enumerate(hosts, 1)}
    if len(hosts) > 2 and random.random() < 0.4:
        names["mx1.example"] += (hosts[-1].address,)
    domains = _domains(random, sorted(names))
    for domain in domains:
        if domain.kind == "implicit":
            names[domain.name] = (random.choice(hosts).address,)
    plain = random.random() < 0.15  # nothing of ours fails
    restarts = random.choice((0, 0, 1, 1, 2, 3))
    return Plan(
        seed,
        hosts,
        names,
        domains,
        tuple(_settings(random, n, hosts) for n in range(random.choice((1, 1, 2, 3)))),
        tuple(_message(random, n, domains) for n in range(1, random.randint(2, 9))),
        {} if plain else {one: _troubles(random) for one in (*STORE_CALLS, "drop", "badmail")},
        random.choice((0.0, 0.0, 0.01, 0.5, 5.0)),
        random.choice((2, 5, 20000)),
        tuple(
            (
                random.uniform(0, random.choice((100, 5000))),
                random.random() < 0.7,
                random.choice((0.0, 1.0, 600.0)),
            )
            for _ in range(restarts)
        ),
        tuple(
            (random.uniform(0, 9000), random.choice((-86400, -3600, -60, 30, 3600, 86400)))
            for _ in range(random.choice((0, 0, 0, 1, 2)))
        ),
    )


#: Operations of the store that may fail.
STORE_CALLS = (
    "room",
    "commit",
    "load",
    "next",
    "counts",
    "open",
    "read",
    "record",
    "postpone",
    "quarantine",
)


def _troubles(random: Random) -> tuple[Trouble, ...]:
    found = []
    for _ in range(random.choice((0, 0, 0, 1, 2))):
        start = random.uniform(0, 7000)
        found.append(
            Trouble(
                start,
                min(start + random.choice((5, 60, 900, 7200)), TROUBLES_END),
                random.choice((0.2, 0.5, 1.0)),
            )
        )
    return tuple(found)


def _host(random: Random, number: int) -> HostPlan:
    offered = [
        one for one in ("PIPELINING", "SIZE", "8BITMIME", "CHUNKING") if random.random() < 0.7
    ]
    manners = [Manner(0.0)] if random.random() < 0.5 else [_manner(random, 0.0)]
    for _ in range(random.choice((0, 0, 1, 2))):
        manners.append(_manner(random, random.uniform(10, 7000)))
    if random.random() < 0.8:
        manners.append(Manner(random.uniform(100, 10000)))  # well again
    manners.sort(key=lambda one: one.start)
    return HostPlan(
        f"192.0.2.{number}", tuple(offered), random.choice((0.0, 0.01, 0.3, 2.0)), tuple(manners)
    )


def _manner(random: Random, start: float) -> Manner:
    connect = random.choice(("", "", "", "", "refused", "timeout"))
    faults = []
    for _ in range(random.choice((1, 1, 2, 3))):
        phase = random.choice((*_PHASES, "RCPT", ".", "."))
        faults.append((phase, random.choice((0.1, 0.3, 0.6, 1.0)), _fault(random, phase)))
    return Manner(start, connect, tuple(faults))


def _fault(random: Random, phase: str) -> str:
    said = {
        "banner": ("421 4.3.2 later", "554 5.3.2 no"),
        "EHLO": ("421 4.3.2 later", "502 5.5.1 what", "450 4.3.2 later"),
        "MAIL": ("421 4.3.2 later", "450 4.7.1 later", "550 5.7.1 not you", "452 4.3.1 full"),
        "RCPT": ("421 4.3.2 later", "450 4.2.0 grey", "550 5.1.1 nobody", "452 4.5.3 too many"),
        "DATA": ("421 4.3.2 later", "451 4.3.0 later", "554 5.5.1 no valid"),
        ".": (
            "421 4.3.2 later",
            "451 4.3.0 later",
            "552 5.3.4 big",
            "554 5.6.0 spam",
            "taken, hang up",
            "taken, silent",
        ),
    }
    return random.choice((*said[phase], "hang up", "silent"))


def _domains(random: Random, exchanges: list[str]) -> tuple[DomainPlan, ...]:
    found: list[DomainPlan] = []
    for number in range(1, random.randint(1, 6) + 1):
        kinds = ("mx", "mx", "mx", "mx", "mx", "implicit", "nxdomain", "null mx", "no host")
        kind = random.choice(kinds)
        count = random.randint(1, min(3, len(exchanges)))
        mx = tuple((random.choice((10, 10, 20)), one) for one in random.sample(exchanges, count))
        shared = [one for one in found if one.kind == "mx"]
        if shared and random.random() < 0.3:
            mx = random.choice(shared).exchanges
        slow = random.choice((0.0, 0.0, 0.2, 4.0))
        found.append(
            DomainPlan(
                f"d{number}.example", kind, mx if kind == "mx" else (), _troubles(random), slow
            )
        )
    return tuple(found)


def _settings(
    random: Random, number: int, hosts: tuple[HostPlan, ...]
) -> tuple[float, VirtualServerSettings]:
    base = make_settings()
    delivery: DeliverySettings = base.delivery
    hops = tuple(NextHop(one.address, literal=True) for one in hosts[:2])
    delivery = evolve(
        delivery,
        outbound=random.choice(_SCHEDULES),
        local=random.choice(_SCHEDULES[:3]),
        connections=evolve(
            delivery.connections,
            max=random.choice((1, 2, 5, 1000)),
            max_per_domain=random.choice((1, 2, 100)),
            timeout=random.choice((20, 60, 600)),
            first_per_domain=random.choice((1, 2, 5)),
        ),
        smart_host=hops if random.random() < 0.15 else (),
        direct_first=random.random() < 0.5,
        rates=RateLimits(messages=Rate(5, 60)) if random.random() < 0.1 else RateLimits(),
    )
    messages = evolve(
        base.messages,
        max_messages_per_connection=random.choice((1, 2, 20)),
        max_recipients=random.choice((10, 100)),
    )
    access = evolve(base.access, relay=AccessList.build(allow=True))
    return (
        0.0 if number == 0 else random.uniform(60, 7000),
        evolve(base, delivery=delivery, messages=messages, access=access),
    )


def _message(random: Random, number: int, domains: tuple[DomainPlan, ...]) -> MessagePlan:
    names = [LOCAL, *(one.name for one in domains)]
    sender = random.choice((LOCAL, LOCAL, random.choice(names), ""))
    return MessagePlan(
        number,
        random.uniform(0, random.choice((5, 300, 6000))),
        sender,
        tuple(random.choice(names) for _ in range(random.choice((1, 1, 2, 3, 6)))),
        random.choice((10, 100, 100, 3000, 90000)),
        random.choice(("7BIT", "7BIT", "8BITMIME")),
        random.random() < 0.02,
        random.random() < 0.05,
    )
