"""
One factory per listening address; it may stand in any Twisted application.

:Room: ``net``
:Called by: `mailhost.server`, and by whoever embeds it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.mail.interfaces import IMessageDelivery, IMessageDeliveryFactory

from mailhost.authentication.exchange import Authentication
from mailhost.interfaces import IReception
from mailhost.model.security import TLSFacts
from mailhost.model.session import SessionFacts
from mailhost.model.tally import Tally
from mailhost.net.deadlines import Deadlines
from mailhost.net.inbound import InboundProtocol
from mailhost.net.message_delivery import MessageDeliveryReception
from mailhost.net.proxied import ProxiedProtocol
from mailhost.net.proxy_header import Proxied
from mailhost.net.server_tls import ServerTLS
from mailhost.protocol_log.log import ProtocolLog
from mailhost.smtp import replies
from mailhost.smtp.rules import Rules

Receive = Callable[[SessionFacts], IReception]

_session_numbers = count(1)


class ESMTPFactory(ServerFactory):
    """
    Speaks ESMTP with whoever connects.

    :param receive: decides what is accepted: a function that makes an
        `IReception` for each session, or a `twisted.mail` ``IMessageDelivery``
        or ``IMessageDeliveryFactory``.
    :param reactor: the clock; the global reactor is never used.
    :param rules: names and limits; a plain ``Rules(fqdn)`` will do.  Replacing
        the attribute acts on sessions that begin later.
    :param timeout_seconds: patience with a silent client (RFC 5321
        §4.5.3.2.7: at least 300).
    :param tls: has the certificate; STARTTLS is offered where *rules* say so.
    :param implicit_tls: every session begins with the handshake (RFC 8314 §3.3).
    :param proxies: who may make connections for others; every connection begins with a
        PROXY header then.  `None`: nobody does.
    :param tally: counts octets; `None`: nobody reads the numbers.
    :param protocol_log: where it is on, it is told of all commands of sessions that begin then.
    :ivar sessions: the open ones.
    """

    noisy = False

    def __init__(
        self,
        receive: Receive | IMessageDelivery | IMessageDeliveryFactory,
        reactor: IReactorTime,
        rules: Rules,
        timeout_seconds: float = 600,
        tls: ServerTLS | None = None,
        implicit_tls: bool = False,
        authentication: Authentication | None = None,
        proxies: Callable[[str], bool] | None = None,
        protocol_log: ProtocolLog | None = None,
        tally: Tally | None = None,
    ) -> None:
        self.rules = rules
        self._tally = tally or Tally()
        self._protocol_log = protocol_log
        self.tls = tls
        self.implicit_tls = implicit_tls
        self.authentication = authentication
        self.proxies = proxies
        self.timeout_seconds = timeout_seconds
        self.sessions: set[InboundProtocol] = set()
        self._without_header: set[ProxiedProtocol] = set()
        self._receive = _receiver(receive, rules)
        self._clock = reactor
        self._deadlines = Deadlines(reactor)
        self._stopped: list[Deferred[None]] = []

    def buildProtocol(self, addr: IAddress | None) -> InboundProtocol | ProxiedProtocol:
        """A client has connected from *addr*, or a proxy for it."""
        peer, port = getattr(addr, "host", ""), getattr(addr, "port", 0)
        if self.proxies is None:
            return self._session(Proxied(peer, port, "", 0))
        waiting = ProxiedProtocol(
            peer,
            self.proxies(peer),
            lambda found: self._session(found or Proxied(peer, port, "", 0)),
            self._deadlines,
            self._without_header.discard,
        )
        self._without_header.add(waiting)
        return waiting

    def _session(self, ends: Proxied) -> InboundProtocol:
        """:param ends: our end is empty where the socket knows it."""
        session = SessionFacts(
            session_id=f"{next(_session_numbers):x}",
            peer=ends.peer,
            peer_port=ends.peer_port,
            local=ends.local,
            local_port=ends.local_port,
            connected_at=self._clock.seconds(),
            lmtp=self.rules.lmtp,
        )
        log = self._protocol_log
        protocol = InboundProtocol(
            self._receive,
            session,
            self.rules,
            self.timeout_seconds,
            self._deadlines,
            self._gone,
            self.tls,
            self.implicit_tls,
            self.authentication,
            log if log is not None and log.on else None,
            self._tally,
        )
        protocol.factory = self
        self.sessions.add(protocol)
        return protocol

    def expect(self, peer: tuple[str, int], tls: TLSFacts | None) -> InboundProtocol:
        """
        A session on a connection that we have made ourselves (RFC 2645 §5.3).

        :param peer: the client's IP address and port.
        :param tls: what its handshake has agreed on, if there was one.
        """
        session = self._session(Proxied(*peer, "", 0))
        session.session.expected = True
        if tls is not None:
            session.assume_tls(tls)
        return session

    def hurry(self, timeout_seconds: float) -> None:
        """Have so much patience with clients, those that are here already as well."""
        self.timeout_seconds = timeout_seconds
        for session in self.sessions:
            session.hurry(timeout_seconds)

    def end_sessions(self) -> Deferred[None]:
        """
        Say 421 to every session, each between two of its commands.

        :returns: fires when the last one has gone.
        """
        for waiting in list(self._without_header):
            waiting.abort()
        if not self.sessions:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        self._stopped.append(ended)
        for session in list(self.sessions):
            session.say_farewell(replies.STOPPING)
        return ended

    def abort_sessions(self) -> None:
        """End every connection now."""
        for session in list(self.sessions):
            session.abort()

    def _gone(self, session: InboundProtocol) -> None:
        self.sessions.discard(session)
        if not self.sessions:
            stopped, self._stopped = self._stopped, []
            for waiting in stopped:
                waiting.callback(None)


def _receiver(
    receive: Receive | IMessageDelivery | IMessageDeliveryFactory, rules: Rules
) -> Receive:
    if IMessageDeliveryFactory.providedBy(receive):
        make: Any = receive
        return lambda session: MessageDeliveryReception(make.getMessageDelivery(), session, rules)
    if IMessageDelivery.providedBy(receive):
        return lambda session: MessageDeliveryReception(receive, session, rules)
    if not callable(receive):
        raise TypeError(
            f"{receive!r} is neither a function of a session nor a twisted.mail IMessageDelivery"
        )
    return receive
