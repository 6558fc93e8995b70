"""
Worlds by hand.

``python -m tests.simulation SEED`` replays one; ``python -m tests.simulation --worlds N
[--first SEED]`` runs many and stops at nothing; each one that fails prints how to replay it.
"""

from __future__ import annotations

import argparse
import sys
import time

from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from tests.simulation.invariants import faults
from tests.simulation.plan import draw_plan
from tests.simulation.world import World, run_world


def replay_words(seed: int) -> str:
    """The command that shows the world called *seed* once more."""
    return f"python -m tests.simulation {seed}"


def main() -> int:
    """Run worlds; 1 when one of them is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", help="one world, with its log")
    parser.add_argument("--worlds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=1)
    given = parser.parse_args()
    return _one(given.seed) if given.seed is not None else _many(given.first, given.worlds)


def _one(seed: int) -> int:
    plan = draw_plan(seed)
    for part in (*plan.hosts, *plan.domains, *plan.messages, plan.restarts, plan.jumps):
        print(part)
    globalLogPublisher.addObserver(_print)
    world = run_world(seed)
    found = faults(world)
    print(_story(world))
    print("\n".join(found) or "nothing is wrong")
    return bool(found)


def _print(event: object) -> None:
    if event["log_level"] is not LogLevel.debug:  # type: ignore[index]  # upstream's dict
        print(event["log_time"] if False else "", formatEvent(event))  # type: ignore[index, arg-type]


def _story(world: World) -> str:
    disk = world.disk
    return (
        f"{world.timeline.elapsed / 3600:.1f} hours, {len(world.lives)} lives, "
        f"{len(disk.accepted)} messages, {len(world.acknowledged)} recipients acknowledged, "
        f"{len(disk.recorded)} outcomes, {len(world.internet.dots)} transactions, "
        f"{world.internet.connections} connections"
    )


def _many(first: int, count: int) -> int:
    began = time.monotonic()
    wrong = 0
    totals = [0] * 5
    for seed in range(first, first + count):
        world = run_world(seed)
        found = faults(world)
        disk = world.disk
        numbers = (
            len(disk.accepted),
            len(disk.recorded),
            len(world.internet.dots),
            len(world.lives),
            int(world.timeline.elapsed / 3600),
        )
        totals = [a + b for a, b in zip(totals, numbers, strict=True)]
        if found:
            wrong += 1
            print(f"{replay_words(seed)}:\n  " + "\n  ".join(found[:5]), flush=True)
    messages, outcomes, transactions, lives, hours = totals
    print(
        f"{count} worlds, {wrong} wrong, {time.monotonic() - began:.1f} s: {messages} messages, "
        f"{outcomes} outcomes, {transactions} transactions, {lives} lives, {hours} hours of theirs"
    )
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
