"""
What operators select in the queue, and what they are shown of it.

:Room: ``model``
:Made by: `mailhost.control` (filters), `mailhost.spool` (pages).
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping

from attrs import field, frozen

from mailhost.model.address import Mailbox
from mailhost.model.queue import QueuedMessage, QueuedRecipient

_FOLD = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
#: What a null reverse-path is called in a filter.
NULL_SENDER = "<>"


def folded(text: str) -> str:
    """*text* for comparing: ASCII letters small, as SQLite does it."""
    return text.translate(_FOLD)


@frozen
class Pattern:
    """
    A text to compare with, in which ``*`` stands for anything.

    :ivar text: whatever the case.
    """

    text: str
    _compiled: re.Pattern[str] = field(init=False, eq=False, repr=False)

    @_compiled.default
    def _compile(self) -> re.Pattern[str]:
        parts = map(re.escape, folded(self.text).split("*"))
        return re.compile(".*".join(parts), re.DOTALL)

    def matches(self, text: str) -> bool:
        """Whether *text* is one of those meant."""
        return self._compiled.fullmatch(folded(text)) is not None

    @property
    def glob(self) -> str:
        """The same for SQLite's GLOB, which has more signs."""
        return re.sub(r"[\[?]", lambda found: f"[{found[0]}]", folded(self.text))


def _pattern(text: str | Pattern | None) -> Pattern | None:
    return Pattern(text) if isinstance(text, str) else text


def sender_text(path: Mailbox | None) -> str:
    """A reverse-path as filters know it."""
    return NULL_SENDER if path is None else str(path)


@frozen
class QueueFilter:
    """
    Which messages, and which of their recipients; everything that is given has to hold.

    :ivar ids: queue ids; `None`: any.
    :ivar sender: of the reverse-path; `NULL_SENDER` is the null one.
    :ivar domain: of a recipient's domain.
    :ivar recipient: of a recipient's address.
    :ivar accepted_before: seconds since the epoch; `None`: at any time.
    :ivar site: where a recipient goes: key or host of a site; empty: anywhere.  A store does
        not know, and gives what may go there.
    :ivar held: recipients that are held, or those that are not; `None`: both.
    """

    ids: frozenset[str] | None = None
    sender: Pattern | None = field(default=None, converter=_pattern)
    domain: Pattern | None = field(default=None, converter=_pattern)
    recipient: Pattern | None = field(default=None, converter=_pattern)
    accepted_before: float | None = None
    held: bool | None = None
    site: str = ""

    def matches(self, message: QueuedMessage) -> bool:
        """Whether *message* is meant, as far as it is not a matter of its recipients."""
        if self.ids is not None and message.queue_id not in self.ids:
            return False
        if self.accepted_before is not None and message.accepted_at >= self.accepted_before:
            return False
        return self.sender is None or self.sender.matches(sender_text(message.reverse_path))

    def matches_recipient(self, recipient: QueuedRecipient) -> bool:
        """Whether *recipient*, of a message that is meant, is meant."""
        if self.held is not None and recipient.held is not self.held:
            return False
        path = recipient.forward_path
        if self.domain is not None and not self.domain.matches(path.domain):
            return False
        return self.recipient is None or self.recipient.matches(str(path))

    def chosen(self, message: QueuedMessage) -> list[QueuedRecipient]:
        """The recipients of *message* that are meant."""
        if not self.matches(message):
            return []
        return [one for one in message.recipients.values() if self.matches_recipient(one)]


@frozen
class LastOutcome:
    """
    What the last attempt came to.

    :ivar status: enhanced status; empty: there was none.
    :ivar words: why.
    """

    status: str = ""
    words: str = ""


@frozen
class QueuePage:
    """
    Messages in the order in which they came.

    :ivar messages: with all their recipients; at least one of each is meant.
    :ivar last: of their recipients, by key and number; who was never tried is missing.
    :ivar reached: the key up to which everything was looked at; `None`: to the end.
    """

    messages: tuple[QueuedMessage, ...]
    last: Mapping[tuple[int, int], LastOutcome]
    reached: int | None = None


@frozen
class QueueSelection:
    """
    Messages in the order in which they came, by their ids only.

    :ivar counts: how many of their recipients are meant, by queue id.
    :ivar reached: as in `QueuePage`.
    """

    counts: Mapping[str, int]
    reached: int | None = None


#: So many recipients are read for one page, and those of one message more.
PAGE_RECIPIENTS = 20_000


def page_of(
    messages: Iterable[QueuedMessage], wanted: QueueFilter, after: int, limit: int
) -> QueuePage:
    """
    The page that a store in memory gives.

    :param messages: all there are.
    :param after: keys up to this one were seen.
    """
    found: list[QueuedMessage] = []
    count = 0
    for message in sorted(messages, key=lambda one: one.key):
        if message.key <= after or not wanted.chosen(message):
            continue
        if len(found) == limit or count > PAGE_RECIPIENTS:
            return QueuePage(tuple(found), {}, found[-1].key)
        found.append(message)
        count += len(message.recipients)
    return QueuePage(tuple(found), {})
