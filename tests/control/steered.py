"""A service that only control knows: what it was asked, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define, field

from mailhost.config.faults import ConfigurationFaults, Fault
from mailhost.control.steered import Answer, Answers
from mailhost.errors import SpoolProblem
from mailhost.model.view import ServerView, ServiceView, WorkerView


@define(eq=False)
class FakeSteered:
    """
    Two virtual servers, two workers.

    :ivar answers: by question: what the workers say, or a failure.
    :ivar done: what it was asked to do.
    """

    answers: dict[str, Any] = field(factory=dict)
    done: list[tuple[object, ...]] = field(factory=list)
    missing: tuple[int, ...] = ()
    faulty: bool = False

    def names(self) -> list[str]:
        return ["one", "a b"]

    async def view(self) -> ServiceView:
        servers = (
            ServerView("one", "running", (("192.0.2.1", 25),), 1, 2, 3),
            ServerView("a b", "stopped"),
        )
        return ServiceView(servers, (WorkerView(0, 4711, servers),), self.missing)

    async def start(self, name: str) -> None:
        await self._do("start", name)

    async def pause(self, name: str) -> None:
        await self._do("pause", name)

    async def stop(self, name: str) -> None:
        await self._do("stop", name)

    async def _do(self, action: str, name: str) -> None:
        if name == "unwilling":
            raise SpoolProblem("no disk")
        if name == "broken":
            raise RuntimeError("a fault")
        if name not in ("one", "a b"):
            raise KeyError(name)
        self.done.append((action, name))

    async def reread(self) -> None:
        if self.faulty:
            raise ConfigurationFaults([Fault("x.yaml", 3, "user", "who?")])
        self.done.append(("reread",))

    async def ask(self, question: str, arguments: Mapping[str, Any]) -> Answers:
        self.done.append((question, dict(arguments)))
        found = self.answers.get(question, ())
        return Answers(tuple(Answer(n, value) for n, value in enumerate(found)), self.missing)
