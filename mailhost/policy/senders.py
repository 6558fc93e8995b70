"""
May this client write that sender?

:Room: ``policy``
:RFC: 6409 §6.1 (a submission server may hold a login to its addresses).
"""

from __future__ import annotations

from mailhost.model.address import Mailbox
from mailhost.model.reply import Reply
from mailhost.model.session import SessionFacts
from mailhost.smtp import replies


def check_sender(session: SessionFacts, reverse_path: Mailbox) -> Reply | None:
    """
    :param reverse_path: as given, with the default domain where it had none; the null
        one is everybody's.
    """
    account = session.account
    if account is None or account.may_send_as(reverse_path):
        return None
    return replies.sender_denied(reverse_path, account.name, "access.users")
