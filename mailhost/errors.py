"""
The exceptions that cross a room's border.

:Room: the ground; everybody may raise and catch these.
:Imports: nothing.

Lower rooms raise.  `mailhost.intake` turns what it catches into a `Reply`,
`mailhost.relay` into an `Outcome`; nobody else decides what the network hears.
"""

from __future__ import annotations


class MailhostError(Exception):
    """Base of this family; never raised itself."""


class SyntaxProblem(MailhostError):
    """Octets or words that the grammar does not allow."""


class SpoolProblem(MailhostError):
    """The queue cannot take, keep or give a message now; always temporary."""


class SpoolFull(SpoolProblem):
    """No room on the disk (ENOSPC, EDQUOT, or below the floor)."""


class SpoolInUse(SpoolProblem):
    """Another process holds this queue."""


class SpoolTooNew(SpoolProblem):
    """The queue's format is newer than this program."""


class ContentDamaged(SpoolProblem):
    """A stored content has another length or digest than when it was accepted."""


class AuthenticationProblem(MailhostError):
    """Whether a password is right cannot be said now; always temporary."""


class WebProblem(MailhostError):
    """An HTTPS server gives no answer that can be used; the words hold nothing of an answer."""


class DirectoryProblem(MailhostError):
    """A Drop, Pickup or Badmail directory cannot be used now; temporary."""


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


class ResolveProblem(MailhostError):
    """
    A name could not be resolved to hosts.

    :ivar status: the enhanced status (RFC 3463) to report; its first digit
        says whether trying again can help.
    """

    def __init__(self, status: str, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words

    @property
    def permanent(self) -> bool:
        """Whether the class digit is 5 (RFC 3463 §2)."""
        return self.status.startswith("5")
