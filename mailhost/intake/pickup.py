"""
Files put into Pickup are sent, and disappear.

:Room: ``intake``
:IIS: §10.2, PIC-01..11; attacks.md A60, A71.
:Called by: `mailhost.server`.

What happens to a file:

1. It is seen: the kernel tells at once (inotify), and all names are read again
   and again, because the kernel may not tell everything.
2. It is whole: it was moved in, or it did not change for a second and nobody
   has it open for writing (`mailhost.intake.sightings`).
3. It is claimed: renamed into ``Pickup/.work`` (`mailhost.intake.claim`).
4. It is queued (`mailhost.intake.submission`), or goes to Badmail with the
   reason.  Trouble with either is no fault of the file: it waits in .work.
5. It is removed.  A crash before leads to step 4 again: twice at worst.

Names with a dot in front are left alone: programs write under one and rename.
Links, FIFOs, devices, sockets and directories are left where they are.  Who may
write here may send as anybody to everybody: relay restrictions are for sessions.
"""

from __future__ import annotations

from collections import deque
from contextlib import closing
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailhost.errors import DirectoryProblem, LookupProblem, SpoolProblem
from mailhost.intake.bad_file import BadFiles
from mailhost.intake.claim import (
    WHOLE_OCTETS,
    BeingWritten,
    CannotBeRemoved,
    Identity,
    LeftAlone,
    OpenFile,
    PickupDirectory,
    Seen,
    TooLarge,
)
from mailhost.intake.desk import Desk
from mailhost.intake.directory_events import DirectoryEvents, watch_directory
from mailhost.intake.pickup_file import BadPickupFile, MailLoop, NobodyNamed
from mailhost.intake.sightings import MAX_WATCHED, Sightings
from mailhost.intake.submission import Progress, Run, Submitter
from mailhost.spool.badmail import Badmail

LOOK_SECONDS = 1.0
#: The kernel's news are gathered for so long.
NEWS_SECONDS = 0.05
#: After trouble that is not the file's fault.
RETRY_SECONDS = 5.0
#: After an error of the system, which seldom goes away by itself.
SYSTEM_RETRY_SECONDS = 60.0
#: Files in work at a time, so that they share a commit.
MAX_IN_WORK = 8
#: When so many wait in .work, no more are claimed.
MAX_WAITING = 1000
#: Of a file that is too large to be copied, so much goes to Badmail.
BEGINNING_OCTETS = 262144


@define(eq=False)
class _Item:
    """
    One file on its way.

    :ivar source: its name in Pickup; only written down.
    :ivar identity: as it was seen there; `None` for one found in .work.
    :ivar work: its name in .work once it is claimed.
    :ivar proven: this process has claimed it, so it can be removed.
    :ivar settled: it is in the queue or in Badmail, and has only to go.
    """

    source: str
    identity: Identity | None = None
    work: str = ""
    proven: bool = False
    settled: bool = False
    progress: Progress = field(factory=Progress)


