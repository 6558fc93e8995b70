"""
Directories that a power cut does not take, with what is in them.

:Room: ``durable`` -- everything here blocks.
:Called by: whoever keeps mail: `mailhost.spool`, `mailhost.delivery`, `mailhost.intake`.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

#: A disk in trouble; any other error says that a directory is not for us to sync.
_TROUBLE = frozenset({errno.EIO, errno.ENOSPC, errno.EDQUOT})


def sync_directory(path: Path) -> None:
    """Make the names in *path* durable (P1)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: Path, mode: int = 0o700) -> None:
    """
    Create *path* and what is missing above it, durably.

    A directory whose own name is not synced can be lost with all that is in it.  One that is
    there already may have been made by somebody who did not care, or was killed before he could:
    as far up as they are ours, names are synced as well.

    :raises OSError: it cannot be done.
    """
    missing = [one for one in (path, *path.parents) if not os.path.lexists(one)]
    os.makedirs(path, mode, exist_ok=True)
    for one in missing:
        sync_directory(one.parent)
    for one in (path, *path.parents)[len(missing) :]:
        if one.lstat().st_uid != os.geteuid():
            break
        _sync_if_allowed(one.parent)


def _sync_if_allowed(path: Path) -> None:
    try:
        sync_directory(path)
    except OSError as error:
        if error.errno in _TROUBLE:
            raise
