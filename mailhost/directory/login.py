"""
Users who log in: their password, and whose name they may write.

:Room: ``directory``
:RFC: 4513 §5.1 (simple bind).
:Called by: `mailhost.directory.resolver`, in a thread.
"""

from __future__ import annotations

from attrs import evolve

from mailhost.directory.binding import Binding, BindingKind
from mailhost.directory.filters import name_key
from mailhost.directory.link import Rejected
from mailhost.directory.source import DirectorySource
from mailhost.model.address import Mailbox


def bind_as(source: DirectorySource, login: str, password: str) -> bool:
    """
    Whether *password* is that of the one user called *login*.

    The user's bind goes over a connection of its own, which is closed again: the others
    stay bound as we are.

    :raises mailhost.errors.LookupProblem: no server can say.
    """
    if not password:
        return False
    found = source.by_login(login)
    if len(found) != 1 or found[0].disabled:
        return False
    binding = Binding(BindingKind.PLAIN_TEXT, found[0].dn, password)
    session = source.session
    try:
        session.open_as(evolve(session.terms, binding=binding)).close()
    except Rejected:
        return False
    return True


def may_send_as(source: DirectorySource, login: str, address: Mailbox) -> bool:
    """
    Whether the user *login* may write *address* as the sender.

    :raises mailhost.errors.LookupProblem: no server can say.
    """
    users = source.by_login(login)
    if len(users) != 1 or users[0].disabled:
        return False
    user = users[0]
    if user.has_address(address):
        return True
    owners = source.by_address(address)
    return len(owners) == 1 and user.key in map(name_key, owners[0].delegates)
