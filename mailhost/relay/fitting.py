"""
A queued content made fit for one host: as it is where the host takes that, else converted.

:Room: ``relay``
:RFC: 6152 §3, 3030 §3 (conversion), 5321 §4.5.3.1.6 (text line); promises P6, P7.
:Called by: `mailhost.relay.connection`.

Nothing here runs for a host that takes what the message is declared to be, which nearly every
one does.  A conversion reads the content three times, block by block: what has to be changed,
how large it becomes, and on its way out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailhost.content.conversion import Converter, Survey
from mailhost.content.mime import Unreadable
from mailhost.errors import MailhostError
from mailhost.interfaces import IQueueStore, IStoredContent, Maybe, next_block, open_stored
from mailhost.model.queue import QueuedMessage
from mailhost.smtp.chunks import ChunkedContent
from mailhost.smtp.events import ChunkGiven


class Misfit(MailhostError):
    """
    The host does not take such a content, and it cannot be converted.

    :ivar status: of class 5 (RFC 3463 X.6).
    """

    def __init__(self, status: str, words: str) -> None:
        super().__init__(words)
        self.status = status


@frozen
class Fitted:
    """
    :ivar content: opened.
    :ivar body: what it may be declared as now: ``7BIT``, ``8BITMIME`` or ``BINARYMIME``.
    :ivar converted: it is not what was accepted.
    """

    content: IStoredContent
    body: str
    converted: bool = False


def takes(message: QueuedMessage, peer: Mapping[str, str], long_lines: bool) -> bool:
    """
    Whether a host that offers *peer* takes *message* as it is, for all that is known of it.

    :param long_lines: of 7-bit and 8-bit content it is not known that its lines are short.
    """
    if message.body == "BINARYMIME":
        return "BINARYMIME" in peer and "CHUNKING" in peer
    return "8BITMIME" in peer and not long_lines


async def fitted(store: IQueueStore, message: QueuedMessage, peer: Mapping[str, str]) -> Fitted:
    """
    The content of *message*, for a host that offers *peer*.

    :raises Misfit: it cannot go there.
    :raises mailhost.errors.SpoolProblem: see `mailhost.interfaces.IQueueStore.open_content`.
    """
    eight_bit = "8BITMIME" in peer
    look = _Look(message.size)
    await _through(store, message, look.feed)
    if look.is_text() and (eight_bit or not look.eight_bit):
        return Fitted(await open_stored(store, message), "8BITMIME" if look.eight_bit else "7BIT")
    survey = Survey(eight_bit)
    try:
        await _through(store, message, survey.feed)
        survey.finish()
    except Unreadable as problem:
        lacking = "8BITMIME" if look.is_text() else "BINARYMIME"
        status = "5.6.3" if look.is_text() else "5.6.1"
        words = f"it does not offer {lacking}, and the content needs it: {problem}"
        raise Misfit(status, words) from problem
    counted = Converter(survey.encodings)
    size = 0

    def count(block: bytes) -> None:
        nonlocal size
        size += len(counted.feed(block))

    await _through(store, message, count)
    size += len(counted.finish())
    source = await open_stored(store, message)
    return Fitted(
        ConvertedContent(source, size, Converter(survey.encodings)),
        "8BITMIME" if eight_bit and look.eight_bit else "7BIT",
        converted=True,
    )


class _Look:
    """Whether it is text as RFC 5321 has it, and whether in ASCII."""

    def __init__(self, size: int) -> None:
        self.eight_bit = False
        self._checked = ChunkedContent()
        self._checked.begin(ChunkGiven(size, last=True))

    def feed(self, block: bytes) -> None:
        self.eight_bit = self.eight_bit or not block.isascii()
        self._checked.feed(block)

    def is_text(self) -> bool:
        self._checked.end()
        return self._checked.fault is None


async def _through(store: IQueueStore, message: QueuedMessage, take: Any) -> None:
    """Let *take* have each block."""
    content = await open_stored(store, message)
    try:
        while block := await next_block(content):
            take(block)
    finally:
        content.close()


@implementer(IStoredContent)
@define(eq=False)
class ConvertedContent:
    """
    What a converter makes of a content, as it is read.

    :ivar source: the content.
    :ivar size: octets that come out.
    """

    source: IStoredContent
    size: int
    _converter: Converter
    _over: bool = field(default=False, init=False)

    def read(self) -> Maybe[bytes]:
        """See `IStoredContent`."""
        while not self._over:
            block = self.source.read()
            if not isinstance(block, bytes):
                return Deferred.fromCoroutine(self._read_later(block))
            if octets := self._converted(block):
                return octets
        return b""

    async def _read_later(self, reading: Any) -> bytes:
        octets = self._converted(await reading)
        if octets or self._over:
            return octets
        rest = self.read()
        return rest if isinstance(rest, bytes) else await rest

    def _converted(self, block: bytes) -> bytes:
        if block:
            return self._converter.feed(block)
        self._over = True
        return self._converter.finish()

    def close(self) -> None:
        """See `IStoredContent`."""
        self.source.close()
