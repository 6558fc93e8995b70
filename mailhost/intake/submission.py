"""
From an open Pickup file to the queue.

:Room: ``intake``
:IIS: PIC-02..04, PIC-07, PIC-09, PIC-11; MSG-01 (size), MSG-04 (recipients), DEL-40 (hops).
:RFC: 5321 §6.3 (loops), 6152 (8BITMIME), 8689 §3; promises P1, P7.
:Called by: `mailhost.intake.pickup`.

The file goes through block by block; never more than its header and one block
are in memory.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, Protocol

from attrs import define, evolve, field

from mailhost.content.headers import header_end, scan_header
from mailhost.content.trace import message_id, received_from_pickup, rfc5322_date
from mailhost.intake.desk import Desk
from mailhost.intake.destinations import Destinations, recipients_of
from mailhost.intake.local_text import LocalText
from mailhost.intake.pickup_file import (
    MAX_HEADER_OCTETS,
    BadPickupFile,
    MailLoop,
    PickupHeader,
    read_header,
)
from mailhost.interfaces import IIncomingMessage
from mailhost.model.address import Mailbox
from mailhost.model.directory import Found, Refused
from mailhost.model.envelope import Envelope
from mailhost.model.listing import sender_text
from mailhost.model.parameters import NO_MAIL_PARAMETERS, MailParameters
from mailhost.model.queue import QueuedMessage
from mailhost.policy.limits import check_hops, check_message_size
from mailhost.routing.domains import LocalDomain
from mailhost.traces.events import event

#: ``run(function, *arguments)`` runs it where it may block.
Run = Callable[..., Awaitable[Any]]

_RANDOM_OCTETS = 10


class Source(Protocol):
    """What a message is read from; `mailhost.intake.claim.OpenFile`, as a rule."""

    @property
    def size(self) -> int:
        """Octets in all."""

    @property
    def at_end(self) -> bool:
        """All of it has been read."""

    def read(self) -> bytes:
        """
        The next block; empty at the end.

        :raises mailhost.intake.claim.BeingWritten: it was changed while it was read.
        """

    def rewind(self) -> None:
        """Read it from the beginning."""


@define(eq=False)
class Progress:
    """
    How far one file came, so that a later attempt goes on from there.

    :ivar queue_ids: the messages that are in the queue already, in order.
    :ivar recipients: how many these have.
    :ivar envelope: of the whole file; a directory may say something else by the next attempt.
    :ivar added: the fields that all of them got: recipients of one message are
        to see one Message-ID.
    """

    queue_ids: list[str] = field(factory=list)
    recipients: int = 0
    added: bytes | None = None
    envelope: Envelope | None = None


class _Content:
    """
    An open file's octets, as content.

    :ivar begun: its body has been read from.
    """

    def __init__(self, file: Source, run: Run, max_line_octets: int | None) -> None:
        self._file = file
        self._run = run
        self._text = LocalText(max_line_octets)
        self._ahead = b""
        self._ended = False
        self.begun = False

    @property
    def body(self) -> str:
        """``"7BIT"`` or ``"8BITMIME"``; known when all has been read."""
        return "8BITMIME" if self._text.eight_bit else "7BIT"

    async def read_header(self) -> bytes:
        """
        All up to the blank line; all there is if there is none.

        :raises BadPickupFile: it is too long, or no text.
        """
        header = await self._read()
        while (end := header_end(header)) < 0 and len(header) <= MAX_HEADER_OCTETS:
            block = await self._read()
            if not block:
                end = len(header)
                break
            header += block
        if end < 0 or end > MAX_HEADER_OCTETS:
            raise BadPickupFile(f"its header has more than {MAX_HEADER_OCTETS} octets")
        self._ahead = header[end:]
        return header[:end]

    async def read_body(self) -> bytes:
        """The next block behind the header; empty at the end."""
        self.begun = True
        return await self._read()

    async def _read(self) -> bytes:
        block, self._ahead = self._ahead, b""
        while not block and not self._ended:
            block = self._text.feed(await self._run(self._file.read))
            if self._file.at_end:
                self._ended = True
                block += self._text.end()
        return block


@define(eq=False)
class Submitter:
    """
    Hands Pickup files over to the queue of one virtual server.

    :ivar desk: its settings are read anew for each file.
    :ivar run: where file work may block.
    :ivar draw: gives so many octets that nobody can guess.
    """

    desk: Desk
    run: Run
    draw: Callable[[int], bytes] = secrets.token_bytes
    _numbers: count[int] = field(factory=lambda: count(1), init=False)

    async def submit(self, file: Source, progress: Progress) -> None:
        """
        Queue the message; more recipients than one message may have are split (MSG-04).

        :raises BadPickupFile: it cannot be sent as it is.
        :raises mailhost.errors.SpoolProblem: not now; *progress* says how far it came.
        :raises mailhost.errors.LookupProblem: the directory cannot say now who gets it.
        :raises mailhost.intake.claim.BeingWritten: it was changed while it was read.
        """
        content = self._content(file)
        header = read_header(await content.read_header())
        try:
            self._check_hops(header)
            if progress.added is None:
                progress.added = self._missing_fields(header)
            if progress.envelope is None:
                envelope = await self._resolved(*self.envelope_of(header))
                if header.tls_optional:
                    asked = evolve(envelope.parameters, tls_optional=True)
                    envelope = evolve(envelope, parameters=asked)
                progress.envelope = envelope
            whole = progress.envelope
            count = len(whole.forward_paths)
            step = self.desk.settings.messages.max_recipients or count
            for start in range(progress.recipients, count, step):
                if content.begun:
                    file.rewind()
                    content = self._content(file)
                    await content.read_header()
                part = whole.part(start, start + step)
                message = await self._queue(file.size, content, progress.added, header.octets, part)
                progress.queue_ids.append(message.queue_id)
                progress.recipients += len(part.forward_paths)
        except BadPickupFile as bad:
            bad.header = bad.header or header
            raise

    def _content(self, file: Source) -> _Content:
        return _Content(file, self.run, self.desk.settings.messages.max_line_length)

    def envelope_of(self, header: PickupHeader) -> tuple[Mailbox | None, tuple[Mailbox, ...]]:
        """The sender and the recipients, qualified and stamped, each recipient once."""
        categorizer = self.desk.categorizer
        sender = header.reverse_path
        qualified = map(categorizer.qualify, header.recipients)
        return (
            categorizer.qualify(sender) if sender is not None else None,
            tuple(dict.fromkeys(map(categorizer.stamp, qualified))),
        )

    async def _resolved(self, sender: Mailbox | None, recipients: tuple[Mailbox, ...]) -> Envelope:
        """What a directory makes of them, as in a session."""
        desk = self.desk
        if sender is not None and (rewriter := desk.rewriter_of(sender)) is not None:
            primary = rewriter.resolve_sender(sender)
            sender = primary if isinstance(primary, Mailbox) else await primary
        to = Destinations()
        for path in recipients:
            local = isinstance(desk.categorizer.find_domain(path), LocalDomain)
            if desk.directory is None or not local:
                to.add_found({path: None}, path)
                continue
            answer = desk.directory.resolve(path)
            if not isinstance(answer, Found | Refused):
                answer = await answer
            found = recipients_of(answer, path)
            if isinstance(found, Refused):
                raise BadPickupFile(f"{found.words} ({found.status})")
            to.add_found(found, path)
        ascii_only = all(path.is_ascii for path in to.paths) and (sender is None or sender.is_ascii)
        asked = NO_MAIL_PARAMETERS if ascii_only else MailParameters(smtputf8=True)
        return to.envelope(sender, parameters=asked)

    def _check_hops(self, header: PickupHeader) -> None:
        max_hops = self.desk.settings.delivery.max_hops
        if check_hops(header.received_count, max_hops) is not None:
            raise MailLoop(
                f"it has {header.received_count} Received fields, more than {max_hops}: a mail loop"
            )

    def _missing_fields(self, header: PickupHeader) -> bytes:
        """PIC-09: Date and Message-ID, where there are none."""
        desk = self.desk
        added = b""
        if not header.has_date:
            added += b"Date: %b\r\n" % rfc5322_date(desk.clock.seconds())
        if not header.has_message_id:
            made = message_id(desk.settings.fqdn, self.draw(_RANDOM_OCTETS), next(self._numbers))
            added += b"Message-ID: %b\r\n" % made
        return added

    async def _queue(
        self, size: int, content: _Content, added: bytes, header: bytes, envelope: Envelope
    ) -> QueuedMessage:
        desk = self.desk
        desk.check_room(size)
        queue_id = desk.store.new_queue_id()
        prefix = received_from_pickup(desk.settings.fqdn, queue_id, desk.clock.seconds())
        incoming = desk.store.new_message(prefix + added, size)
        try:
            await self._copy(header, content, incoming)
            message = await desk.store.commit(
                incoming, queue_id, evolve(envelope, body=content.body), "", desk.clock.seconds()
            )
        except BaseException:
            incoming.discard()
            raise
        desk.tally.accept(message.size, len(message.recipients))
        desk.tally.pickup_messages += 1
        if desk.tracer.on:
            self._trace(message, added + header)
        desk.accepted(message)
        return message

    def _trace(self, message: QueuedMessage, header: bytes) -> None:
        name = scan_header(header).message_id or b""
        self.desk.tracer.note(
            event(
                message.accepted_at,
                message.queue_id,
                "accepted",
                f"{message.size} octets out of Pickup, or from a program",
                paths=[one.forward_path for one in message.recipients.values()],
                sender=sender_text(message.reverse_path),
                other=name.decode("ascii", "replace"),
            )
        )

    async def _copy(self, header: bytes, content: _Content, incoming: IIncomingMessage) -> None:
        """*header*, then the rest of *content*; counted as in an SMTP session (PIC-11)."""
        limit = self.desk.settings.messages.max_message_size
        octets = 0
        block = header
        while block:
            octets += len(block)
            if check_message_size(octets, limit) is not None:
                raise BadPickupFile(f"it is larger than {limit} octets")
            waiting = incoming.write(block)
            if waiting is not None:
                await waiting
            block = await content.read_body()
