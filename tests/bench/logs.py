"""
What each kind of log costs: mailhost against itself, 4 KB messages, kept connections.
"""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.contestants import Contestant, start_mailhost
from tests.bench.throughput import Figures, Scenario, run_once

_SCENARIO = Scenario("relay 4 KB, kept connections", 4096, kept=True)
#: The first is what the others are compared with.
_KINDS = (
    Contestant("text, as shipped", partial(start_mailhost, 1)),
    Contestant("no log of messages", partial(start_mailhost, 1, log={"level": "warn"})),
    Contestant("JSON", partial(start_mailhost, 1, log={"format": "json"})),
    Contestant(
        "protocol log, W3C, all fields",
        partial(start_mailhost, 1, protocol_log={"format": "w3c", "fields": ["all"]}),
    ),
    Contestant(
        "protocol log, SQLite", partial(start_mailhost, 1, protocol_log={"format": "sqlite"})
    ),
)


def measure(rounds: int, count: int) -> None:
    """All kinds in turn, round after round; prints medians, and ratios to the first."""
    found: dict[str, list[Figures]] = {one.name: [] for one in _KINDS}
    for _ in range(rounds):
        for one in _KINDS:
            with TemporaryDirectory(prefix="bench") as folder:
                found[one.name].append(run_once(one, _SCENARIO, count, Path(folder)))
    plain = found[_KINDS[0].name]
    for name, runs in found.items():
        rate = statistics.median(run.rate for run in runs)
        cpu = statistics.median(run.cpu for run in runs)
        # Each run beside that of the same round: the machine changes from minute to minute.
        times = [run.rate / one.rate for run, one in zip(runs, plain, strict=True)]
        works = [run.cpu / one.cpu for run, one in zip(runs, plain, strict=True)]
        print(
            f"{name:32}{rate:8.0f}{cpu:8.2f}"
            f"{statistics.median(times):7.2f}{statistics.median(works):7.2f}",
            flush=True,
        )
