"""
Pickup files that cannot be sent, on their way to Badmail.

:Room: ``intake``
:IIS: PIC-05, PIC-06, PIC-08; §10.5.
:Called by: `mailhost.intake.pickup`.

The triple is named after the file's identity, so that a file met again after a
crash, or one that cannot be removed, replaces its triple by itself.
"""

from __future__ import annotations

from collections.abc import Awaitable

from attrs import define, field
from zope.interface import implementer

from mailhost.content.headers import header_end
from mailhost.intake.claim import OpenFile
from mailhost.intake.local_text import to_crlf
from mailhost.intake.pickup_file import BadPickupFile, PickupHeader, read_header
from mailhost.intake.submission import Run, Submitter
from mailhost.interfaces import IStoredContent
from mailhost.spool.badmail import CODE_PICKUP, Badmail, BadMessage, BadRecipient

_WORDS = "Error in processing file in pickup directory"


@implementer(IStoredContent)
@define(eq=False)
class RawContent:
    """
    The file's octets as they are, so that it can be mended and put into Pickup again.

    :ivar size: so many of them, from the beginning.
    """

    size: int
    _file: OpenFile
    _run: Run
    _left: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._left = self.size

    def read(self) -> Awaitable[bytes] | bytes:
        """See `IStoredContent`; raises `BeingWritten` at the end of a changed file."""
        return self._read() if self._left else b""

    async def _read(self) -> bytes:
        block: bytes = await self._run(self._file.read)
        block = block[: self._left]
        self._left -= len(block)
        return block

    def close(self) -> None:
        """The file is closed by whoever opened it."""


@define(eq=False)
class BadFiles:
    """Stores Pickup files in *badmail*."""

    submitter: Submitter
    badmail: Badmail
    run: Run

    async def store(
        self,
        file: OpenFile,
        source: str,
        reason: str,
        header: PickupHeader | None = None,
        octets: int | None = None,
    ) -> str:
        """
        :param source: the name it had in Pickup.
        :param header: what of its envelope is known already.
        :param octets: only so many from its beginning; `None` for all.
        :returns: the name of the triple.
        :raises mailhost.errors.DirectoryProblem: it cannot be done now.
        :raises mailhost.intake.claim.BeingWritten: it was changed meanwhile.
        """
        header = header or await self.header_of(file)
        file.rewind()
        size = file.size if octets is None else min(octets, file.size)
        message = self._message(file.digest, source, reason, header)
        now = self.submitter.desk.clock.seconds()
        return await self.badmail.store(message, RawContent(size, file, self.run), now)

    def _message(
        self, digest: str, source: str, reason: str, header: PickupHeader | None
    ) -> BadMessage:
        sender, recipients = (None, ()) if header is None else self.submitter.envelope_of(header)
        return BadMessage(
            digest,
            f"{_WORDS}: {reason}.",
            sender,
            tuple(map(BadRecipient, recipients)),
            CODE_PICKUP,
            sender_known=header is not None and header.sender_known,
            source=source,
        )

    async def header_of(self, file: OpenFile) -> PickupHeader | None:
        """
        What of the envelope can be read, of a file that is bad for another reason.

        :raises mailhost.intake.claim.BeingWritten: as for `store`.
        """
        file.rewind()
        block = to_crlf(await self.run(file.read))
        end = header_end(block)
        try:
            return read_header(block[:end]) if end >= 0 else None
        except BadPickupFile as bad:
            return bad.header
