"""
What the server dialogue reports, in the order of the client's commands.

:Room: ``smtp``
:Made by: `mailhost.smtp.server_dialogue`; answered by `mailhost.net.inbound`.

`Connected`, `HelloGiven`, `TLSAsked`, `LoginBegun`, `LoginContinued`, `ProxyGiven`, `MailGiven`,
`RecipientGiven`, `VerifyGiven`, `ExpandGiven`, `StartAsked`, `TurnAsked`, `FaultMade`,
`ContentAsked` and `ContentEnded` each want exactly one reply; the others want none.
"""

from __future__ import annotations

from enum import Enum

from attrs import field

from mailhost.model.address import Mailbox
from mailhost.model.parameters import (
    NO_MAIL_PARAMETERS,
    NO_RECIPIENT_PARAMETERS,
    MailParameters,
    RecipientParameters,
)
from mailhost.model.reply import Reply
from mailhost.model.session import SpokenFor
from mailhost.model.values import value


class Wait(Enum):
    """Why there is no event."""

    NEED_DATA = "the peer has to send more"
    PAUSED = "an event still waits for its reply"
    CLOSED = "the last reply has been given; nothing more is read"
    TURNED = "the peer is the server from now on"


@value
class Connected:
    """The connection is open; a positive reply lets the banner be said."""


@value
class HelloGiven:
    """HELO, or EHLO where *extended*."""

    name: str
    extended: bool


@value
class TLSAsked:
    """STARTTLS: after a 220 the handshake follows, and then a session from its beginning."""


@value
class LoginBegun:
    """
    AUTH.  A 334 makes `LoginContinued` follow; 235 says that the client is who it says.

    :ivar mechanism: one of those that may be used now.
    :ivar response: the initial response; `None`: there was none.
    """

    mechanism: str
    response: bytes | None = field(repr=False)


@value
class LoginContinued:
    """The answer to a challenge."""

    response: bytes = field(repr=False)


@value
class ProxyGiven:
    """XCLIENT: the session is another client's from now on, and begins anew."""

    client: SpokenFor


@value
class MailGiven:
    """MAIL: a transaction is to be opened."""

    reverse_path: Mailbox | None
    size: int | None
    body: str
    parameters: MailParameters = NO_MAIL_PARAMETERS


@value
class RecipientGiven:
    """RCPT."""

    forward_path: Mailbox
    parameters: RecipientParameters = NO_RECIPIENT_PARAMETERS


@value
class VerifyGiven:
    """VRFY: whether *path*, perhaps without a domain, has a mailbox."""

    path: Mailbox


@value
class ExpandGiven:
    """EXPN: who is in the group *path*."""

    path: Mailbox


@value
class StartAsked:
    """
    ETRN: mail for *name* is to be sent now (RFC 1985 §5.2).

    :ivar option: ``@``: for all domains below it too; ``#``: *name* is that of a queue.
    """

    option: str
    name: str


@value
class TurnAsked:
    """
    ATRN for *domains*, or for all that the client may have; TURN too, which names none.

    After a 250 the client is the server (RFC 2645 §5.3): nothing more is read here.
    """

    domains: tuple[str, ...] = ()


@value
class FaultMade:
    """
    A command was wrong, or is refused for good; handed out where `Rules.tell_faults` says so.

    :ivar reply: what the client is to hear, unless another reply is given.
    """

    reply: Reply


@value
class ContentAsked:
    """DATA, or the first BDAT: a 354 makes content follow; after BDAT it is not said."""


@value
class ChunkGiven:
    """BDAT: so many octets follow, and nothing behind them is content if they are the *last*."""

    size: int
    last: bool


@value
class ContentBlock:
    """Some content, dots un-stuffed."""

    octets: bytes


@value
class ContentEnded:
    """
    The final dot, or the end of the last chunk.

    :ivar fault: why the content cannot be taken, if so.
    :ivar wire_ready: no line of it begins with a dot (RFC 5321 §4.5.2); `False`: not known.
    """

    fault: Reply | None
    wire_ready: bool = False


@value
class TransactionOver:
    """Whatever transaction was open is over: forget it."""


Event = (
    Connected
    | HelloGiven
    | TLSAsked
    | LoginBegun
    | LoginContinued
    | ProxyGiven
    | MailGiven
    | RecipientGiven
    | VerifyGiven
    | ExpandGiven
    | StartAsked
    | TurnAsked
    | FaultMade
    | ContentAsked
    | ContentBlock
    | ContentEnded
    | TransactionOver
)

#: What happened, and nothing is to be said about it.
UNANSWERED = frozenset({ContentBlock, TransactionOver})
#: Which command leads to an event and to another state.
VERB_OF: dict[type, str] = {
    ProxyGiven: "XCLIENT",
    MailGiven: "MAIL",
    RecipientGiven: "RCPT",
    ContentAsked: "DATA",
    StartAsked: "ETRN",
    TurnAsked: "ATRN",
}
