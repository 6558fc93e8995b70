"""
Who offers messages, and who takes them: Postfix's tools, or our own, which cost less.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from attrs import frozen

from tests.bench.contestants import ended_afterwards
from tests.support.postfix_tools import PROJECT, postfix_environment, sink_command, source_command
from tests.support.process import takes_connections, wait_until

SESSIONS = 20

#: Offers so many messages, `SESSIONS` at a time, until the last has its 250.
Source = Callable[[int], None]


class Sink(Protocol):
    """A next hop that counts."""

    def arrived(self) -> int:
        """How many messages have come."""


def settled(sink: Sink, count: int) -> None:
    """Wait until *sink* has *count* messages."""
    wait_until(lambda: sink.arrived() >= count, f"{count} messages at the sink", 300)


@frozen
class SMTPSink:
    """Postfix's, which writes its count into *file* again and again."""

    file: Path

    def arrived(self) -> int:
        """See `Sink`."""
        with self.file.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 200))
            found = file.read().rpartition(b"mesg=")[2].split(b"\r")[0].split(b"s")[0]
        return int(found) if found.strip().isdigit() else 0


@contextmanager
def smtp_sink(port: int, file: Path) -> Iterator[SMTPSink]:
    """An smtp-sink that counts into *file*."""
    with file.open("wb") as out:
        process = subprocess.Popen(
            sink_command(f"127.0.0.1:{port}", "-c"),
            env=postfix_environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.DEVNULL,
        )
    with ended_afterwards(process):
        yield SMTPSink(file)


@frozen
class _Program:
    """One of ours, which answers each line with another one."""

    process: subprocess.Popen[str]

    def ask(self, words: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{words}\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> str:
        """
        Its next line.

        :raises RuntimeError: it has ended.
        """
        assert self.process.stdout is not None
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise RuntimeError(f"{self.process.args!r} has ended, see above")
        return answer


@contextmanager
def _running(module: str, *arguments: str) -> Iterator[_Program]:
    command = [sys.executable, "-m", module, *arguments]
    with (
        subprocess.Popen(
            command, cwd=PROJECT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process,
        ended_afterwards(process),
    ):
        yield _Program(process)


@frozen
class OwnSink:
    """Ours, which says its count when it is asked."""

    program: _Program

    def arrived(self) -> int:
        """See `Sink`."""
        return int(self.program.ask(""))


@contextmanager
def own_sink(port: int) -> Iterator[OwnSink]:
    """`tests.bench.sink`, listening."""
    address = f"127.0.0.1:{port}"
    with _running("tests.bench.sink", address) as program:
        wait_until(lambda: takes_connections(address), "the sink listens")
        yield OwnSink(program)


@contextmanager
def own_source(address: str, octets: int, *options: str) -> Iterator[Source]:
    """`tests.bench.source`, with its *options*."""
    with _running("tests.bench.source", address, str(SESSIONS), str(octets), *options) as program:
        assert program.answer() == "ready"
        yield partial(_order, program)


def _order(program: _Program, count: int) -> None:
    acknowledged = int(program.ask(str(count)))
    if acknowledged != count:
        raise RuntimeError(f"{acknowledged} of {count} messages were acknowledged")


def smtp_source(address: str, octets: int, recipients: int, kept: bool) -> Source:
    """Postfix's, which is started for each order."""
    options = ["-s", str(SESSIONS), "-l", str(octets)]
    options += ["-r", str(recipients)] if recipients > 1 else []
    options += ["-f", "a@example.org", "-t", "b@remote.example", *(["-d"] if kept else [])]
    return partial(_run_source, address, options)


def _run_source(address: str, options: list[str], count: int) -> None:
    command = source_command(address, "-m", str(count), *options)
    subprocess.run(command, env=postfix_environment(), check=True)
