"""
The ready queue of one site, and the connections that empty it.

:Room: ``relay``
:IIS: DEL-32 (limit per domain), MSG-03 (messages per connection).
:RFC: 5321 §5.1; 2920.
:Called by: `mailhost.relay.manager`.

A job here waits for a connection, no longer for time.  Connections begin few
and become more as long as transactions succeed; a failure halves them.  When no
connection can be had, everything that waits fails together: ten thousand
messages for a dead site cost one time-out, not ten thousand.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailhost.errors import ContentDamaged, SpoolProblem
from mailhost.interfaces import IQueueStore, IStoredContent, next_block, open_stored
from mailhost.model.outcome import Fate, Outcome
from mailhost.net.outbound import OutboundProtocol, Transcript
from mailhost.relay.job import Destination, Job
from mailhost.relay.line import Line, Opened
from mailhost.relay.outcomes import (
    STUMBLED,
    damaged,
    transcript_outcomes,
    worth_another_host,
)
from mailhost.relay.slots import Slots
from mailhost.relay.terms import Terms

#: So long a session without work is kept for the next message to its site.
IDLE_SECONDS = 5.0
#: Connections to a site nobody knows anything about yet.
FIRST_WINDOW = 5.0

Settle = Callable[[Job, Sequence[Outcome]], None]


@define(eq=False)
class SiteQueue:
    """
    :ivar destination: the site.
    :ivar line: opens sessions.
    :ivar store: has the contents.
    :ivar terms: what the operator allows, shared by all sites.
    :ivar slots: connections of all sites together.
    :ivar settle: told the outcome of each recipient of a job, in order.
    :ivar split: told that a part of a job goes on as a job of its own.
    :ivar empty: called when the site has neither jobs nor connections.
    """

    destination: Destination
    line: Line
    store: IQueueStore
    terms: Terms
    slots: Slots
    settle: Settle
    split: Callable[[Job, Job], None]
    empty: Callable[[], None]
    waiting: deque[Job] = field(factory=deque, init=False)
    _idle: list[_Connection] = field(factory=list, init=False)
    _connections: set[_Connection] = field(factory=set, init=False)
    _window: float = field(default=FIRST_WINDOW, init=False)
    _stopping: bool = field(default=False, init=False)

    @property
    def connection_count(self) -> int:
        """Open connections and those being opened."""
        return len(self._connections)

    def add(self, job: Job) -> None:
        """Carry *job* as soon as there is a connection for it."""
        idle = self._idle_for(job)
        if idle is not None:
            idle.give(job)
            return
        self.waiting.append(job)
        self._open_more()

    def stop(self) -> None:
        """Close what is idle or being opened; what is under way comes to its end."""
        self._stopping = True
        self.waiting.clear()
        for connection in list(self._idle):
            connection.finish()
        for connection in [one for one in self._connections if one.opening]:
            connection.give_up()
        if not self._connections:
            self.empty()

    def drop(self) -> None:
        """Close everything now."""
        for connection in list(self._connections):
            connection.drop()

    def _idle_for(self, job: Job) -> _Connection | None:
        for position in range(len(self._idle) - 1, -1, -1):
            if self._idle[position].suits(job):
                return self._idle.pop(position)
        return None

    def _open_more(self) -> bool:
        """Another connection, if something waits and nothing forbids it; whether it began."""
        limit = self.terms.max_per_site
        allowed = int(self._window) if limit is None else min(limit, int(self._window))
        opening = sum(connection.opening for connection in self._connections)
        if self._stopping or len(self.waiting) <= opening or len(self._connections) >= allowed:
            return False
        if not self.slots.take(self._slot_is_free):
            return False
        connection = _Connection(self)
        self._connections.add(connection)
        connection.start(self.waiting.popleft())
        return True

    def _slot_is_free(self) -> None:
        self.line.reactor.callLater(0, self._use_slot)

    def _use_slot(self) -> None:
        if not self._open_more():
            self.slots.wake_next()

    # ---- what connections report

    def next_job(self, connection: _Connection) -> Job | None:
        """The next job that *connection* may carry."""
        for position, job in enumerate(self.waiting):
            if connection.suits(job):
                del self.waiting[position]
                return job
        return None

    def became_idle(self, connection: _Connection) -> None:
        """It has nothing to do."""
        self._idle.append(connection)

    def succeeded(self) -> None:
        """A transaction came to its end: the site can take a little more."""
        self._window += 1 / self._window
        if self.waiting:
            self._open_more()

    def cannot_open(self, connection: _Connection, job: Job, outcome: Outcome | None) -> None:
        """No host took the session; `None`: there was none left to try."""
        if job.so_far is not None:
            # Hosts were passed over, so this says nothing about the site.
            self.settle(job, job.so_far)
            return
        if outcome is None:
            outcome = STUMBLED
        self.settle(job, [outcome] * len(job.recipients))
        self._window = max(1.0, self._window / 2)
        if all(other.opening for other in self._connections if other is not connection):
            stranded, self.waiting = self.waiting, deque()
            for waiting in stranded:
                self.settle(waiting, waiting.so_far or [outcome] * len(waiting.recipients))

    def try_elsewhere(self, job: Job) -> None:
        """Another host of the site may do better; others are not to wait for it."""
        if self._stopping and job.so_far is not None:
            self.settle(job, job.so_far)
            return
        self.waiting.append(job)
        self._open_more()

    def try_again(self, job: Job) -> None:
        """The session was gone before the peer could say anything about *job*."""
        if self._stopping:
            return  # the store has it as it was before the attempt
        self.waiting.appendleft(job)
        self._open_more()

    def ended(self, connection: _Connection) -> None:
        """It is gone."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self.slots.give_back()
        # In a turn of its own: an opening that fails at once would otherwise
        # call this again before it has returned, once for every waiting job.
        self.line.reactor.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._open_more()
        if not self._connections and not self.waiting:
            self.empty()


