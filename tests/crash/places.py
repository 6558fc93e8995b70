"""Opens what a power cut has left of a whole home, as the next process does, and looks for mail."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from twisted.internet.defer import execute

from mailhost.delivery.drop import DropDelivery
from mailhost.errors import MailhostError
from mailhost.spool.badmail import Badmail
from mailhost.spool.sqlite import SQLiteQueue
from tests.contracts.queue_store import whole
from tests.crash.served import octets_of
from tests.support.recording_sink import id_of

_LONG_AFTER = 3_000_000_000.0
_DROPPED = re.compile(r"[0-9a-f]{24}\.eml")


async def missing(
    reactor: Any, home: Path, wanted: Collection[str], pickup: bool
) -> tuple[list[str], list[str]]:
    """
    :param wanted: test ids of the messages that have to be somewhere.
    :param pickup: what lies in Pickup counts.
    :returns: those that are nowhere; and what is there, and not whole.
    """
    found: set[str] = set()
    wrong: list[str] = []
    try:
        DropDelivery(home / "Drop", execute).start()
        Badmail(home / "Badmail", execute).start()
        found |= await _queued(reactor, home)
    except MailhostError as problem:
        wrong.append(str(problem))
    for path in sorted((home / "Drop").iterdir()):
        _look(path, path.read_bytes(), found, wrong)
        if not _DROPPED.fullmatch(path.name):
            wrong.append(f"left in Drop: {path.name}")
    wrong += _triples(home / "Badmail", found)
    if pickup:
        for folder in (home / "Pickup", home / "Pickup" / ".work"):
            for path in folder.iterdir() if folder.is_dir() else ():
                # With a dot in front it is no mail: a copy out of Badmail, where it is still.
                if path.is_file() and not path.name.startswith("."):
                    _look(path, path.read_bytes(), found, wrong)
    return sorted(set(wanted) - found), wrong


async def _queued(reactor: Any, home: Path) -> set[str]:
    """In the queues of all workers."""
    found = set()
    for place in (Path(), *(path.name for path in sorted((home / "Queue").glob("worker-*")))):
        found |= await _queued_at(reactor, home / "Queue" / place, home / "SortTemp" / place)
    return found


async def _queued_at(reactor: Any, queue: Path, sort_temp: Path) -> set[str]:
    found = set()
    store = SQLiteQueue(reactor, queue, sort_temp, lambda: _LONG_AFTER)
    store.start()
    try:
        for message in await store.load_due(_LONG_AFTER + 1, 1000, frozenset()):
            # A content that is not what was accepted is told as damaged.
            found.add(id_of(await whole(store.open_content(message))))
    finally:
        await store.stop()
    return found


def _triples(badmail: Path, found: set[str]) -> list[str]:
    wrong: list[str] = []
    names = {path.name for path in badmail.iterdir()}
    for name in sorted(names):
        if name.startswith("."):
            wrong.append(f"left in Badmail: {name}")
        if not name.endswith(".BDR"):
            continue
        lacking = {f"{name[:24]}.{kind}" for kind in ("BAD", "BDP")} - names
        if lacking:
            wrong.append(f"Badmail lacks {sorted(lacking)}")
        else:
            path = badmail / f"{name[:24]}.BAD"
            _look(path, path.read_bytes(), found, wrong)
    return wrong


def _look(path: Path, octets: bytes, found: set[str], wrong: list[str]) -> None:
    test_id = id_of(octets)
    is_report = b"report-type=delivery-status" in octets
    if test_id and (octets.endswith(octets_of(test_id)) or is_report):
        found.add(test_id)
    else:
        wrong.append(f"{path.parent.name}/{path.name} is not whole: {len(octets)} octets")
