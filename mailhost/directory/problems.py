"""
The one way in which asking a directory fails.

:Room: ``directory``
:Called by: all of this room; caught by `mailhost.intake` (promise P4).
"""

from __future__ import annotations

from mailhost.errors import MailhostError


class LookupProblem(MailhostError):
    """
    The directory cannot answer now, or what it says cannot be used; always temporary.

    :ivar status: of class 4 (RFC 3463): ``4.4.3`` the directory (X.4.3), ``4.3.5`` an
        entry or a setting is wrong, which an operator can mend.
    :ivar words: for the log; says which server and why.
    """

    def __init__(self, words: str, status: str = "4.4.3") -> None:
        super().__init__(words)
        self.status = status
        self.words = words


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
