"""
The active window: what is in memory, and how much of it one site may have.

:Room: ``relay``
:Called by: `mailhost.relay.manager` and the parts of it; promise P7.

A site's mail may take as much of the window as is still free, so that the more it has
the less it gets: one backlog leaves half of the window to others, two a third, ten an eleventh.
Everybody finds room; mail beyond that is sent back to the store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from attrs import define, field

from mailhost.model.queue import QueuedMessage

#: A twentieth of the window is kept for reports.
_RESERVE_ONE_IN = 20
#: Recipients in memory, for each message that the window takes.
RECIPIENTS_PER_MESSAGE = 10
#: So many messages any site may have, however full the window is.
_LEAST_SHARE = 10


@define(eq=False)
class ActiveMessage:
    """
    A message in work.

    :ivar jobs: how many of its jobs have no outcome yet.
    :ivar insists: an operator wants it tried: at a site that is suspended too.
    :ivar told: lines of the log about this attempt.
    :ivar untold: how many recipients of each fate have no line of their own.
    :ivar weight: its recipients when it came.
    """

    message: QueuedMessage
    jobs: int = 0
    insists: bool = False
    told: int = 0
    untold: Counter[str] | None = None
    weight: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.weight = len(self.message.recipients)


@define(eq=False)
class ActiveWindow:
    """
    :ivar limit: messages at once.
    :ivar recipients: of the messages in it.
    :ivar octets: of their contents.
    """

    limit: int
    recipients: int = field(default=0, init=False)
    octets: int = field(default=0, init=False)
    _messages: dict[int, ActiveMessage] = field(factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._messages)

    def __contains__(self, key: int) -> bool:
        return key in self._messages

    def __iter__(self) -> Iterator[ActiveMessage]:
        return iter(self._messages.values())

    def find(self, key: int) -> ActiveMessage | None:
        """The message *key*, if it is in work."""
        return self._messages.get(key)

    @property
    def keys(self) -> frozenset[int]:
        """The messages that are in work."""
        return frozenset(self._messages)

    @property
    def room(self) -> int:
        """Messages that it can take now, other than reports."""
        if self.recipients >= self.limit * RECIPIENTS_PER_MESSAGE:
            return 0
        return max(0, self.limit - self.limit // _RESERVE_ONE_IN - len(self._messages))

    @property
    def share(self) -> int:
        """Messages that one site may have waiting."""
        return max(self.room, _LEAST_SHARE)

    def admits(self, message: QueuedMessage) -> bool:
        """Whether there is room for *message*."""
        if message.reverse_path is None:
            return len(self._messages) < self.limit
        return self.room > 0

    def add(self, message: QueuedMessage) -> ActiveMessage:
        """*message* is in work."""
        active = self._messages[message.key] = ActiveMessage(message)
        self.recipients += active.weight
        self.octets += message.size
        return active

    def grow(self, active: ActiveMessage, count: int) -> None:
        """*active* has so many recipients more."""
        active.weight += count
        self.recipients += count

    def remove(self, active: ActiveMessage) -> None:
        """It is not any more."""
        del self._messages[active.message.key]
        self.recipients -= active.weight
        self.octets -= active.message.size
