"""
What one transaction has to carry.

:Room: ``relay``
:Made by: `mailhost.relay.manager`; carried by `mailhost.relay.sites`.
"""

from __future__ import annotations

from attrs import define, evolve, field, frozen

from mailhost.model.address import Mailbox
from mailhost.model.envelope import Envelope, Handling
from mailhost.model.outcome import Outcome
from mailhost.model.parameters import NO_RECIPIENT_PARAMETERS
from mailhost.model.queue import QueuedMessage, QueuedRecipient
from mailhost.model.route import NextHop
from mailhost.model.security import OutboundSecurity

#: RFC 2852 §4: nine digits.
_MOST_SECONDS = 999_999_999


@frozen
class Destination:
    """
    One site: a set of hosts that serve the same mail.

    :ivar key: the same for all domains of one provider.
    :ivar hops: its hosts, in the order to try; none: see `is_turned`.
    :ivar helo: say HELO instead of EHLO.
    :ivar security: what must hold before an envelope is sent.
    :ivar rated: the entry of a remote domain whose rates hold; empty: none has any.
    :ivar lmtp: speak LMTP (RFC 2033).
    """

    key: str
    hops: tuple[NextHop, ...]
    helo: bool = False
    security: OutboundSecurity = OutboundSecurity()
    rated: str = ""
    lmtp: bool = False

    @property
    def is_turned(self) -> bool:
        """It is one session that its server has asked for (RFC 2645); there will be no other."""
        return not self.hops


@define(eq=False)
class Job:
    """
    Some recipients of one message that go to one site together.

    :ivar message: carries the envelope and leads to the content.
    :ivar recipients: those of its recipients that this job serves.
    :ivar destination: where to.
    :ivar tried: addresses and ports that have had this job in this attempt.
    :ivar so_far: what the last of them said about each recipient, if one did.
    :ivar session_lost: that was no reply about the message: the session broke, or 421.
    """

    message: QueuedMessage
    recipients: list[QueuedRecipient]
    destination: Destination
    tried: set[tuple[str, int]] = field(factory=set)
    so_far: list[Outcome] | None = None
    session_lost: bool = False

    @property
    def is_international(self) -> bool:
        """Whether it may need SMTPUTF8 (RFC 6531 §3.2)."""
        message = self.message
        if message.parameters.smtputf8:
            return True
        if message.reverse_path is not None and not message.reverse_path.is_ascii:
            return True
        return not all(one.forward_path.is_ascii for one in self.recipients)

    def in_time(self, envelope: Envelope, now: float) -> Envelope:
        """*envelope* with the time that is left (RFC 2852 §4.1.4)."""
        seconds, mode = envelope.parameters.by
        if not mode:
            return envelope
        left = max(
            -_MOST_SECONDS, min(_MOST_SECONDS, seconds - int(now - self.message.accepted_at))
        )
        return evolve(envelope, parameters=evolve(envelope.parameters, by=(left, mode)))

    def international(self, plain: Envelope, spoken: bool) -> Envelope:
        """
        The envelope *plain* for a mail that may need SMTPUTF8.

        :param spoken: the peer offers it; else all of it has an ASCII form.
        """
        reverse_path = plain.reverse_path
        parameters = evolve(plain.parameters, smtputf8=spoken)
        if spoken:
            return evolve(plain, parameters=parameters)
        return evolve(
            plain,
            reverse_path=reverse_path.in_ascii if reverse_path is not None else None,
            forward_paths=tuple(path.in_ascii for path in plain.forward_paths),
            parameters=parameters,
        )

    def envelope(self, reverse_path: Mailbox | None) -> Envelope:
        """What MAIL and RCPT are to say, with *reverse_path*."""
        message = self.message
        special: dict[int, Handling] = {}
        for place, one in enumerate(self.recipients):
            if one.parameters is not NO_RECIPIENT_PARAMETERS:
                special[place] = Handling(parameters=one.parameters)
        return Envelope(
            reverse_path,
            tuple([one.forward_path for one in self.recipients]),
            message.body,
            special,
            message.wire_ready,
            message.parameters,
        )
