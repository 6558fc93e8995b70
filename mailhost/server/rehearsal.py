"""
A session that does not take place: what a client would hear.

:Room: ``server``
:Called by: `mailhost.server.explaining`.

The very dialogue and the very reception of a real session, with a desk of its own: nothing is
stored, counted or logged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, evolve, field, frozen
from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import ILogObserver, LogEvent, Logger
from zope.interface import implementer

from mailhost.intake.desk import Desk
from mailhost.intake.destinations import Destinations
from mailhost.intake.reception import Reception
from mailhost.intake.stranger import Stranger
from mailhost.interfaces import Maybe
from mailhost.model.account import Account
from mailhost.model.address import Mailbox, path_text
from mailhost.model.dns_list import DNSList
from mailhost.model.reply import Reply
from mailhost.model.session import SessionFacts
from mailhost.smtp import replies
from mailhost.smtp.events import (
    Connected,
    Event,
    FaultMade,
    HelloGiven,
    MailGiven,
    RecipientGiven,
    TransactionOver,
    Wait,
)
from mailhost.smtp.rules import Rules
from mailhost.smtp.server_dialogue import ServerDialogue


@implementer(ILogObserver)
class _Nobody:
    """The log is about what happened."""

    def __call__(self, event: LogEvent) -> None:
        """See `ILogObserver`."""


@define(eq=False)
class _QuietStranger(Stranger):
    _log = Logger(observer=_Nobody())


@define(eq=False)
class _QuietReception(Reception):
    _log = Logger(observer=_Nobody())
    _meet = _QuietStranger

    @property
    def stranger(self) -> Stranger | None:
        """What is asked of this client besides; `None`: nothing."""
        return self._stranger


@define(eq=False)
class _HurriedClock:
    """
    Nobody is made to wait for what does not take place.

    :ivar waits: what the waits would have come to, in seconds.
    """

    seconds: Callable[[], float]
    waits: float = 0.0

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: Any, **kw: object
    ) -> IDelayedCall:
        """See `IReactorTime`."""
        self.waits += delay
        callable(*args, **kw)
        over = DelayedCall(self.seconds(), callable, args, kw, _nothing, _nothing)
        over.called = 1
        return over


def _nothing(call: DelayedCall) -> None:
    """There is nothing to cancel, nor to put off."""


@frozen
class Rehearsed:
    """
    What was said to each command, in order.

    :ivar said: ``(command, reply)``; the first command is the connection, called ``connect``.
    :ivar waits: seconds that each of these replies would be late.
    :ivar entries: the lists in DNS that the client is in; `None`: they were not asked.
    :ivar guarded: the client is a stranger, of whom more is asked.
    :ivar greylisted: the message has to come back, unless the client is known by now.
    :ivar destinations: the recipients that were accepted.
    :ivar session: its facts at the end.
    :ivar setting: behind the refusal; empty where there is none, or no setting behind it.
    """

    said: tuple[tuple[str, str], ...]
    destinations: Destinations
    session: SessionFacts
    waits: tuple[float, ...] = ()
    entries: tuple[DNSList, ...] | None = None
    guarded: bool = False
    greylisted: bool = False
    setting: str = ""

    @property
    def reply(self) -> str:
        """The last reply; it decides."""
        return self.said[-1][1]

    @property
    def accepted(self) -> bool:
        """Whether the recipient would be taken."""
        return self.reply.startswith("2")


@define(eq=False)
class Rehearsal:
    """
    :ivar desk: of the virtual server.
    :ivar rules: of the address that the client would connect to.
    """

    desk: Desk
    rules: Rules
    _dialogue: ServerDialogue = field(init=False)
    _reception: _QuietReception = field(init=False)
    _clock: _HurriedClock = field(init=False)
    _waits: list[float] = field(factory=list, init=False)
    _said: list[tuple[str, str]] = field(factory=list, init=False)
    _refusals: list[Reply] = field(factory=list, init=False)

    async def run(
        self,
        client: str,
        sender: Mailbox | None,
        recipient: Mailbox,
        account: Account | None,
        secure: bool,
    ) -> Rehearsed:
        """
        One session with one recipient, up to the first refusal.

        :param account: who has logged in.
        :param secure: TLS is on.
        """
        session = SessionFacts("rehearsal", client, account=account)
        self._clock = _HurriedClock(self.desk.clock.seconds)
        self._reception = _QuietReception(self._dry_desk(client), session)
        self._dialogue = ServerDialogue(
            self.rules,
            client,
            secure=secure,
            trusted=session.trusted,
            refused=self._refusals.append,
        )
        try:
            good = await self._say("connect", "") and await self._say("EHLO", "EHLO client")
            # The login has been believed: it stands where AUTH would have put it.
            self._dialogue.logged_in = account is not None
            ascii_only = recipient.is_ascii and (sender is None or sender.is_ascii)
            # RFC 6531 §3.4: a client that needs it asks for it where it is offered.
            asked = "" if ascii_only or "SMTPUTF8" not in self.rules.extensions else " SMTPUTF8"
            if good and await self._say("MAIL", f"MAIL FROM:{path_text(sender)}{asked}"):
                await self._say("RCPT", f"RCPT TO:{path_text(recipient)}")
            found, stranger = self._reception.destinations, self._reception.stranger
        finally:
            self._reception.reset()
            self._reception.disconnected()
        return Rehearsed(
            tuple(self._said),
            found or Destinations(),
            session,
            tuple(self._waits),
            stranger.entries if stranger is not None else None,
            stranger is not None,
            stranger is not None and stranger.greylists(recipient),
            self._refusals[-1].setting if self._refusals else "",
        )

    def _dry_desk(self, client: str) -> Desk:
        dry = evolve(self.desk, clock=self._clock, greylist=None)
        dry.open_sessions, dry.closed = self.desk.open_sessions, self.desk.closed
        dry.clients = self.desk.clients.copy_of(client)
        dry.networks = self.desk.networks.copy_of(client)
        return dry

    async def _say(self, name: str, line: str) -> bool:
        """Whether the reply to *line* was positive."""
        if line:
            self._dialogue.receive_octets(f"{line}\r\n".encode("utf-8", "surrogateescape"))
        while not isinstance(event := self._dialogue.next_event(), Wait):
            if not isinstance(event, TransactionOver):
                answer = self._decide(event)
                self._dialogue.answer(answer if isinstance(answer, Reply) else await answer)
        self._waits.append(self._clock.waits)
        self._clock.waits = 0.0
        heard = self._dialogue.octets_to_send().decode("utf-8", "replace").splitlines()
        self._said.append((name, heard[-1] if heard else ""))
        return bool(heard) and heard[-1].startswith("2")

    def _decide(self, event: Event) -> Maybe[Reply]:
        if isinstance(event, Connected):
            return self._reception.connected()
        if isinstance(event, HelloGiven):
            return self._reception.hello(event.name, event.extended)
        if isinstance(event, MailGiven):
            return self._reception.sender(
                event.reverse_path, event.size, event.body, event.parameters
            )
        if isinstance(event, RecipientGiven):
            return self._reception.recipient(event.forward_path, event.parameters)
        if isinstance(event, FaultMade):
            return self._reception.fault(event.reply)
        return replies.LOCAL_ERROR
