"""
Which command a session may use now: what is on, what TLS and a login have to come before.

:Room: ``smtp``
:RFC: 5321 §4.1.4; 3207 §4; 4954 §6 (530); 3030 §3; 2645 §5.2.1.
:Called by: `mailhost.smtp.server_dialogue`, for each command.
"""

from __future__ import annotations

from mailhost.model.reply import Reply
from mailhost.smtp import order, replies
from mailhost.smtp.extensions import Offer
from mailhost.smtp.order import State
from mailhost.smtp.rules import Rules

#: A line of an AUTH exchange, without CRLF (RFC 4954 §4).
MAX_LOGIN_OCTETS = 12288


def refusal(
    verb: str,
    state: State,
    rules: Rules,
    offer: Offer,
    secure: bool,
    logged_in: bool,
    binary: bool,
) -> Reply | None:
    """
    Why *verb* may not come now; `None`: it may.

    :param secure: TLS is on.
    :param binary: the open transaction was begun with BODY=BINARYMIME.
    """
    if verb == "STARTTLS" and secure:
        return replies.TLS_IS_ON
    if verb in offer.off:
        return replies.NOT_SUPPORTED
    if rules.require_tls and not secure and verb not in order.BEFORE_TLS:
        return replies.TLS_FIRST
    if not logged_in and (verb in ("TURN", "ATRN") or (verb == "MAIL" and rules.require_login)):
        return order.refusal(state, verb) or replies.LOGIN_FIRST
    if binary and verb == "DATA" and state is State.RECIPIENTS:
        return replies.BINARY_BY_CHUNKS  # RFC 3030 §3
    return order.refusal(state, verb)


def line_limit(line: bytes, state: State, rules: Rules, offer: Offer) -> int:
    """Octets that the beginning *line* may grow to, without CRLF (RFC 4954 §4)."""
    in_exchange = state is State.LOGGING_IN
    if in_exchange or (line[:5].upper() == b"AUTH " and "AUTH" not in offer.off):
        return MAX_LOGIN_OCTETS
    return rules.max_command_octets - 2


def too_long(limit: int) -> Reply:
    """:param limit: as `line_limit` has told it."""
    login = limit == MAX_LOGIN_OCTETS
    return replies.LOGIN_LINE_TOO_LONG if login else replies.LINE_TOO_LONG
