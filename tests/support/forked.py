"""
Processes that need import nothing: forks of one that has.

Nine tenths of the time until ``twistd mailhost`` listens are imports, and the suite starts it
hundreds of times. So each process that runs tests has one that imports what is needed, once, and
forks: `multiprocessing`'s fork server.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    [
        "mailhost.control.api",
        "mailhost.control.door",
        "mailhost.control.exposition",
        "mailhost.tap",
        "mailhost.workers.supervisor",
        "tests.crash.day",
        "twisted.internet.epollreactor",
        "twisted.scripts.twistd",
    ]
)


def forked(function: Callable[..., object], *arguments: Any) -> Any:
    """A `multiprocessing.Process`, not started yet, that calls *function* with its own reactor."""
    return _forks.Process(target=_with_a_reactor, args=(function, *arguments))


def _with_a_reactor(function: Callable[..., object], *arguments: Any) -> None:
    # `twisted.mail.smtp` imports the reactor. All forks would have the epoll of the one that they
    # got, which has not run yet, and each would be told what happens to the others.
    from twisted.internet import reactor

    reactor.__init__()  # type: ignore[misc]  # the module stands for the reactor
    function(*arguments)


@frozen
class Forked:
    """What `subprocess.Popen` is to a program, to a fork."""

    process: Any

    @property
    def pid(self) -> int:
        pid: int = self.process.pid
        return pid

    @property
    def returncode(self) -> int | None:
        code: int | None = self.process.exitcode
        return code

    def poll(self) -> int | None:
        """See `subprocess.Popen.poll`."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """See `subprocess.Popen.wait`."""
        self.process.join(timeout)
        code = self.returncode
        if code is None:
            raise subprocess.TimeoutExpired(self.process.name, timeout or 0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """See `subprocess.Popen.send_signal`."""
        if self.returncode is None:
            os.kill(self.pid, number)


def start_twistd(
    arguments: Sequence[str], log: Path, cwd: Path | None, environment: Mapping[str, str]
) -> Forked:
    """``twistd`` with *arguments*, which says everything into the file *log*."""
    process = forked(_be_twistd, arguments, log, cwd, dict(environment))
    process.start()
    return Forked(process)


def _be_twistd(
    arguments: Sequence[str], log: Path, cwd: Path | None, environment: Mapping[str, str]
) -> None:
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for descriptor in (1, 2):
        os.dup2(out, descriptor)
    os.close(out)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    if cwd is not None:
        os.chdir(cwd)
    sys.argv = ["twistd", *arguments]
    from twisted.scripts.twistd import run

    run()  # type: ignore[no-untyped-call]  # upstream has no annotations
