"""
Whose mail it is: may the client write this reverse-path, and is it the sender's primary one?

:Room: ``intake``
:IIS: LDP-07 (the categorizer resolves senders).
:Called by: `mailhost.intake.reception`.
"""

from __future__ import annotations

from collections.abc import Awaitable

from mailhost.errors import LookupProblem
from mailhost.intake.desk import Desk
from mailhost.interfaces import Maybe
from mailhost.model.account import Account
from mailhost.model.address import Mailbox
from mailhost.model.reply import Reply
from mailhost.model.session import SessionFacts
from mailhost.policy.senders import check_sender
from mailhost.smtp import replies

#: The setting by which the directory says who may send as whom.
_CHECKED = "ldap.check_sender"


def settle_sender(desk: Desk, session: SessionFacts, path: Mailbox) -> Maybe[Mailbox | Reply]:
    """
    The reverse-path that *path* stands for, or why the client may not use it.

    :param path: with its domain.
    """
    refused = check_sender(session, path)
    if refused is not None or desk.directory is None:
        return refused or path
    account = session.account
    if account is None or not account.by_directory or not desk.settings.ldap.check_sender:
        return _primary(desk, path)
    try:
        allowed = desk.directory.may_send_as(account.name, path)
    except LookupProblem as problem:
        return replies.directory_failed(problem.status)
    if isinstance(allowed, bool):
        return (
            _primary(desk, path) if allowed else replies.sender_denied(path, account.name, _CHECKED)
        )
    return _settle_later(desk, account, path, allowed)


async def _settle_later(
    desk: Desk, account: Account, path: Mailbox, asking: Awaitable[bool]
) -> Mailbox | Reply:
    try:
        allowed = await asking
    except LookupProblem as problem:
        return replies.directory_failed(problem.status)
    if not allowed:
        return replies.sender_denied(path, account.name, _CHECKED)
    found = _primary(desk, path)
    return found if isinstance(found, Mailbox | Reply) else await found


def _primary(desk: Desk, path: Mailbox) -> Maybe[Mailbox | Reply]:
    directory = desk.rewriter_of(path)
    if directory is None:
        return path
    try:
        primary = directory.resolve_sender(path)
    except LookupProblem as problem:
        return replies.directory_failed(problem.status)
    return primary if isinstance(primary, Mailbox) else _primary_later(primary)


async def _primary_later(finding: Awaitable[Mailbox]) -> Mailbox | Reply:
    try:
        return await finding
    except LookupProblem as problem:
        return replies.directory_failed(problem.status)
