"""
Every interface that others may implement, on one page.

:Room: ``interfaces``
:Imports: ``zope.interface`` and the values of ``model``; never Twisted, so an
    "awaitable" stands for a Deferred.  A reception may answer with a coroutine too.

*Maybe awaitable* means: the answer itself where it is known at once, an
awaitable of it otherwise.  Most answers are known at once, and such an answer
must not cost a coroutine, a Deferred or a turn of the reactor.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence, Set
from typing import Any, TypeAlias, TypeVar

from zope.interface import Attribute, Interface

from mailhost.model.account import Account, ScramEntry
from mailhost.model.address import Mailbox
from mailhost.model.directory import EnvelopePart, Expansion, GroupRef, Refused, Resolution
from mailhost.model.envelope import Envelope
from mailhost.model.held import HeldDomains
from mailhost.model.listing import QueueFilter, QueuePage, QueueSelection
from mailhost.model.parameters import MailParameters, RecipientParameters
from mailhost.model.queue import (
    Expanded,
    Postponement,
    QueueCensus,
    QueueCounts,
    QueuedMessage,
    Result,
    Submission,
)
from mailhost.model.reply import Reply
from mailhost.model.route import NextHop

T = TypeVar("T")
Maybe: TypeAlias = T | Awaitable[T]


# ---- the way in


class IReception(Interface):
    """
    Whoever decides for one inbound session; one object per session.

    `mailhost.net` asks, in the order of the client's commands, never two
    things at once.  Each method's answer is the reply to that command.  A
    failing method (exception, failed awaitable) is answered 451 4.3.0.
    """

    session = Attribute("The session's `SessionFacts`; shared with the asker.")

    def connected() -> Maybe[Reply]:
        """
        A client has connected.

        A positive reply lets it in.  421 closes; after any other it can only say QUIT.
        """

    def hello(name: str, extended: bool) -> Maybe[Reply]:
        """HELO, or EHLO where *extended*; a positive reply opens the session."""

    def sender(
        reverse_path: Mailbox | None, size: int | None, body: str, parameters: MailParameters
    ) -> Maybe[Reply]:
        """
        MAIL.  A 250 opens a transaction.

        :param size: the octets announced (RFC 1870), or `None`.
        :param body: ``"7BIT"``, ``"8BITMIME"`` or ``"BINARYMIME"``.
        :param parameters: what else the client asks for, of what was offered to it.
        """

    def recipient(forward_path: Mailbox, parameters: RecipientParameters) -> Maybe[Reply]:
        """
        RCPT.

        :param forward_path: may be unqualified (no domain).
        :param parameters: what the client asks for, of what was offered to it.
        """

    def verify(path: Mailbox) -> Maybe[Reply]:
        """VRFY, where `Rules.extensions` has it.  *path* may be unqualified."""

    def expand(path: Mailbox) -> Maybe[Reply]:
        """EXPN, where `Rules.extensions` has it.  *path* may be unqualified."""

    def start_queue(option: str, name: str) -> Maybe[Reply]:
        """
        ETRN, where `Rules.extensions` has it.

        :param option: ``@``, ``#`` or nothing; see `mailhost.smtp.extensions.etrn`.
        """

    def turn(domains: tuple[str, ...]) -> Maybe[Reply]:
        """ATRN, or TURN with no domains.  After a 250 `turned` is asked for."""

    def turned() -> Any:
        """The protocol that takes the connection, as a client, after a 250 to `turn`."""

    def fault(reply: Reply) -> Maybe[Reply]:
        """
        A command was wrong or refused for good; asked where `Rules.tell_faults` says so.

        :param reply: what the client is to hear; it may come late, or make way for another.
        """

    def content() -> Maybe[Reply]:
        """DATA.  A 354 makes `write` and `end_of_content` follow."""

    def write(octets: bytes) -> Awaitable[None] | None:
        """
        A block of content: dots un-stuffed, line ends checked, CRLF kept.

        :returns: `None`, or an awaitable: no more blocks until it has fired.
            After a failure further blocks are swallowed.
        """

    def end_of_content(fault: Reply | None, wire_ready: bool) -> Maybe[Reply]:
        """
        The final dot.  A 250 says that the message is on stable storage (P1).

        :param fault: the dialogue found the content unacceptable; throw it away
            and answer this.
        :param wire_ready: of the content; see `mailhost.model.envelope.Envelope`.
        """

    def reset() -> None:
        """The open transaction, if any, is over: RSET, EHLO, disconnect or error."""

    def disconnected() -> None:
        """The session is over; `reset` has been called."""


class ICredentials(Interface):
    """
    Whoever knows names and passwords.

    `mailhost.authentication.exchange.Authentication` takes one, or a ``twisted.cred`` checker.
    Names come prepared (RFC 4013), with the default domain where they had none.
    """

    def check_password(name: str, password: str) -> Maybe[Account | None]:
        """
        The account, or `None`: there is none of this name, or the password is wrong.

        Both must take the same time.

        :raises mailhost.errors.AuthenticationProblem: it cannot be said now.
        """

    def check_proof(name: str, kind: str, fits: Callable[[bytes], bool]) -> Maybe[Account | None]:
        """
        The account, or `None`: there is none of this name, or its secret does not fit.

        :param kind: the stored secret that *fits* takes: ``"password"``, in UTF-8, or
            ``"nt"``, MD4 of it in UTF-16 with the low octet first.
        :param fits: what the client has computed was computed from this secret.
        :raises mailhost.errors.AuthenticationProblem: it cannot be said now, or not by
            such a secret.
        """

    def find_account(name: str) -> Account | None:
        """
        The account of *name*, who has been proved to be there by somebody else.

        :returns: `None` where there is none, or none that can be found without a password.
        :raises mailhost.errors.AuthenticationProblem: it cannot be said now.
        """

    def find_keys(name: str) -> Maybe[ScramEntry]:
        """
        What SCRAM-SHA-256 goes on with; for nobody's name too, and then always the same.

        :raises mailhost.errors.AuthenticationProblem: it cannot be said now, or
            not by SCRAM.
        """


class ITokenReader(Interface):
    """Whoever can tell good access tokens from bad ones."""

    def name_in(token: str) -> Awaitable[str | None]:
        """
        Whose token it is; `None` where it is not good.

        :raises mailhost.errors.AuthenticationProblem: it cannot be said now.
        """


# ---- the queue


class IStoredContent(Interface):
    """The content of one queued message, read in order, once."""

    size = Attribute("Octets in all.")

    def read() -> Maybe[bytes]:
        """
        The next block, at most 64 KiB or so; empty at the end.

        :raises mailhost.errors.ContentDamaged: length or digest is not what was
            accepted; raised instead of the last block, so a reader that
            finishes only at the empty block never passes damaged content on.
        """

    def close() -> None:
        """No more will be read.  May be called twice."""


class IIncomingMessage(Interface):
    """A content on its way in; nothing of it survives a crash before `IQueueStore.commit`."""

    size = Attribute("Octets written so far.")

    def write(octets: bytes) -> Awaitable[None] | None:
        """
        Append a block.

        :returns: `None`, or an awaitable to wait for before the next block.
        :raises mailhost.errors.SpoolProblem: now or through the awaitable.
        """

    def discard() -> None:
        """Forget it.  May be called twice; harmless after `IQueueStore.commit`."""


class IQueueStore(Interface):
    """
    The durable queue of one virtual server (promises P1-P3, P7).

    Everything awaitable fails with `mailhost.errors.SpoolProblem` when the
    storage does; the caller makes 4xx or "delayed" of it, never a loss (P4).
    """

    def start() -> None:
        """
        Open, migrate and recover; blocks.  Called before the reactor turns.

        :raises mailhost.errors.SpoolInUse: another process has it.
        :raises mailhost.errors.SpoolTooNew: written by a newer program.
        :raises mailhost.errors.SpoolProblem: it cannot be opened.
        """

    def stop() -> Awaitable[None]:
        """Commit what was handed over, close, release the lock."""

    def new_queue_id() -> str:
        """24 hexadecimal digits for the next message: its trace field names it."""

    def check_room(size: int | None) -> None:
        """
        :param size: octets announced for the next message, if any.
        :raises mailhost.errors.SpoolFull: no room for it (RFC 1870 §6.1: 452).
        :raises mailhost.errors.SpoolProblem: the storage has failed and no
            probe has succeeded since.
        """

    def new_message(prefix: bytes, expected: int | None) -> IIncomingMessage:
        """
        :param prefix: octets the stored content starts with (trace fields).
        :param expected: octets announced by the client, for the room reserved.
        :raises mailhost.errors.SpoolFull: see `check_room`.
        """

    def commit(
        incoming: IIncomingMessage, queue_id: str, envelope: Envelope, hello: str, now: float
    ) -> Awaitable[QueuedMessage]:
        """
        Make it ours: fires when content and envelope are on stable storage.

        All recipients are due at *now*, or at the time for which the mail is held.
        """

    def load_due(before: float, limit: int, skip: frozenset[int]) -> Awaitable[list[QueuedMessage]]:
        """
        Messages with a recipient due before *before*, the most urgent first.

        Each carries all recipients without a terminal outcome, due or not.
        Messages whose `key` is in *skip* (the caller has them) are left out.
        """

    def next_due_at(after: float) -> Awaitable[float | None]:
        """The earliest ``due_at`` later than *after*; `None` when there is none."""

    def open_content(message: QueuedMessage) -> Maybe[IStoredContent]:
        """:raises mailhost.errors.ContentDamaged: it is missing or damaged."""

    def record(
        message: QueuedMessage, results: Sequence[Result], reports: Sequence[Submission], now: float
    ) -> Awaitable[list[QueuedMessage]]:
        """
        Write outcomes down, and queue the *reports* that tell of them, in one
        transaction.  A message whose every recipient has a terminal outcome
        leaves the queue.

        *message* is brought up to date at once: recipients with a terminal
        outcome are gone from it, delayed ones are counted and due later.  When
        the record fails it is as before.

        :returns: the queued reports.
        """

    def expand(
        message: QueuedMessage,
        number: int,
        parts: Sequence[EnvelopePart],
        reports: Sequence[Submission],
        now: float,
    ) -> Awaitable[Expanded]:
        """
        Recipient *number*, a group, makes way for its members (`Fate.EXPANDED`), and the
        *reports* about those that cannot be reached are queued: one transaction.

        Members that keep the return path become recipients of *message*, with numbers that
        nobody ever had; for each other return path there is a new message with the same
        content.  Who is or was a recipient of *message*, or has got it as a member of
        another of its groups, is passed over.  One group of a message at a time.

        *message* is brought up to date when it is done.
        """

    def postpone(parts: Sequence[Postponement]) -> Awaitable[None]:
        """
        Recipients are due at another time: nothing was tried, nothing is counted.

        The messages are brought up to date at once.  When it fails they are as before.
        Recipients that have left the queue meanwhile are passed over.
        """

    def quarantine(message: QueuedMessage, reason: str) -> Awaitable[None]:
        """
        Keep what is left of a damaged message where nothing else touches it.

        The message stays queued until the caller records its failure.
        """

    def counts() -> Awaitable[QueueCounts]:
        """How much waits; asked often, so a store tells it without looking through the queue."""

    def census(now: float, bounds: Sequence[float], local: Set[str]) -> Awaitable[QueueCensus]:
        """
        How much waits, how long, and for what.  It is looked through in parts, so that nobody
        has to wait, and what changes meanwhile is counted or not.

        :param now: seconds since the epoch.
        :param bounds: ages between which is counted, seconds, the smallest first.
        :param local: domains whose mail is served here, in lower case.
        """

    def look_through(wanted: QueueFilter, after: int, limit: int) -> Awaitable[QueuePage]:
        """
        The next *limit* messages that are *wanted*, whose keys are higher than *after*.

        There may be fewer, even none, before the end: only a part is looked at at a time.
        """

    def select(wanted: QueueFilter, after: int, limit: int) -> Awaitable[QueueSelection]:
        """As `look_through`, but only which they are."""

    def find(ids: Sequence[str]) -> Awaitable[list[QueuedMessage]]:
        """Those of the messages called *ids* that are in the queue, with all their recipients."""

    def rehome(
        message: QueuedMessage, numbers: Sequence[int], host: NextHop | None
    ) -> Awaitable[None]:
        """
        The recipients *numbers* have the home server *host*; `None`: none any more.

        *message* is brought up to date when it is done.
        """

    def content_part(message: QueuedMessage, start: int, size: int) -> Awaitable[bytes]:
        """
        At most *size* octets of the content from *start* on, unchecked; empty behind its end.

        :raises mailhost.errors.ContentDamaged: there is nothing to be read.
        """


class IHeldMail(Interface):
    """Mail in the queue that waits until its domain asks for it."""

    def waits(domains: HeldDomains) -> Awaitable[bool]:
        """
        Whether there is any, or may be.

        :raises mailhost.errors.SpoolProblem: the store cannot say now.
        """

    def start(domains: HeldDomains, who: str) -> Awaitable[bool]:
        """
        Send it to the hosts of its domains, once; whether there is any, or may be.

        :param who: for the log.
        :raises mailhost.errors.MailhostError: none is known of, and not every queue has answered.
        """

    def session(domains: HeldDomains, peer: str, port: int, onward: Any = None) -> Any:
        """
        A protocol that sends it, and what comes meanwhile, to a server that is connected already.

        :param peer: the server's IP address.
        :param onward: a `mailhost.net.turned.Onward`, which gets the connection when nothing is
            left to send; `None`: it ends then.
        """


# ---- final delivery


class IDelivery(Interface):
    """Final delivery of mail for local domains."""

    def deliver(
        message: QueuedMessage, recipients: Sequence[Mailbox], content: IStoredContent
    ) -> Awaitable[None]:
        """
        Deliver to all *recipients* or to none.

        Fires when the delivered message is on stable storage.

        :raises mailhost.errors.DirectoryProblem: it cannot be done now.
        """


# ---- names


class INameResolver(Interface):
    """DNS as the house needs it."""

    def mail_exchanges(domain: str) -> Maybe[Sequence[tuple[int, str]]]:
        """
        ``(preference, host)`` of the MX records of *domain*; empty when it has
        none; ``[(0, "")]`` is a null MX (RFC 7505).  A `mailhost.model.proven.Proven` where
        DNSSEC has proven them.

        :raises mailhost.errors.ResolveProblem: 5.1.2 the domain does not exist;
            4.4.3 SERVFAIL, REFUSED, time-out.
        """

    def addresses(host: str) -> Maybe[Sequence[str]]:
        """
        IPv4 and IPv6 addresses of *host*, CNAMEs followed; empty when it has none.

        :raises mailhost.errors.ResolveProblem: as above.
        """

    def names(address: str) -> Maybe[Sequence[str]]:
        """
        The PTR names of an IP address, unconfirmed; empty when it has none.

        :raises mailhost.errors.ResolveProblem: 4.4.3.
        """


# ---- who has an address


class IAddressResolver(Interface):
    """
    A directory of those who have mailboxes.

    Everything fails with `mailhost.errors.LookupProblem` when the
    directory cannot answer: 451 at RCPT, "delayed" later, never a refusal (P4).
    """

    def resolve(address: Mailbox) -> Maybe[Resolution]:
        """
        RCPT: who has *address*, and where does its mail go.

        :param address: with its domain, which is ours.
        :returns: `Refused` where nobody has it, or nobody may.
        :raises LookupProblem: now or through the awaitable.
        """

    def expand(group: GroupRef) -> Awaitable[Expansion | Refused]:
        """
        After acceptance: the mailboxes that *group* stands for.

        May take as long as a minute.  A `Refused` is the fate of the group's address.
        """

    def resolve_sender(address: Mailbox) -> Maybe[Mailbox]:
        """MAIL: the primary address of whoever has *address*; itself where nobody has."""

    def may_send_as(login: str, address: Mailbox) -> Maybe[bool]:
        """
        Whether the user *login* may write *address* as the sender.

        One's own addresses are allowed, and those of entries that name the user as a delegate.
        """

    def bind_as(login: str, password: str) -> Awaitable[bool]:
        """
        AUTH: whether *password* is that of the user *login*.

        An empty password is no password (RFC 4513 §5.1.2).
        """

    def stop() -> Awaitable[None]:
        """End the threads; what is still asked fails."""


# ---- what may not be ready


async def open_stored(store: IQueueStore, message: QueuedMessage) -> IStoredContent:
    """
    The content of *message*, in memory or on a disk.

    :raises mailhost.errors.SpoolProblem: see `IQueueStore.open_content`.
    """
    opened = store.open_content(message)
    return await opened if hasattr(opened, "__await__") else opened


async def next_block(content: IStoredContent) -> bytes:
    """
    What `IStoredContent.read` gives, now or later; empty at the end.

    :raises mailhost.errors.ContentDamaged: see there.
    """
    block = content.read()
    return block if isinstance(block, bytes) else await block
