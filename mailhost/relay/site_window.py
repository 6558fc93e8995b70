"""
How many connections one site is trusted with.

:Room: ``relay``
:Called by: `mailhost.relay.sites`, at the end of each transaction and of each connection
    that failed.

Each event counts for one part of the present window, so that it takes a window's
worth of successes to open one connection more, whatever its size.  One failure
takes one connection at once; the next ones only when a window's worth of them has come, or
when the window has grown in between.  So a failure among a hundred successes costs less than
the successes bring, and failures in a row close the site.
"""

from __future__ import annotations

from math import ceil

from attrs import define, field

#: So many windows' worth of failures, without a success between them: the site is dead.
COHORTS = 1.0
#: Parts of a window do not add up to a whole exactly.
_GRAIN = 1e-6


@define(eq=False)
class SiteWindow:
    """
    :ivar first: connections to a site that nobody knows anything about.
    :ivar limit: what the operator allows at most; `None`: any number.
    :ivar size: connections it is trusted with, at least 1.
    """

    first: int
    limit: int | None
    size: int = field(init=False)
    _gained: float = field(default=0.0, init=False)
    _credit: float = field(default=0.0, init=False)
    _cohorts: float = field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self.size = self.allow(self.first)

    def allow(self, size: int) -> int:
        """*size*, or the operator's limit where that is less."""
        return size if self.limit is None else min(size, self.limit)

    @property
    def allowed(self) -> int:
        """Connections that may be open now."""
        return self.allow(self.size)

    @property
    def probes(self) -> int:
        """Connections that may be tried at once: as many as decide whether it is dead."""
        if not self._cohorts:
            return self.allowed
        return max(1, ceil((COHORTS - self._cohorts) * self.allowed - _GRAIN))

    @property
    def whole(self) -> bool:
        """Whether it is as large as that of an unknown site."""
        return self.size >= self.allow(self.first)

    def succeeded(self, busy: int) -> None:
        """
        A transaction came to its end.

        :param busy: connections at work; a window that is not used does not grow.
        """
        self._cohorts = 0.0
        if self.size >= busy + self.first or self.allow(self.size + 1) == self.size:
            return
        part = 1 / self.size
        self._gained += part
        if self._gained + _GRAIN >= 1:
            self._gained = 0.0
            self._credit = 0.0
            self.size += 1

    def failed(self) -> bool:
        """
        A connection could not be had, or broke.

        :returns: whether the site is dead.
        """
        part = 1 / self.allowed
        self._cohorts += part
        self._credit -= part
        if self._credit < -_GRAIN:
            self._credit += 1
            self._gained = 0.0
            self.size = max(1, self.allowed - 1)
        return self._cohorts + _GRAIN >= COHORTS

    def close(self) -> None:
        """Begin again with a single connection."""
        self.size = 1
        self._gained = self._credit = self._cohorts = 0.0
