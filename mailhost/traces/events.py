"""
One thing that has happened to a message.

:Room: ``traces`` -- values and rows; no I/O.
:Made by: whoever sees it happen, with `event`; a plain tuple, because most messages have
    several of them and nobody asks about most messages.
"""

from __future__ import annotations

from collections.abc import Sequence

from mailhost.model.address import Mailbox
from mailhost.model.values import value

#: Recipients of one event that are kept; the rest is counted.
MAX_PATHS = 100
_MAX_WORDS = 1000
#: A dialogue is cut behind so many characters.
MAX_DIALOGUE = 64_000

Paths = str | Sequence[Mailbox]
Event = tuple[float, str, str, str, Paths, str, str, float | None, str, str]


def event(
    at: float,
    id: str,
    kind: str,
    words: str = "",
    *,
    paths: Paths = (),
    sender: str = "",
    peer: str = "",
    due_at: float | None = None,
    other: str = "",
    dialogue: str = "",
) -> Event:
    """
    :param at: seconds since the epoch.
    :param id: the message's queue id.
    :param kind: ``accepted``, ``attempt``, ``wait``, ``report``, ``badmail``, an action word of
        RFC 3464 (``relayed``, ``delayed`` ...), or what an operator did.
    :param words: the rest in words: a reply, a reason, who.
    :param paths: recipients it is about; empty: all.
    :param sender: the reverse-path, where the message came.
    :param peer: whoever was spoken with.
    :param due_at: the next attempt, where there is one.
    :param other: a Message-ID where the message came; else the queue id of a message that has to
        do with it.
    :param dialogue: what was said in a failed attempt, without secrets.
    """
    return at, id, kind, words, paths, sender, peer, due_at, other, dialogue


def row(given: Event) -> tuple[object, ...]:
    """*given* as it is stored; empty text stands for nothing."""
    at, id, kind, words, paths, sender, peer, due_at, other, dialogue = given
    text = paths if isinstance(paths, str) else _joined(paths)
    due = "" if due_at is None else due_at
    return at, id, kind, words[:_MAX_WORDS], text, sender, peer, due, other, dialogue[:MAX_DIALOGUE]


def _joined(paths: Sequence[Mailbox]) -> str:
    if len(paths) == 1:
        return str(paths[0])
    text = ",".join(map(str, paths[:MAX_PATHS]))
    more = len(paths) - MAX_PATHS
    return f"{text} and {more} more" if more > 0 else text


@value
class TracedEvent:
    """
    One event as it is told; see `event`.

    :ivar dialogue: empty where there is none.
    """

    at: float
    id: str
    kind: str
    words: str
    paths: str
    sender: str
    peer: str
    due_at: float | None
    other: str
    dialogue: str
