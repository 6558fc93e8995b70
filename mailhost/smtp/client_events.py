"""
What the client dialogue reports.

:Room: ``smtp``
:RFC: 5321 §4.5.3.2 (time-outs).
:Made by: `mailhost.smtp.client_dialogue`; read by `mailhost.net.outbound`.

`mailhost.smtp.sasl.base.Work` is one of the events too.
"""

from __future__ import annotations

from enum import Enum

from mailhost.model.reply import Reply
from mailhost.model.values import value
from mailhost.smtp.sasl.base import Work


class Phase(Enum):
    """What we wait for."""

    BANNER = (300, "the greeting")
    HELLO = (300, "the reply to EHLO")
    STARTTLS = (300, "the reply to STARTTLS")
    SECURING = (30, "the TLS handshake")
    MECHANISMS = (300, "a login that both sides know")
    LOGIN = (300, "the reply to AUTH")
    READY = (300, "the next message")
    # RFC 2645 §6: ten minutes for ATRN.
    ASKING = (600, "the reply to ETRN or ATRN")
    ENVELOPE = (300, "the replies to MAIL and RCPT")
    DATA = (120, "the reply to DATA")
    CONTENT = (180, "room for the content")
    DOT = (600, "the reply to the final dot")
    # Nothing hangs on it, and until then nobody else may connect instead.
    QUITTING = (10, "the reply to QUIT")
    CLOSED = (30, "the end of the connection")

    def __init__(self, patience_seconds: int, awaited: str) -> None:
        #: How long to wait at least (RFC 5321 §4.5.3.2).
        self.patience_seconds = patience_seconds
        #: For people.
        self.awaited = awaited


@value
class Ready:
    """The session can take an envelope."""


@value
class TLSWanted:
    """The peer is ready for the handshake: begin it, then `ClientDialogue.secured`."""


@value
class ContentWanted:
    """The peer said 354: write the content, then `ClientDialogue.end_content`."""


@value
class TransactionDone:
    """
    Every recipient has its answer.

    :ivar replies: one per recipient, in the order given.
    """

    replies: tuple[Reply, ...]


@value
class SessionOver:
    """
    The session has ended, or never began.

    :ivar words: why, for people.
    :ivar reply: what the peer said, where it said something.
    :ivar replies: per recipient of the open transaction; `None`: no answer.
        Empty when no transaction was open.
    :ivar in_doubt: the final dot was sent and not answered (promise P3).
    :ivar phase: what we were waiting for.
    """

    words: str
    reply: Reply | None
    replies: tuple[Reply | None, ...]
    in_doubt: bool
    phase: Phase


@value
class Answered:
    """
    What was asked with `ClientDialogue.ask` has its answer.

    :ivar reply: of the peer.
    """

    reply: Reply


ClientEvent = Answered | Ready | TLSWanted | Work | ContentWanted | TransactionDone | SessionOver
