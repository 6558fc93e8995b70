"""
Final delivery into the Drop directory.

:Room: ``delivery``
:IIS: §10.3 (shape of a Drop file), DOM-01 (directory), DOM-02 (quota).
:RFC: 5321 §4.4 (Return-Path).
:Called by: `mailhost.relay`, as the target of local routes.

One file holds one message for all recipients of one attempt::

    x-sender: sender@example.org          <> is the null reverse-path
    x-receiver: one@example.com
    x-receiver: two@example.com
    Return-Path: <sender@example.org>
    X-OriginalArrivalTime: ...
    Received: ...                         the stored content, as it is

It appears complete, under its final name, or not at all: 24 hexadecimal digits
and ``.eml``.  Meanwhile its name starts with a dot and ends with ``.part``.
Files have mode 0640.  A directory that we create has mode 0700: the operator
gives it a group and opens it for that group (``chgrp``, ``chmod g+rwxs``).

**Once, across a crash.**  The name is made from the queue id and the set of
recipients, and every octet of the file is decided at acceptance.  If the
process dies after the file has its name but before the outcome is recorded,
the attempt after the restart makes the same name, finds the same octets there
and puts its own in their place.  Two cases remain in which the message comes twice, which is
allowed (promise P1): a program has taken the file out or changed it in the
meantime, or the second attempt is for another set of recipients.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailhost.content.names import file_stem
from mailhost.content.trace import original_arrival_time, return_path_field
from mailhost.content.words import mailbox_octets
from mailhost.delivery.part_file import (
    PartFile,
    open_directory,
    problem_of,
    remove_left_over,
)
from mailhost.delivery.quota import DropQuota
from mailhost.durable import make_directory
from mailhost.interfaces import IDelivery, IStoredContent, next_block
from mailhost.model.address import Mailbox
from mailhost.model.queue import QueuedMessage

#: ``run(function, *arguments)`` runs it where it may block.
Run = Callable[..., Awaitable[Any]]

#: So much of a content is gathered in memory before a thread is asked to write.
BATCH_OCTETS = 256 * 1024


@implementer(IDelivery)
@define(eq=False)
class DropDelivery:
    """
    Delivers into one Drop directory.

    :ivar directory: must be a directory itself, not a symbolic link to one.
    :ivar run: as a rule ``partial(deferToThreadPool, reactor, pool)``.
    :ivar quota_octets: see `mailhost.delivery.quota`; `None` for no limit.
    """

    directory: Path
    run: Run
    quota_octets: int | None = None
    _quota: DropQuota = field(init=False)
    _failed_to_start: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._quota = DropQuota(self.quota_octets)

    def start(self) -> int:
        """
        Create the directory if it is missing, clear away what a crash left; blocks.

        :returns: how many unfinished files were removed.
        :raises DirectoryProblem: the directory cannot be used now.  `deliver`
            begins with another start then.
        """
        try:
            self._failed_to_start = True
            make_directory(self.directory)
            directory_fd = open_directory(self.directory)
            try:
                removed = remove_left_over(directory_fd)
            finally:
                os.close(directory_fd)
        except OSError as error:
            raise problem_of(error) from error
        self._failed_to_start = False
        return removed

    def deliver(
        self, message: QueuedMessage, recipients: Sequence[Mailbox], content: IStoredContent
    ) -> Deferred[None]:
        """
        Write one file for all *recipients*; closes *content*.

        :raises DirectoryProblem: directory missing, not writable, full, or
            over its quota; nothing is left of the file.
        :raises ContentDamaged: so is it here.
        """
        return Deferred.fromCoroutine(self._deliver(message, recipients, content))

    async def _deliver(
        self, message: QueuedMessage, recipients: Sequence[Mailbox], content: IStoredContent
    ) -> None:
        fields = drop_fields(message, recipients)
        octets = len(fields) + content.size
        name_of = partial(file_stem, message.queue_id, [str(path) for path in recipients])
        reservation = _Reservation(self._quota, octets)
        file = PartFile(self.directory, lambda salt: name_of(salt=salt), reservation.make)
        try:
            if self._failed_to_start:
                # A directory that was there is never made anew: it may be on a disk that is away.
                await self.run(self.start)
            reservation.is_new = await self._copy(file, fields, content)
        except Exception:
            await self.run(file.abandon)
            raise
        finally:
            content.close()
            reservation.settle()

    async def _copy(self, file: PartFile, fields: bytes, content: IStoredContent) -> bool:
        """All of it into *file*, few long calls into a thread; whether it is new."""
        blocks, gathered = [fields], len(fields)
        while block := await next_block(content):
            blocks.append(block)
            gathered += len(block)
            if gathered >= BATCH_OCTETS:
                await self.run(file.write, blocks)
                blocks, gathered = [], 0
        return bool(await self.run(file.publish, blocks))


@define
class _Reservation:
    """Room under the quota for one file, taken when it is opened."""

    _quota: DropQuota
    _octets: int
    is_new: bool = False
    _made: bool = False

    def make(self, directory_fd: int) -> None:
        self._quota.reserve(self._octets, directory_fd)
        self._made = True

    def settle(self) -> None:
        if self._made:
            self._quota.settle(self._octets, self.is_new)


def drop_fields(message: QueuedMessage, recipients: Sequence[Mailbox]) -> bytes:
    """What stands before the stored content in a Drop file."""
    sender = message.reverse_path
    return b"".join(
        (
            b"x-sender: %b\r\n" % (mailbox_octets(sender) if sender is not None else b"<>"),
            *(b"x-receiver: %b\r\n" % mailbox_octets(path) for path in recipients),
            return_path_field(sender),
            original_arrival_time(message.accepted_at),
        )
    )