@define(eq=False)
class _Connection:
    """One session with the site, from its opening to its end."""

    site: SiteQueue
    opening: bool = field(default=True, init=False)
    _opened: Opened | None = field(default=None, init=False)
    _carried: int = field(default=0, init=False)
    _job: Deferred[Job | None] | None = field(default=None, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _living: Deferred[None] | None = field(default=None, init=False)
    # The job that has no outcome yet.
    _current: Job | None = field(default=None, init=False)

    _log = Logger()

    def start(self, job: Job) -> None:
        """Open, carry *job*, and go on as long as there is work."""
        self._living = Deferred.fromCoroutine(self._live(job))
        self._living.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):  # type: ignore[no-untyped-call]  # upstream
            return
        self._log.failure("A connection has failed", failure)
        self.drop()
        if self._current is not None:
            self._settle_all(self._current, STUMBLED)

    def give_up(self) -> None:
        """Stop opening it; its job stays in the store as it is."""
        if self._living is not None:
            self._living.cancel()

    def suits(self, job: Job) -> bool:
        """Whether *job* may go here: not where it was refused a moment ago."""
        return self._opened is not None and _spot(self._opened) not in job.tried

    def give(self, job: Job) -> None:
        """An idle connection gets work."""
        self._wake(job)

    def finish(self) -> None:
        """An idle connection says goodbye."""
        self._wake(None)

    def drop(self) -> None:
        """End it now."""
        if self._opened is not None:
            self._opened.session.drop()

    # ---- its life

    async def _live(self, first: Job) -> None:
        self._current = first
        try:
            opened = await self.site.line.open(first.destination, first.tried, self._gone)
            self.opening = False
            if not isinstance(opened, Opened):
                self._current = None
                self.site.cannot_open(self, first, opened)
                return
            self._opened = opened
            await self._serve(opened.session, first)
        finally:
            self.opening = False
            self.site.ended(self)

    async def _serve(self, session: OutboundProtocol, first: Job) -> None:
        job: Job | None = first
        while job is not None:
            alive = await self._carry(session, job)
            self._carried += 1
            limit = self.site.terms.max_messages
            if not alive or (limit is not None and self._carried >= limit):
                break
            job = self.site.next_job(self) or await self._wait_for_job()
        session.quit()

    def _wait_for_job(self) -> Deferred[Job | None]:
        self._job = Deferred()
        if self.site._stopping:
            job, self._job = self._job, None
            job.callback(None)
            return job
        self._timer = self.site.line.reactor.callLater(IDLE_SECONDS, self._wake, None)
        self.site.became_idle(self)
        return self._job

    def _gone(self) -> None:
        """The peer has closed the connection."""
        self._wake(None)

    def _wake(self, job: Job | None) -> None:
        waiting, self._job = self._job, None
        if waiting is None:
            return
        if self._timer is not None:
            timer, self._timer = self._timer, None
            if timer.active():
                timer.cancel()
        if self in self.site._idle:
            self.site._idle.remove(self)
        waiting.callback(job)

    # ---- one transaction

    async def _carry(self, session: OutboundProtocol, job: Job) -> bool:
        """:returns: whether the session can carry another."""
        message = job.message
        assert self._opened is not None
        place = self._opened.place
        job.tried.add((place.address, place.port))
        self._current = job
        try:
            opened = await open_stored(self.site.store, message)
            content: IStoredContent | None = opened
            if message.body == "8BITMIME" and "8BITMIME" not in session.extensions:
                opened.close()
                content = await self._seven_bit(job)
        except ContentDamaged as problem:
            self._settle_all(job, await damaged(self.site.store, message, problem))
            return True
        except SpoolProblem as problem:
            self._settle_all(job, Outcome(Fate.DELAYED, "4.3.0", str(problem)))
            return True
        if content is None:
            words = f"{place.host} does not offer 8BITMIME, and the content needs it"
            self._settle_all(job, Outcome(Fate.FAILED, "5.6.3", words, peer=place.host))
            return True
        return await self._transact(session, job, content)

    async def _seven_bit(self, job: Job) -> IStoredContent | None:
        """The content if it is 7-bit after all, else `None` (RFC 6152 §3)."""
        content = await open_stored(self.site.store, job.message)
        try:
            while block := await next_block(content):
                if not block.isascii():
                    return None
        finally:
            content.close()
        return await open_stored(self.site.store, job.message)

    async def _transact(self, session: OutboundProtocol, job: Job, content: IStoredContent) -> bool:
        assert self._opened is not None
        message = job.message
        try:
            transcript = await session.send(
                self.site.terms.categorizer.masquerade(message.reverse_path),
                [recipient.forward_path for recipient in job.recipients],
                content,
                message.body,
            )
        except ContentDamaged as problem:
            self._settle_all(job, await damaged(self.site.store, message, problem))
            return False
        except SpoolProblem as problem:
            # A content that must not be sent (P6) will not become better.
            fate = Fate.DELAYED if "bare" not in str(problem) else Fate.FAILED
            status = "4.3.0" if fate is Fate.DELAYED else "5.6.0"
            self._settle_all(job, Outcome(fate, status, str(problem)))
            return False
        finally:
            content.close()
        self._settle_transcript(job, transcript)
        return transcript.alive

    def _settle_all(self, job: Job, outcome: Outcome) -> None:
        self._settle(job, [outcome] * len(job.recipients))

    def _settle(self, job: Job, outcomes: Sequence[Outcome]) -> None:
        self._current = None
        self.site.settle(job, outcomes)

    def _settle_transcript(self, job: Job, transcript: Transcript) -> None:
        assert self._opened is not None
        place = self._opened.place
        if transcript.alive:
            self.site.succeeded()
        elif self._carried and not transcript.in_doubt and _says_nothing(transcript):
            # A kept session that the peer has closed meanwhile says nothing
            # about this message; a fresh one will.
            job.tried.discard((place.address, place.port))
            self._current = None
            self.site.try_again(job)
            return
        outcomes = transcript_outcomes(transcript, f"{place.host} [{place.address}]")
        if not worth_another_host(outcomes):
            self._settle(job, outcomes)
            return
        parted = list(zip(job.recipients, outcomes, strict=True))
        final = [(r, o) for r, o in parted if o.fate is not Fate.DELAYED]
        again = [(r, o) for r, o in parted if o.fate is Fate.DELAYED]
        rest = Job(
            job.message,
            [r for r, _ in again],
            job.destination,
            set(job.tried),
            [o for _, o in again],
        )
        if final:
            self.site.split(job, rest)
            job.recipients = [r for r, _ in final]
            self._settle(job, [o for _, o in final])
        self._current = None
        self.site.try_elsewhere(rest)


def _spot(opened: Opened) -> tuple[str, int]:
    return opened.place.address, opened.place.port


def _says_nothing(transcript: Transcript) -> bool:
    """Only that the session is over: no reply at all, or 421 to whatever was asked."""
    return all(reply is None or reply.code == 421 for reply in transcript.replies)
