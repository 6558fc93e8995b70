"""
How fast, beside Postfix on the same machine in the same run.

``python -m tests.bench [--rounds N] [--messages N] [--only WORDS]``: each scenario is run
alternately against each server; the tables have medians, and the ratio to Postfix's.
Everything is on loopback; each server is durable before its 250; what is relayed goes to
smtp-sink, or, where the scenario is ``light``, to a sink of ours.  CPU is that of all processes
of the server, per message.  ``--only logs`` compares mailhost with itself: what each kind of log
costs.
"""

from __future__ import annotations

import argparse
import os

from tests.bench import idle, latency, logs, parsing, queue, throughput
from tests.bench.contestants import MAILHOST, POSTFIX

_IDLE_SESSIONS = 5000
#: Postfix has a process for each.
_IDLE_SESSIONS_OF_POSTFIX = 90
#: About half of what each does at most (see the first scenario).
_RATES = {MAILHOST: 500.0, POSTFIX: 250.0}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--queued", type=int, default=1_000_000, help="of the scenario 'queue'")
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    others = parser.add_mutually_exclusive_group()
    others.add_argument("--without-postfix", action="store_true")
    others.add_argument("--all", action="store_true", help="Exim and OpenSMTPD take part as well")
    given = parser.parse_args()
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.2f}, {given.rounds} rounds\n")
    print(f"{'scenario':32}{'server':21}{'msg/s':>8}{'MB/s':>8}{'CPU ms':>8}{'ratio':>7}")
    for scenario in throughput.SCENARIOS:
        if given.only in scenario.name:
            taking_part = [
                one
                for one in scenario.contestants
                if not (one is POSTFIX and given.without_postfix)
            ]
            if given.all and scenario.key is None:
                taking_part += throughput.OTHERS
            count = int(given.messages * scenario.share)
            throughput.measure(scenario, taking_part, given.rounds, count)
    contestants = [MAILHOST] if given.without_postfix else [MAILHOST, POSTFIX]
    if given.only == "logs":
        logs.measure(given.rounds, given.messages)
    if given.only in "parsing":
        parsing.measure()
    if given.only in "latency":
        for one in contestants:
            latency.measure(one, _RATES[one], given.messages)
    if given.only in "idle":
        for one in contestants:
            idle.measure(one, _IDLE_SESSIONS_OF_POSTFIX if one is POSTFIX else _IDLE_SESSIONS)
    if given.only in "queue":
        queue.measure(given.queued, given.messages)


if __name__ == "__main__":
    main()
