"""
May this client connect?

:Room: ``policy``
:IIS: ACC-20..23 (connection control), GEN-06 (limit number of connections).
"""

from __future__ import annotations

from mailhost.model.access import AccessList
from mailhost.model.reply import Reply
from mailhost.model.session import SessionFacts
from mailhost.smtp import replies


def check_overload(closed: bool, trusted: bool) -> Reply | None:
    """
    :param closed: it is too much for new clients.
    :param trusted: but not for the operator's own.
    """
    return replies.BUSY if closed and not trusted else None


def check_connection(
    session: SessionFacts, control: AccessList, open_count: int, max_connections: int | None
) -> Reply | None:
    """
    :param open_count: sessions of this virtual server, this one included.
    :param max_connections: `None`: no limit.
    """
    if max_connections is not None and open_count > max_connections:
        return replies.TOO_MANY_CONNECTIONS
    if not control.permits(session.peer, session.peer_names or ()):
        return replies.CONNECTION_REFUSED
    return None
