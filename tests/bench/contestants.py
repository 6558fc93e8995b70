"""
The servers that are compared: how each is started, and what it uses.

Both are durable before their 250, and relay everything to one next hop.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from attrs import frozen

from tests.bench.exim_and_opensmtpd import start_exim, start_opensmtpd
from tests.bench.postfix_instance import start_postfix
from tests.support.certificates import Authority, Key
from tests.support.postfix_tools import PROJECT
from tests.support.process import project_environment, takes_connections, wait_until

_TICKS = os.sysconf("SC_CLK_TCK")
#: What counts instructions is slow.
_START_SECONDS = 180.0
#: Idle sessions are many; each is a descriptor.
DESCRIPTORS = 20_000


@frozen
class Contestant:
    """
    :ivar name: as the table says.
    :ivar start: given a home of its own, a port, the next hop, and certificate and key, if any.
    :ivar share: how many of the messages it gets; a slow one gets fewer.
    :ivar workers: so many processes have to say that they take connections.  With one, that it
        does is enough; of several the first would have them all, if it were up alone.
    """

    name: str
    start: Callable[[Path, int, tuple[str, int], tuple[Path, Path] | None], subprocess.Popen[bytes]]
    share: float = 1
    workers: int = 1

    def takes(self, home: Path, address: str) -> bool:
        """Whether it takes connections now, with all its processes."""
        if self.workers > 1:
            log = (home / "log").read_text("utf-8")
            return log.count(" is running for ") >= self.workers
        return takes_connections(address)


def start_mailhost(
    workers: int,
    home: Path,
    port: int,
    next_hop: tuple[str, int],
    files: tuple[Path, Path] | None = None,
    *,
    log: Mapping[str, Any] | None = None,
    protocol_log: Mapping[str, Any] | None = None,
    run: Sequence[str] = (),
) -> subprocess.Popen[bytes]:
    """
    The shipped defaults; only addresses, the relay list and the size limits are set.

    :param log: the same settings of the configuration.
    :param protocol_log: those of the virtual server.
    :param run: what runs ``twistd``, instead of Python alone.
    """
    home.mkdir(exist_ok=True)
    server: dict[str, Any] = {
        "name": "bench",
        "home": str(home / "mailroot"),
        "fqdn": "mailhost.example",
        "listen": [f"127.0.0.1:{port}"],
        "access": {"relay": {"except": ["127.0.0.1"]}},
        "messages": {"max_message_size": "20M", "max_session_size": "unlimited"},
        "delivery": {"smart_host": f"[{next_hop[0]}]:{next_hop[1]}"},
    }
    if files is not None:
        server["access"] |= {"tls": {"certificate": str(files[0]), "key": str(files[1])}}
    if protocol_log is not None:
        server["protocol_log"] = {"enabled": True, **protocol_log}
    config = home / "mailhost.yaml"
    tree = {"workers": workers, "log": dict(log or {}), "virtual_servers": [server]}
    config.write_text(yaml.safe_dump(tree), "utf-8")
    twistd = str(Path(sys.executable).with_name("twistd"))
    command = [*(run or [sys.executable]), twistd, "-n", "--pidfile="]
    with (home / "log").open("ab") as log:
        return subprocess.Popen(
            [*command, "mailhost", "--config", str(config)],
            cwd=PROJECT,
            env=project_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def start_bare_loop(
    home: Path, port: int, next_hop: tuple[str, int], files: tuple[Path, Path] | None = None
) -> subprocess.Popen[bytes]:
    """What one Twisted process can do at most; it knows no TLS."""
    assert files is None
    home.mkdir(exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "tests.bench.bare_loop",
        str(port),
        str(next_hop[1]),
        str(home),
    ]
    return subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.DEVNULL)


BARE_LOOP, MAILHOST, TWO_WORKERS, POSTFIX, EXIM, OPENSMTPD = (
    Contestant("bare loop", start_bare_loop),
    Contestant("mailhost", partial(start_mailhost, 1)),
    Contestant("mailhost, 2 workers", partial(start_mailhost, 2), workers=2),
    Contestant("Postfix", start_postfix),
    Contestant("Exim", start_exim, 0.25),
    Contestant("OpenSMTPD", start_opensmtpd, 0.1),
)


@frozen
class Running:
    """
    :ivar pid: of the process that all others descend from.
    :ivar address: ``host:port`` where it listens.
    """

    pid: int
    address: str

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])


@contextmanager
def ended_afterwards(process: subprocess.Popen[Any]) -> Iterator[subprocess.Popen[Any]]:
    """*process*, ended with all its children."""
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def running(
    contestant: Contestant,
    folder: Path,
    port: int,
    next_hop: tuple[str, int],
    key: Key | None = None,
) -> Iterator[Running]:
    """*contestant*, listening; with STARTTLS when it has a *key*."""
    home = folder / "server"
    files = None if key is None else Authority(folder).issue("server", "localhost", key=key)
    with ended_afterwards(contestant.start(home, port, next_hop, files)) as process:
        address = f"127.0.0.1:{port}"
        wait_until(
            lambda: contestant.takes(home, address), f"{contestant.name} listens", _START_SECONDS
        )
        yield Running(process.pid, address)


def raise_descriptor_limit() -> None:
    """For this process and those it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def family(pid: int) -> dict[int, list[str]]:
    """*pid* and its living descendants, with what ``/proc`` says of each behind its name."""
    children: dict[int, list[int]] = {}
    known: dict[int, list[str]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text("ascii").rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        children.setdefault(int(fields[1]), []).append(int(entry.name))
        known[int(entry.name)] = fields
    found: dict[int, list[str]] = {}
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        if one in known:
            found[one] = known[one]
        waiting += children.get(one, [])
    return found


def cpu_seconds(pid: int) -> float:
    """CPU used by *pid*, its living descendants, and those it has waited for."""
    return sum(sum(map(int, fields[11:15])) for fields in family(pid).values()) / _TICKS


def memory_octets(pid: int) -> int:
    """Proportional memory of *pid* and its descendants: shared pages are counted once."""
    total = 0
    for one in family(pid):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text("ascii").splitlines()
        except OSError:
            continue  # it has ended meanwhile
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024