class Pickup:
    """
    Watches one Pickup directory.

    :param directory: created if missing; not a symbolic link.
    :param badmail: for what cannot be sent.
    :param reactor: timers, and file descriptors where it has them.
    :param run: ``partial(deferToThreadPool, reactor, pool)``.
    """

    _log = Logger()

    def __init__(
        self, desk: Desk, directory: Path, badmail: Badmail, reactor: Any, run: Run
    ) -> None:
        self._desk = desk
        self._directory = PickupDirectory(directory)
        self._reactor = reactor
        self._run = run
        self._submitter = Submitter(desk, run)
        self._bad = BadFiles(self._submitter, badmail, run)
        self._sightings = Sightings()
        self._running = False
        self._opened = False
        self._events: DirectoryEvents | None = None
        # Names the kernel told of, and whether they were moved in.
        self._told: dict[str, bool] = {}
        # When all names are to be looked at again, not only those.
        self._scan_at = 0.0
        self._next_look: IDelayedCall | None = None
        # Who waits for the look under way, if there is one, and for the next.
        self._looking: list[Deferred[None]] | None = None
        self._looking_next: list[Deferred[None]] = []
        self._ready: deque[_Item] = deque()
        # Of those in _ready that still lie in Pickup, and of those being claimed.
        self._names: set[str] = set()
        self._waiting: list[tuple[float, _Item]] = []
        self._in_work = 0
        self._pumping = False
        self._stopping: list[Deferred[None]] = []
        self._troubles: set[str] = set()

    # ---- life

    def start(self) -> None:
        """Begin to watch; what cannot be done now is tried again.  Idempotent."""
        if not self._running:
            self._running = True
            self.look()

    def stop(self) -> Deferred[None]:
        """Take no more files; fires when none is in work.  Idempotent."""
        self._running = False
        self._cancel_look()
        if self._events is not None:
            self._events.stop()
            self._events = None
        stopped: Deferred[None] = Deferred()
        self._stopping.append(stopped)
        self._check_stopped()
        return stopped

    def _check_stopped(self) -> None:
        if self._in_work or self._looking is not None:
            return
        if not self._running:
            self._ready.clear()
            self._names.clear()
            self._told.clear()
            self._opened = False
            self._directory.close()
        stopping, self._stopping = self._stopping, []
        for stopped in stopping:
            stopped.callback(None)

    # ---- looking

    def look(self) -> Deferred[None]:
        """
        Look at the directory now, without waiting for the next time.

        :returns: fires when a look that began after this call is over, and what
            it found is in work or waits for its turn.
        """
        over: Deferred[None] = Deferred()
        self._scan_at = 0.0
        self._looking_next.append(over)
        if self._looking is None:
            self._begin_look()
        return over

    def _begin_look(self) -> None:
        self._cancel_look()
        self._looking, self._looking_next = self._looking_next, []
        scanning = self._reactor.seconds() >= self._scan_at
        Deferred.fromCoroutine(self._look(scanning)).addErrback(
            lambda failure: self._log.failure("Looking into Pickup has failed", failure)
        ).addCallback(self._looked, scanning)

    def _looked(self, nothing: None, scanning: bool) -> None:
        if scanning:
            self._scan_at = self._reactor.seconds() + LOOK_SECONDS
        over, self._looking = self._looking or [], None
        self._pump()
        for one in over:
            one.callback(None)
        if self._looking_next and self._looking is None:
            self._scan_at = 0.0
            self._begin_look()
        self._schedule_look()
        self._check_stopped()

    def _schedule_look(self) -> None:
        self._cancel_look()
        if self._running and self._looking is None:
            wait = max(self._scan_at - self._reactor.seconds(), 0.0)
            if self._told:
                wait = min(wait, NEWS_SECONDS)
            self._next_look = self._reactor.callLater(wait, self._begin_look)

    def _cancel_look(self) -> None:
        if self._next_look is not None and self._next_look.active():
            self._next_look.cancel()

    def _noticed(self, name: str, moved: bool) -> None:
        """The kernel tells; if that is more than we can remember, looking will find it."""
        if name.startswith(".") or len(self._told) >= MAX_WATCHED:
            return
        first = not self._told
        self._told[name] = self._told.get(name, False) or moved
        if first:
            self._schedule_look()

    async def _look(self, scanning: bool) -> None:
        if not self._running or not (self._opened or await self._open()):
            return
        self._requeue()
        if len(self._ready) >= MAX_WATCHED:
            return
        told, self._told = self._told, {}
        skip = frozenset(self._names)
        again = {*told, *(self._sightings.watched if scanning else ())} - skip
        limit = MAX_WATCHED if scanning else 0
        started = self._reactor.seconds()
        try:
            look = await self._run(self._directory.look, again, again | skip, limit)
        except DirectoryProblem as problem:
            self._reopen_later(problem)
            return
        ended = self._reactor.seconds()
        for seen in look.seen:
            self._judge(seen, told.get(seen.name, False), started, ended)
        if look.passed:
            self._sightings.passed()

    async def _open(self) -> bool:
        """Open the directory, and take up what an earlier process left in .work."""
        if self._in_work:
            return False
        self._directory.close()
        try:
            names = await self._run(self._directory.open)
        except DirectoryProblem as problem:
            self._reopen_later(problem)
            return False
        self._opened = True
        self._mended("directory")
        known = {item.work: item for _, item in self._waiting}
        self._waiting = []
        self._ready = deque(known.get(name) or _Item(name, work=name) for name in names)
        self._names.clear()
        if self._running:
            self._watch()
        return True

    def _watch(self) -> None:
        if self._events is not None:
            self._events.stop()
        self._events = watch_directory(self._reactor, self._directory.path, self._noticed)

    def _reopen_later(self, problem: DirectoryProblem) -> None:
        self._opened = False
        self._told.clear()
        self._trouble("directory", str(problem))

    def _judge(self, seen: Seen, moved: bool, started: float, ended: float) -> None:
        name, identity = seen.name, seen.identity
        if identity is None:
            self._sightings.forget(name)
        elif name in self._names or self._sightings.is_left(name, identity):
            return
        elif seen.odd:
            self._leave(_Item(name, identity), f"it is {seen.odd}")
        elif moved or self._sightings.is_whole(name, identity, started, ended):
            self._sightings.forget(name)
            self._names.add(name)
            self._ready.append(_Item(name, identity))

    def _requeue(self) -> None:
        """Those that have waited long enough come first: they are claimed already."""
        now = self._reactor.seconds()
        due = [item for at, item in self._waiting if at <= now]
        self._waiting = [(at, item) for at, item in self._waiting if at > now]
        self._ready.extendleft(reversed(due))

    # ---- one file

    def _pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._may_start():
                item = self._ready.popleft()
                self._in_work += 1
                Deferred.fromCoroutine(self._work(item)).addErrback(self._failed, item).addCallback(
                    self._worked
                )
        finally:
            self._pumping = False

    def _may_start(self) -> bool:
        if not self._running or not self._ready or self._in_work >= MAX_IN_WORK:
            return False
        try:
            # Also makes a store that has failed try whether it works again.
            self._desk.store.check_room(None)
        except SpoolProblem as problem:
            self._trouble("queue", str(problem))
            return False
        self._mended("queue")
        if not self._ready[0].work and len(self._waiting) >= MAX_WAITING:
            self._trouble("waiting", f"{MAX_WAITING} files wait in .work already")
            return False
        self._mended("waiting")
        return True

    def _worked(self, nothing: None) -> None:
        self._in_work -= 1
        self._pump()
        self._check_stopped()

    def _failed(self, failure: Failure, item: _Item) -> None:
        self._log.failure(
            "{server}: Pickup file {file!r} has to wait",
            failure,
            server=self._desk.settings.name,
            file=item.source,
        )
        self._put_off(item, SYSTEM_RETRY_SECONDS)

    async def _work(self, item: _Item) -> None:
        if not item.settled:
            file = await self._take(item)
            if file is None:
                return
            try:
                await self._settle(item, file)
            finally:
                file.close()
        if item.settled:
            await self._remove(item)

    async def _take(self, item: _Item) -> OpenFile | None:
        """Claim it; `None` where that is not to be."""
        try:
            file = await self._claim(item)
        except FileNotFoundError:
            return None
        except LeftAlone as why:
            self._leave(item, str(why))
        except CannotBeRemoved as why:
            with closing(why.file):
                await self._quarantine(item, why)
        except BeingWritten as why:
            item.work = item.work or why.work
            self._put_off(item, LOOK_SECONDS)
        except DirectoryProblem as problem:
            self._put_off(item, RETRY_SECONDS)
            self._reopen_later(problem)
        except OSError as error:
            self._wait(item, error, SYSTEM_RETRY_SECONDS)
        else:
            item.work, item.proven = file.name, True
            return file
        finally:
            self._names.discard(item.source)
        return None

    async def _claim(self, item: _Item) -> OpenFile:
        directory, limit = self._directory, self._desk.settings.messages.max_message_size
        if not item.work:
            claimed: OpenFile = await self._run(directory.take, item.source, limit)
        else:
            claimed = await self._run(directory.take_again, item.work, limit, not item.proven)
        return claimed

    async def _settle(self, item: _Item, file: OpenFile) -> None:
        """Queue or Badmail; neither if there is trouble with them."""
        try:
            await self._submitter.submit(file, item.progress)
        except BadPickupFile as bad:
            await self._refuse(item, file, bad)
        except LookupProblem as problem:
            self._trouble("lookup", problem.words)
            self._put_off(item, RETRY_SECONDS)
        except (SpoolProblem, BeingWritten) as problem:
            self._wait(item, problem, RETRY_SECONDS)
        except OSError as error:
            self._wait(item, error, SYSTEM_RETRY_SECONDS)
        else:
            item.settled = True
            self._mended("lookup")
            self._log.info(
                "{server}: Pickup file {file!r} is queued: ids={queue_ids} recipients={count}",
                server=self._desk.settings.name,
                file=item.source,
                queue_ids=item.progress.queue_ids,
                count=item.progress.recipients,
                octets=file.size,
            )

    async def _refuse(self, item: _Item, file: OpenFile, bad: BadPickupFile) -> None:
        try:
            stem = await self._bad.store(file, item.source, bad.reason, bad.header)
        except (DirectoryProblem, BeingWritten, OSError) as problem:
            self._wait(item, problem, RETRY_SECONDS)
        else:
            item.settled = True
            self._count_bad(bad)
            self._tell_bad(item, bad.reason, stem)

    def _count_bad(self, bad: BadPickupFile) -> None:
        tally = self._desk.tally
        tally.badmail_nobody += isinstance(bad, NobodyNamed)
        tally.badmail_loops += isinstance(bad, MailLoop)
        tally.badmail_files += not isinstance(bad, NobodyNamed | MailLoop)

    async def _quarantine(self, item: _Item, why: CannotBeRemoved) -> None:
        """PIC-08: what would be sent again and again is not sent at all."""
        if not item.work and not self._sightings.may_leave:
            self._trouble("left", "too many files cannot be removed; the others are not looked at")
            return
        reason = f"{why}; it is not sent, and stays where it is"
        octets = BEGINNING_OCTETS if isinstance(why, TooLarge) else WHOLE_OCTETS
        try:
            stem = await self._bad.store(why.file, item.source, reason, octets=octets)
        except (DirectoryProblem, BeingWritten, OSError) as problem:
            self._wait(item, problem, RETRY_SECONDS)
            return
        if not item.work and item.identity is not None:
            self._sightings.leave(item.source, item.identity)
        self._desk.tally.badmail_files += 1
        self._tell_bad(item, reason, stem)

    async def _remove(self, item: _Item) -> None:
        try:
            await self._run(self._directory.remove, item.work)
        except OSError as error:
            # Its message has gone its way: only the removal is tried again.
            self._wait(item, error, SYSTEM_RETRY_SECONDS)

    # ---- waiting and leaving

    def _put_off(self, item: _Item, seconds: float) -> None:
        until = self._reactor.seconds() + seconds
        if item.work:
            self._waiting.append((until, item))
        elif item.identity is not None:
            self._sightings.postpone(item.source, item.identity, until)

    def _wait(self, item: _Item, problem: Exception, seconds: float) -> None:
        self._log.warn(
            "{server}: Pickup file {file!r} has to wait: {problem}",
            server=self._desk.settings.name,
            file=item.source,
            problem=str(problem),
        )
        self._put_off(item, seconds)

    def _leave(self, item: _Item, reason: str) -> None:
        """Not read, not removed; said once, as long as there are not too many."""
        if item.identity is not None:
            if not self._sightings.may_leave:
                self._trouble("left", "too many files stay in Pickup; the others are not named")
                return
            self._sightings.leave(item.source, item.identity)
        self._log.warn(
            "{server}: Pickup file {file!r} is left alone: {reason}",
            server=self._desk.settings.name,
            file=item.source,
            reason=reason,
        )

    def _tell_bad(self, item: _Item, reason: str, stem: str) -> None:
        self._log.warn(
            "{server}: Pickup file {file!r} is Badmail {stem}: {reason}",
            server=self._desk.settings.name,
            file=item.source,
            stem=stem,
            reason=reason,
        )

    def _trouble(self, kind: str, words: str) -> None:
        """Say it once, until it is mended."""
        if kind not in self._troubles:
            self._troubles.add(kind)
            self._log.error(
                "{server}: Pickup has to wait: {words}",
                server=self._desk.settings.name,
                words=words,
                kind=kind,
            )

    def _mended(self, kind: str) -> None:
        self._troubles.discard(kind)
