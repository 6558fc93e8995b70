"""
Queues of workers that exist no longer: emptied beside one's own, then removed.

:Room: ``server``
:Called by: `mailhost.server.virtual_server`.

Mail in such a queue is delivered where it lies; it takes no new mail but the
reports about what is in it.  It may be in use for a while by a process that is
just going.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from mailhost.config.settings import VirtualServerSettings
from mailhost.errors import MailhostError, SpoolInUse
from mailhost.interfaces import IHeldMail, IQueueStore
from mailhost.relay.mail_exchange import MailExchangeResolver
from mailhost.relay.manager import RelayManager
from mailhost.relay.terms import Terms
from mailhost.server.held import NotOpen
from mailhost.server.share import Share, worker_directories
from mailhost.spool.lock import QueueLock

#: How often a queue is asked whether it is empty, or free.
LOOK_SECONDS = 2.0

_SPOOL_NAMES = ("queue.sqlite-shm", "queue.sqlite-wal", "queue.sqlite", "ballast")


@define(eq=False)
class Orphan:
    """
    :ivar queue: its directory.
    :ivar parts: its place for incomplete content.
    :ivar make_store: makes the store of it, not started.
    :ivar make_relay: makes the manager that empties it.
    """

    queue: Path
    parts: Path
    reactor: Any
    make_store: Callable[[], IQueueStore]
    make_relay: Callable[[IQueueStore], RelayManager]
    store: IQueueStore | None = field(default=None, init=False)
    relay: RelayManager | None = field(default=None, init=False)
    _gone: Callable[[Orphan], None] | None = field(default=None, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _looking: Deferred[None] | None = field(default=None, init=False)
    _told: str = field(default="", init=False)
    _stopping: bool = field(default=False, init=False)
    _empty: bool = field(default=False, init=False)

    _log = Logger()

    @property
    def held(self) -> IHeldMail | None:
        """Mail in it that waits until its domain asks for it; `None`: it is known to be empty."""
        if self.relay is not None:
            return self.relay.held
        return None if self._empty else NotOpen()

    def start(self, gone: Callable[[Orphan], None]) -> None:
        """
        Begin to empty it, now or when it is free.

        :param gone: called when it is empty, and its directory removed or left for good.
        """
        self._gone = gone
        self._look()

    def configure(self, terms: Terms, exchanges: MailExchangeResolver) -> None:
        """See `RelayManager.configure`."""
        if self.relay is not None:
            self.relay.configure(terms, exchanges)

    async def stop(self, grace_seconds: float) -> None:
        """End its deliveries and close it; what is queued stays."""
        self._stopping = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._looking is not None:
            await self._looking
        await self._close(grace_seconds)

    # ---- looking

    def _look(self) -> None:
        self._looking = Deferred.fromCoroutine(self._look_once())

    async def _look_once(self) -> None:
        over = False
        try:
            if self.store is None:
                self._open()
            elif await self.store.next_due_at(-1.0) is None:
                over = True
        except MailhostError as problem:
            # Said once as long as it stays the same.
            if str(problem) != self._told:
                self._told = str(problem)
                self._log.warn("{queue} has to wait: {problem}", queue=self.queue, problem=problem)
        except Exception:
            self._log.failure("{queue} cannot be adopted", queue=self.queue)
        if self._stopping:
            return
        if over:
            await self._leave()
        else:
            self._timer = self.reactor.callLater(LOOK_SECONDS, self._look)

    def _open(self) -> None:
        store = self.make_store()
        store.start()
        self.store = store
        self.relay = self.make_relay(store)
        self.relay.start()
        self._log.info("{queue} is adopted: its worker exists no longer", queue=self.queue)

    async def _leave(self) -> None:
        self._empty = True
        # The relay still owns what it has just recorded: it closes first.
        await self._close(0.0)
        remove_queue(self.queue, self.parts)
        if self._gone is not None:
            self._gone(self)

    async def _close(self, grace_seconds: float) -> None:
        relay, self.relay = self.relay, None
        store, self.store = self.store, None
        try:
            if relay is not None:
                await relay.stop(grace_seconds)
        finally:
            if store is not None:
                await store.stop()


def orphans_of(
    share: Share,
    settings: VirtualServerSettings,
    reactor: Any,
    make_store: Callable[[int], IQueueStore],
    make_relay: Callable[[IQueueStore], RelayManager],
) -> list[Orphan]:
    """
    The queues that *share* has to adopt.

    :param make_store: makes the store of the worker with a number, not started.
    """
    return [
        Orphan(
            *worker_directories(settings, number), reactor, partial(make_store, number), make_relay
        )
        for number in share.orphans(settings)
    ]


_log = Logger()


def remove_queue(queue: Path, parts: Path) -> bool:
    """
    Remove an empty queue: what the spool has made, and nothing else.

    A file that is not the spool's, or content that was put aside as damaged, stays,
    and its directory with it.

    :returns: whether it is gone.
    """
    try:
        lock = QueueLock(queue / "lock")
    except (SpoolInUse, OSError):
        return False
    try:
        foreign = sorted({path.name for path in queue.iterdir()} - {*_SPOOL_NAMES, "lock"})
        foreign += [path.name for path in parts.iterdir()] if parts.is_dir() else []
        if foreign:
            _log.warn("{queue} is empty, and stays: it holds {names}", queue=queue, names=foreign)
            return False
        for name in (*_SPOOL_NAMES, "lock"):
            (queue / name).unlink(missing_ok=True)
        queue.rmdir()
        if parts.is_dir():
            parts.rmdir()
    except OSError as error:
        _log.warn("{queue} is empty, and stays: {problem}", queue=queue, problem=str(error))
        return False
    finally:
        lock.release()
    _log.info("{queue} is empty and removed", queue=queue)
    return True
