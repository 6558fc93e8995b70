"""
What the kernel tells about a directory, where it tells anything.

:Room: ``intake``
:Called by: `mailhost.intake.pickup`, which reads the names itself as well: events
    may be lost, and network file systems and other systems have none.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReactorFDSet
from twisted.logger import Logger
from twisted.python.filepath import FilePath

try:
    from twisted.internet import inotify
except ImportError:  # Not Linux.
    inotify = None  # type: ignore[assignment]  # asked for before each use

_log = Logger()


class DirectoryEvents:
    """
    Tells of files that were written or moved into a directory, until stopped.

    :param noticed: called with the name, and whether it was moved in.
    :raises OSError: the kernel has no more room for watchers.
    """

    def __init__(self, reactor: Any, directory: Path, noticed: Callable[[str, bool], None]) -> None:
        self._noticed = noticed
        make: Any = inotify.INotify  # which has no annotations
        self._notifier: Any = make(reactor)
        try:
            self._notifier.watch(
                FilePath(os.fsencode(directory)),
                inotify.IN_CLOSE_WRITE | inotify.IN_MOVED_TO,
                callbacks=[self._event],
            )
        except inotify.INotifyError as error:
            self._notifier.connectionLost(None)
            raise OSError(f"inotify: {error}") from error
        self._notifier.startReading()

    def _event(self, watch: object, path: FilePath[bytes], mask: int) -> None:
        if mask & (inotify.IN_CLOSE_WRITE | inotify.IN_MOVED_TO):
            self._noticed(os.fsdecode(path.basename()), bool(mask & inotify.IN_MOVED_TO))

    def stop(self) -> None:
        """Tell nothing more."""
        if self._notifier.connected:
            self._notifier.stopReading()
            self._notifier.connectionLost(None)


def watch_directory(
    reactor: Any, directory: Path, noticed: Callable[[str, bool], None]
) -> DirectoryEvents | None:
    """As `DirectoryEvents`; `None` where there are no events."""
    if inotify is None or not IReactorFDSet.providedBy(reactor):
        return None
    try:
        return DirectoryEvents(reactor, directory, noticed)
    except (OSError, inotify.INotifyError) as error:
        _log.warn("No events from {path}: {error}", path=str(directory), error=str(error))
        return None
