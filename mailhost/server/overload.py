"""
Looks whether it is too much for one virtual server, in this process.

:Room: ``server``
:Called by: `mailhost.server.virtual_server`.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from mailhost.config.settings import VirtualServerSettings
from mailhost.policy.overload import Level, Load, Overload
from mailhost.spool.space import free_octets

#: So often.
LOOK_SECONDS = 2.0

DOES = {
    Level.NORMAL: "everything is accepted again",
    Level.HASTY: "silent clients have to hurry",
    Level.CLOSED: "new clients hear 421, silent ones have to hurry",
    Level.FULL: "new mail hears 452, new clients 421, silent ones have to hurry",
}


def used_octets() -> int:
    """The memory of this process; 0 where it is not told."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * resource.getpagesize()


@define(eq=False)
class OverloadWatch:
    """
    :ivar settings: those in force.
    :ivar clock: the reactor.
    :ivar sessions: how many there are, and how many there may be.
    :ivar changed: told of another level.
    :ivar used: the memory of the process, in octets.
    :ivar free: what is free on the disk of a directory, in octets.
    """

    settings: VirtualServerSettings
    clock: Any
    sessions: Callable[[], tuple[int, int | None]]
    changed: Callable[[Level], None]
    used: Callable[[], int] = used_octets
    free: Callable[[Path], int] = free_octets
    _overload: Overload = field(factory=Overload, init=False)
    _call: IDelayedCall | None = field(default=None, init=False)
    # A clock that is set makes one look late, and not the next.
    _lag_before: float = field(default=0.0, init=False)

    _log = Logger()

    @property
    def level(self) -> Level:
        """What is done now."""
        return self._overload.level

    @property
    def warning(self) -> tuple[str, str] | None:
        """What is done, and why; the setting that rules it.  `None`: nothing is."""
        cause = self._overload.cause
        if cause is None:
            return None
        return f"overload: {DOES[self.level]}: {cause.name}: {cause.words}", cause.setting

    def start(self) -> None:
        """Look from now on."""
        self._call = self.clock.callLater(LOOK_SECONDS, self._look, self.clock.seconds())

    def stop(self) -> None:
        """Look no longer."""
        if self._call is not None and self._call.active():
            self._call.cancel()

    def _look(self, before: float) -> None:
        now = self.clock.seconds()
        self._call = self.clock.callLater(LOOK_SECONDS, self._look, now)
        lag = max(0.0, now - before - LOOK_SECONDS)
        late, self._lag_before = min(lag, self._lag_before), lag
        loads = self._loads(late) if self.settings.overload.enabled else ()
        if self._overload.weigh(loads, now):
            self._tell()
            self.changed(self.level)

    def _tell(self) -> None:
        warning = self.warning
        if warning is None:
            self._log.info("{server}: the overload is over", server=self.settings.name)
            return
        words, setting = warning
        self._log.warn(
            "{server}: {words} ({setting})",
            server=self.settings.name,
            words=words,
            setting=setting,
        )

    def _loads(self, late: float) -> tuple[Load, ...]:
        keys = self.settings.overload
        found: list[Load] = []
        count, most = self.sessions()
        if most:
            hasty = most * keys.sessions / 100
            words = f"{count} of {most}"
            found.append(Load("sessions", count, (hasty, None, None), "overload.sessions", words))
        if keys.lag is not None:
            lags = (keys.lag, 2 * keys.lag, 4 * keys.lag)
            found.append(Load("lag", late, lags, "overload.lag", f"{late:.1f} s late"))
        if keys.memory is not None:
            used, most = self.used(), keys.memory
            words = f"{used >> 20} MiB of {most >> 20}"
            sizes = (0.8 * most, 0.9 * most, most)
            found.append(Load("memory", used, sizes, "overload.memory", words))
        if keys.disk is not None:
            found += self._disk(keys.disk)
        return tuple(found)

    def _disk(self, least: int) -> list[Load]:
        try:
            free = self.free(self.settings.queue_directory)
        except OSError:
            return []  # whoever stores mail will say what is wrong
        # The nearer to nothing, the more: as a share of what there should be.
        load = least / max(free, 1)
        words = f"{free >> 20} MiB free, {least >> 20} MiB are wanted"
        return [Load("disk", load, (1.0, 4 / 3, 2.0), "overload.disk", words)]
