"""
What operators do with Badmail: look, put into the queue again, throw away.

:Room: ``intake``
:IIS: §10.5, MSG-06.
:Called by: `mailhost.control`; promise P1.

Nothing leaves Badmail before it is on stable storage elsewhere; a crash between the two
leaves it in both places, and perhaps a hidden file in Pickup, which is written anew the next time.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define
from twisted.logger import Logger

from mailhost.durable import sync_directory
from mailhost.errors import DirectoryProblem
from mailhost.intake.desk import Desk
from mailhost.intake.destinations import Destinations
from mailhost.model.address import Mailbox
from mailhost.model.listing import sender_text
from mailhost.model.parameters import NO_RECIPIENT_PARAMETERS, RecipientParameters
from mailhost.spool.bad_triples import (
    BadTriple,
    list_triples,
    read_content,
    read_triple,
    remove_triple,
)
from mailhost.spool.badmail import Badmail
from mailhost.spool.files import write_all
from mailhost.spool.purge import Purged
from mailhost.traces.events import event

_BLOCK_OCTETS = 256 * 1024

#: ``run(function, *arguments)`` runs it where it may block.
Run = Callable[..., Awaitable[Any]]


@define(eq=False)
class BadmailDesk:
    """
    :ivar desk: of the virtual server; takes what is put into the queue again.
    :ivar badmail: its directory.
    :ivar pickup: takes its own files again.
    :ivar run: where file work may block.
    """

    desk: Desk
    badmail: Badmail
    pickup: Path
    run: Run

    _log = Logger()

    @property
    def _directory(self) -> Path:
        return self.badmail.directory

    async def page(self, after: str, limit: int) -> tuple[list[BadTriple], int]:
        """
        The next *limit* triples behind the name *after*, and how many there are in all.

        :raises DirectoryProblem: they cannot be read.
        """
        found: tuple[list[BadTriple], int] = await self.run(
            list_triples, self._directory, after, limit
        )
        return found

    async def find(self, stem: str) -> BadTriple | None:
        """
        The triple *stem*, if there is one.

        :raises DirectoryProblem: it cannot be read.
        """
        found: BadTriple | None = await self.run(read_triple, self._directory, stem)
        return found

    async def content(self, stem: str, start: int, size: int) -> bytes:
        """
        A part of its message; empty behind the end.

        :raises DirectoryProblem: it cannot be read.
        """
        octets: bytes = await self.run(read_content, self._directory, stem, start, size)
        return octets

    async def requeue(self, triple: BadTriple, to: Sequence[Mailbox], who: str) -> str:
        """
        Put *triple* where it came from: into the queue, or into Pickup.

        :param to: its recipients from now on; empty: those it had.
        :returns: its queue id, or the name of the Pickup file.
        :raises mailhost.errors.MailhostError: it cannot be done; it is in Badmail still.
        """
        if triple.from_pickup and not to:
            name: str = await self.run(self._to_pickup, triple)
            made = f"Pickup file {name}"
        else:
            recipients = dict.fromkeys(to) or dict(
                zip(triple.recipients, triple.asked, strict=True)
            )
            if triple.fault or not recipients or not (triple.sender_known or to):
                raise DirectoryProblem(triple.fault or "it names no sender, or no recipient")
            name = made = await self._to_queue(triple, recipients, who)
        await self.run(remove_triple, self._directory, triple.stem)
        self._log.info(
            "Badmail {stem} is {made} again, by {who}", stem=triple.stem, made=made, who=who
        )
        return name

    async def _to_queue(
        self, triple: BadTriple, recipients: Mapping[Mailbox, RecipientParameters | None], who: str
    ) -> str:
        desk = self.desk
        desk.check_room(triple.size)
        queue_id = desk.store.new_queue_id()
        incoming = desk.store.new_message(b"", triple.size)
        try:
            start = 0
            while block := await self.content(triple.stem, start, _BLOCK_OCTETS):
                start += len(block)
                waiting = incoming.write(block)
                if waiting is not None:
                    await waiting
            envelope = self._destinations(recipients).envelope(
                triple.reverse_path, triple.body, parameters=triple.parameters
            )
            message = await desk.store.commit(
                incoming, queue_id, envelope, triple.hello, desk.clock.seconds()
            )
        except BaseException:
            incoming.discard()
            raise
        desk.tally.accept(message.size, len(message.recipients))
        if desk.tracer.on:
            words = f"{message.size} octets out of Badmail {triple.stem}, by {who}"
            sender, before = sender_text(triple.reverse_path), triple.queue_id
            now = message.accepted_at
            desk.tracer.note(
                event(
                    now,
                    queue_id,
                    "accepted",
                    words,
                    paths=envelope.forward_paths,
                    sender=sender,
                    other=before,
                )
            )
        desk.accepted(message)
        return queue_id

    def _destinations(
        self, recipients: Mapping[Mailbox, RecipientParameters | None]
    ) -> Destinations:
        to, categorizer = Destinations(), self.desk.categorizer
        for given, asked in recipients.items():
            path = categorizer.qualify(given)
            stamped = categorizer.stamp(path)
            if stamped not in to.paths:
                to.add(stamped, path, asked or NO_RECIPIENT_PARAMETERS)
        return to

    def _to_pickup(self, triple: BadTriple) -> str:
        """In a thread: copy it under a hidden name, name it, sync."""
        name = f"{triple.stem}.eml"
        hidden = self.pickup / f".{name}"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(hidden, flags, 0o600)
            try:
                start = 0
                while block := read_content(self._directory, triple.stem, start, _BLOCK_OCTETS):
                    write_all(fd, [block])
                    start += len(block)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(hidden, self.pickup / name)
            sync_directory(self.pickup)
        except OSError as error:
            raise DirectoryProblem(f"Pickup cannot take it: {error.strerror}") from error
        return name

    async def purge(
        self,
        stems: Sequence[str] | None,
        keep_seconds: float | None,
        max_octets: int | None,
        who: str,
        dry_run: bool,
        most: int | None = None,
    ) -> Purged:
        """
        Throw away what is named and too old, and the oldest until the rest is small enough;
        where nothing is said of age and size, all that is named.

        :param stems: only these; `None`: any.
        :param dry_run: only count, all of them.
        :param most: so many now, the oldest first; `None`: all.
        :returns: how many triples, and how many more are to go.
        :raises DirectoryProblem: the directory cannot be used now.
        """
        now = self.desk.clock.seconds()
        chosen = None if stems is None else frozenset(stems)
        if keep_seconds is None and max_octets is None:
            max_octets = 0
        purged = await self.badmail.purge(
            keep_seconds, max_octets, now, stems=chosen, dry_run=dry_run, most=most
        )
        if purged.count and not dry_run:
            self._log.info(
                "{count} messages in Badmail are thrown away, by {who}", count=purged.count, who=who
            )
        return purged
