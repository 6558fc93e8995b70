"""
Messages a second, and CPU a message: what is offered, relayed and taken by a sink.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import frozen

from tests.bench.contestants import (
    BARE_LOOP,
    EXIM,
    MAILHOST,
    OPENSMTPD,
    POSTFIX,
    TWO_WORKERS,
    Contestant,
    cpu_seconds,
    ended_afterwards,
    running,
)
from tests.support.certificates import Key
from tests.support.postfix_tools import PROJECT, postfix_environment, sink_command, source_command
from tests.support.process import reserve_port, wait_until

SESSIONS = 20
_WARM_UP = 100
#: Fewer messages say nothing.
_LEAST = 50


@frozen
class Scenario:
    """
    :ivar octets: of one message.
    :ivar share: how many of the messages asked for; large ones are fewer.
    :ivar kept: the client keeps its connections.
    :ivar recipients: of each message, all at one site.
    :ivar relays: the next hop is up; else messages only pile up.
    :ivar key: of the certificate; every session begins with STARTTLS.
    :ivar contestants: who takes part, in the order of the runs.
    """

    name: str
    octets: int
    share: float = 1
    kept: bool = False
    recipients: int = 1
    relays: bool = True
    key: Key | None = None
    contestants: tuple[Contestant, ...] = (MAILHOST, POSTFIX)


ALL = (MAILHOST, TWO_WORKERS, POSTFIX)
WITH_LIMIT = (BARE_LOOP, MAILHOST, POSTFIX)
#: Where no TLS is asked for, ``--all`` lets these in.
OTHERS = (EXIM, OPENSMTPD)
SCENARIOS = (
    Scenario("relay 4 KB, a connection each", 4096, contestants=WITH_LIMIT),
    Scenario("relay 4 KB, kept connections", 4096, kept=True, contestants=WITH_LIMIT),
    Scenario("relay 100 KB, kept connections", 102_400, 0.2, kept=True, contestants=ALL),
    Scenario("relay 1 MB, kept connections", 1_048_576, 0.05, kept=True),
    Scenario("accept 4 KB, next hop down", 4096, relays=False),
    Scenario("relay 4 KB, 50 recipients", 4096, 0.1, kept=True, recipients=50),
    Scenario("relay 4 KB, STARTTLS each", 4096, 0.25, key=Key.P256, contestants=ALL),
    Scenario("relay 4 KB, STARTTLS, RSA-4096", 4096, 0.25, key=Key.RSA4096, contestants=ALL),
)


@frozen
class Figures:
    """One run: messages a second until all had arrived, CPU milliseconds per message."""

    rate: float
    cpu: float


def measure(scenario: Scenario, contestants: Sequence[Contestant], rounds: int, count: int) -> None:
    """All rounds of one scenario, the servers in turn; prints a line for each server."""
    found: dict[Contestant, list[Figures]] = {one: [] for one in contestants}
    for _ in range(rounds):
        for one in contestants:
            with TemporaryDirectory(prefix="bench") as folder:
                Path(folder).chmod(0o755)
                mine = max(_LEAST, int(count * one.share))
                found[one].append(run_once(one, scenario, mine, Path(folder)))
    rates = {one: statistics.median(run.rate for run in runs) for one, runs in found.items()}
    for one, runs in found.items():
        cpu = statistics.median(run.cpu for run in runs)
        ratio = rates[one] / rates[POSTFIX] if POSTFIX in rates else float("nan")
        print(
            f"{scenario.name:32}{one.name:21}{rates[one]:8.0f}"
            f"{rates[one] * scenario.octets / 1e6:8.1f}{cpu:8.2f}{ratio:7.2f}",
            flush=True,
        )


def run_once(contestant: Contestant, scenario: Scenario, count: int, folder: Path) -> Figures:
    """One server, one load; waits until everything has arrived."""
    port, sink_port = reserve_port("127.0.0.1"), reserve_port("127.0.0.1")
    arrived = folder / "sink"
    sink = start_sink(sink_port, arrived) if scenario.relays else None
    with (
        running(contestant, folder, port, ("127.0.0.1", sink_port), scenario.key) as server,
        source(server.address, scenario) as offer,
    ):
        offer(_WARM_UP)
        settled(arrived, _WARM_UP, scenario)
        before, start = cpu_seconds(server.pid), time.monotonic()
        offer(count)
        settled(arrived, _WARM_UP + count, scenario)
        seconds, cpu = time.monotonic() - start, cpu_seconds(server.pid) - before
    if sink is not None:
        with ended_afterwards(sink):
            pass
    return Figures(count / seconds, 1000 * cpu / count)


def start_sink(port: int, arrived: Path) -> subprocess.Popen[bytes]:
    """An smtp-sink that counts into the file *arrived*."""
    with arrived.open("wb") as out:
        return subprocess.Popen(
            sink_command(f"127.0.0.1:{port}", "-c"),
            env=postfix_environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.DEVNULL,
        )


@contextmanager
def source(address: str, scenario: Scenario) -> Iterator[Callable[[int], None]]:
    """A function that offers so many messages, `SESSIONS` at a time, until the last has its 250."""
    if scenario.key is None:
        yield partial(_smtp_source, address, scenario)
        return
    command = [sys.executable, "-m", "tests.bench.tls_source", address, str(SESSIONS)]
    with (
        subprocess.Popen(
            command, cwd=PROJECT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process,
        ended_afterwards(process),
    ):
        _answered(process, "ready")
        yield partial(_tls_source, process)


def _smtp_source(address: str, scenario: Scenario, count: int) -> None:
    options = ["-s", str(SESSIONS), "-m", str(count), "-l", str(scenario.octets)]
    options += ["-r", str(scenario.recipients)] if scenario.recipients > 1 else []
    options += ["-f", "a@example.org", "-t", "b@remote.example", *(["-d"] if scenario.kept else [])]
    subprocess.run(source_command(address, *options), env=postfix_environment(), check=True)


def _tls_source(process: subprocess.Popen[str], count: int) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{count}\n")
    process.stdin.flush()
    _answered(process, "done")


def _answered(process: subprocess.Popen[str], wanted: str) -> None:
    assert process.stdout is not None
    answer = process.stdout.readline().strip()
    if answer != wanted:
        raise RuntimeError(f"the source has ended, see above: {answer!r} instead of {wanted}")


def settled(arrived: Path, count: int, scenario: Scenario) -> None:
    """Wait until the sink has *count* messages."""
    if not scenario.relays:
        return

    def all_there() -> bool:
        with arrived.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 200))
            found = file.read().rpartition(b"mesg=")[2].split(b"\r")[0].split(b"s")[0]
        return found.strip().isdigit() and int(found) >= count

    wait_until(all_there, f"{count} messages at the sink", 300)
