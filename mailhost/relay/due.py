"""
Asking the store for what is due, when something is.

:Room: ``relay``
:Called by: `mailhost.relay.manager`; promise P7: a thousand messages at once, and never more
    than the active window has room for.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Set
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from mailhost.errors import MailhostError
from mailhost.interfaces import IQueueStore
from mailhost.model.queue import QueuedMessage
from mailhost.relay.active import ActiveWindow

_LOAD_AT_ONCE = 1000
#: A store that could not be read is asked again after so long.
_READ_AGAIN_SECONDS = 5.0
#: At most so long the store is not asked for due mail.
_LONGEST_SLEEP_SECONDS = 300.0
#: A backlog is looked at again when so great a part of the window is free.
_ENOUGH_ROOM_ONE_IN = 20
#: A message accepted at this very instant is due as well.
GRAIN_SECONDS = 0.001


@define(eq=False)
class DueMail:
    """
    :ivar store: where the mail is.
    :ivar clock: the reactor.
    :ivar window: what is in memory already.
    :ivar admit: takes a message into work.
    :ivar follow: runs a coroutine that `stop` of the relay waits for.
    :ivar backlog: mail is due, or may be, that has found no room.
    :ivar reserved: messages that an operator is changing: not to be taken into work.
    :ivar queued: messages in the store, about; `None`: not counted yet.
    """

    store: IQueueStore
    clock: Any
    window: ActiveWindow
    admit: Callable[[QueuedMessage], None]
    follow: Callable[[Coroutine[Any, Any, None]], None]
    backlog: bool = field(default=False, init=False)
    reserved: set[int] = field(factory=set, init=False)
    queued: int | None = field(default=None, init=False)
    _loading: bool = field(default=False, init=False)
    _counting: bool = field(default=False, init=False)
    # Done with while the store was being asked: its answer may still name them.
    _done_meanwhile: set[int] = field(factory=set, init=False)
    _stopping: bool = field(default=False, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)

    _log = Logger()

    def look(self) -> None:
        """Take what is due now, as far as there is room."""
        room = min(_LOAD_AT_ONCE, self.window.room)
        if room <= 0:
            self.backlog = True
        if self._loading or self._stopping or room <= 0:
            return
        self._loading = True
        self.backlog = False
        self._done_meanwhile.clear()
        self.follow(self._load(room))

    def stop(self) -> None:
        """Look no more."""
        self._stopping = True
        self._sleep(None)

    def added(self, count: int) -> None:
        """So many messages have come into the store, or left it."""
        if self.queued is not None:
            self.queued += count

    def release(self, keys: Set[int]) -> None:
        """The messages *keys* are reserved no more, and not what they were."""
        self.reserved -= keys
        if self._loading:
            self._done_meanwhile |= keys

    def done(self, message: QueuedMessage) -> None:
        """*message* is not in work any more."""
        if self._loading:
            self._done_meanwhile.add(message.key)
        if message.recipients:
            self.wake_at(min(r.due_at for r in message.recipients.values()))
        if self.backlog and self.window.room >= self.window.limit // _ENOUGH_ROOM_ONE_IN:
            self.look()

    def wake_at(self, at: float | None) -> None:
        """Look for due mail at *at*, or earlier if that is planned already."""
        now = self.clock.seconds()
        wait = _LONGEST_SLEEP_SECONDS if at is None else min(at - now, _LONGEST_SLEEP_SECONDS)
        timer = self._timer
        if timer is not None and timer.active() and timer.getTime() <= now + wait:
            return
        self._sleep(max(wait, 0.0))

    async def _load(self, room: int) -> None:
        more = False
        try:
            now = self.clock.seconds()
            skip = self.window.keys | self.reserved
            due = await self.store.load_due(now + GRAIN_SECONDS, room, skip)
            more = len(due) >= room
            for message in due:
                if message.key not in self._done_meanwhile and message.key not in self.reserved:
                    self.admit(message)
            if self.queued is None and not self._counting:
                # A long walk, for which nothing that is due has to wait.
                self.follow(self._count())
            # Last: a timer that goes off while this is under way is not heard.
            self.wake_at(await self.store.next_due_at(now + GRAIN_SECONDS))
        except MailhostError as problem:
            self._log.error("The queue cannot be read now: {problem}", problem=str(problem))
            self.wake_at(self.clock.seconds() + _READ_AGAIN_SECONDS)
            more = False
        finally:
            self._loading = False
        if more:
            self.look()

    async def _count(self) -> None:
        self._counting = True
        try:
            self.queued = (await self.store.counts()).messages
        except MailhostError as problem:
            self._log.error("The queue cannot be counted now: {problem}", problem=str(problem))
        finally:
            self._counting = False

    def _sleep(self, seconds: float | None) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        if seconds is not None and not self._stopping:
            self._timer = self.clock.callLater(seconds, self.look)
