"""
Messages a second, and CPU a message: what is offered, relayed and taken by a sink.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
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
    running,
)
from tests.bench.load import (
    Sink,
    Source,
    own_sink,
    own_source,
    settled,
    smtp_sink,
    smtp_source,
)
from tests.support.certificates import Key
from tests.support.process import reserve_port

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
    :ivar light: source and sink are ours, and leave nearly the whole machine to the server; with
        a key the source is ours anyway.
    :ivar contestants: who takes part, in the order of the runs.
    """

    name: str
    octets: int
    share: float = 1
    kept: bool = False
    recipients: int = 1
    relays: bool = True
    key: Key | None = None
    light: bool = False
    contestants: tuple[Contestant, ...] = (MAILHOST, POSTFIX)


ALL = (MAILHOST, TWO_WORKERS, POSTFIX)
WITH_LIMIT = (BARE_LOOP, MAILHOST, POSTFIX)
#: Where no TLS is asked for, ``--all`` lets these in.
OTHERS = (EXIM, OPENSMTPD)
SCENARIOS = (
    Scenario("relay 4 KB, a connection each", 4096, contestants=WITH_LIMIT),
    Scenario("relay 4 KB, kept connections", 4096, kept=True, contestants=WITH_LIMIT),
    Scenario("relay 100 KB, kept connections", 102_400, 0.2, kept=True, contestants=ALL),
    Scenario("relay 100 KB, light peers", 102_400, 0.2, kept=True, light=True, contestants=ALL),
    Scenario(
        "relay 100 KB, STARTTLS, light",
        102_400,
        0.2,
        kept=True,
        key=Key.P256,
        light=True,
        contestants=ALL,
    ),
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
    with (
        sink(sink_port, folder / "sink", scenario) as hop,
        running(contestant, folder, port, ("127.0.0.1", sink_port), scenario.key) as server,
        source(server.address, scenario) as offer,
    ):
        offer(_WARM_UP)
        if hop is not None:
            settled(hop, _WARM_UP)
        before, start = cpu_seconds(server.pid), time.monotonic()
        offer(count)
        if hop is not None:
            settled(hop, _WARM_UP + count)
        seconds, cpu = time.monotonic() - start, cpu_seconds(server.pid) - before
    return Figures(count / seconds, 1000 * cpu / count)


def sink(port: int, file: Path, scenario: Scenario) -> AbstractContextManager[Sink | None]:
    """The next hop of *scenario*; `None`: there is none."""
    if not scenario.relays:
        return nullcontext()
    return own_sink(port) if scenario.light else smtp_sink(port, file)


def source(address: str, scenario: Scenario) -> AbstractContextManager[Source]:
    """What offers the messages of *scenario* to the server at *address*."""
    if scenario.light or scenario.key is not None:
        options = {"--tls": scenario.key is not None, "--kept": scenario.kept}
        chosen = [option for option, wanted in options.items() if wanted]
        return own_source(address, scenario.octets, *chosen)
    return nullcontext(smtp_source(address, scenario.octets, scenario.recipients, scenario.kept))
