"""A clock with UDP ports that go nowhere, answers made up, and a place for a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.relay.dns.files import Server
from mailhost.relay.dns.messages import Answer, Question


def temporary_path(case: SynchronousTestCase) -> str:
    """Where a file may be made; it goes with its directory when *case* ends."""
    directory = TemporaryDirectory()
    case.addCleanup(directory.cleanup)
    return os.path.join(directory.name, "file")


@define(eq=False)
class FakePort:
    """One UDP port of `FakeReactor`."""

    protocol: Any
    interface: str
    connected_to: tuple[str, int] | None = None
    sent: list[bytes] = field(factory=list)
    listening: bool = True

    def connect(self, host: str, port: int) -> None:
        """Only this peer from now on."""
        self.connected_to = (host, port)

    def write(self, octets: bytes) -> None:
        """Note *octets*."""
        self.sent.append(octets)

    def stopListening(self) -> None:
        """Close."""
        self.listening = False


class FakeReactor(Clock):
    """A `Clock` that can listen to UDP; every port ever made is in `ports`."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[FakePort] = []

    def listenUDP(self, port: int, protocol: Any, interface: str = "", size: int = 0) -> FakePort:
        """A port nobody else knows of."""
        made = FakePort(protocol, interface)
        self.ports.append(made)
        return made


@define(eq=False)
class FakeCarrier:
    """Answers questions with what a test has prepared, or when the test says so."""

    reply: Callable[[Question, Server], Answer | Deferred[Answer]]
    asked: list[tuple[Question, Server]] = field(factory=list)

    def ask(self, question: Question, server: Server) -> Deferred[Answer]:
        """Note the question, give the reply."""
        self.asked.append((question, server))
        answer = self.reply(question, server)
        return answer if isinstance(answer, Deferred) else succeed(answer)
