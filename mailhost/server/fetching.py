"""
Fetching mail from providers that hold it, on a schedule.

:Room: ``server``
:RFC: 1985 (ETRN), 2645 §5 (ATRN, the customer's side).
:Called by: `mailhost.server.virtual_server`, in the one process that has Pickup.

After ATRN the connection is a session as any other, in which the provider is the client: what it
may do there is what anybody may, but for limits that are meant for strangers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailhost.config.settings.fetch import FetchSettings
from mailhost.interfaces import IReception
from mailhost.model.reply import Reply
from mailhost.model.session import SessionFacts
from mailhost.net.factory import ESMTPFactory
from mailhost.net.outbound import OutboundProtocol
from mailhost.relay.job import Destination
from mailhost.relay.line import Line, Opened
from mailhost.smtp.rules import Rules

#: RFC 2645 §5.2.2: there is nothing to fetch.
_NO_MAIL = 453


@define(eq=False)
class Fetcher:
    """
    :ivar reactor: tells the time.
    :ivar line: opens connections.
    :ivar receive: decides on what is fetched.
    :ivar manner: the rules of ordinary sessions, and the patience with silent ones in seconds.
    :ivar adopt: told of each session's factory.
    """

    reactor: Any
    line: Line
    receive: Callable[[SessionFacts], IReception]
    manner: Callable[[], tuple[Rules, float]]
    adopt: Callable[[ESMTPFactory], None]
    _timers: dict[FetchSettings, IDelayedCall] = field(factory=dict, init=False)
    _running: dict[FetchSettings, Deferred[None]] = field(factory=dict, init=False)

    _log = Logger()

    def configure(self, wanted: tuple[FetchSettings, ...]) -> None:
        """Fetch by *wanted* from now on; what is new is begun with at once."""
        for one in set(self._timers) - set(wanted):
            timer = self._timers.pop(one)
            if timer.active():
                timer.cancel()
        for one in wanted:
            if one not in self._timers:
                self._timers[one] = self.reactor.callLater(0, self._begin, one)

    def stop(self) -> None:
        """Ask nobody any more; mail that is coming in is a session's matter."""
        self.configure(())
        for running in list(self._running.values()):
            running.cancel()

    def _begin(self, wanted: FetchSettings) -> None:
        self._timers[wanted] = self.reactor.callLater(wanted.every, self._begin, wanted)
        if wanted in self._running:
            return  # it takes longer than that
        running = self._running[wanted] = Deferred.fromCoroutine(self._fetch(wanted))
        running.addErrback(self._failed)
        running.addCallback(self._over, wanted)

    def _over(self, nothing: None, wanted: FetchSettings) -> None:
        self._running.pop(wanted, None)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):  # type: ignore[no-untyped-call]  # upstream
            self._log.failure("Mail could not be fetched", failure)

    async def _fetch(self, wanted: FetchSettings) -> None:
        destination = Destination(f"fetch:{wanted.hop}", (wanted.hop,), security=wanted.security)
        opened = await self.line.open(destination, set(), _nothing)
        if not isinstance(opened, Opened):
            words = opened.words if opened is not None else "it has no address"
            self._log.warn("Nothing is fetched from {host}: {words}", host=wanted.hop, words=words)
            return
        session = opened.session
        for command in wanted.commands:
            try:
                reply = await session.ask(command)
            except CancelledError:
                session.drop()
                raise
            self._tell(wanted, command, reply)
            if reply is None:
                return
            if wanted.by == "atrn" and reply.positive:
                self._turn_round(session)
                return
        session.quit()

    def _tell(self, wanted: FetchSettings, command: str, reply: Reply | None) -> None:
        if reply is not None and (reply.positive or reply.code == _NO_MAIL):
            told = self._log.info
        else:
            told = self._log.warn
        words = "the connection is lost" if reply is None else str(reply)
        told("{host}: {command}: {reply}", host=wanted.hop, command=command, reply=words)

    def _turn_round(self, session: OutboundProtocol) -> None:
        """RFC 2645 §5.3: the provider is the client now, and waits to be greeted."""
        usual, patience = self.manner()
        rules = evolve(
            usual,
            starttls=False,
            require_tls=False,
            require_login=False,
            secure_mechanisms=(),
            clear_mechanisms=(),
            holds=False,
        )
        factory = ESMTPFactory(self.receive, self.reactor, rules, patience)
        self.adopt(factory)
        session.give_way(factory.expect(session.peer, session.tls))


def _nothing() -> None:
    """Nobody waits for the end of it."""
