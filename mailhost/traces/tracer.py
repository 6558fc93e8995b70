"""
Takes events at the price of an append, and writes them down elsewhere.

:Room: ``traces``
:Called by: `mailhost.intake`, `mailhost.relay`; made by `mailhost.server`.

Whoever has an event asks `Tracer.on` first: a trace that is off costs one look at an attribute.
Mail never waits for a trace, and never fails for one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from mailhost.traces.events import Event, TracedEvent
from mailhost.traces.store import TraceWriter, find_events

#: So long events gather.
GATHER_SECONDS = 0.25
#: More than so many are not kept for a disk that does not keep up.
MAX_PENDING = 50_000
_PURGE_SECONDS = 60.0


@define(eq=False)
class Tracer:
    """
    :ivar on: events are wanted.
    """

    on: bool = False
    _reactor: Any = field(default=None, init=False)
    _writer: TraceWriter | None = field(default=None, init=False)
    _pool: ThreadPool | None = field(default=None, init=False)
    _pending: list[Event] = field(factory=list, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _writing: Deferred[None] | None = field(default=None, init=False)
    _idle: Deferred[None] | None = field(default=None, init=False)
    _purged_at: float = field(default=0.0, init=False)
    _dropped: int = field(default=0, init=False)
    _failed: bool = field(default=False, init=False)

    _log = Logger()

    def start(self, reactor: Any, path: Path, keep_seconds: float, max_octets: int) -> None:
        """
        Take events from now on.

        :param path: the database of this worker.
        :param keep_seconds: older events are forgotten.
        :param max_octets: so large it may become.
        """
        self._reactor = reactor
        self._writer = TraceWriter(path, keep_seconds, max_octets)
        # One thread, so that an order of events is the order in the database.
        self._pool = ThreadPool(0, 1, f"trace {path.parent.parent.name}")
        self._pool.start()
        self.on = True

    def configure(self, enabled: bool, keep_seconds: float, max_octets: int) -> None:
        """Go by other settings from now on; allowed after `start`."""
        assert self._writer is not None, "it was started"
        self._writer.keep_seconds, self._writer.max_octets = keep_seconds, max_octets
        self.on = enabled

    async def stop(self) -> None:
        """Write what has gathered, and end."""
        self.on = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        while self._writing is not None or self._pending:
            if self._writing is None:
                self._write()
            self._idle = Deferred()
            await self._idle
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()
        if self._writer is not None:
            self._writer.close()

    @property
    def pools(self) -> dict[str, ThreadPool]:
        """The thread that writes and finds, while there is one."""
        return {} if self._pool is None else {"trace": self._pool}

    def seconds(self) -> float:
        """The time now, since the epoch."""
        now: float = self._reactor.seconds()
        return now

    def note(self, event: Event) -> None:
        """Something has happened; see `mailhost.traces.events.event`."""
        pending = self._pending
        if len(pending) >= MAX_PENDING:
            self._dropped += 1
            return
        pending.append(event)
        if self._timer is None and self._writing is None and self._pool is not None:
            self._timer = self._reactor.callLater(GATHER_SECONDS, self._write)

    def _write(self) -> None:
        self._timer = None
        events, self._pending = self._pending, []
        if self._dropped:
            self._log.warn("{count} events are not in the trace", count=self._dropped)
            self._dropped = 0
        self._writing = self._in_thread(self._write_now, events)
        self._writing.addErrback(self._not_written).addCallback(self._written)

    def _write_now(self, events: list[Event]) -> None:
        """In the thread."""
        writer = self._writer
        assert writer is not None, "it was started"
        try:
            writer.write(events)
            now = events[-1][0] if events else self._purged_at
            if now - self._purged_at >= _PURGE_SECONDS:
                self._purged_at = now
                writer.purge(now)
        except BaseException:
            writer.close()
            raise

    def _written(self, nothing: None) -> None:
        self._writing = None
        if self._pending and self._timer is None and self.on:
            self._timer = self._reactor.callLater(GATHER_SECONDS, self._write)
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.callback(None)

    def _not_written(self, failure: Failure) -> None:
        if not self._failed:
            self._failed = True
            self._log.error(
                "Traces cannot be written, which is told once: {problem}",
                problem=failure.getErrorMessage(),
            )

    def find(
        self, what: str, since: float | None, until: float | None, limit: int
    ) -> Deferred[list[TracedEvent]]:
        """See `mailhost.traces.store.find_events`; fails as that does."""
        if self._writer is None:
            return succeed([])
        if self._pending and self._writing is None:
            if self._timer is not None and self._timer.active():
                self._timer.cancel()
            self._write()
        return self._in_thread(find_events, self._writer.path.parent, what, since, until, limit)

    def _in_thread(self, function: Any, *arguments: Any) -> Deferred[Any]:
        if self._pool is None:
            return maybeDeferred(function, *arguments)
        return deferToThreadPool(self._reactor, self._pool, function, *arguments)
