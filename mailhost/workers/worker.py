"""
The supervisor's side of one worker: its process, its link, its log.

:Room: ``workers``
:Called by: `mailhost.workers.supervisor`.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProcessTransport
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.logger import Logger, LogLevel
from twisted.protocols import amp
from twisted.python.failure import Failure

import mailhost
from mailhost.workers.backoff import Backoff
from mailhost.workers.commands import (
    AskHeld,
    Borrow,
    BorrowNow,
    GiveBack,
    Lend,
    States,
    decode_states,
)

#: The worker's end of the link.
LINK_DESCRIPTOR = 3
#: A line of the log, or what comes in place of one, is cut here.
_LONGEST_LINE = 1 << 20


class Boss(Protocol):
    """What a worker's link and its process tell."""

    def linked(self, worker: Worker) -> None:
        """It is there and waits for orders."""

    def ended(self, worker: Worker) -> None:
        """Its process has ended."""

    def told(self, worker: Worker, states: Mapping[str, str]) -> None:
        """The states of its virtual servers have changed."""

    def borrow(self, key: str, worker: int) -> Deferred[None]:
        """See `mailhost.workers.lender.Lender`."""

    def borrow_now(self, key: str, worker: int) -> bool:
        """See `mailhost.workers.lender.Lender`."""

    def give_back(self, key: str, worker: int) -> None:
        """See `mailhost.workers.lender.Lender`."""

    def ask_held(self, asked: bytes, worker: int) -> Deferred[list[bool | None]]:
        """See `mailhost.server.held.Colleagues`; *worker* is the one that asks."""

    def lend(self, number: int, tour: bytes, descriptor: int) -> Deferred[bool]:
        """See `mailhost.server.held.Colleagues`; *descriptor* is closed when it is over."""


