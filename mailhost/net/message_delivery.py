"""
A ``twisted.mail`` application behind our protocol.

:Room: ``net``
:Implements: `mailhost.interfaces.IReception` on top of
    `twisted.mail.interfaces.IMessageDelivery`, so that an application written
    for ``twisted.mail.smtp`` moves over by changing one import.

``IMessage.lineReceived`` wants each line by itself; only here is there Python
per line of content, because that interface asks for it.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from attrs import define, field
from twisted.internet.defer import DeferredList, maybeDeferred
from twisted.logger import Logger
from twisted.mail.smtp import Address, SMTPServerError, User
from zope.interface import implementer

from mailhost.interfaces import IReception
from mailhost.model.address import Mailbox
from mailhost.model.parameters import MailParameters, RecipientParameters
from mailhost.model.reply import Reply
from mailhost.model.session import SessionFacts
from mailhost.policy.limits import check_message_size
from mailhost.smtp import replies
from mailhost.smtp.rules import Rules


@implementer(IReception)
@define(eq=False)
class MessageDeliveryReception:
    """
    :ivar delivery: the application's ``IMessageDelivery``.
    :ivar session: the session's facts.
    :ivar rules: the message size to hold clients to.
    """

    delivery: Any
    session: SessionFacts
    rules: Rules
    _sender: Any = field(default=None, init=False)
    _targets: list[tuple[Any, Any]] = field(factory=list, init=False)
    _messages: list[Any] = field(factory=list, init=False)
    _rest: bytes = field(default=b"", init=False)
    _octets: int = field(default=0, init=False)

    _log = Logger()

    @property
    def _helo(self) -> tuple[bytes, bytes]:
        return self.session.hello.encode("ascii"), self.session.peer.encode("ascii")

    def connected(self) -> Reply:
        """See `IReception`."""
        return replies.OK

    def hello(self, name: str, extended: bool) -> Reply:
        """See `IReception`."""
        self.session.hello = name
        self.session.protocol = "ESMTP" if extended else "SMTP"
        return replies.OK

    async def sender(
        self,
        reverse_path: Mailbox | None,
        size: int | None,
        body: str,
        parameters: MailParameters,
    ) -> Reply:
        """See `IReception`: ``validateFrom`` decides."""
        refused = check_message_size(size, self.rules.max_message_octets)
        if refused is not None:
            return refused
        make_address: Any = Address
        origin = make_address(str(reverse_path or "").encode("ascii"))
        try:
            self._sender = await maybeDeferred(self.delivery.validateFrom, self._helo, origin)
        except SMTPServerError as error:
            return _reply_of(error)
        return replies.sender_ok(reverse_path)

    async def recipient(self, forward_path: Mailbox, parameters: RecipientParameters) -> Reply:
        """See `IReception`: ``validateTo`` decides."""
        make_user: Any = User
        user = make_user(str(forward_path).encode("ascii"), self._helo, None, self._sender)
        try:
            make_message = await maybeDeferred(self.delivery.validateTo, user)
        except SMTPServerError as error:
            return _reply_of(error)
        self._targets.append((user, make_message))
        return replies.recipient_ok(forward_path)

    def verify(self, path: Mailbox) -> Reply:
        """See `IReception`: the application cannot be asked."""
        return replies.cannot_verify(str(path))

    def expand(self, path: Mailbox) -> Reply:
        """See `IReception`: the application cannot be asked."""
        return replies.NOT_SUPPORTED

    def start_queue(self, option: str, name: str) -> Reply:
        """See `IReception`: nothing is held."""
        return replies.node_not_allowed(name)

    def turn(self, domains: tuple[str, ...]) -> Reply:
        """See `IReception`: nothing is held."""
        return replies.TURN_REFUSED

    def turned(self) -> Any:
        """See `IReception`: nobody is told 250."""
        raise AssertionError("no session is turned round")

    def fault(self, reply: Reply) -> Reply:
        """See `IReception`."""
        return reply

    def content(self) -> Reply:
        """See `IReception`."""
        for _, make_message in self._targets:
            message = make_message()
            self._messages.append(message)
        header = self.delivery.receivedHeader(
            self._helo, self._sender, [user for user, _ in self._targets]
        )
        if header:
            for line in header.split(b"\n"):
                self._line(line)
        return replies.START_CONTENT

    def write(self, octets: bytes) -> Awaitable[None] | None:
        """See `IReception`."""
        self._octets += len(octets)
        if check_message_size(self._octets, self.rules.max_message_octets) is not None:
            self._drop_messages()
            return None
        *lines, self._rest = (self._rest + octets).split(b"\r\n")
        for line in lines:
            self._line(line)
        return None

    def _line(self, line: bytes) -> None:
        for message in self._messages:
            message.lineReceived(line)

    async def end_of_content(self, fault: Reply | None, wire_ready: bool) -> Reply:
        """See `IReception`: 250 when every ``eomReceived`` has succeeded, else 451."""
        refused = fault or check_message_size(self._octets, self.rules.max_message_octets)
        if refused is not None:
            return refused
        messages, self._messages = self._messages, []
        results = await DeferredList(
            [maybeDeferred(message.eomReceived) for message in messages], consumeErrors=True
        )
        failures = [failure for good, failure in results if not good]
        if not failures:
            return replies.OK
        for failure in failures:
            self._log.failure("A message was not taken", failure)
        error = failures[0].value
        return _reply_of(error) if isinstance(error, SMTPServerError) else replies.SPOOL_FAILED

    def reset(self) -> None:
        """See `IReception`."""
        self._drop_messages()
        self._sender = None
        self._targets = []
        self._rest = b""
        self._octets = 0

    def _drop_messages(self) -> None:
        messages, self._messages = self._messages, []
        for message in messages:
            message.connectionLost()

    def disconnected(self) -> None:
        """See `IReception`."""


def _reply_of(error: SMTPServerError) -> Reply:
    """The application's refusal; a status of the code's class where it gives none."""
    # Upstream's own subclasses hold text where its base class holds octets.
    resp: str | bytes = error.resp
    words = resp.decode("ascii", "replace") if isinstance(resp, bytes) else resp
    return Reply(error.code, f"{error.code // 100}.0.0", tuple(words.split("\n")))
