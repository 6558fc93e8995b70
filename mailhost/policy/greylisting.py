"""
Has this client come back with this message?

:Room: ``policy``
:RFC: 6647 §2 (the triplet), §5 (advice).
:Called by: `mailhost.spool.greylist`, which remembers.
"""

from __future__ import annotations

from attrs import frozen

from mailhost.model.greylist import GreylistTerms


@frozen
class Triplet:
    """
    What is remembered of a client's network, a sender and a recipient.

    :ivar first_at: when it came first.
    :ivar last_at: when it came last.
    :ivar passed: it was let in.
    """

    first_at: float
    last_at: float
    passed: bool = False


def judge(known: Triplet | None, terms: GreylistTerms, now: float) -> tuple[float, Triplet]:
    """
    How long the client has to wait still, 0 for not at all; and what is to be remembered.

    :param known: what was remembered; `None`: nothing.
    """
    if known is None or _is_over(known, terms, now):
        return terms.delay_seconds, Triplet(now, now)
    if known.passed or now - known.first_at >= terms.delay_seconds:
        return 0.0, Triplet(known.first_at, now, True)
    return known.first_at + terms.delay_seconds - now, Triplet(known.first_at, now)


def _is_over(known: Triplet, terms: GreylistTerms, now: float) -> bool:
    if now < known.first_at:
        return True  # the clock was set back
    if known.passed:
        return now - known.last_at > terms.keep_seconds
    return now - known.first_at > terms.retry_seconds
