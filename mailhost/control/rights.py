"""
Who may do what: administrators, operators of named virtual servers, readers.

:Room: ``control``
:IIS: SEC-01..03 (the Security page: operators of a virtual server).
:Called by: `mailhost.control.api`, for each request.

What a caller may not see is not there for him: he gets the service without it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any

from attrs import evolve, frozen

from mailhost.control.steered import Answers, Steered
from mailhost.model.view import ServiceView


class Need(Enum):
    """
    What a request takes.

    SEE is for readers, and for operators as far as their virtual servers go; MAIL, the
    contents of messages, and RUN are for operators in the same way; ADMINISTER concerns
    everything, and is for administrators.
    """

    SEE = "see"
    MAIL = "read mail"
    RUN = "run"
    ADMINISTER = "administer"


@frozen
class Rights:
    """
    :ivar administrator: may do everything.
    :ivar reader: may see everything, but no content of a message.
    :ivar servers: the virtual servers that he may run.
    """

    administrator: bool = False
    reader: bool = False
    servers: frozenset[str] = frozenset()

    @property
    def any(self) -> bool:
        """Whether there is anything that he may do."""
        return self.administrator or self.reader or bool(self.servers)

    def scope(self, need: Need) -> frozenset[str] | None:
        """The virtual servers that *need* is granted for; `None`: all there are, and the rest."""
        if self.administrator or (self.reader and need is Need.SEE):
            return None
        return frozenset() if need is Need.ADMINISTER else self.servers


ALL = Rights(administrator=True)
NONE = Rights()


@frozen
class Scoped:
    """
    A service as far as some of its virtual servers go; implements `Steered`.

    :ivar steered: the whole service.
    :ivar scope: the names of those virtual servers.
    """

    steered: Steered
    scope: frozenset[str]

    def names(self) -> Collection[str]:
        """See `Steered`."""
        return [name for name in self.steered.names() if name in self.scope]

    async def view(self) -> ServiceView:
        """See `Steered`."""
        view = await self.steered.view()
        workers = tuple(
            evolve(one, servers=tuple(s for s in one.servers if s.name in self.scope))
            for one in view.workers
        )
        servers = tuple(s for s in view.servers if s.name in self.scope)
        return ServiceView(servers, workers, view.missing)

    async def start(self, name: str) -> None:
        """See `Steered`."""
        await self.steered.start(self._known(name))

    async def pause(self, name: str) -> None:
        """See `Steered`."""
        await self.steered.pause(self._known(name))

    async def stop(self, name: str) -> None:
        """See `Steered`."""
        await self.steered.stop(self._known(name))

    def _known(self, name: str) -> str:
        if name not in self.scope:
            raise KeyError(name)
        return name

    async def reread(self) -> None:
        """See `Steered`; `Need.ADMINISTER` is granted for everything or not at all."""
        raise AssertionError("the configuration belongs to all virtual servers")

    async def ask(self, question: str, arguments: Mapping[str, Any]) -> Answers:
        """See `Steered`; only the virtual servers in question are asked."""
        return await self.steered.ask(question, {**arguments, "scope": sorted(self.scope)})
