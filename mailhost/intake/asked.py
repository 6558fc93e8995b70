"""
What a client asks for with MAIL: whether it may be, and what becomes of it here.

:Room: ``intake``
:RFC: 2852 §4.1 (BY), 3865 §4 (Solicitation), 4865 §4 (HOLDFOR, HOLDUNTIL), 6710 §4.1
    (MT-PRIORITY).
:Called by: `mailhost.intake.reception`.
"""

from __future__ import annotations

from attrs import evolve

from mailhost.config.settings import VirtualServerSettings
from mailhost.content.headers import split_fields, unfold
from mailhost.errors import SyntaxProblem
from mailhost.model.parameters import MailParameters
from mailhost.model.reply import Reply
from mailhost.model.session import SessionFacts
from mailhost.policy.relaying import Right, right_to_relay
from mailhost.smtp import replies
from mailhost.smtp.extensions.nosoliciting import parse_classes


def accept_asked(
    asked: MailParameters, session: SessionFacts, settings: VirtualServerSettings, now: float
) -> MailParameters | Reply:
    """
    What is kept of *asked*, with times of this host's clock; or why the mail is not taken.

    :param now: seconds since the epoch.
    """
    unwanted = _find_unwanted(asked.solicit, settings)
    if unwanted is not None:
        return unwanted
    if asked.returns_late and asked.by[0] < settings.messages.min_deliver_by:
        return replies.TIME_TOO_SHORT
    if asked.mt_priority > 0:
        right = right_to_relay(session, False, settings.access.relay)
        if right is Right.NONE:
            # RFC 6710 §4.1: whoever has no right to go before others goes with them.
            asked = evolve(asked, mt_priority=0)
    return _with_release(asked, settings.messages.max_hold or 0, now)


def _with_release(asked: MailParameters, max_hold: int, now: float) -> MailParameters | Reply:
    if not (asked.holdfor or asked.holduntil):
        return asked
    if asked.holdfor and asked.holduntil:
        return replies.BAD_ARGUMENTS
    release_at = now + asked.holdfor if asked.holdfor else asked.holduntil
    if release_at > now + max_hold:
        return replies.HELD_TOO_LONG
    return evolve(asked, holdfor=0, holduntil=release_at if release_at > now else 0.0)


def check_solicitation(header: bytes, settings: VirtualServerSettings) -> Reply | None:
    """Whether a field Solicitation names a class that is not wanted (RFC 3865 §4)."""
    if not settings.messages.no_soliciting or b"solicitation" not in header.lower():
        return None
    for name, value in split_fields(header):
        if name == b"solicitation":
            text = unfold(value).decode("ascii", "replace").replace(" ", "")
            try:
                refused = _find_unwanted(parse_classes(text), settings)
            except SyntaxProblem:
                continue  # it names no class
            if refused is not None:
                return refused
    return None


def _find_unwanted(classes: tuple[str, ...], settings: VirtualServerSettings) -> Reply | None:
    for one in classes:
        if one in settings.messages.no_soliciting:
            return replies.not_solicited(one)
    return None
