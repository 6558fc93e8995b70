"""
The directory asked by a program that waits for the answer.

:Room: ``directory``
:Called by: commands; everything here blocks.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from mailhost.directory.binding import DirectoryServer, Terms
from mailhost.directory.diagnosis import check_server, judge_settings
from mailhost.directory.entries import EntryReader
from mailhost.directory.expanding import expand
from mailhost.directory.resolving import resolve
from mailhost.directory.servers import ServerList
from mailhost.directory.session import Session, Tally
from mailhost.directory.source import DirectorySource
from mailhost.errors import LookupProblem
from mailhost.model.address import Mailbox
from mailhost.model.directory import (
    DirectoryFinding,
    Expansion,
    GroupRef,
    Refused,
    Resolution,
    Trace,
    TraceStep,
)

#: A person waits, and knows how to end it.
_PATIENCE_SECONDS = 60.0


@define(eq=False)
class DirectDirectory:
    """
    The same questions as `mailhost.directory.resolver.LDAPAddressResolver` asks.

    :ivar servers: asked in order.
    :ivar terms: of every connection.
    :ivar reader: understands entries.
    :ivar base: the DN below which everybody is.
    :ivar seconds: a clock for durations.
    :ivar most_members: of a group.
    """

    servers: tuple[DirectoryServer, ...]
    terms: Terms
    reader: EntryReader
    base: str
    seconds: Callable[[], float]
    most_members: int
    _session: Session = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._session = Session(ServerList(self.servers), self.terms, self.seconds, Tally())

    def _source(self, session: Session) -> DirectorySource:
        return DirectorySource(session, self.reader, self.base)

    def _begin(self) -> DirectorySource:
        self._session.begin(self.seconds() + _PATIENCE_SECONDS)
        return self._source(self._session)

    def trace(self, address: Mailbox) -> Trace:
        """How *address* is resolved."""
        steps: list[TraceStep] = []
        began = self.seconds()
        source, self._session.watch = self._begin(), steps.append
        result: Resolution | None = None
        problem = ""
        try:
            result = resolve(source, address)
        except LookupProblem as why:
            problem = f"{why.status} {why.words}"
        finally:
            self._session.watch = None
        return Trace(address, tuple(steps), result, problem, self.seconds() - began)

    def expand(self, group: GroupRef) -> Expansion | Refused:
        """
        The mailboxes that *group* stands for.

        :raises LookupProblem: the directory cannot say.
        """
        return expand(self._begin(), group, self.most_members)

    def check(self) -> tuple[DirectoryFinding, ...]:
        """What is right and wrong with the servers, the schema and the settings."""
        found = list(judge_settings(self.servers, self.terms, self.reader.schema))
        for server in self.servers:
            self._begin()
            found += check_server(self._session, server, self._source)
        return tuple(found)

    def close(self) -> None:
        """End all connections."""
        self._session.close()
