"""
The one who writes: groups of changes, one after the other, in a thread of its own.

:Room: ``spool``
:Called by: `mailhost.spool.sqlite`.

After a failed write or sync the store takes no mail until a probe has succeeded:
a failed sync is never tried again on the same file, because the kernel may have
dropped its pages and call the next one a success.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from mailhost.durable import sync_directory
from mailhost.errors import SpoolFull, SpoolProblem
from mailhost.spool import group
from mailhost.spool.database import connect
from mailhost.spool.files import NO_ROOM_ERRNOS, PROBE_NAME, problem_of
from mailhost.spool.group import Change, take_group
from mailhost.spool.ids import reserved_key
from mailhost.spool.space import DiskSpace
from mailhost.spool.steps import Passed, Step

_PROBE_AFTER_SECONDS = 5.0
#: How often a ballast that was given back is asked for again.
_BALLAST_AFTER_SECONDS = 60.0
#: SQLite says "full" for ENOSPC only; a quota (EDQUOT) is a failed write to it.
_NO_ROOM_CODES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE})


class GroupWriter:
    """
    :param reactor: runs the callbacks.
    :param directory: ``Queue``.
    :param clock: seconds since the epoch.
    :param space: gives the ballast back.
    :param passed: told of each step.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        directory: Path,
        clock: Callable[[], float],
        space: DiskSpace,
        passed: Passed,
    ) -> None:
        self._reactor = reactor
        self._directory = directory
        self._clock = clock
        self._space = space
        self._passed = passed
        self._pending: list[Change] = []
        self._writing: list[Change] = []
        self._idle: list[Deferred[None]] = []
        self._failed_at: float | None = None
        self._probing = False
        self._stopped = False
        self._ballast_at: float | None = None
        self.pool = ThreadPool(1, 1, f"commit {directory.parent.name}")

    def start(self, connection: sqlite3.Connection, last: int) -> None:
        """
        :param connection: from now on its owner is this.
        :param last: the highest key that is reserved.
        """
        self.connection = connection
        self._reserved_key = last
        self.pool.start()

    def submit(self, change: Change) -> None:
        """Commit *change*, with whatever else is waiting; its ``done`` fires."""
        if self._stopped:
            change.fail(SpoolProblem("the queue has stopped"))
            return
        self._pending.append(change)
        if not self._writing:
            self._write_next()

    def idle(self) -> Deferred[None]:
        """Fires when all that was submitted is committed or has failed."""
        if not self._writing and not self._pending and not self._probing:
            return succeed(None)
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        return idle

    def stop(self) -> None:
        """Close; call it when idle."""
        self._stopped = True
        self.pool.stop()
        self.connection.close()

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Run ``function(connection, ...)`` between two groups."""
        return self._in_thread(lambda: function(self.connection, *arguments))

    # ---- group commit

    def _write_next(self) -> None:
        self._writing = take_group(self._pending)
        self._in_thread(self._write, self._writing).addCallbacks(
            self._group_written, self._group_failed
        )

    def _write(self, changes: list[Change]) -> SpoolProblem | None:
        """
        In the thread, which alone knows which connection is open.

        :returns: what happened to those that are not vital, if they had to be
            left out so that the others could be committed.
        """
        try:
            self._commit(changes)
        except (sqlite3.Error, OSError) as error:
            problem = _problem_of(error)
            vital = [change for change in changes if change.vital]
            if not vital or not _may_be_room(error):
                raise problem from error
            self._save(vital, problem, alone=len(vital) == len(changes))
            return problem
        self._load_ballast()
        return None

    def _save(self, vital: list[Change], problem: SpoolProblem, alone: bool) -> None:
        """Outcomes and deletions, without new mail and with the room of the ballast."""
        try:
            dropped = self._space.drop_ballast()
            if dropped:
                self._ballast_at = self._clock() + _BALLAST_AFTER_SECONDS
                self._log.critical("The disk of {directory} is full", directory=self._directory)
            if alone and not dropped:
                raise problem
            self._commit(vital)
        except (sqlite3.Error, OSError) as error:
            raise _problem_of(error) from error

    def _commit(self, changes: list[Change]) -> None:
        if any(change.names_files for change in changes):
            self._sync_names()
        last = max(change.last_key for change in changes)
        reserve = reserved_key(last) if last > self._reserved_key else None
        group.write(self.connection, changes, reserve, self._passed)
        self._reserved_key = reserve or self._reserved_key
        self._passed(Step.COMMITTED)

    def _sync_names(self) -> None:
        """The names of large contents, before a row speaks of one (P1)."""
        try:
            self._passed(Step.BODY_MOVED)
            sync_directory(self._directory)
        except OSError as error:
            # Also where there is no room: the directory is used again, and
            # nobody knows what of it the kernel has dropped.
            raise SyncFailed(error.errno, str(error)) from error
        self._passed(Step.BODIES_NAMED)

    def _group_written(self, left_out: SpoolProblem | None) -> None:
        self._passed(Step.REPLYING)
        if left_out is not None:
            self._note(left_out)
        for change in self._next_group():
            if left_out is None or change.vital:
                change.succeed()
            else:
                change.fail(left_out)
        self._passed(Step.REPLIED)

    def _group_failed(self, failure: Failure) -> None:
        """Nothing of the group is committed; tell everybody."""
        problem = failure.value
        if not isinstance(problem, SpoolProblem):
            self._log.failure("The queue in {directory}", failure, directory=self._directory)
            problem = SpoolProblem(str(problem))
        self._note(problem)
        for change in self._next_group():
            change.fail(problem)

    def _next_group(self) -> list[Change]:
        """Start what has gathered, then hand out what is finished."""
        changes, self._writing = self._writing, []
        if self._pending:
            self._write_next()
        else:
            self._tell_idle()
        return changes

    def _tell_idle(self) -> None:
        if self._writing or self._pending or self._probing:
            return
        idle, self._idle = self._idle, []
        for waiting in idle:
            waiting.callback(None)

    # ---- a disk that fails

    @property
    def failed(self) -> bool:
        """Nothing is to be accepted now; asking may start a probe."""
        if self._failed_at is None:
            return False
        self._probe(self._failed_at)
        return True

    def note(self, problem: SpoolProblem) -> None:
        """Something beside the database could not be written or synced."""
        self._note(problem)

    def _note(self, problem: SpoolProblem) -> None:
        self._log.critical(
            "The queue in {directory} has failed: {problem}",
            directory=self._directory,
            problem=problem,
        )
        if not isinstance(problem, SpoolFull):
            self._failed_at = self._clock()

    def _probe(self, failed_at: float) -> None:
        # A clock that has jumped back must not keep the queue closed.
        if self._probing or 0 <= self._clock() - failed_at < _PROBE_AFTER_SECONDS:
            return
        self._probing = True
        self._in_thread(self._probe_disk).addCallbacks(self._probed, self._probe_failed)

    def _probe_disk(self) -> None:
        """In the thread: a new file on the same disk takes, syncs and gives back."""
        self._passed(Step.PROBE_BEGUN)
        probe = self._directory / PROBE_NAME
        sample = secrets.token_bytes(4096)
        try:
            self._write_sample(probe, sample)
            if probe.read_bytes() != sample:
                raise SpoolProblem("the disk gave back something else")
        except OSError as error:
            if error.errno in NO_ROOM_ERRNOS:
                self._space.drop_ballast()
                self._ballast_at = self._clock() + _BALLAST_AFTER_SECONDS
            raise
        probe.unlink()
        self._passed(Step.PROBE_REMOVED)
        self._reopen()
        self._space.load_ballast()

    def _write_sample(self, probe: Path, sample: bytes) -> None:
        with open(probe, "wb", buffering=0) as file:
            file.write(sample)
            self._passed(Step.PROBE_WRITTEN)
            os.fsync(file.fileno())
        sync_directory(self._directory)
        self._passed(Step.PROBE_SYNCED)

    def _reopen(self) -> None:
        """The log is written anew, so that no page of it depends on a failed sync."""
        self.connection.close()
        self._passed(Step.DATABASE_CLOSED)
        self.connection = connect(self._directory)
        self._passed(Step.DATABASE_REOPENED)
        (busy, *_) = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise SpoolProblem("the log of the database could not be written anew")

    def _probed(self, nothing: object) -> None:
        self._log.info("The queue in {directory} works again", directory=self._directory)
        self._probing = False
        self._failed_at = None
        self._tell_idle()

    def _probe_failed(self, failure: Failure) -> None:
        self._log.error(
            "The queue in {directory} does not work yet: {problem}",
            directory=self._directory,
            problem=failure.value,
        )
        self._probing = False
        self._failed_at = self._clock()
        self._tell_idle()

    def _load_ballast(self) -> None:
        """In the thread: put back what was given, once there is room again."""
        if self._ballast_at is None or self._clock() < self._ballast_at:
            return
        self._ballast_at = self._clock() + _BALLAST_AFTER_SECONDS
        try:
            self._space.load_ballast()
        except OSError as error:
            self._log.warn(
                "No ballast for {directory}: {error}", directory=self._directory, error=error
            )

    def _in_thread(self, function: Any, *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self.pool, function, *arguments)


class SyncFailed(OSError):
    """A sync that failed, whatever the reason."""


def _problem_of(error: Exception) -> SpoolProblem:
    """*error* in the words of this house."""
    if isinstance(error, SyncFailed):
        return SpoolProblem(str(error))
    if isinstance(error, OSError):
        return problem_of(error)
    full = isinstance(error, sqlite3.OperationalError) and "full" in str(error)
    return (SpoolFull if full else SpoolProblem)(str(error))


def _may_be_room(error: Exception) -> bool:
    """Whether it may have failed for want of room, so that the ballast could help."""
    if isinstance(error, OSError):
        return error.errno in NO_ROOM_ERRNOS
    code = getattr(error, "sqlite_errorcode", None)
    return code in _NO_ROOM_CODES or isinstance(_problem_of(error), SpoolFull)
