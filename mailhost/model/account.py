"""
Who a client has proved to be, and what a proof is compared with.

:Room: ``model``
:RFC: 4954, 5802 §3 (stored keys).
:IIS: ACC-02, ACC-04.
"""

from __future__ import annotations

from attrs import field, frozen

from mailhost.model.access import domain_matches
from mailhost.model.address import Mailbox


@frozen
class Account:
    """
    Somebody who may log in.

    :ivar name: as the log and the operator call him.
    :ivar senders: reverse-paths he may use: ``user@example.com``, ``@example.com``,
        ``@*.example.com``; `None`: any.
    :ivar by_directory: it was the directory that knew his password.
    """

    name: str
    senders: tuple[str, ...] | None = None
    by_directory: bool = False

    def may_send_as(self, reverse_path: Mailbox | None) -> bool:
        """The null reverse-path is nobody's address, and everybody's."""
        if self.senders is None or reverse_path is None:
            return True
        return any(_covers(pattern, reverse_path) for pattern in self.senders)


def _covers(pattern: str, path: Mailbox) -> bool:
    local, _, domain = pattern.rpartition("@")
    if local and local.lower() != path.local.lower():
        return False
    return domain_matches(domain.lower(), path.domain)


@frozen
class ScramKeys:
    """
    What SCRAM-SHA-256 compares a proof with (RFC 5802 §3); no password can be read from it.

    :ivar salt: at least 16 octets.
    :ivar iterations: of PBKDF2.
    """

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


@frozen
class ScramEntry:
    """
    :ivar keys: to go on with, of somebody who does not exist as well.
    :ivar account: whose they are; `None`: nobody's, and no proof fits.
    """

    keys: ScramKeys
    account: Account | None
