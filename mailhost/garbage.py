"""
Keeps garbage collection and other threads from standing in the way of a turn of the reactor.

:Room: ``garbage``
:Called by: the main programs, `mailhost.tap` and `mailhost.workers.child`; nobody who embeds us.
:Measured: ``python -m tests.bench.directory``; docs/decisions/0015-pauses.rst.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall

#: Objects made before the youngest are looked at; such collections before the next
#: generation is; and of those before all are.
_THRESHOLDS = 1_000, 10, 1_000
#: So long a thread that computes (ldap3 decodes in Python) may keep the reactor waiting.
_SWITCH_SECONDS = 0.001
_LOOK_SECONDS = 5.0


class Caretaker(Service):
    """
    Sets apart what was made at the start, and looks through the rest at a quiet time.

    A full collection looks at every object there is.  Nearly all of them are modules, classes
    and settings, which live as long as the process: with them it takes up to a tenth of a
    second, in which no session is served.

    :param reactor: has the time.
    :ivar collect: the collector's full collection.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._call: IDelayedCall | None = None
        self._seen = 0
        self.collect = gc.collect

    def startService(self) -> None:
        """Begin when the services beside it have started."""
        super().startService()  # type: ignore[no-untyped-call]  # upstream has no annotations
        self._call = self._reactor.callLater(0, self._set_apart)

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()  # type: ignore[no-untyped-call]  # upstream has no annotations
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _set_apart(self) -> None:
        set_apart()
        self._call = self._reactor.callLater(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        # How many collections of the middle generation there were since the last full one.
        found = gc.get_count()[2]
        if found and found == self._seen:
            self.collect()
            found = 0
        self._seen = found
        self._call = self._reactor.callLater(_LOOK_SECONDS, self._look)


def set_apart() -> None:
    """What lives now lives as long as the process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    sys.setswitchinterval(_SWITCH_SECONDS)
