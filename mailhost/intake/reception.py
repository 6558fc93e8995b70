"""
One inbound session's decisions, and the moment a message becomes ours.

:Room: ``intake``
:Implements: `mailhost.interfaces.IReception`.
:RFC: 5321 §3.3, §4.1.1, §6.1 (responsibility); 8689 §4.1; promises P1, P4.
:Called by: `mailhost.net.inbound`.

What RSET drops lives in `_Transaction`; what it keeps, in `SessionFacts`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from attrs import define, evolve, field
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhost.content.headers import header_end, scan_header
from mailhost.content.trace import PeerNote, received_field
from mailhost.errors import LookupProblem, SpoolFull, SpoolProblem
from mailhost.facts import WANTED, FactLog
from mailhost.intake import asked_for, inquiries
from mailhost.intake.asked import accept_asked, check_solicitation
from mailhost.intake.desk import Desk
from mailhost.intake.destinations import Destinations, recipients_of
from mailhost.intake.senders import settle_sender
from mailhost.intake.stranger import Stranger
from mailhost.interfaces import IAddressResolver, IHeldMail, IIncomingMessage, IReception, Maybe
from mailhost.later import Later, hear
from mailhost.model.address import Mailbox
from mailhost.model.directory import Found, Refused, Resolution
from mailhost.model.envelope import Envelope, Handling
from mailhost.model.held import HeldDomains
from mailhost.model.listing import sender_text
from mailhost.model.parameters import NO_MAIL_PARAMETERS, MailParameters, RecipientParameters
from mailhost.model.queue import QueuedMessage
from mailhost.model.reply import Reply
from mailhost.model.session import SessionFacts
from mailhost.policy.connection import check_connection, check_overload
from mailhost.policy.limits import (
    check_domain_count,
    check_hops,
    check_message_count,
    check_message_size,
    check_recipient_count,
    check_session_size,
)
from mailhost.policy.relaying import check_relaying, check_routing
from mailhost.routing.domains import LocalDomain, RemoteDomain
from mailhost.smtp import replies
from mailhost.traces.events import event

#: A header may be so long; what is behind is content to us (attacks.md, §1.4).
_MAX_HEADER_OCTETS = 262144

_facts = FactLog()


@define(eq=False)
class _Transaction:
    """
    What RSET forgets.

    :ivar to: its recipients.
    :ivar fault: why the content will be refused at its end.
    """

    reverse_path: Mailbox | None
    size: int | None
    body: str
    parameters: MailParameters
    to: Destinations = field(factory=Destinations)
    queue_id: str = ""
    incoming: IIncomingMessage | None = None
    octets: int = 0
    header: bytes = b""
    header_whole: bool = False
    fault: Reply | None = None

    def envelope(self, wire_ready: bool) -> Envelope:
        return self.to.envelope(self.reverse_path, self.body, wire_ready, self.parameters)


@implementer(IReception)
@define(eq=False)
class Reception:
    """
    :ivar desk: what this session shares with all others.
    :ivar session: its facts.
    """

    desk: Desk
    session: SessionFacts
    _transaction: _Transaction | None = field(default=None, init=False)
    _counted: bool = field(default=False, init=False)
    # What is asked of this client besides; `None`: nothing.
    _stranger: Stranger | None = field(default=None, init=False)
    # What the client gets when it is the server, and from whom.
    _turning: tuple[HeldDomains, IHeldMail] | None = field(default=None, init=False)

    _log = Logger()
    # Makes what is asked of a client besides.
    _meet = Stranger

    def __attrs_post_init__(self) -> None:
        access = self.desk.settings.access
        self.session.trusted = access.trusts(self.session.peer)
        self.session.proxy = access.is_proxy(self.session.peer)

    # ---- the session

    def connected(self) -> Maybe[Reply]:
        """See `IReception`."""
        self.desk.open_sessions += 1
        self.desk.tally.sessions += 1
        self._counted = True
        if self.desk.names_matter and self.session.peer_names is None:
            return self._connected_by_name()
        return self._admit()

    async def _connected_by_name(self) -> Reply:
        self.session.peer_names = await self.desk.find_names(self.session.peer)
        answer = self._admit()
        return answer if isinstance(answer, Reply) else await answer

    def _admit(self) -> Maybe[Reply]:
        settings = self.desk.settings
        desk, trusted = self.desk, self.session.trusted
        if self.session.expected:
            return replies.OK
        refused = (
            check_overload(desk.closed, trusted)
            or check_connection(
                self.session,
                settings.access.connections,
                self.desk.open_sessions,
                settings.max_connections,
            )
            or self._enter()
        )
        if refused is not None:
            return refused
        return replies.OK if self._stranger is None else self._stranger.greet(replies.OK)

    def _enter(self) -> Reply | None:
        # A client that has gone while its name was looked up enters nowhere; a proxy is asked
        # for whom it speaks first.
        known = self.session.trusted or self.session.proxy
        if known or not self.desk.settings.access.guarded or not self._counted:
            return None
        self._stranger = self._meet(self.desk, self.session)
        return self._stranger.enter()

    def hello(self, name: str, extended: bool) -> Reply:
        """See `IReception`."""
        self.session.hello = name
        secure = "S" if self.session.tls is not None else ""
        word = "LMTP" if self.session.lmtp else "ESMTP"
        self.session.protocol = f"{word}{secure}" if extended else "SMTP"
        return replies.OK

    def disconnected(self) -> None:
        """See `IReception`."""
        if self._counted:
            self._counted = False
            self.desk.open_sessions -= 1
        if self._stranger is not None:
            self._stranger.leave()
            self._stranger = None

    # ---- the transaction

    def sender(
        self,
        reverse_path: Mailbox | None,
        size: int | None,
        body: str,
        parameters: MailParameters,
    ) -> Maybe[Reply]:
        """See `IReception`."""
        asked = _Transaction(reverse_path, size, body, parameters)
        if reverse_path is None:
            return self._begin(asked)
        path = self.desk.categorizer.qualify(reverse_path)
        sender = settle_sender(self.desk, self.session, path)
        if isinstance(sender, Mailbox | Reply):
            return self._begin_from(sender, asked)
        return self._begin_later(sender, asked)

    async def _begin_later(
        self, settling: Awaitable[Mailbox | Reply], asked: _Transaction
    ) -> Reply:
        return self._begin_from(await settling, asked)

    def _begin_from(self, sender: Mailbox | Reply, asked: _Transaction) -> Reply:
        if isinstance(sender, Reply):
            return sender
        asked.reverse_path = sender
        return self._begin(asked)

    def _begin(self, asked: _Transaction) -> Reply:
        size = asked.size
        limits = self.desk.settings.messages
        refused = (
            check_message_size(size, limits.max_message_size)
            or check_session_size(self.session.content_octets, size, limits.max_session_size)
            or check_message_count(self.session.message_count + 1, limits.max_messages_per_session)
        )
        if refused is None and asked.parameters is not NO_MAIL_PARAMETERS:
            refused = self._weigh(asked)
        if refused is None and self._stranger is not None:
            refused = self._stranger.check_message()
        if refused is not None:
            self._count_refused(refused)
            return refused
        try:
            self.desk.check_room(size)
        except SpoolProblem as problem:
            return self._no_room(problem)
        self._transaction = asked
        return replies.sender_ok(asked.reverse_path)

    def _weigh(self, asked: _Transaction) -> Reply | None:
        desk = self.desk
        kept = accept_asked(asked.parameters, self.session, desk.settings, desk.clock.seconds())
        if isinstance(kept, Reply):
            return kept
        asked.parameters = kept
        return None

    def recipient(self, forward_path: Mailbox, parameters: RecipientParameters) -> Maybe[Reply]:
        """See `IReception`."""
        to = self._open.to
        categorizer = self.desk.categorizer
        path = categorizer.qualify(forward_path)
        domain = categorizer.find_domain(path)
        relay = self.desk.settings.access.relay
        if not isinstance(domain, LocalDomain):
            relays = isinstance(domain, RemoteDomain) and domain.relay
            refused = check_relaying(self.session, path, relays, relay)
        elif self.desk.directory is not None:
            return self._look_up(self.desk.directory, to, path, parameters)
        else:
            refused = check_routing(self.session, path, relay)
        if refused is not None:
            return refused
        if self._stranger is not None and self._stranger.inquires(path):
            return self._ask_first(self._stranger, path, partial(self._add, to, path, parameters))
        return self._add(to, path, parameters)

    async def _ask_first(
        self, stranger: Stranger, path: Mailbox, add: Callable[[], Reply]
    ) -> Reply:
        refused = await stranger.inquire(self._open.reverse_path, path)
        return add() if refused is None else refused

    def _add(self, to: Destinations, path: Mailbox, parameters: RecipientParameters) -> Reply:
        stamped = self.desk.categorizer.stamp(path)
        if stamped not in to.paths:
            refused = self._one_too_many(to, stamped)
            if refused is not None:
                return refused
            to.add(stamped, path, parameters)
        return replies.recipient_ok(path)

    def _one_too_many(self, to: Destinations, path: Mailbox) -> Reply | None:
        limits = self.desk.settings.messages
        refused = check_recipient_count(to.count + 1, limits.max_recipients) or check_domain_count(
            to.paths, path, limits.max_recipient_domains
        )
        if refused is not None or self._stranger is None:
            return refused
        return self._stranger.check_recipient()

    def _look_up(
        self,
        directory: IAddressResolver,
        to: Destinations,
        path: Mailbox,
        parameters: RecipientParameters,
    ) -> Maybe[Reply]:
        """Ask who *path*, which is local, is."""
        try:
            answer = directory.resolve(self.desk.categorizer.stamp(path))
        except LookupProblem as problem:
            return replies.directory_failed(problem.status)
        if isinstance(answer, Found | Refused):
            return self._looked_up(answer, to, path, parameters)
        return self._look_up_later(answer, to, path, parameters)

    async def _look_up_later(
        self,
        finding: Awaitable[Resolution],
        to: Destinations,
        path: Mailbox,
        parameters: RecipientParameters,
    ) -> Reply:
        try:
            answer = await finding
        except LookupProblem as problem:
            return replies.directory_failed(problem.status)
        reply = self._looked_up(answer, to, path, parameters)
        return reply if isinstance(reply, Reply) else await reply

    def _looked_up(
        self,
        answer: Resolution,
        to: Destinations,
        path: Mailbox,
        parameters: RecipientParameters,
    ) -> Maybe[Reply]:
        found = recipients_of(answer, self.desk.categorizer.stamp(path))
        if isinstance(found, Refused):
            return found.reply
        add = partial(self._add_found, found, to, path, parameters)
        if self._stranger is not None and self._stranger.inquires(path):
            return self._ask_first(self._stranger, path, add)
        return add()

    def _add_found(
        self,
        found: dict[Mailbox, Handling | None],
        to: Destinations,
        path: Mailbox,
        parameters: RecipientParameters,
    ) -> Reply:
        if not found.keys() <= to.paths.keys():
            refused = self._one_too_many(to, path)
            if refused is not None:
                return refused
            to.add_found(found, path, parameters)
        return replies.recipient_ok(path)

    def verify(self, path: Mailbox) -> Maybe[Reply]:
        """See `IReception`."""
        return inquiries.verify(self.desk, self.session, path)

    def expand(self, path: Mailbox) -> Maybe[Reply]:
        """See `IReception`."""
        return inquiries.expand(self.desk, self.session, path)

    def start_queue(self, option: str, name: str) -> Awaitable[Reply]:
        """See `IReception`."""
        return asked_for.start(self.desk, self.session, option, name)

    async def turn(self, domains: tuple[str, ...]) -> Reply:
        """See `IReception`."""
        answer = await asked_for.turn(self.desk, self.session, domains)
        if isinstance(answer, Reply):
            return answer
        self._turning = answer
        return replies.TURNING

    def turned(self) -> Any:
        """See `IReception`."""
        assert self._turning is not None, "there was a 250"
        asked, held = self._turning
        return held.session(asked, self.session.peer, self.session.peer_port)

    def fault(self, reply: Reply) -> Maybe[Reply]:
        """See `IReception`."""
        return reply if self._stranger is None else self._stranger.fault(reply)

    def content(self) -> Reply:
        """See `IReception`."""
        transaction = self._open
        store = self.desk.store
        try:
            transaction.queue_id = store.new_queue_id()
            transaction.incoming = store.new_message(
                self._received(transaction.queue_id, transaction.parameters), transaction.size
            )
        except SpoolProblem as problem:
            return self._no_room(problem)
        return replies.START_CONTENT

    def _received(self, queue_id: str, parameters: MailParameters) -> bytes:
        session = self.session
        return received_field(
            session.hello,
            session.peer,
            self._peer_note(),
            self.desk.settings.fqdn,
            session.with_word(parameters.smtputf8),
            queue_id,
            self.desk.clock.seconds(),
        )

    def _peer_note(self) -> PeerNote:
        """IIS DEL-45: what DNS says of the name the client gave."""
        names = self.session.peer_names
        if not self.desk.settings.delivery.reverse_dns:
            return ""
        if not names:
            return " RDNS failed"
        hello = self.session.hello.rstrip(".").lower()
        same = any(name.rstrip(".").lower() == hello for name in names)
        return "" if same else " unverified"

    def write(self, octets: bytes) -> Awaitable[None] | None:
        """See `IReception`."""
        transaction = self._open
        transaction.octets += len(octets)
        if transaction.incoming is None:
            return None
        settings = self.desk.settings.messages
        octets_so_far = transaction.octets
        transaction.fault = check_message_size(
            octets_so_far, settings.max_message_size
        ) or check_session_size(
            self.session.content_octets, octets_so_far, settings.max_session_size
        )
        if transaction.fault is not None:
            self._count_refused(transaction.fault)
            self._discard(transaction)
            return None
        if not transaction.header_whole:
            self._gather_header(transaction, octets)
        try:
            waiting = transaction.incoming.write(octets)
        except SpoolProblem as problem:
            self._write_failed(transaction, problem)
            return None
        if waiting is None:
            return None
        return self._written(transaction, waiting)

    async def _written(self, transaction: _Transaction, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except SpoolProblem as problem:
            self._write_failed(transaction, problem)

    def _write_failed(self, transaction: _Transaction, problem: SpoolProblem) -> None:
        transaction.fault = self._no_room(problem)
        self._discard(transaction)

    def _count_refused(self, reply: Reply) -> None:
        if reply is replies.MESSAGE_TOO_BIG:
            self.desk.tally.oversized_messages += 1

    def _gather_header(self, transaction: _Transaction, octets: bytes) -> None:
        header = transaction.header + octets if transaction.header else octets
        end = header_end(header)
        if end >= 0:
            transaction.header, transaction.header_whole = header[:end], True
        else:
            transaction.header = header
            transaction.header_whole = len(header) > _MAX_HEADER_OCTETS

    def end_of_content(self, fault: Reply | None, wire_ready: bool) -> Maybe[Reply]:
        """See `IReception`."""
        transaction = self._open
        self.session.content_octets += transaction.octets
        facts = scan_header(transaction.header)
        refused = (
            fault
            or transaction.fault
            or check_hops(facts.received_count, self.desk.settings.delivery.max_hops)
            or check_solicitation(transaction.header, self.desk.settings)
        )
        if refused is not None or transaction.incoming is None:
            self._discard(transaction)
            return refused or replies.LOCAL_ERROR
        if facts.tls_optional and not transaction.parameters.requiretls:
            transaction.parameters = evolve(transaction.parameters, tls_optional=True)
        message_id = facts.message_id.decode("ascii") if facts.message_id else None
        return self._commit(transaction, transaction.incoming, message_id, wire_ready)

    def _commit(
        self,
        transaction: _Transaction,
        incoming: IIncomingMessage,
        message_id: str | None,
        wire_ready: bool,
    ) -> Awaitable[Reply]:
        """From here on the store has it, whatever becomes of the session."""
        transaction.incoming = None
        desk = self.desk
        begun = desk.clock.seconds()
        committed = desk.store.commit(
            incoming,
            transaction.queue_id,
            transaction.envelope(wire_ready),
            self.session.hello,
            begun,
        )
        answer: Later[Reply] = Later()

        def ours(message: QueuedMessage) -> None:
            try:
                reply = self._taken(message, message_id, begun)
            except Exception:
                answer.errback()
            else:
                answer.callback(reply)

        def not_ours(failure: Failure) -> None:
            incoming.discard()
            if isinstance(failure.value, SpoolProblem):
                answer.callback(self._no_room(failure.value))
            else:
                answer.errback(failure)

        hear(committed, ours, not_ours)
        return answer

    def _taken(self, message: QueuedMessage, message_id: str | None, begun: float) -> Reply:
        """It is durable; *begun*: since when it was to be."""
        desk = self.desk
        self.session.message_count += 1
        desk.tally.accept(message.size, len(message.recipients))
        desk.tally.commit_seconds.add(desk.clock.seconds() - begun)
        if WANTED.info:
            self._tell(message)
        if desk.tracer.on:
            self._trace(message, message_id or "")
        try:
            desk.accepted(message)
        except Exception:
            # It is ours all the same; the relay finds it in the store.
            self._log.failure("{id} is queued, not yet routed", id=message.queue_id)
        return replies.queued(
            message_id or f"<{message.queue_id}@{desk.settings.fqdn}>", message.queue_id
        )

    def _tell(self, message: QueuedMessage) -> None:
        session = self.session
        words = "{id}: from=<{sender}> peer={peer} size={size} recipients={count}"
        login = {}
        if session.account is not None:
            words = words.replace(" size", " login={login} size")
            login["login"] = session.account.name
        _facts.info(
            words,
            id=message.queue_id,
            server=self.desk.settings.name,
            session=session.session_id,
            transaction=session.message_count,
            sender=str(message.reverse_path or ""),
            peer=session.peer,
            size=message.size,
            count=len(message.recipients),
            **login,
        )

    def _trace(self, message: QueuedMessage, message_id: str) -> None:
        session, paths = self.session, [r.forward_path for r in message.recipients.values()]
        words = f"{message.size} octets by {session.with_word(message.parameters.smtputf8)}"
        if session.tls is not None:
            words += f" {session.tls.version} {session.tls.cipher}"
        if session.account is not None:
            words += f", logged in as {session.account.name}"
        self.desk.tracer.note(
            event(
                message.accepted_at,
                message.queue_id,
                "accepted",
                words,
                paths=paths,
                sender=sender_text(message.reverse_path),
                peer=f"{session.hello} [{session.peer}]",
                other=message_id,
            )
        )

    def reset(self) -> None:
        """See `IReception`."""
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            self._discard(transaction)

    # ---- helpers

    @property
    def destinations(self) -> Destinations | None:
        """The recipients of the open transaction; `None`: none is open."""
        return None if self._transaction is None else self._transaction.to

    @property
    def _open(self) -> _Transaction:
        assert self._transaction is not None, "the dialogue keeps the order"
        return self._transaction

    def _discard(self, transaction: _Transaction) -> None:
        incoming, transaction.incoming = transaction.incoming, None
        if incoming is not None:
            incoming.discard()

    def _no_room(self, problem: SpoolProblem) -> Reply:
        reply = replies.NO_ROOM if isinstance(problem, SpoolFull) else replies.SPOOL_FAILED
        return reply.because(str(problem))
