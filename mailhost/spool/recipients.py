"""
The recipients of a queued message, before and after an attempt.

:Room: ``spool``
:Called by: every store, so that they agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import evolve

from mailhost.model.address import Mailbox
from mailhost.model.envelope import Envelope
from mailhost.model.queue import QueuedRecipient, Result
from mailhost.model.route import NextHop


def new_recipients(envelope: Envelope, now: float) -> dict[int, QueuedRecipient]:
    """Those of *envelope*, due at *now*, or at their release (RFC 4865)."""
    due_at = max(now, envelope.parameters.holduntil)
    found = {
        number: QueuedRecipient(number, path, 0, due_at)
        for number, path in enumerate(envelope.forward_paths)
    }
    for number, handling in envelope.special.items():
        found[number].handle(handling)
    return found


def apply_results(
    before: Mapping[int, QueuedRecipient], results: Sequence[Result]
) -> dict[int, QueuedRecipient]:
    """
    Who is still to be served, once *results* are written down.

    A recipient with a terminal outcome is gone; a delayed one has one attempt
    more and is due later.
    """
    after = dict(before)
    for result in results:
        known = after[result.number]
        if result.outcome.fate.terminal:
            del after[result.number]
        else:
            after[result.number] = QueuedRecipient(
                known.number,
                known.forward_path,
                known.attempts + 1,
                result.due_at,
                known.notified or result.notified,
                known.in_doubt or result.outcome.in_doubt,
                known.host,
                known.group,
                known.parameters,
            )
    return after


def due_later(
    before: Mapping[int, QueuedRecipient], numbers: Sequence[int], due_at: float
) -> dict[int, QueuedRecipient]:
    """Who is to be served when *numbers* are due at *due_at*; those that are gone stay gone."""
    after = dict(before)
    for number in numbers:
        known = after.get(number)
        if known is not None:
            after[number] = evolve(known, due_at=due_at)
    return after


def at_home(
    before: Mapping[int, QueuedRecipient], numbers: Sequence[int], host: NextHop | None
) -> dict[int, QueuedRecipient]:
    """Who is to be served when *numbers* have the home server *host*."""
    after = dict(before)
    for number in numbers:
        after[number] = evolve(after[number], host=host)
    return after


def mailbox_of(path: str) -> Mailbox | None:
    """
    A stored reverse-path; empty is the null one.

    The domain has no ``@``, a quoted local part may have.
    """
    if not path:
        return None
    local, at, domain = path.rpartition("@")
    return Mailbox(local, domain) if at else Mailbox(path, "")
