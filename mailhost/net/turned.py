"""
Sessions that were turned round: they go from one queue to the next, and through other processes.

:Room: ``net``
:RFC: 2645 §5.3; 5321 §4.1.4 (EHLO may be said again in a session).
:Called by: `mailhost.relay.line`, `mailhost.server.turned`.

A queue that has nothing more to send does not say goodbye but gives the connection back, which
rests then until the next one takes it.  Another process gets the octets of it through a pair of
sockets, since TLS cannot move: what it says and hears there is passed on, as it comes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import Protocol as Shape

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhost.net.deadlines import Deadlines
from mailhost.net.outbound import OutboundProtocol
from mailhost.net.turning import change_protocol

#: A process that has got a connection says its first word so soon, or does not get it.
FIRST_WORD_SECONDS = 10.0
#: Longer than the longest patience of a session (RFC 5321 §4.5.3.2.6).
SILENT_SECONDS = 900.0


class Onward(Shape):
    """Whose connection it is."""

    def given_back(self, session: TurnedProtocol) -> None:
        """Take the connection from *session*, which has nothing more to send."""

    def lost(self) -> None:
        """The connection is gone."""


class TurnedProtocol(OutboundProtocol):
    """
    A session with somebody who has asked for it.

    :ivar onward: gets the connection when there is nothing more to send; `None`: it ends then.
    :ivar comes_back: it does, as long as we are not about to stop.
    """

    onward: Onward | None = None
    comes_back = True

    def connectionMade(self) -> None:
        """It is there already, and so may TLS be."""
        holder = getattr(self.transport, "protocol", None)
        self._secured = isinstance(holder, TLSMemoryBIOProtocol)
        super().connectionMade()

    def go_on(self) -> None:
        """Begin where another session has ended: its server has greeted us."""
        self._dialogue.begin_again()
        self._flush()

    def quit(self) -> None:
        """Give the connection back, or close it."""
        if self.onward is None or not self.comes_back or not self.is_idle:
            super().quit()
        else:
            self.onward.given_back(self)
            self._gone()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        super().connectionLost(reason)
        if self.onward is not None:
            self.onward.lost()


@implementer(IPushProducer)
class _Producing(Protocol):
    """Reads no faster than the other side takes it; their ends are looked after elsewhere."""

    def pauseProducing(self) -> None:
        """Stop reading."""
        transport: Any = self.transport
        transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on reading."""
        transport: Any = self.transport
        transport.resumeProducing()

    def stopProducing(self) -> None:
        """The other side is gone."""


class Passage(_Producing):
    """
    The near end of a pair of sockets; what comes out of it goes to *rest*.

    :ivar spoken: anything has come.
    """

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self.spoken = False

    def dataReceived(self, data: bytes) -> None:
        """The other process speaks."""
        self.spoken = True
        self._rest.say(data)


class Rest(_Producing):
    """
    Has a turned connection while no session of this process has it.

    :param deadlines: where its patience with another process is looked after.
    :param lost: told when the connection ends here.
    :ivar is_gone: it has ended.
    """

    def __init__(self, deadlines: Deadlines, lost: Callable[[], None]) -> None:
        self._deadlines = deadlines
        self._lost = lost
        self._passage: Passage | None = None
        self._silent: Callable[[], None] = self.drop
        self.is_gone = False
        self.deadline_at = 0.0

    def give(self, session: TurnedProtocol) -> None:
        """Let *session* have the connection."""
        change_protocol(self.transport, session)
        session.go_on()

    def join(self, passage: Passage, silent: Callable[[], None]) -> None:
        """
        Pass on what is said at either side.

        :param silent: called when the other process is silent for too long.
        """
        self._passage, self._silent = passage, silent
        near: Any = self.transport
        far: Any = passage.transport
        near.registerProducer(passage, True)
        far.registerProducer(self, True)
        self.deadline_at = self._deadlines.seconds() + FIRST_WORD_SECONDS
        self._deadlines.watch(self)

    def part(self) -> None:
        """The other process has it no longer."""
        passage, self._passage = self._passage, None
        self._deadlines.forget(self)
        if passage is not None:
            near: Any = self.transport
            far: Any = passage.transport
            far.unregisterProducer()
            far.abortConnection()
            if not self.is_gone:
                near.unregisterProducer()
                near.resumeProducing()

    def say(self, data: bytes) -> None:
        """What the other process says."""
        if self._passage is not None and not self.is_gone:
            self.deadline_at = self._deadlines.seconds() + SILENT_SECONDS
            transport: Any = self.transport
            transport.write(data)

    def drop(self) -> None:
        """End the connection now."""
        if not self.is_gone:
            transport: Any = self.transport
            transport.abortConnection()

    def expire(self) -> None:
        """The other process is silent."""
        self._deadlines.forget(self)
        self._silent()

    def dataReceived(self, data: bytes) -> None:
        """The server answers; nobody has asked it while the connection rests."""
        if self._passage is None:
            self.drop()
            return
        self.deadline_at = self._deadlines.seconds() + SILENT_SECONDS
        far: Any = self._passage.transport
        far.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The server is gone: who has the connection sees it end as well."""
        self.is_gone = True
        self._silent()
        self.part()
        self._lost()
