"""
A process that runs the real store and is recorded, system call by system call.

The ledger is written into the same trace, so that it says what was acknowledged when.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]
#: All of a call is in the trace, and all strings in hexadecimal.
STRACE = ("strace", "-f", "-y", "-xx", "-s", "1000000", "--seccomp-bpf", "-e", "signal=none")
#: What changes a disk, what makes a change durable, and what says which file is meant.
CALLS = (
    "openat,open,creat,close,dup,dup2,dup3,write,writev,pwrite64,pwritev,ftruncate,truncate,"
    "fallocate,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,"
    "mkdirat,rmdir"
)

#: What says which threads are of one process.
CLONES = "clone,clone3,fork,vfork"
_CLONE = re.compile(rb"(?:<\.\.\. )?(?:clone3?|v?fork)\W")
_CLONED = re.compile(rb"= (\d+)\n?\Z")

CHILD = """
import os, sys
from pathlib import Path
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from mailhost.spool import database, files, schema
from tests.crash.day import DONE, ENVELOPE, LATER, LIST, OWNED, THRESHOLD, content
from tests.crash.ledger import LedgerWriter, digest
from mailhost.model.queue import Result, Submission
from mailhost.spool.space import DiskSpace
from mailhost.spool.sqlite import SQLiteQueue

home, control = Path(sys.argv[1]), sys.argv[2]
# A checkpoint now and then, so that the database itself is written as well.
schema.PRAGMAS += "PRAGMA wal_autocheckpoint = 60;"
if control == "synchronous=NORMAL":
    schema.PRAGMAS += "PRAGMA synchronous = NORMAL;"
elif control == "no fdatasync":
    files.os.fdatasync = lambda fd: None
elif control == "no directory sync":
    import mailhost.spool.writer
    mailhost.spool.writer.sync_directory = lambda path: None

ledger = LedgerWriter(home.parent / "ledger")
numbers = iter(range(1000))

def opened():
    queue = home / "Queue"
    space = DiskSpace(queue, 0, 0, lambda path: 1 << 40)
    store = SQLiteQueue(
        reactor, queue, home / "SortTemp", lambda: 1e9, small_octets=THRESHOLD, space=space
    )
    store.start()
    return store

async def one(store, size, fate):
    octets = content(next(numbers), size)
    incoming = store.new_message(b"", size)
    ledger.note("try", digest(octets))
    for start in range(0, size, 65536):
        waiting = incoming.write(octets[start : start + 65536])
        if waiting is not None:
            await waiting
    envelope = LIST if fate == "expanded" else ENVELOPE
    message = await store.commit(incoming, store.new_queue_id(), envelope, "", 1e9)
    ledger.note("accepted", message.queue_id, digest(octets))
    if fate == "delayed":
        await store.record(message, [Result(0, LATER, 1e9 + 60)], [], 1e9)
    elif fate == "expanded":
        told = b"Report on " + message.queue_id.encode() + b"\\r\\n"
        ledger.note("expand", message.queue_id, digest(told))
        await store.expand(message, 0, [OWNED], [Submission(ENVELOPE, told)], 1e9)
        ledger.note("settled", message.queue_id)
    elif fate is not None:
        told = b"Report on " + message.queue_id.encode() + b"\\r\\n"
        reports = [Submission(ENVELOPE, told)] if fate == "reported" else []
        ledger.note("settle", message.queue_id, digest(told) if reports else "")
        await store.record(message, [Result(0, DONE)], reports, 1e9)
        ledger.note("settled", message.queue_id)

async def main():
    fates = ("delayed", None, "reported", "settled")
    for life in range(2):
        store = opened()
        for turn in range(4):
            sizes = (700, 9000, 70_000, 1500, 20_000, 90_000 + 220_000 * (turn == 1))
            await gatherResults(
                [
                    ensureDeferred(one(store, size, fates[(turn + place) % 4]))
                    for place, size in enumerate(sizes)
                ]
            )
            await one(store, 3000, None)
        await one(store, 80_000, "expanded")
        await store.stop()

def over(result):
    if result is not None:
        result.printTraceback()
    reactor.stop()

Deferred.fromCoroutine(main()).addBoth(over)
reactor.run()
"""


def processes(trace: bytes) -> dict[bytes, bytes]:
    """Of each thread that was recorded the process: its first thread."""
    found: dict[bytes, bytes] = {}
    begun: dict[bytes, bytes] = {}
    for line in trace.splitlines():
        thread, text = line.split(maxsplit=1)  # short numbers are padded
        if not _CLONE.match(text):
            continue
        whole = begun.pop(thread, b"") + text
        made = _CLONED.search(whole)
        if b"<unfinished" in text:
            begun[thread] = text
        elif made is not None:
            found[made[1]] = thread if b"CLONE_THREAD" in whole else made[1]
    # Threads are made by threads.
    for thread, maker in found.items():
        while found.get(maker, maker) != maker:
            maker = found[maker]
        found[thread] = maker
    return {**{maker: maker for maker in found.values()}, **found}


def can_record() -> str:
    """Why this machine cannot record a process; empty when it can."""
    try:
        done = subprocess.run(
            ["strace", "-f", "-o", os.devnull, "true"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return "strace is not installed"
    return "" if done.returncode == 0 else f"strace may not trace here: {done.stderr.strip()}"


def record(folder: Path, control: str = "") -> bytes:
    """
    Run the child with its home in ``folder / "home"``, which does not exist yet.

    :param control: what it is to do wrong; see `CHILD`.
    :returns: the trace, whole data and all strings in hexadecimal.
    """
    trace = folder / "trace"
    done = subprocess.run(
        [
            *STRACE,
            "-e",
            f"trace={CALLS}",
            "-o",
            str(trace),
            sys.executable,
            "-c",
            CHILD,
            str(folder / "home"),
            control,
        ],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode or done.stderr:
        raise AssertionError(f"the recorded process failed: {done.stderr}")
    return trace.read_bytes()
