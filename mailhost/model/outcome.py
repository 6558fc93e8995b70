"""
What became of one recipient in one attempt.

:Room: ``model``
:RFC: 3464 §2.3.3 (actions), 3463 (status), 5321 §4.2 (replies).
:Made by: `mailhost.relay` and `mailhost.delivery`; recorded by `mailhost.spool`,
    told by `mailhost.reports`.
"""

from __future__ import annotations

from enum import Enum

from attrs import field

from mailhost.model.reply import Reply
from mailhost.model.values import value


class Fate(Enum):
    """The action words of RFC 3464 §2.3.3."""

    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"
    FAILED = "failed"
    DELAYED = "delayed"

    @property
    def terminal(self) -> bool:
        """Nothing more will be tried (promise P2)."""
        return self is not Fate.DELAYED


@value
class Outcome:
    """
    One recipient's fate in one attempt.

    :ivar fate: see `Fate`.
    :ivar status: enhanced status, ``"2.0.0"`` ... ``"5.7.1"``.
    :ivar words: why, on one line: the peer's reply or our own reason.
    :ivar peer: host that spoke, or `None` when it never came to a dialogue.
    :ivar spoken: *words* are an SMTP reply of *peer*, so that a report may say
        ``Diagnostic-Code: smtp;`` (RFC 3464 §2.3.6).
    :ivar in_doubt: the connection died between our final dot and the reply
        (promise P3).
    :ivar dsn: *peer* offers DSN: what is to be told of success it will tell (RFC 3461
        §5.2.2).
    :ivar transaction: the session with *peer* and which of its transactions it was, for logs;
        `None`: there was none.
    """

    fate: Fate
    status: str
    words: str
    peer: str | None = None
    spoken: bool = False
    in_doubt: bool = False
    dsn: bool = False
    # Two that say the same of two recipients are told on one line.
    transaction: tuple[str, int] | None = field(default=None, eq=False)


def outcome_of(
    reply: Reply, peer: str, dsn: bool = False, transaction: tuple[str, int] | None = None
) -> Outcome:
    """
    The outcome that a peer's *reply* means for a recipient.

    :param dsn: see `Outcome`.
    :param transaction: the same.

    A reply without enhanced status gets ``x.0.0`` (RFC 3463 §2: other or
    undefined status).
    """
    fate = Fate.RELAYED if reply.positive else Fate.DELAYED if reply.temporary else Fate.FAILED
    status = reply.status or f"{max(2, reply.code // 100) if not reply.positive else 2}.0.0"
    words = str(reply)
    return Outcome(fate, status, words, peer, spoken=True, dsn=dsn, transaction=transaction)
