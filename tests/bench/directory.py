"""
Decisions about addresses with a real slapd of 10,000 people.

By hand: ``python -m tests.bench.directory``.

Prints look-ups a second, cold (each address for the first time) and warm (each cached), the
time of one group of 5,000, and the longest time for which the reactor stood still meanwhile.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import ldap3  # type: ignore[import-untyped]
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from mailhost.directory.link import Connect, connection_to
from mailhost.directory.resolver import LDAPAddressResolver, Limits
from mailhost.garbage import set_apart
from mailhost.model.address import Mailbox
from mailhost.model.directory import GroupRef
from tests.support.slapd import AD, MISSING, SHARED, group


def _address(number: int) -> Mailbox:
    return Mailbox(f"user{number:05}", "ad.example.com")


@define(eq=False)
class Pauses:
    """
    How long the reactor's turns take.

    :ivar longest: seconds between two looks that are a millisecond apart when it is idle.
    """

    reactor: Any
    found: list[float] = field(factory=list)
    collecting: list[float] = field(factory=list)
    _last: float = 0.0
    _began: float = 0.0
    _call: Any = None

    def start(self) -> None:
        self._last = time.perf_counter()
        self._call = self.reactor.callLater(0.001, self._look)
        gc.callbacks.append(self._collect)

    def _collect(self, phase: str, info: object) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.collecting.append(time.perf_counter() - self._began)

    def _look(self) -> None:
        now = time.perf_counter()
        self.found.append(now - self._last - 0.001)
        self._last = now
        self._call = self.reactor.callLater(0.001, self._look)

    def stop(self) -> str:
        self._call.cancel()
        gc.callbacks.remove(self._collect)
        ordered = sorted(self.found)
        centile = ordered[int(len(ordered) * 0.99)]
        return (
            f"reactor late: median {1000 * statistics.median(ordered):.1f} ms, "
            f"99 % {1000 * centile:.1f} ms, longest {1000 * ordered[-1]:.1f} ms; "
            f"longest garbage collection {1000 * max(self.collecting, default=0.0):.1f} ms"
        )


async def _measured(reactor: Any, what: str, count: int, work: Coroutine[Any, Any, Any]) -> None:
    pauses = Pauses(reactor)
    pauses.start()
    began, cpu = time.perf_counter(), time.process_time()
    await work
    took, used = time.perf_counter() - began, time.process_time() - cpu
    print(
        f"{what:34} {count / took:10,.0f}/s  {1000 * used / count:7.3f} ms CPU each  "
        f"{pauses.stop()}",
        flush=True,
    )


async def _in_flight(ask: Callable[[int], Any], count: int, most: int) -> None:
    """Ask *count* times, *most* at a time."""
    waiting: list[Awaitable[Any]] = []
    for number in range(count):
        answer = ask(number)
        if isinstance(answer, Deferred):
            waiting.append(answer)
        if len(waiting) >= most:
            await waiting.pop(0)
    for one in waiting:
        await one


async def _warm(resolver: LDAPAddressResolver, count: int, rounds: int) -> None:
    """As a busy server would: a hundred in a turn of the reactor."""
    for _ in range(rounds):
        for start in range(0, count, 100):
            for number in range(start, start + 100):
                resolver.resolve(_address(number))
            turn: Deferred[None] = Deferred()
            resolver.reactor.callLater(0, turn.callback, None)
            await turn


def _copying(server: Any, terms: Any) -> Any:
    """The same connection with ``SAFE_SYNC``, which copies each answer."""
    usual = connection_to(server, terms)
    return ldap3.Connection(
        usual.server,
        client_strategy=ldap3.SAFE_SYNC,
        read_only=True,
        auto_referrals=False,
        auto_range=False,
        check_names=False,
        auto_escape=False,
        return_empty_attributes=False,
        receive_timeout=usual.receive_timeout,
    )


async def run(reactor: Any, count: int, connect: Connect, threads: int) -> None:
    slapd = SHARED.get()
    set_apart()  # as the service does
    limits = Limits(threads=threads)
    resolver = LDAPAddressResolver(reactor, [slapd.url], AD, limits=limits, connect=connect)
    print(f"{threads} connections")
    lookup = resolver.resolve
    await _measured(
        reactor, "cold, 50 at a time", count, _in_flight(lambda n: lookup(_address(n)), count, 50)
    )
    await _measured(reactor, "warm", 20 * count, _warm(resolver, count, 20))
    ref = GroupRef(group("everybody"), Mailbox("everybody", "ad.example.com"))
    await _measured(
        reactor, "one group, members", 5000, _in_flight(lambda n: resolver.expand(ref), 1, 1)
    )
    resolver.forget()

    def mixed(number: int) -> Any:
        if number % 1000 == 0:
            return resolver.expand(ref)
        return lookup(_address(number))

    await _measured(reactor, "cold with groups, look-ups", count, _in_flight(mixed, count, 50))
    print(resolver.statistics)
    await resolver.stop()


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.directory", description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--copying", action="store_true", help="with ldap3's SAFE_SYNC")
    given = parser.parse_args()
    if MISSING:
        parser.exit(1, MISSING + "\n")
    connect = _copying if given.copying else connection_to
    react(lambda reactor: Deferred.fromCoroutine(run(reactor, given.count, connect, given.threads)))


if __name__ == "__main__":
    main()