class SupervisorLink(amp.AMP):
    """The supervisor's end of the link to *worker*."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # upstream has no annotations
        self._worker = worker

    def connectionMade(self) -> None:
        """The pair of sockets is ready."""
        super().connectionMade()  # type: ignore[no-untyped-call]  # upstream has no annotations
        self._worker.linked(self)

    @Borrow.responder
    def borrow(self, key: str) -> Deferred[dict[str, object]]:
        """See `Borrow`."""
        asked = self._worker.boss.borrow(key, self._worker.number)
        return asked.addCallback(lambda nothing: {})

    @BorrowNow.responder
    def borrow_now(self, key: str) -> dict[str, object]:
        """See `BorrowNow`."""
        return {"lent": self._worker.boss.borrow_now(key, self._worker.number)}

    @GiveBack.responder
    def give_back(self, key: str) -> dict[str, object]:
        """See `GiveBack`."""
        self._worker.boss.give_back(key, self._worker.number)
        return {}

    @AskHeld.responder
    def ask_held(self, asked: bytes) -> Deferred[dict[str, object]]:
        """See `AskHeld`."""
        answering = self._worker.boss.ask_held(asked, self._worker.number)
        return answering.addCallback(lambda found: {"found": json.dumps(found).encode("ascii")})

    @Lend.responder
    def lend(self, number: int, tour: bytes, descriptor: int) -> Deferred[dict[str, object]]:
        """See `Lend`."""
        lent = self._worker.boss.lend(number, tour, descriptor)
        return lent.addCallback(lambda in_order: {"in_order": in_order})

    @States.responder
    def states(self, states: bytes) -> dict[str, object]:
        """See `States`."""
        self._worker.boss.told(self._worker, decode_states(states))
        return {}


class WorkerProcess(ProcessProtocol):
    """
    Reads what a worker's process says.

    Its standard output has one line of JSON for each event of its log, its standard
    error whatever Python says when there is no log.
    """

    _log = Logger()

    def __init__(self, number: int, ended: Callable[[Failure], None]) -> None:
        self._number = number
        self._ended = ended
        self._unfinished = {1: b"", 2: b""}

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Octets on one of its outputs."""
        *lines, rest = (self._unfinished[childFD] + data).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            lines, rest = [*lines, rest], b""
        self._unfinished[childFD] = rest
        for line in lines:
            if childFD == 1:
                self._event(line)
            elif line:
                self._plain(line)

    def processEnded(self, reason: Failure) -> None:
        """It has ended and all it said was read."""
        for rest in filter(None, self._unfinished.values()):
            self._plain(rest)
        self._ended(reason)

    def _event(self, line: bytes) -> None:
        try:
            level, namespace, at, text, facts = json.loads(line)
            event = {
                **{str(name): value for name, value in facts.items()},
                "worker": self._number,
                "log_level": LogLevel.lookupByName(level),
                "log_namespace": str(namespace),
                "log_time": float(at),
                "log_format": "worker {worker}: {log_text}",
                "log_text": text,
            }
        except (ValueError, TypeError, AttributeError):
            self._plain(line)
            return
        self._log.observer(event)

    def _plain(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace")
        self._log.error("worker {number}: {text}", number=self._number, text=text)


@define(eq=False)
class Worker:
    """
    One worker, as often as it has to be started.

    :ivar number: from 0.
    :ivar count: of all workers.
    :ivar reactor: spawns it.
    :ivar boss: hears of it.
    :ivar backoff: how long to wait before it is started again.
    :ivar link: to the living one that has come up.
    :ivar states: of its virtual servers, as far as it has told.
    :ivar process: while it lives.
    :ivar pid: its process id, or that of the last one.
    """

    number: int
    count: int
    reactor: Any
    boss: Boss
    backoff: Backoff = field(factory=Backoff)
    link: SupervisorLink | None = field(default=None, init=False)
    states: Mapping[str, str] = field(factory=dict, init=False)
    process: IProcessTransport | None = field(default=None, init=False)
    pid: int = field(default=0, init=False)
    _started_at: float = field(default=0.0, init=False)
    _again: IDelayedCall | None = field(default=None, init=False)
    _stopping: bool = field(default=False, init=False)

    _log = Logger()

    def start(self) -> None:
        """Start its process, and again whenever it ends."""
        self._again = None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        with ours, theirs, open(os.devnull, "rb") as nothing:
            self._started_at = self.reactor.seconds()
            command = ["-P", "-m", "mailhost.workers.child", str(self.number), str(self.count)]
            self.process = self.reactor.spawnProcess(
                WorkerProcess(self.number, self._ended),
                sys.executable,
                [sys.executable, *command],
                env=child_environment(os.environ),
                childFDs={0: nothing.fileno(), 1: "r", 2: "r", LINK_DESCRIPTOR: theirs.fileno()},
            )
            self.pid = int(getattr(self.process, "pid", None) or 0)
            # The reactor takes a copy of the descriptor.
            factory = Factory.forProtocol(lambda: SupervisorLink(self))
            self.reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, factory)
        self._log.info("Worker {number} is process {pid}", number=self.number, pid=self.pid)

    def linked(self, link: SupervisorLink) -> None:
        """Its process may be told what to do."""
        self.link = link
        self.boss.linked(self)

    def stop(self) -> None:
        """Do not start it again."""
        self._stopping = True
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def kill(self) -> None:
        """End its process at once."""
        if self.process is not None:
            self._log.warn("Worker {number} is killed", number=self.number)
            self.process.signalProcess("KILL")

    def _ended(self, reason: Failure) -> None:
        self.process, self.link, self.states = None, None, {}
        words = reason.getErrorMessage()
        if self._stopping:
            self._log.info("Worker {number} has stopped", number=self.number)
        else:
            wait = self.backoff.wait_after(self.reactor.seconds() - self._started_at)
            self._log.error(
                "Worker {number}, process {pid}, has ended: {words} It is started again in "
                "{wait:g} s",
                number=self.number,
                pid=self.pid,
                words=words,
                wait=wait,
            )
            self._again = self.reactor.callLater(wait, self.start)
        self.boss.ended(self)


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """*environment* in which a child finds the package that is running here."""
    home = str(Path(mailhost.__file__).parents[1])
    path = os.pathsep.join(filter(None, (home, environment.get("PYTHONPATH"))))
    return {**environment, "PYTHONPATH": path}
