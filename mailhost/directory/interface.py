"""
What intake asks of a directory.

:Room: ``directory``
:Implemented by: `mailhost.directory.resolver.LDAPAddressResolver`; others may.
:Called by: `mailhost.intake`.
"""

from __future__ import annotations

from collections.abc import Awaitable

from zope.interface import Interface

from mailhost.interfaces import Maybe
from mailhost.model.address import Mailbox
from mailhost.model.directory import Expansion, GroupRef, Refused, Resolution


class IAddressResolver(Interface):
    """
    A directory of those who have mailboxes.

    Everything fails with `mailhost.directory.problems.LookupProblem` when the
    directory cannot answer: 451 at RCPT, "delayed" later, never a refusal (P4).
    """

    def resolve(address: Mailbox) -> Maybe[Resolution]:
        """
        RCPT: who has *address*, and where does its mail go.

        :param address: with its domain, which is ours.
        :returns: `Refused` where nobody has it, or nobody may.
        :raises LookupProblem: now or through the awaitable.
        """

    def expand(group: GroupRef) -> Awaitable[Expansion | Refused]:
        """
        After acceptance: the mailboxes that *group* stands for.

        May take as long as a minute.  A `Refused` is the fate of the group's address.
        """

    def resolve_sender(address: Mailbox) -> Maybe[Mailbox]:
        """MAIL: the primary address of whoever has *address*; itself where nobody has."""

    def may_send_as(login: str, address: Mailbox) -> Maybe[bool]:
        """
        Whether the user *login* may write *address* as the sender.

        One's own addresses are allowed, and those of entries that name the user as a delegate.
        """

    def bind_as(login: str, password: str) -> Awaitable[bool]:
        """
        AUTH: whether *password* is that of the user *login*.

        An empty password is no password (RFC 4513 §5.1.2).
        """

    def stop() -> Awaitable[None]:
        """End the threads; what is still asked fails."""
