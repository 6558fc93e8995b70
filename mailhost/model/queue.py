"""
A message that is ours: envelope, recipients and where its content lies.

:Room: ``model``
:Made by: `mailhost.spool` at commit and when due mail is read back.
"""

from __future__ import annotations

from attrs import define, evolve, field

from mailhost.model.address import Mailbox
from mailhost.model.envelope import Envelope, Handling
from mailhost.model.outcome import Outcome
from mailhost.model.parameters import (
    NO_MAIL_PARAMETERS,
    NO_RECIPIENT_PARAMETERS,
    MailParameters,
    RecipientParameters,
)
from mailhost.model.route import NextHop
from mailhost.model.schedule import RetrySchedule
from mailhost.model.values import value

#: A recipient that is due at this time is held: no clock comes so far.
HELD_AT = 1e12


@define
class QueuedRecipient:
    """
    One recipient that has no terminal outcome yet.

    :ivar number: position in the envelope; with the queue id it names this
        recipient for ever.
    :ivar forward_path: where the mail is to go.
    :ivar attempts: how many attempts have failed so far.
    :ivar due_at: seconds since the epoch of the next attempt; `HELD_AT`: an operator decides.
    :ivar notified: a delay report about this recipient went out, or its sender wants none.
    :ivar in_doubt: a connection died between our final dot and the reply: a host
        may have the message (promise P3).
    :ivar host: its home server; `None`: where its domain says.
    :ivar group: name (DN) of the group that is to be expanded; empty: it is none.
    :ivar parameters: what its sender asked for.
    """

    number: int
    forward_path: Mailbox
    attempts: int = 0
    due_at: float = 0.0
    notified: bool = False
    in_doubt: bool = False
    host: NextHop | None = None
    group: str = ""
    parameters: RecipientParameters = NO_RECIPIENT_PARAMETERS

    def handle(self, handling: Handling) -> None:
        """It needs more than its address says."""
        self.host, self.group = handling.host, handling.group
        self.parameters = handling.parameters
        self.notified = self.notified or not handling.parameters.wants("DELAY")

    @property
    def is_special(self) -> bool:
        """Whether it needs more than its address says."""
        return (
            self.host is not None
            or self.group != ""
            or self.parameters is not NO_RECIPIENT_PARAMETERS
        )

    @property
    def held(self) -> bool:
        """Whether it is not tried before an operator releases it."""
        return self.due_at >= HELD_AT


@define(eq=False)
class QueuedMessage:
    """
    One message in the queue, with those recipients that are still to be served.

    :ivar key: the store's own number for it; meaningless elsewhere.
    :ivar queue_id: 24 hexadecimal digits, globally unique, rising with time.
    :ivar reverse_path: `None` is the null reverse-path.
    :ivar body: ``"7BIT"``, ``"8BITMIME"`` or ``"BINARYMIME"``.
    :ivar size: octets of the content, trace fields included.
    :ivar accepted_at: seconds since the epoch.
    :ivar hello: what the submitting client called itself; ``""`` for Pickup.
    :ivar recipients: those without a terminal outcome, by number.
    :ivar wire_ready: see `mailhost.model.envelope.Envelope`; known until it is read back from
        the disk.
    :ivar parameters: what the sender asked for the whole message.
    """

    key: int
    queue_id: str
    reverse_path: Mailbox | None
    body: str
    size: int
    accepted_at: float
    hello: str = ""
    recipients: dict[int, QueuedRecipient] = field(factory=dict)
    wire_ready: bool = False
    parameters: MailParameters = NO_MAIL_PARAMETERS

    @property
    def schedule_from(self) -> float:
        """The time from which its delay counts: that of its release, where it was held."""
        return max(self.accepted_at, self.parameters.holduntil)

    def schedule(self, usual: RetrySchedule) -> RetrySchedule:
        """*usual*, or what its sender has made of it (RFC 2852 §4)."""
        seconds, mode = self.parameters.by
        if not mode or seconds <= 0:
            return usual
        if self.parameters.returns_late:
            return evolve(usual, expiration_seconds=min(seconds, usual.expiration_seconds))
        after = usual.delay_notification_seconds
        return evolve(
            usual, delay_notification_seconds=seconds if after is None else min(seconds, after)
        )

    def is_late(self, now: float) -> bool:
        """Whether it must not be sent any more (RFC 2852 §4.1)."""
        return self.parameters.returns_late and now >= self.accepted_at + self.parameters.by[0]

    @property
    def has_groups(self) -> bool:
        """Whether a group among its recipients is still to be expanded."""
        return any(one.group for one in self.recipients.values())


@value
class Result:
    """
    What the store is to write down about one recipient after an attempt.

    :ivar number: `QueuedRecipient.number`.
    :ivar outcome: terminal, or delayed.
    :ivar due_at: the next attempt; ignored where the outcome is terminal.
    :ivar notified: a delay report about it goes out with this record.
    """

    number: int
    outcome: Outcome
    due_at: float = 0.0
    notified: bool = False


@value
class Postponement:
    """
    Recipients that are due at another time, without an attempt being counted.

    :ivar message: in the queue.
    :ivar numbers: those of its recipients.
    :ivar due_at: seconds since the epoch.
    :ivar status: replaces the last outcome's, as *words* does; empty: both stay.
    """

    message: QueuedMessage
    numbers: tuple[int, ...]
    due_at: float
    status: str = ""
    words: str = ""


@value
class Submission:
    """
    A whole message made by ourselves: a delivery report.

    :ivar envelope: null reverse-path, as a rule.
    :ivar octets: the content, CRLF line ends throughout.
    """

    envelope: Envelope
    octets: bytes = field(repr=False)


@value
class Expanded:
    """
    What a group's expansion has brought into the queue.

    :ivar added: new recipients of the message itself.
    :ivar made: new messages: those with another return path, and reports.
    """

    added: tuple[QueuedRecipient, ...]
    made: tuple[QueuedMessage, ...]


@value
class QueueCounts:
    """
    How much waits.

    :ivar messages: messages with at least one recipient to serve.
    :ivar recipients: recipients to serve.
    :ivar held: those of them that an operator holds.
    :ivar oldest_at: when the oldest message came, seconds since the epoch; `None`: there is none.
    """

    messages: int
    recipients: int
    held: int = 0
    # As much may wait at another time.
    oldest_at: float | None = field(default=None, eq=False)


@value
class AgeCounts:
    """
    Messages of about one age, by what the most urgent of their recipients waits for.

    :ivar due: nothing; they are on their way, or about to be.
    :ivar waiting: a time.
    :ivar held: the word of an operator.
    """

    due: int = 0
    waiting: int = 0
    held: int = 0


@value
class QueueCensus:
    """
    How much waits, how long it has done so, and for what.

    :ivar ages: from the youngest to the oldest, between the bounds that were asked for.
    :ivar local_retries: messages that were put off, with a recipient who is served here.
    :ivar remote_retries: messages that were put off, with one who is served elsewhere.
    """

    counts: QueueCounts
    ages: tuple[AgeCounts, ...]
    local_retries: int
    remote_retries: int
