"""
What control asks of a service and of its virtual servers.

:Room: ``control``
:Implemented by: `mailhost.service`, `mailhost.workers.supervisor` (`Steered`);
    `mailhost.server.virtual_server` (`Part`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from attrs import frozen

from mailhost.intake.badmail_desk import BadmailDesk
from mailhost.intake.submission import Submitter
from mailhost.interfaces import IHeldMail, INameResolver
from mailhost.model.address import Mailbox
from mailhost.model.explanation import Explanation
from mailhost.model.tally import Spread, Tally
from mailhost.model.view import PoolView, ServiceView, SessionView
from mailhost.relay.manager import RelayManager
from mailhost.traces.tracer import Tracer


@frozen
class Answer:
    """
    What one process has answered.

    :ivar worker: its number.
    :ivar value: made of what JSON has.
    """

    worker: int
    value: Any


@frozen
class Answers:
    """
    What all processes have answered.

    :ivar parts: by worker.
    :ivar missing: workers that are down, or did not answer in time.
    """

    parts: tuple[Answer, ...]
    missing: tuple[int, ...] = ()


class Steered(Protocol):
    """A service, in one process or several."""

    def names(self) -> Collection[str]:
        """Of the virtual servers that are configured, in their order."""

    async def view(self) -> ServiceView:
        """What there is now."""

    async def start(self, name: str) -> None:
        """
        Start a virtual server, or let it take sessions again.

        :raises KeyError: there is none of this name.
        :raises mailhost.errors.MailhostError: it cannot run; the words say why.
        """

    async def pause(self, name: str) -> None:
        """
        Take no new sessions.

        :raises KeyError: there is none of this name.
        """

    async def stop(self, name: str) -> None:
        """
        Stop it; returns when it is stopped.

        :raises KeyError: there is none of this name.
        """

    async def reread(self) -> None:
        """
        Go by the configuration as it is written now.

        :raises mailhost.config.faults.ConfigurationFaults: nothing has changed.
        """

    async def ask(self, question: str, arguments: Mapping[str, Any]) -> Answers:
        """
        Put one of `mailhost.control.answers.QUESTIONS` to every process.

        :param arguments: made of what JSON has.
        :raises mailhost.errors.MailhostError: it cannot be done; the words say why.
        """


class Explains(Protocol):
    """Tells what would become of a message."""

    async def explain(
        self,
        client: str,
        sender: Mailbox | None,
        recipient: Mailbox,
        login: str | None,
        secure: bool,
    ) -> Explanation:
        """
        :param login: the user who has logged in; `None`: nobody.
        :param secure: TLS is on where it is offered.
        """


class Counted(Protocol):
    """What is counted of a process."""

    @property
    def lateness(self) -> Spread:
        """How late it was."""

    @property
    def stalls(self) -> int:
        """Times that it stood still."""


class Part(Protocol):
    """One virtual server, as far as it is in this process."""

    @property
    def name(self) -> str:
        """Unique among the virtual servers."""

    @property
    def state(self) -> str:
        """One of `mailhost.model.view.STATES`."""

    @property
    def relays(self) -> Sequence[RelayManager]:
        """Those that deliver its mail; none while it is stopped."""

    @property
    def held_queues(self) -> Sequence[IHeldMail]:
        """Mail that waits until its domain asks for it, in all its queues; none if stopped."""

    @property
    def badmail_desk(self) -> BadmailDesk | None:
        """Looks after Badmail; `None`: another process does, or nobody while it is stopped."""

    @property
    def submitter(self) -> Submitter | None:
        """Takes text from programs; `None`: another process does, or nobody while it is stopped."""

    @property
    def traces(self) -> Tracer | None:
        """Finds events; `None`: another process does, or nobody while it is stopped."""

    @property
    def tally(self) -> Tally:
        """Counts what happens at it."""

    @property
    def resolver(self) -> INameResolver:
        """DNS; several may have the same."""

    @property
    def pulse(self) -> Counted | None:
        """How late its process is; several have the same.  `None`: nobody looks."""

    def directory_statistics(self) -> dict[str, int]:
        """What its directory counts; empty where there is none."""

    def pools(self) -> Iterable[PoolView]:
        """Its threads; the same work may be told of several times."""

    def explainer(self) -> Explains | None:
        """Tells what would become of a message; `None` while it is stopped."""

    def session_views(self) -> list[SessionView]:
        """Its sessions now."""

    def terminate(self, ids: frozenset[str]) -> list[str]:
        """End those of its sessions that are among *ids*; tells which."""

    def warnings(self) -> list[tuple[str, str]]:
        """What an operator should know: in words, and the setting behind it."""


#: The virtual servers of one process, by name.
Parts = Mapping[str, Part]


def chosen_parts(parts: Parts, server: str | None) -> Iterable[Part]:
    """One virtual server or all of them; one that another process has alone is none here."""
    if server is None:
        return list(parts.values())
    return [parts[server]] if server in parts else []
