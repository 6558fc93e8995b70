"""
Tells the service manager, systemd, how we are: sd_notify(3).

:Room: ``systemd``
:Called by: `mailhost.service` and `mailhost.workers.supervisor`; made by `mailhost.tap`.

Where nobody has asked to be told, with ``NOTIFY_SOCKET`` in the environment, nothing happens.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

_MICROSECONDS = 1_000_000


def _monotonic_microseconds() -> int:
    """The clock that systemd compares with."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


@define(eq=False)
class ServiceManager:
    """
    :ivar environment: where systemd has left its wishes.
    :ivar monotonic_microseconds: CLOCK_MONOTONIC.
    """

    environment: Mapping[str, str] = field(factory=dict, repr=False)
    monotonic_microseconds: Callable[[], int] = _monotonic_microseconds
    _next: IDelayedCall | None = field(default=None, init=False)

    _log = Logger()

    @property
    def watchdog_seconds(self) -> float | None:
        """Within so long it wants to hear from us, again and again; `None`: it does not."""
        wanted = self.environment.get("WATCHDOG_USEC", "")
        pid = self.environment.get("WATCHDOG_PID", "")
        if not wanted.isdecimal() or int(wanted) == 0 or pid not in ("", str(os.getpid())):
            return None
        return int(wanted) / _MICROSECONDS

    def ready(self, states: Mapping[str, str], faulty: bool = False) -> None:
        """
        The start, or a reload, is over.

        :param states: of the virtual servers.
        :param faulty: the configuration has faults, and the one before is in force.
        """
        words = ", ".join(f"{name} {state}" for name, state in states.items())
        if faulty:
            words += "; the new configuration has faults, the one before is in force"
        self._tell("READY=1", f"STATUS={words}")

    def reloading(self) -> None:
        """The configuration is being read anew; `ready` follows."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={self.monotonic_microseconds()}")

    def stopping(self) -> None:
        """The end has begun."""
        self._tell("STOPPING=1", "STATUS=sessions and deliveries come to their end")

    def watch(self, reactor: Any, look: Callable[[float], None] = lambda seconds: None) -> None:
        """
        Let it know that the reactor turns, until `rest`.

        :param look: called each time; what else has to be well within so many seconds.
        """
        seconds = self.watchdog_seconds
        if seconds is not None:
            self._beat(reactor, seconds / 2, look)

    def _beat(self, reactor: Any, seconds: float, look: Callable[[float], None]) -> None:
        self._next = reactor.callLater(seconds, self._beat, reactor, seconds, look)
        self._tell("WATCHDOG=1")
        look(seconds)

    def rest(self) -> None:
        """Tell no more that the reactor turns."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _tell(self, *lines: str) -> None:
        where = self.environment.get("NOTIFY_SOCKET", "")
        if not where:
            return
        # A name in the abstract namespace begins with NUL, written as @.
        path = f"\0{where[1:]}" if where.startswith("@") else where
        clean = [line.replace("\n", " ") for line in lines]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as one:
                one.sendto("\n".join(clean).encode(), path)
        except OSError as error:
            self._log.warn("The service manager is not told: {error}", error=str(error))
