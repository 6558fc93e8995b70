"""
One process per queue.

:Room: ``spool``
:Called by: `mailhost.spool.sqlite`, at start and stop.

The lock is the kernel's (``flock``), so that it ends with the process, however
that ends; the process number in the file is for people.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from mailhost.errors import SpoolInUse


class QueueLock:
    """Held from construction to `release`."""

    def __init__(self, path: Path) -> None:
        """:raises SpoolInUse: another process, or another store of this one, has it."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(self._fd, 20).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise SpoolInUse(f"{path.parent} is in use by process {owner}") from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Let another process have the queue."""
        os.close(self._fd)
