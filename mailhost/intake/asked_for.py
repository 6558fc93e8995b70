"""
ETRN, TURN and ATRN: mail that waits here until its domain asks for it.

:Room: ``intake``
:RFC: 1985 §5 (ETRN), 2645 §5 (ATRN).
:IIS: DOM-20, DOM-21: the same session is reversed for accounts that are listed.
:Called by: `mailhost.intake.reception`.
"""

from __future__ import annotations

from twisted.logger import Logger

from mailhost.errors import MailhostError
from mailhost.intake.desk import Desk
from mailhost.interfaces import IHeldMail
from mailhost.model.held import HeldDomains
from mailhost.model.reply import Reply
from mailhost.model.session import SessionFacts
from mailhost.routing.domains import RemoteDomain
from mailhost.smtp import replies

_log = Logger()


async def start(desk: Desk, session: SessionFacts, option: str, name: str) -> Reply:
    """The answer to ETRN; the mail goes to the hosts of its domain, whoever has asked."""
    desk.tally.etrn_requests += 1
    asked = _named(desk, option, name)
    if asked is None or desk.held is None:
        return replies.node_not_allowed(name)
    try:
        started = await desk.held.start(asked, f"ETRN of {session.peer}")
    except MailhostError as problem:
        return replies.cannot_start(name).because(str(problem))
    if not started:
        return replies.nothing_waits(name)
    _log.info("{peer} has started the mail of {name}", name=option + name, **session.told)
    return replies.started(name)


def _named(desk: Desk, option: str, name: str) -> HeldDomains | None:
    """RFC 1985 §5.2: one domain, one with all below it, or one entry, which is our queue."""
    held = desk.categorizer.domains.held()
    if option == "#":
        return HeldDomains((name,)) if any(one.name == name for one in held) else None
    found = desk.categorizer.domains.find(name)
    if isinstance(found, RemoteDomain) and found.hold is not None:
        return HeldDomains((name, f"*.{name}") if option else (name,))
    if not option:
        return None
    below = [one.name for one in held if one.name.removeprefix("*.").endswith(f".{name}")]
    below += [one.name for one in held if one.name == f"*.{name}"]
    return HeldDomains(tuple(below)) if below else None


async def turn(
    desk: Desk, session: SessionFacts, names: tuple[str, ...]
) -> tuple[HeldDomains, IHeldMail] | Reply:
    """
    Whose mail goes over this session, and who sends it; or why none does.

    :param names: of domains; empty: all that the client may have.
    """
    account = session.account
    if account is None:
        return replies.LOGIN_FIRST
    domain = desk.settings.access.basic.default_domain
    mine = [
        one
        for one in desk.categorizer.domains.held()
        if one.hold is not None and one.hold.may_turn(account, domain)
    ]
    allowed = HeldDomains(tuple(one.name for one in mine))
    entries = {desk.categorizer.domains.find(name) for name in names}
    if not mine or not entries <= set(mine):
        wanted = ", ".join(names) or "any domain"
        return replies.TURN_REFUSED.because(f"the mail of {wanted}", "domains[].hold")
    asked = HeldDomains(names) if names else allowed
    if desk.held is None:
        return replies.TURN_NOT_NOW
    try:
        waits = await desk.held.waits(asked)
    except MailhostError as problem:
        return replies.TURN_NOT_NOW.because(str(problem))
    return (asked, desk.held) if waits else replies.NO_MAIL
