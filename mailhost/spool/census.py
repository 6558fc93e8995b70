"""
Counting the queue: how much waits, how long it has done so, and for what.

:Room: ``spool``
:Called by: `mailhost.spool.reader`, in a thread; everything here blocks.

Keys rise with time, so that messages of one age are one range of them.  A range is looked
through in parts, and between two of them others read: a queue of a million messages takes a
second or more.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import AbstractContextManager

from mailhost.model.queue import HELD_AT, AgeCounts, QueueCensus, QueueCounts
from mailhost.spool import schema
from mailhost.spool.ids import LAST_KEY, first_key_at

#: Recipients in one part.
_PART_RECIPIENTS = 20_000
_COLUMNS = 7

Snapshot = Callable[[], AbstractContextManager[sqlite3.Connection]]


def take_census(
    snapshot: Snapshot, now: float, bounds: Sequence[float], local: Set[str]
) -> QueueCensus:
    """
    See `mailhost.interfaces.IQueueStore.census`.

    :param snapshot: lets nobody else read while it is open.
    :raises sqlite3.Error: the queue cannot be read.
    """
    names = json.dumps(sorted(local))
    ages: list[AgeCounts] = []
    total = [0] * _COLUMNS
    for first, last in _ranges(now, bounds):
        found = [0] * _COLUMNS
        after = first
        while after < last:
            with snapshot() as connection:
                end = min(last, part_end(connection, after, _PART_RECIPIENTS))
                values = (after, end, now, HELD_AT, names)
                row = connection.execute(schema.SELECT_CENSUS, values).fetchone()
            found = [one + other for one, other in zip(found, row, strict=True)]
            after = end
        ages.append(AgeCounts(*found[:3]))
        total = [one + other for one, other in zip(total, found, strict=True)]
    with snapshot() as connection:
        oldest = connection.execute(schema.SELECT_OLDEST).fetchone()
    _, _, _, recipients, held, local_retries, remote_retries = total
    counts = QueueCounts(sum(total[:3]), recipients, held, None if oldest is None else oldest[0])
    return QueueCensus(counts, tuple(ages), local_retries, remote_retries)


def part_end(connection: sqlite3.Connection, after: int, recipients: int) -> int:
    """
    The key of the message with which a part of the queue ends that begins behind *after*.

    :returns: `LAST_KEY`: it is the last part.
    """
    row = connection.execute(schema.SELECT_BOUND, (after, recipients)).fetchone()
    return LAST_KEY if row is None else int(row[0])


def _ranges(now: float, bounds: Sequence[float]) -> Iterator[tuple[int, int]]:
    """Keys behind which and up to which messages of one age are, the youngest first."""
    last = LAST_KEY
    for age in bounds:
        first = min(last, max(first_key_at(now - age) - 1, -1))
        yield first, last
        last = first
    yield -1, last
