"""
The ways in which asking a directory fails, inside this room.

:Room: ``directory``
:Called by: all of this room; what leaves it is `mailhost.errors.LookupProblem`.
"""

from __future__ import annotations

from mailhost.errors import LookupProblem


class ServerFailed(Exception):
    """One server cannot be used now; another may.  Stays in this room."""


class TimedOut(ServerFailed):
    """A server has not answered a search in time; it may only be busy."""


class SearchFailed(LookupProblem):
    """A server is there, and has refused this search."""


class EntryFault(LookupProblem):
    """What stands in one entry cannot be followed; an operator can mend it."""

    def __init__(self, words: str) -> None:
        super().__init__(words, "4.3.5")
