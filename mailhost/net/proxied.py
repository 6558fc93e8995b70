"""
A connection that a proxy has made for its client: who that is comes first.

:Room: ``net``
:Called by: `mailhost.net.factory`, on addresses where it is to be so.

Whoever is no proxy of ours is cut off unheard: anybody else could say that he is
whoever may relay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailhost.errors import SyntaxProblem
from mailhost.net.deadlines import Deadlines
from mailhost.net.inbound import InboundProtocol
from mailhost.net.proxy_header import Proxied, ProxyHeaderReader

#: A proxy has its header ready.
_HEADER_SECONDS = 10.0


class ProxiedProtocol(Protocol):
    """
    Reads the header, and then makes way for the session.

    :param proxy: its IP address.
    :param known: it is one of ours.
    :param make: from what the header says to a session; `None`: the proxy speaks for itself.
    :param deadlines: where the patience is looked after.
    :param gone: called once, when this makes way or the connection is lost.
    """

    _log = Logger()

    def __init__(
        self,
        proxy: str,
        known: bool,
        make: Callable[[Proxied | None], InboundProtocol],
        deadlines: Deadlines,
        gone: Callable[[ProxiedProtocol], None],
    ) -> None:
        self.deadline_at = 0.0
        self._proxy, self._known, self._make = proxy, known, make
        self._deadlines, self._gone = deadlines, gone
        self._header = ProxyHeaderReader()

    def connectionMade(self) -> None:
        """A proxy, or somebody who would like to be one, has connected."""
        self.deadline_at = self._deadlines.seconds() + _HEADER_SECONDS
        self._deadlines.watch(self)
        if not self._known:
            self._cut_off("it is not in access.proxies")

    def dataReceived(self, data: bytes) -> None:
        """Octets of the header, and perhaps of what is behind it."""
        if not self._known:
            return
        try:
            rest = self._header.feed(data)
        except SyntaxProblem as problem:
            self._cut_off(str(problem))
            return
        if self._header.ended:
            self._make_way(rest)

    def _make_way(self, rest: bytes) -> None:
        self._leave()
        transport: Any = self.transport
        session: Any = self._make(self._header.found)
        transport.protocol = session
        if not session.begins_with_tls:
            session.hear_early(rest)
        session.makeConnection(transport)
        if rest and session.begins_with_tls:
            transport.protocol.dataReceived(rest)  # TLS has put itself there

    def expire(self) -> None:
        """No header has come."""
        self._cut_off("no PROXY header has come")

    def _cut_off(self, why: str) -> None:
        self._known = False
        self._log.info("{proxy} is not heard: {why}", proxy=self._proxy, why=why)
        self.abort()

    def abort(self) -> None:
        """End the connection now."""
        transport: Any = self.transport
        transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, before the header."""
        self._leave()

    def _leave(self) -> None:
        self._deadlines.forget(self)
        self._gone(self)
