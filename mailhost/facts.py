"""
What happens to every message, told to the log at a price that every message can pay.

:Room: ``facts`` (floor 1)
:Called by: `mailhost.intake.reception`, `mailhost.relay.recording`; `mailhost.logs` says how
    much is wanted.

Twisted's logger checks the level against the list of levels, and makes a logger for each
access.  `FactLog` looks at one attribute first, and makes an event only for somebody who
hears it.
"""

from __future__ import annotations

import time
from typing import Any

from attrs import define
from twisted.logger import Logger, LogLevel

#: How grave each level is.
RANKS = {level.name: rank for rank, level in enumerate(LogLevel.iterconstants())}


@define(eq=False)
class Wanted:
    """
    What somebody listens to, in this process.

    :ivar info: what is no trouble.
    """

    info: bool = True


WANTED = Wanted()


class FactLog(Logger):
    """A logger for a module; `info` costs next to nothing where nobody listens."""

    def info(self, format: str | None = None, **facts: Any) -> None:
        """See `Logger`."""
        if not WANTED.info:
            return
        facts["log_logger"] = self
        facts["log_level"] = LogLevel.info
        facts["log_namespace"] = self.namespace
        facts["log_source"] = self.source
        facts["log_format"] = format
        facts["log_time"] = time.time()
        self.observer(facts)
