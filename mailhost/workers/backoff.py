"""
How long to wait before a worker that has ended is started again.

:Room: ``workers``
:Called by: `mailhost.workers.worker`.
"""

from __future__ import annotations

from attrs import define

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 30.0
#: A worker that lived so long was well.
WELL_SECONDS = 60.0


@define
class Backoff:
    """:ivar next_seconds: the wait after the next end."""

    next_seconds: float = FIRST_SECONDS

    def wait_after(self, lived_seconds: float) -> float:
        """Seconds to wait now that a worker has ended after *lived_seconds*."""
        if lived_seconds >= WELL_SECONDS:
            self.next_seconds = FIRST_SECONDS
        wait = self.next_seconds
        self.next_seconds = min(wait * 2, LONGEST_SECONDS)
        return wait
