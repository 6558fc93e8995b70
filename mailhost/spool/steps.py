"""
The steps of everything the queue does to a disk, by name.

:Room: ``spool``
:Called by: whatever writes in this room, as it passes each step.

The order of these steps is promise P1.  A store is given one function and calls
it with each `Step` it passes; the default does nothing.  Tests give one that
kills the process, fails or waits, so that every moment a crash can choose is
tried (``tests/crash``).  In the thread that does the work: once for each group
of messages, once for each large content, never for each small one.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TypeAlias


class Step(Enum):
    """Where the work stands; each value says what is true at that instant."""

    # A large content on its way in.
    PART_CREATED = "An empty part is in SortTemp."
    PART_WRITTEN = "Some of the content is in its part, and not synced."
    BODY_WRITTEN = "The content is whole in its part, and not synced."
    BODY_SYNCED = "The part is synced, and still open."
    BODY_CLOSED = "The part is closed, and has its old name."
    BODY_LINKED = "A content has the name of one more message; the directory is not synced."
    BODY_MOVED = "The content has its name in Queue; the directory is not synced."
    PART_DROPPED = "A part that nobody wants any more is gone."

    # A group of changes.
    BODIES_NAMED = "The names of the group's large contents are synced; no row speaks of them."
    GROUP_BEGUN = "A transaction is open, and empty."
    MESSAGES_WRITTEN = "The rows of new messages, reports too, are in the open transaction."
    OUTCOMES_WRITTEN = "Outcomes and deletions are in the open transaction as well."
    COMMITTED = "The group is on stable storage; nobody knows yet."
    REPLYING = "The reactor knows; the callers are not told."
    REPLIED = "All callers are told."

    # A message that has left.
    FORGOTTEN = "The rows of a large message are gone; its content is not."
    BODY_REMOVED = "The content of a message that has left is gone."

    # A disk that is full, or fails.
    BALLAST_DROPPED = "The ballast is given back; what is vital is not yet committed."
    BALLAST_LOADED = "The ballast is there again."
    PROBE_BEGUN = "The disk has failed and is being asked again."
    PROBE_WRITTEN = "The probe's file is written, and not synced."
    PROBE_SYNCED = "The probe's file is synced, and not read back."
    PROBE_REMOVED = "The probe's file is gone; the database is the old one."
    DATABASE_CLOSED = "The writer's connection is closed; the new one is not open."
    DATABASE_REOPENED = "The new connection is open; the log is not written anew."

    # A damaged message.
    COPY_KEPT = "What is left of a damaged message lies in corrupt, not synced."
    COPY_SYNCED = "It is synced; why it is there is not written."

    # A start.
    FOLDERS_MADE = "Queue and SortTemp are there; the lock is not taken."
    LOCKED = "The queue is ours; the database is not open."
    DATABASE_OPENED = "The database is open; its tables may be missing."
    TABLES_MADE = "The tables are there; the store may have no name."
    STORE_NAMED = "The store has its name; nothing is swept."
    PART_SWEPT = "One part of an earlier life is gone."
    BODY_SWEPT = "One content without a row is gone."
    SWEPT = "Nothing is left of an earlier life."

    # Badmail.
    BAD_WRITTEN = "The bad message is in its part, and not synced."
    BAD_SYNCED = "Its part is synced; there is no envelope and no reason."
    PARTS_SYNCED = "All three parts are synced, under hidden names."
    BAD_NAMED = "One of the three has its name."
    TRIPLE_NAMED = "All three have their names; the directory is not synced."
    TRIPLE_STORED = "The triple is on stable storage; nobody knows yet."
    PARTS_FOUND = "A start has found parts in Badmail and touched none."
    PARTS_SETTLED = "They are gone or have their names; the directory is not synced."
    TRIPLE_PURGED = "One old triple has lost its reason, and may have lost more."


#: Called with each step as it is passed; it may raise an `OSError`, as the next
#: system call could.
Passed: TypeAlias = Callable[[Step], None]


def unwatched(step: Step) -> None:
    """Nobody looks."""
