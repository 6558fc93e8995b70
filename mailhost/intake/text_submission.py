"""
A message that a program on this machine hands over as text, in the form of a Pickup file.

:Room: ``intake``
:IIS: §10.2.
:Called by: `mailhost.control`; promise P1.

It is treated as such a file in every respect, but whoever hands it over hears at once what
became of it.
"""

from __future__ import annotations

from attrs import define, field

from mailhost.intake.submission import Progress, Submitter

_BLOCK_OCTETS = 65536


@define(eq=False)
class TextFile:
    """
    Octets in memory, read as a file in Pickup is.

    :ivar octets: all of it.
    """

    octets: bytes
    _at: int = field(default=0, init=False)

    @property
    def size(self) -> int:
        """Octets in all."""
        return len(self.octets)

    @property
    def at_end(self) -> bool:
        """All of it has been read."""
        return self._at >= self.size

    def read(self) -> bytes:
        """The next block; empty at the end."""
        block = self.octets[self._at : self._at + _BLOCK_OCTETS]
        self._at += len(block)
        return block

    def rewind(self) -> None:
        """Read it from the beginning."""
        self._at = 0


async def submit_text(submitter: Submitter, octets: bytes) -> list[str]:
    """
    Take *octets* over.

    :returns: the queue ids; several, where it has more recipients than one message may have.
    :raises mailhost.intake.pickup_file.BadPickupFile: it cannot be sent as it is.
    :raises mailhost.errors.MailhostError: not now; what of it is in the queue is sent, so
        that trying again sends to some for the second time.
    """
    progress = Progress()
    await submitter.submit(TextFile(octets), progress)
    return progress.queue_ids
