"""
What a delivery report is made from.

:Room: ``reports``
:RFC: 3464 §2.2, §2.3; 3461 §6.
:Called by: `mailhost.relay`, which fills them in, and `mailhost.reports.compose`.
"""

from __future__ import annotations

from enum import Enum

from attrs import field, frozen

from mailhost.model.address import Mailbox
from mailhost.model.outcome import Outcome
from mailhost.model.parameters import (
    NO_MAIL_PARAMETERS,
    NO_RECIPIENT_PARAMETERS,
    MailParameters,
    RecipientParameters,
)
from mailhost.model.queue import QueuedMessage


class ReportKind(Enum):
    """The three kinds; the value is the word in the Subject (IIS §10.6)."""

    FAILURE = "Failure"
    DELAY = "Delay"
    SUCCESS = "Success"


@frozen
class OriginalMessage:
    """
    The message that is reported on.

    :ivar reverse_path: whom the report goes to.
    :ivar queue_id: ours.
    :ivar accepted_at: seconds since the epoch.
    :ivar hello: what the submitting client called itself; ``""`` for Pickup.
    :ivar size: octets of the whole content.
    :ivar octets: as much of the content's beginning as the caller has read.
    :ivar parameters: what the sender asked for.
    """

    reverse_path: Mailbox | None
    queue_id: str
    accepted_at: float
    hello: str
    size: int
    octets: bytes = field(repr=False)
    parameters: MailParameters = NO_MAIL_PARAMETERS

    @property
    def international(self) -> bool:
        """
        Its report is in UTF-8: it can reach its sender by SMTPUTF8 only (RFC 6533 §4).

        Everybody else gets a report that any host can carry.
        """
        return self.reverse_path is not None and not self.reverse_path.in_ascii.is_ascii

    @classmethod
    def of(cls, message: QueuedMessage, octets: bytes) -> OriginalMessage:
        """
        :param octets: the beginning of its content; to return a message of up
            to N octets whole, read N octets and no more are needed.
        """
        return cls(
            message.reverse_path,
            message.queue_id,
            message.accepted_at,
            message.hello,
            message.size,
            octets,
            message.parameters,
        )


@frozen
class ReportedRecipient:
    """
    One recipient in a report.

    :ivar forward_path: as it was accepted.
    :ivar outcome: of the last attempt.
    :ivar will_retry_until: seconds since the epoch; for delay reports.
    :ivar attempted_at: when the last attempt was; `None` means just now.
    :ivar parameters: what the sender asked for.
    """

    forward_path: Mailbox
    outcome: Outcome
    will_retry_until: float | None = None
    attempted_at: float | None = None
    parameters: RecipientParameters = NO_RECIPIENT_PARAMETERS


def reportable(message: OriginalMessage | QueuedMessage) -> bool:
    """
    Whether anybody may be told what became of *message*.

    Never where the reverse-path is null (RFC 5321 §4.5.5, §6.1), nor where it
    is MAILER-DAEMON, the name under which older programs send their reports.
    """
    path = message.reverse_path
    return path is not None and path.local.strip('"').lower() != "mailer-daemon"
