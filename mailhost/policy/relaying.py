"""
May this client send to that domain?

:Room: ``policy``
:IIS: ACC-30..32 (relay restrictions), DOM-10 (a remote domain that may be
    relayed to); the order is iis-smtp.md §3.4's.  The null reverse-path gets no
    exemption.
"""

from __future__ import annotations

import re
from enum import Enum

from mailhost.model.access import AccessList
from mailhost.model.address import Mailbox
from mailhost.model.reply import Reply
from mailhost.model.session import SessionFacts
from mailhost.smtp import replies

#: A local part that names another host: ``user%host``, ``"user@host"``, ``host!user``.
_ROUTE = re.compile(
    r"""[^"][%@]\[?[A-Za-z0-9][A-Za-z0-9.:-]*\]?"?\Z|\A"?[A-Za-z0-9][A-Za-z0-9.-]*!."""
)


def openness(relay: AccessList) -> list[tuple[str, str]]:
    """Why anybody in the world may relay: in words, and the setting; empty where nobody may."""
    if relay.allow:
        words = "everybody may relay except the list below: an open relay"
        return [(words, "access.relay.default")]
    return [
        (
            f"{network} lets a large part of the Internet relay: an open relay",
            "access.relay.except",
        )
        for network in relay.wide_networks
    ]


class Right(Enum):
    """Why a client may relay."""

    DOMAIN = "the remote domain allows it"
    LIST = "the client is permitted"
    LOGIN = "the client has logged in"
    NONE = "it may not"


def right_to_relay(session: SessionFacts, domain_relays: bool, relay: AccessList) -> Right:
    """
    :param domain_relays: the recipient's remote domain allows incoming mail to be relayed.
    """
    if domain_relays:
        return Right.DOMAIN
    if relay.permits(session.peer, session.peer_names or ()):
        return Right.LIST
    if relay.logins and session.account is not None:
        return Right.LOGIN
    return Right.NONE


def check_relaying(
    session: SessionFacts, forward_path: Mailbox, domain_relays: bool, relay: AccessList
) -> Reply | None:
    """
    :param forward_path: a recipient that is not local.
    :param domain_relays: its remote domain allows incoming mail to be relayed.
    """
    open_to_all = domain_relays and not _has_route(forward_path.local)
    if right_to_relay(session, open_to_all, relay) is not Right.NONE:
        return None
    return replies.relaying_denied(forward_path)


def check_routing(session: SessionFacts, forward_path: Mailbox, relay: AccessList) -> Reply | None:
    """
    A route in the local part asks somebody behind us to relay: that takes the right to.

    :param forward_path: a recipient that is local, and that no directory knows.
    """
    if not _has_route(forward_path.local):
        return None
    return check_relaying(session, forward_path, False, relay)


def _has_route(local: str) -> bool:
    # Nearly every local part has none of these signs, and this is asked for every recipient.
    signs = "%" in local or "!" in local or "@" in local
    return signs and _ROUTE.search(local) is not None
