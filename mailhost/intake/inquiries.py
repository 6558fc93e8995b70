"""
VRFY and EXPN: what a client is told of the directory, where the operator allows it.

:Room: ``intake``
:RFC: 5321 §3.5 (the commands and their replies), §7.3 (why they are off by default).
:Called by: `mailhost.intake.reception`.
"""

from __future__ import annotations

from twisted.logger import Logger

from mailhost.errors import LookupProblem
from mailhost.intake.desk import Desk
from mailhost.intake.destinations import is_postmaster
from mailhost.interfaces import IAddressResolver
from mailhost.model.address import Mailbox
from mailhost.model.directory import Found, Kind, Refused, too_many_members
from mailhost.model.reply import Reply
from mailhost.model.session import SessionFacts
from mailhost.policy.relaying import check_relaying
from mailhost.routing.domains import LocalDomain, RemoteDomain
from mailhost.smtp import replies

#: A larger group is not listed.
MAX_MEMBERS_LISTED = 100

_log = Logger()


async def verify(desk: Desk, session: SessionFacts, given: Mailbox) -> Reply:
    """
    The answer to VRFY.

    An address elsewhere is answered as RCPT would be, since nobody here can know more.
    """
    found = await _look_up(desk, session, given)
    if isinstance(found, Reply):
        return found
    ours = [one.address for one in found.destinations if _is_local(desk, one.address)]
    if found.kind is not Kind.GROUP and found.destinations and not ours:
        return replies.will_forward(found.destinations[0].address)
    return replies.verified(found.address)


async def expand(desk: Desk, session: SessionFacts, given: Mailbox) -> Reply:
    """The answer to EXPN."""
    if desk.directory is None:
        return replies.NOT_SUPPORTED
    found = await _look_up(desk, session, given)
    if isinstance(found, Reply):
        return found
    if not found.groups:
        return replies.not_a_group(given)
    try:
        return await _members(desk.directory, found)
    except LookupProblem as problem:
        return replies.directory_failed(problem.status)


async def _members(directory: IAddressResolver, found: Found) -> Reply:
    members: dict[Mailbox, None] = {}
    for group in found.groups:
        answer = await directory.expand(group)
        if isinstance(answer, Refused):
            return answer.reply
        members |= dict.fromkeys(one.address for one in answer.destinations)
        if len(members) > MAX_MEMBERS_LISTED:
            return too_many_members(found.address, MAX_MEMBERS_LISTED).reply
    return replies.members(tuple(members)) if members else replies.nobody_in(found.address)


async def _look_up(desk: Desk, session: SessionFacts, given: Mailbox) -> Found | Reply:
    """Who *given* is, or what is said at once."""
    path = desk.categorizer.qualify(given)
    domain = desk.categorizer.find_domain(path)
    if not isinstance(domain, LocalDomain):
        relays = isinstance(domain, RemoteDomain) and domain.relay
        refused = check_relaying(session, path, relays, desk.settings.access.relay)
        return replies.cannot_verify(str(path)) if refused is None else replies.not_local(path)
    if desk.directory is None:
        return replies.cannot_verify(str(path))
    try:
        answer = desk.directory.resolve(desk.categorizer.stamp(path))
        found = answer if isinstance(answer, Found | Refused) else await answer
    except LookupProblem as problem:
        return replies.directory_failed(problem.status)
    _log.info("{peer} asks for {path}", path=str(path), **session.told)
    if isinstance(found, Refused):
        if is_postmaster(path):
            return replies.verified(path)
        return replies.ambiguous(path) if found.status == "5.1.4" else found.reply
    return found


def _is_local(desk: Desk, path: Mailbox) -> bool:
    return isinstance(desk.categorizer.find_domain(path), LocalDomain)
