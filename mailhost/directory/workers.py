"""
Threads that may wait for a directory, so that the reactor never does.

:Room: ``directory``
:Called by: `mailhost.directory.resolver` (promise P9).

One `Session` per thread, a bounded line of work before them, a time limit on each
piece of work that counts its time in the line.  Only the reactor's thread touches the
line's bookkeeping; a thread gets work, and hands its result to ``callFromThread``.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, succeed

from mailhost.directory.session import Session
from mailhost.errors import LookupProblem

T = TypeVar("T")


@define(eq=False)
class _Job(Generic[T]):
    """
    One piece of work.

    :ivar session: who does it, while it is being done.
    :ivar over: its result is not wanted any more, or is there.
    """

    work: Callable[[Session], T]
    deadline: float
    done: Deferred[T]
    timer: Any = None
    session: Session | None = None
    over: bool = False
    lock: Lock = field(factory=Lock)


@define(eq=False)
class Workers:
    """
    :ivar reactor: has ``callFromThread``, ``callLater`` and ``seconds``.
    :ivar make_session: for each thread.
    :ivar thread_limit: how many threads there may be; they start when there is work.
    :ivar waiting_limit: pieces of work that may wait; more are refused at once.
    :ivar pending: pieces of work that wait or are being done.
    :ivar refused: how many found the line full.
    :ivar timed_out: how many took too long.
    """

    reactor: Any
    name: str
    make_session: Callable[[], Session]
    thread_limit: int
    waiting_limit: int
    pending: int = field(default=0, init=False)
    refused: int = field(default=0, init=False)
    timed_out: int = field(default=0, init=False)
    _line: SimpleQueue[_Job[Any] | None] = field(factory=SimpleQueue, init=False)
    _threads: list[Thread] = field(factory=list, init=False)
    _jobs: set[_Job[Any]] = field(factory=set, init=False)
    _stopped: Deferred[None] | None = field(default=None, init=False)
    _running: int = field(default=0, init=False)

    def run(self, work: Callable[[Session], T], seconds: float) -> Deferred[T]:
        """
        Have *work* done by a thread.

        :param seconds: until the result is of no use.
        :returns: fails with `LookupProblem`: too slow, too much to do, stopped; or with
            what *work* raised.
        """
        done: Deferred[T] = Deferred()
        if self._stopped is not None:
            done.errback(LookupProblem("the directory is not asked any more: stopping"))
            return done
        if self.pending >= self.waiting_limit + self.thread_limit:
            self.refused += 1
            done.errback(LookupProblem("too many look-ups wait for the directory"))
            return done
        job = _Job(work, self.reactor.seconds() + seconds, done)
        job.timer = self.reactor.callLater(seconds, self._expire, job)
        self._jobs.add(job)
        self.pending += 1
        if self.pending > len(self._threads) < self.thread_limit:
            self._start_thread()
        self._line.put(job)
        return done

    def stop(self) -> Deferred[None]:
        """Fail what waits; fires when the threads have ended."""
        if self._stopped is None:
            self._stopped = Deferred()
            for job in tuple(self._jobs):
                self._fail(job, LookupProblem("the directory is not asked any more: stopping"))
            for _ in self._threads:
                self._line.put(None)
            if not self._running:
                self._stopped.callback(None)
        if self._stopped.called:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._stopped.chainDeferred(waiting)
        return waiting

    # ---- in the reactor's thread

    def _start_thread(self) -> None:
        # Nothing of a search is worth keeping a process alive for.
        thread = Thread(target=self._serve, name=f"{self.name} {len(self._threads)}", daemon=True)
        self._threads.append(thread)
        self._running += 1
        thread.start()

    def _expire(self, job: _Job[Any]) -> None:
        self.timed_out += 1
        self._fail(job, LookupProblem("the directory is too slow"))

    def _fail(self, job: _Job[Any], problem: LookupProblem) -> None:
        with job.lock:
            session, job.over = job.session, True
            if session is not None:
                session.give_up()
        self._settle(job)
        job.done.errback(problem)

    def _settle(self, job: _Job[Any]) -> None:
        self._jobs.discard(job)
        self.pending -= 1
        if job.timer.active():
            job.timer.cancel()

    def _finish(self, job: _Job[Any], result: Any, error: BaseException | None) -> None:
        if job not in self._jobs:
            return
        self._settle(job)
        if error is None:
            job.done.callback(result)
        else:
            job.done.errback(error)

    def _thread_ended(self) -> None:
        self._running -= 1
        if not self._running and self._stopped is not None:
            self._stopped.callback(None)

    # ---- in a thread

    def _serve(self) -> None:
        session = self.make_session()
        while (job := self._line.get()) is not None:
            with job.lock:
                if job.over:
                    continue
                job.session = session
                session.begin(job.deadline)
            result: Any = None
            error: BaseException | None = None
            try:
                result = job.work(session)
            except BaseException as raised:
                # Whatever it is belongs to whoever waits; the thread goes on.
                error = raised
            with job.lock:
                job.session = None
            self.reactor.callFromThread(self._finish, job, result, error)
        session.close()
        self.reactor.callFromThread(self._thread_ended)
