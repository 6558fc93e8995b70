"""Opens what a crash, a fault or a power cut has left, with the real store, and looks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, execute

from mailhost.errors import SpoolProblem
from mailhost.spool.badmail import Badmail
from mailhost.spool.space import DiskSpace
from mailhost.spool.sqlite import SQLiteQueue
from tests.contracts.queue_store import whole
from tests.crash.day import ENVELOPE, THRESHOLD, content
from tests.crash.ledger import Ledger, digest

_LONG_AFTER = 2_000_000_000.0
_HIDDEN = re.compile(r"\..*\.part")


async def faults_of(reactor: Any, home: Path, ledger: Ledger) -> list[str]:
    """
    What is wrong after a restart on *home*; empty when nothing is.

    Contents, orphans, Badmail, and whether it takes a message.
    """
    space = DiskSpace(home / "Queue", 0, 0, lambda path: 1 << 40)
    store = SQLiteQueue(
        reactor,
        home / "Queue",
        home / "SortTemp",
        lambda: _LONG_AFTER,
        small_octets=THRESHOLD,
        space=space,
    )
    store.start()
    try:
        found: dict[str, str] = {}
        wrong: list[str] = []
        for message in await store.load_due(_LONG_AFTER + 1, 10_000, frozenset()):
            try:
                octets = await whole(store.open_content(message))
                found[message.queue_id] = digest(octets)
            except SpoolProblem as problem:
                wrong.append(str(problem))
        wrong += ledger.faults(found)
        wrong += _orphans(home, set(found))
        wrong += await _taken(store)
    finally:
        await store.stop()
    return wrong + _badmail_faults(home, ledger)


def _orphans(home: Path, queue_ids: set[str]) -> list[str]:
    queue = home / "Queue"
    wrong = [f"orphan {path}" for path in queue.glob("*.eml") if path.stem not in queue_ids]
    wrong += [f"orphan {path}" for path in (home / "SortTemp").iterdir()]
    if (queue / "probe").exists():
        wrong.append("the probe's file is left")
    return wrong


async def _taken(store: SQLiteQueue) -> list[str]:
    """A message of each sort, in and out again."""
    for octets in (content(1, 100), content(2, 100_000)):
        incoming = store.new_message(b"", None)
        waiting = incoming.write(octets)
        if isinstance(waiting, Deferred):
            await waiting
        message = await store.commit(incoming, store.new_queue_id(), ENVELOPE, "", _LONG_AFTER)
        if await whole(store.open_content(message)) != octets:
            return [f"{message.queue_id}, taken after the restart, is another"]
    return []


def _badmail_faults(home: Path, ledger: Ledger) -> list[str]:
    directory = home / "Badmail"
    if not directory.exists():
        return [f"Badmail lost {stem}" for stem in ledger.bad]
    Badmail(directory, execute).start()
    names = {path.name for path in directory.iterdir()}
    wrong = [f"left in Badmail: {name}" for name in names if _HIDDEN.fullmatch(name)]
    stems = ledger.bad | {name[:24] for name in names if name.endswith(".BDR")}
    for stem in stems:
        missing = {f"{stem}.{kind}" for kind in ("BAD", "BDP", "BDR")} - names
        wrong += [f"Badmail lacks {name}" for name in sorted(missing)]
    return wrong
