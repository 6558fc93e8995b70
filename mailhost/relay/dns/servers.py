"""
One question to the configured name servers, one after the other.

:Room: ``relay.dns``
:RFC: 1035 §7.2 (several servers, retransmission), 9520 §2 (what is a failure).
:Called by: `mailhost.relay.dns.resolver`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from mailhost.relay.dns.files import Server
from mailhost.relay.dns.messages import Answer, Question, Verdict, failure

#: A name server that was silent is asked once more (resolv.conf(5), ``attempts``).
ROUNDS = 2
#: So long a silent name server stands behind the others.
AVOID_SECONDS = 30.0

_FINAL = (Verdict.ANSWERED, Verdict.NO_DOMAIN, Verdict.ENDLESS)


class Carrier(Protocol):
    """What `NameServers` needs of a `mailhost.relay.dns.transport.Transport`."""

    def ask(self, question: Question, server: Server) -> Awaitable[Answer]:
        """One question to one name server."""


@define(eq=False)
class NameServers:
    """
    The name servers, and which of them were silent of late.

    :ivar find: gives the servers in order, at each question anew.
    """

    carrier: Carrier
    find: Callable[[], Sequence[Server]]
    clock: IReactorTime
    _avoid_until: dict[Server, float] = field(factory=dict, init=False)

    async def ask(self, question: Question) -> Answer:
        """
        The first real answer; where there is none, the last failure.

        Bounded: every server is asked at most `ROUNDS` times, and one that has
        said that it cannot answer is not asked again.
        """
        answer = failure(question, Verdict.SILENT, "there is no name server to ask")
        servers = self._in_order()
        for _ in range(ROUNDS):
            silent: list[Server] = []
            for server in servers:
                answer = await self.carrier.ask(question, server)
                if answer.verdict in _FINAL:
                    self._avoid_until.pop(server, None)
                    return answer
                if answer.verdict is Verdict.SILENT:
                    silent.append(server)
                    self._avoid_until[server] = self.clock.seconds() + AVOID_SECONDS
            servers = silent
        return answer

    def _in_order(self) -> list[Server]:
        now = self.clock.seconds()
        servers = list(self.find())
        for server in [one for one in self._avoid_until if one not in servers]:
            del self._avoid_until[server]  # no longer configured
        return sorted(servers, key=lambda server: self._avoid_until.get(server, 0.0) > now)
