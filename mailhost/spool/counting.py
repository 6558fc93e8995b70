"""
How many messages and recipients there are: counted once, from then on told from memory.

:Room: ``spool``
:Called by: `mailhost.spool.sqlite`.

To count a queue of a million messages takes a second or more.  So it is walked when somebody
asks for the first time, and what is committed from then on is added.  The walk sees the queue
as it was between two groups of changes: those before it are in what is walked through, those
behind it are told to `KeptCounts.add`, and none is in both.  After a commit that has failed
nobody knows what of it is on the disk, so the next question walks again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed

from mailhost.errors import SpoolProblem
from mailhost.spool import schema
from mailhost.spool.content import Runner
from mailhost.spool.database import connect

#: Of messages and of recipients.
Numbers = tuple[int, int]
#: Steps of SQLite's machine, of which a million messages take some ten million.
_STEPS_BETWEEN_LOOKS = 500_000


@define(eq=False)
class KeptCounts:
    """
    :ivar directory: ``Queue``.
    :ivar between_groups: runs a function with the writer's connection between two groups; what
        was committed before has been told to `add` when its answer comes, and nothing later.
    :ivar run: runs a function in a thread.
    """

    directory: Path
    between_groups: Callable[..., Deferred[Any]]
    run: Runner
    _messages: int = field(default=0, init=False)
    _recipients: int = field(default=0, init=False)
    _known: bool = field(default=False, init=False)
    _doubtful: bool = field(default=False, init=False)
    _stopped: bool = field(default=False, init=False)
    _asking: list[Deferred[Numbers]] = field(factory=list, init=False)

    def add(self, messages: int, recipients: int) -> None:
        """So many have been committed; less than 0: have left."""
        self._messages += messages
        self._recipients += recipients

    def doubt(self) -> None:
        """A commit has failed."""
        self._known = False
        self._doubtful = True

    def latest(self) -> Deferred[Numbers]:
        """
        How many messages and recipients there are now.

        :raises SpoolProblem: the queue cannot be read, or is being stopped.
        """
        if self._stopped:
            return fail(SpoolProblem("the queue has stopped"))
        if self._known:
            return succeed((self._messages, self._recipients))
        asking: Deferred[Numbers] = Deferred()
        self._asking.append(asking)
        if len(self._asking) == 1:
            Deferred.fromCoroutine(self._count()).addBoth(self._tell)
        return asking

    def stop(self) -> None:
        """Whoever still waits for a walk is told that there is none."""
        self._stopped = True

    def _tell(self, found: Any) -> None:
        asking, self._asking = self._asking, []
        for one in asking:
            one.callback(found)

    async def _count(self) -> Numbers:
        try:
            connection: Any = await self.run(connect, self.directory)
            try:
                connection.set_progress_handler(lambda: self._stopped, _STEPS_BETWEEN_LOOKS)
                return await self._walk(connection)
            finally:
                await self.run(connection.close)
        except sqlite3.Error as error:
            raise SpoolProblem(str(error)) from error

    async def _walk(self, connection: sqlite3.Connection) -> Numbers:
        await self.between_groups(_begin, connection)
        self._messages = self._recipients = 0
        self._doubtful = False
        found: Any = await self.run(_walk, connection)
        self.add(*found)
        self._known = not self._doubtful
        return self._messages, self._recipients


def _begin(writing: sqlite3.Connection, connection: sqlite3.Connection) -> None:
    """What *connection* reads from now on is the queue as it is at this moment."""
    connection.execute("BEGIN")
    connection.execute(schema.SELECT_ANYTHING).fetchone()


def _walk(connection: sqlite3.Connection) -> Numbers:
    messages, recipients = connection.execute(schema.SELECT_COUNTS).fetchone()
    return messages, recipients
