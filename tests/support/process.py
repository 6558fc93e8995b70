"""
Real processes on loopback: started, waited for, and ended, by their number.

Waiting is always for a condition, with a limit after which the test fails and shows
what the process has said; nothing sleeps and hopes.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from attrs import define, field

from tests.support.forked import Forked, start_twistd
from tests.support.postfix_tools import PROJECT

#: Not the address outgoing connections come from: their ports cannot be in our way.
LOOPBACK = "127.0.0.2"
#: How long anything may take before the test fails.
PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.01

T = TypeVar("T")


#: ``clean(function)`` has *function* called at the end: a test's ``addCleanup``, as a rule.
Clean = Callable[[Callable[[], object]], object]


def wait_until(
    condition: Callable[[], T], what: str, seconds: float = PATIENCE_SECONDS, told: Any = None
) -> T:
    """
    The first true value of *condition*.

    :param told: called for the words that go with the failure.
    :raises AssertionError: it has not come true in *seconds*.
    """
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            words = f"\n{told()}" if told is not None else ""
            raise AssertionError(f"in {seconds:g} s there was not: {what}{words}")
        time.sleep(_POLL_SECONDS)


def reserve_port(*hosts: str) -> int:
    """A port that was free on each of *hosts* a moment ago (`LOOPBACK` where none is named)."""
    first, *others = hosts or (LOOPBACK,)
    for _ in range(50):
        held = [socket.socket()]
        try:
            held[0].bind((first, 0))
            port: int = held[0].getsockname()[1]
            for host in others:
                held.append(socket.socket())
                held[-1].bind((host, port))
        except OSError:
            continue
        finally:
            for one in held:
                one.close()
        return port
    raise AssertionError(f"no port is free on all of {hosts}")


def reserve_address(host: str = LOOPBACK) -> str:
    """``host:port``, with a port that was free a moment ago."""
    return f"{host}:{reserve_port(host)}"


def split_address(address: str) -> tuple[str, int]:
    """``host:port`` as sockets want it."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def takes_connections(address: str) -> bool:
    """Whether somebody listens on *address*."""
    try:
        socket.create_connection(split_address(address), 1).close()
    except OSError:
        return False
    return True


@define(eq=False)
class Process:
    """
    One child process.

    :ivar command: its argument vector.
    :ivar log: the file that has what it says, on both of its outputs.
    """

    command: Sequence[str]
    log: Path
    popen: subprocess.Popen[bytes] | Forked = field(init=False)

    def start(
        self, clean: Clean, cwd: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        """Run it; at the latest it ends by what *clean* is told."""
        self.log.touch()
        self.popen = self.begin(cwd, environment)
        clean(self.kill)

    def begin(
        self, cwd: Path | None, environment: Mapping[str, str] | None
    ) -> subprocess.Popen[bytes] | Forked:
        """Start the program."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=environment,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def ended(self) -> bool:
        return self.popen.poll() is not None

    def said(self) -> str:
        """All it has said so far."""
        return self.log.read_text("utf-8", "replace")

    def wait_until(
        self, condition: Callable[[], T], what: str, seconds: float = PATIENCE_SECONDS
    ) -> T:
        """As `wait_until`, but not longer than the process lives."""

        def alive_and_true() -> T:
            value = condition()
            if not value and self.ended:
                raise AssertionError(
                    f"{self.command[0]} has ended ({self.popen.returncode}) before: {what}\n"
                    + self.said()
                )
            return value

        return wait_until(alive_and_true, what, seconds, self.said)

    def wait_for_words(self, words: str, count: int = 1) -> None:
        """Until it has said *words*, *count* times."""
        self.wait_until(lambda: self.said().count(words) >= count, f"{words!r} in the log")

    def send_signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def terminate(self) -> int:
        """End it in good order; its exit status."""
        if not self.ended:
            self.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Until it has ended by itself; its exit status."""
        try:
            return self.popen.wait(PATIENCE_SECONDS + 10)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.command[0]} does not end\n{self.said()}") from None

    def kill(self) -> None:
        """End it as a power cut would."""
        if not self.ended:
            self.send_signal(signal.SIGKILL)
        self.popen.wait()


class ForkedTwistd(Process):
    """``twistd`` with the arguments of its command, but not started by it: see `forked`."""

    def begin(self, cwd: Path | None, environment: Mapping[str, str] | None) -> Forked:
        """See `Process.begin`."""
        _, _, *arguments = self.command
        return start_twistd(arguments, self.log, cwd, environment or os.environ)


def mailhost_command(configuration: Path) -> list[str]:
    """What an operator types, with the twistd that belongs to this Python."""
    twistd = Path(sys.executable).with_name("twistd")
    if not twistd.is_file():
        raise AssertionError(f"{twistd} is missing: install the project with its test extra")
    return [
        sys.executable,
        str(twistd),
        "-n",
        "--pidfile=",
        "mailhost",
        "--config",
        str(configuration),
    ]


def project_environment() -> dict[str, str]:
    """The environment in which this checkout, with its plugin, is what is imported."""
    path = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


@define(eq=False)
class Mailhost:
    """
    One ``twistd -n mailhost`` on a configuration file, as often as it is started.

    :ivar configuration: the YAML file; relative paths in it start at its folder.
    :ivar kind: how it is started; `Process` as an operator does it.
    """

    clean: Clean
    configuration: Path
    kind: type[Process] = ForkedTwistd
    process: Process = field(init=False)
    _starts: int = field(default=0, init=False)

    def write(self, tree: Mapping[str, Any]) -> None:
        """Put *tree* into the configuration file, as a whole or not at all."""
        part = self.configuration.with_suffix(".part")
        part.write_text(yaml.safe_dump(dict(tree), sort_keys=False))
        part.rename(self.configuration)

    def start(self, servers: int = 1) -> None:
        """Run it until each of its *servers* listens or has said why it does not."""
        self.launch()
        self.process.wait_until(
            lambda: len(self.running()) + len(self.stopped()) >= servers,
            f"{servers} virtual servers running",
        )

    def launch(self) -> None:
        """Run it, and wait for nothing."""
        self._starts += 1
        log = self.configuration.with_name(f"{self.configuration.stem}-{self._starts}.log")
        self.process = self.kind(mailhost_command(self.configuration), log)
        self.process.start(self.clean, self.configuration.parent, project_environment())

    def running(self) -> list[str]:
        """The log's lines about virtual servers that listen."""
        return [line for line in self.process.said().splitlines() if " is running for " in line]

    def stopped(self) -> list[str]:
        """The log's lines about virtual servers that could not start."""
        return [line for line in self.process.said().splitlines() if "; it is stopped" in line]
