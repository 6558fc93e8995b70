"""
How fast, beside Postfix on the same machine in the same run.

``python -m tests.bench [--rounds N] [--messages N]``: each scenario is run alternately
against mailhost and Postfix; the table has medians, and the ratio of each pair's
median.  Everything is on loopback; each server is durable before its 250; what is
relayed goes to smtp-sink.  CPU is that of the server's processes, per message.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from tests.bench.postfix_instance import start_postfix
from tests.support.postfix_tools import PROJECT, postfix_environment, sink_command, source_command
from tests.support.process import reserve_port, takes_connections, wait_until

SESSIONS = 20
_TICKS = os.sysconf("SC_CLK_TCK")


@frozen
class Scenario:
    """
    :ivar octets: of one message.
    :ivar share: how many of the messages asked for; large ones are fewer.
    :ivar kept: smtp-source keeps its connections.
    :ivar relays: the next hop is up; else messages only pile up.
    """

    name: str
    octets: int
    share: float
    kept: bool
    relays: bool = True


SCENARIOS = (
    Scenario("relay 4 KB, a connection each", 4096, 1, kept=False),
    Scenario("relay 4 KB, kept connections", 4096, 1, kept=True),
    Scenario("relay 100 KB, kept connections", 102_400, 0.2, kept=True),
    Scenario("relay 1 MB, kept connections", 1_048_576, 0.05, kept=True),
    Scenario("accept 4 KB, next hop down", 4096, 1, kept=False, relays=False),
)


@frozen
class Figures:
    """One run: messages a second until all had arrived, CPU milliseconds per message."""

    rate: float
    cpu: float


@contextmanager
def running(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """*process*, ended afterwards, with all its children."""
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def start_mailhost(home: Path, port: int, next_hop: tuple[str, int]) -> subprocess.Popen[bytes]:
    """The shipped defaults; only addresses, the relay list and the size limits are set."""
    home.mkdir()
    config = home / "mailhost.yaml"
    config.write_text(
        f"""\
virtual_servers:
  - name: bench
    home: {home / "mailroot"}
    fqdn: mailhost.example
    listen: ["127.0.0.1:{port}"]
    access: {{relay: {{except: [127.0.0.1]}}}}
    messages: {{max_message_size: 20M, max_session_size: unlimited}}
    delivery: {{smart_host: "[{next_hop[0]}]:{next_hop[1]}"}}
""",
        "utf-8",
    )
    command = [str(Path(sys.executable).with_name("twistd"))]
    with (home / "log").open("wb") as log:
        return subprocess.Popen(
            [*command, "-n", "--pidfile=", "mailhost", "--config", str(config)],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


SERVERS: dict[str, Callable[[Path, int, tuple[str, int]], subprocess.Popen[bytes]]] = {
    "mailhost": start_mailhost,
    "Postfix": start_postfix,
}


def cpu_seconds(pid: int) -> float:
    """CPU used by *pid*, its living descendants, and those it has waited for."""
    children: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text("ascii").rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        children.setdefault(int(fields[1]), []).append(int(entry.name))
        used[int(entry.name)] = sum(map(int, fields[11:15])) / _TICKS
    total, waiting = 0.0, [pid]
    while waiting:
        one = waiting.pop()
        total += used.get(one, 0.0)
        waiting += children.get(one, [])
    return total


def run_once(server: str, scenario: Scenario, messages: int, folder: Path) -> Figures:
    """One server, one load; waits until everything has arrived."""
    port, sink_port = reserve_port("127.0.0.1"), reserve_port("127.0.0.1")
    arrived = folder / "sink"
    sink: subprocess.Popen[bytes] | None = None
    if scenario.relays:
        with arrived.open("wb") as out:
            sink = subprocess.Popen(
                sink_command(f"127.0.0.1:{sink_port}", "-c"),
                env=postfix_environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.DEVNULL,
            )
    process = SERVERS[server](folder / "server", port, ("127.0.0.1", sink_port))
    with running(process):
        address = f"127.0.0.1:{port}"
        wait_until(lambda: takes_connections(address), f"{server} listens")
        load(address, scenario, 100)
        settled(arrived, 100, scenario)
        before, start = cpu_seconds(process.pid), time.monotonic()
        load(address, scenario, messages)
        settled(arrived, 100 + messages, scenario)
        seconds, cpu = time.monotonic() - start, cpu_seconds(process.pid) - before
    if sink is not None:
        with running(sink):
            pass
    return Figures(messages / seconds, 1000 * cpu / messages)


def load(address: str, scenario: Scenario, messages: int) -> None:
    """Offer *messages*, `SESSIONS` at a time; returns when the last has its 250."""
    options = ["-s", str(SESSIONS), "-m", str(messages), "-l", str(scenario.octets)]
    options += ["-f", "a@example.org", "-t", "b@remote.example", *(["-d"] if scenario.kept else [])]
    subprocess.run(source_command(address, *options), env=postfix_environment(), check=True)


def settled(arrived: Path, messages: int, scenario: Scenario) -> None:
    """Wait until the sink has *messages*."""
    if not scenario.relays:
        return

    def all_there() -> bool:
        with arrived.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 200))
            found = file.read().rpartition(b"mesg=")[2].split(b"\r")[0].split(b"s")[0]
        return found.strip().isdigit() and int(found) >= messages

    wait_until(all_there, f"{messages} messages at the sink", 300)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--only", help="scenarios whose name contains this")
    parser.add_argument("--without-postfix", action="store_true")
    given = parser.parse_args()
    servers = [name for name in SERVERS if name != "Postfix" or not given.without_postfix]
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.2f}, {given.rounds} rounds\n")
    print(f"{'scenario':34}{'server':10}{'msg/s':>8}{'MB/s':>8}{'CPU ms':>8}{'ratio':>7}")
    for scenario in SCENARIOS:
        if given.only and given.only not in scenario.name:
            continue
        measure(scenario, servers, given.rounds, int(given.messages * scenario.share))


def measure(scenario: Scenario, servers: list[str], rounds: int, messages: int) -> None:
    """All rounds of one scenario, the servers in turn."""
    found: dict[str, list[Figures]] = {name: [] for name in servers}
    for _ in range(rounds):
        for name in servers:
            with tempfile.TemporaryDirectory(prefix="bench") as folder:
                Path(folder).chmod(0o755)
                found[name].append(run_once(name, scenario, messages, Path(folder)))
    medians = {name: statistics.median(one.rate for one in found[name]) for name in servers}
    for name in servers:
        cpu = statistics.median(one.cpu for one in found[name])
        ratio = medians[name] / medians["Postfix"] if "Postfix" in medians else float("nan")
        print(
            f"{scenario.name:34}{name:10}{medians[name]:8.0f}"
            f"{medians[name] * scenario.octets / 1e6:8.1f}{cpu:8.2f}{ratio:7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
