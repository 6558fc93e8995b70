"""
What one message costs, counted instead of timed: the same whatever else the machine does.

``python -m tests.bench.counting [--instructions] [--each] [--recipients N] [--octets N]``: the
service relays a few messages, and then a few more; the difference is what one of them costs.
Without ``--instructions``: bytecodes and calls of Python in the main thread, by file and by
function.  With it: instructions of all threads, by valgrind's cachegrind, which has to be
installed; they differ a little with how many messages happen to share a group.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import frozen

from tests.bench.contestants import Contestant, running, start_mailhost
from tests.bench.load import settled, smtp_sink
from tests.bench.throughput import Scenario, source
from tests.support.postfix_tools import PROJECT
from tests.support.process import reserve_port

_FEW, _MORE = 100, 400
_SHOWN = 40

Place = tuple[str, int, str]


@frozen
class Counted:
    """
    :ivar bytecodes: by function.
    :ivar calls: by function.
    """

    bytecodes: Counter[Place]
    calls: Counter[Place]


def relay(scenario: Scenario, count: int, folder: Path, run: Sequence[str]) -> None:
    """*count* messages through a service that *run* starts; returns when it has ended."""
    port, sink_port = reserve_port("127.0.0.1"), reserve_port("127.0.0.1")
    counted = Contestant("mailhost, counted", partial(start_mailhost, 1, run=run))
    with (
        smtp_sink(sink_port, folder / "sink") as sink,
        running(counted, folder, port, ("127.0.0.1", sink_port)) as server,
        source(server.address, scenario) as offer,
    ):
        offer(count)
        settled(sink, count)


def count_bytecodes(scenario: Scenario, count: int) -> Counted:
    """Of a whole run with *count* messages."""
    found = Counted(Counter(), Counter())
    with TemporaryDirectory(prefix="bench") as name:
        out = Path(name) / "counted"
        relay(scenario, count, Path(name), [sys.executable, "-m", "tests.bench.counted", str(out)])
        for line in out.read_text("utf-8").splitlines():
            file, first, function, bytecodes, calls = json.loads(line)
            place = _short(file), first, function
            found.bytecodes[place] += bytecodes
            found.calls[place] += calls
    return found


def _short(file: str) -> str:
    return re.sub(r".*/(site-packages|python3\.\d+)/", "", file.removeprefix(f"{PROJECT}/"))


def count_instructions(scenario: Scenario, count: int) -> int:
    """Of a whole run with *count* messages."""
    with TemporaryDirectory(prefix="bench") as name:
        out = Path(name) / "cachegrind"
        valgrind = ["valgrind", "--tool=cachegrind", "--cache-sim=no"]
        valgrind += [f"--cachegrind-out-file={out}", sys.executable]
        relay(scenario, count, Path(name), valgrind)
        return int(out.read_text("utf-8").rpartition("summary:")[2].split()[0])


def _tell(few: Counted, more: Counted, count: int) -> None:
    def each(of: Counter[Place], before: Counter[Place]) -> dict[Place, float]:
        return {place: (number - before[place]) / count for place, number in of.items()}

    bytecodes, calls = each(more.bytecodes, few.bytecodes), each(more.calls, few.calls)
    print(
        f"{sum(bytecodes.values()):.0f} bytecodes and {sum(calls.values()):.0f} calls a message\n"
    )
    by_file: Counter[str] = Counter()
    for (file, _, _), number in bytecodes.items():
        by_file[file] += round(number)
    for file, number in by_file.most_common(_SHOWN):
        print(f"{number:8} {file}")
    print()
    for place in sorted(bytecodes, key=lambda place: -bytecodes[place])[:_SHOWN]:
        file, line, function = place
        print(f"{bytecodes[place]:8.0f}{calls[place]:8.1f} {file}:{line} {function}")


def main() -> None:
    """Count, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.counting", description=__doc__)
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--each", action="store_true", help="a connection for each message")
    parser.add_argument("--recipients", type=int, default=1)
    parser.add_argument("--octets", type=int, default=4096)
    given = parser.parse_args()
    scenario = Scenario("counted", given.octets, kept=not given.each, recipients=given.recipients)
    if given.instructions:
        least, most = (count_instructions(scenario, count) for count in (_FEW, _MORE))
        print(f"{(most - least) / (_MORE - _FEW) / 1e6:.2f} million instructions a message")
    else:
        few, more = (count_bytecodes(scenario, count) for count in (_FEW, _MORE))
        _tell(few, more, _MORE - _FEW)


if __name__ == "__main__":
    main()
