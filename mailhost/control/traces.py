"""
The request about what has happened to messages, and what one process answers to it.

:Room: ``control``
:Called by: `mailhost.control.api` (routes), `mailhost.control.answers` (questions).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import asdict, frozen

from mailhost.control.calls import MOST_ROWS, Call, Route, check_server
from mailhost.control.refusal import Refusal
from mailhost.control.shapes import choice, number, rows, text, whole
from mailhost.control.steered import Parts, chosen_parts
from mailhost.errors import MailhostError
from mailhost.interfaces import Maybe
from mailhost.traces.events import TracedEvent

#: Messages in one answer, where nothing is said and at most.
_MESSAGES, _MOST_MESSAGES = 10, 1000
#: Events of one answer; of dialogues so many characters in all.
_MOST_EVENTS = 10_000
_MOST_DIALOGUE = 2_000_000
_MOST_CHARACTERS = 1000


async def _answer_trace(
    parts: Parts,
    server: str | None,
    what: str,
    since_seconds: float | None,
    until_seconds: float | None,
    limit: int,
    dialogues: bool,
) -> Any:
    """
    The events; times as seconds before now.  `None`: another process finds them, or nobody.

    :raises MailhostError: they cannot be read.
    """
    if all(part.traces is None for part in parts.values()):
        return None
    found: list[dict[str, Any]] = []
    for part in chosen_parts(parts, server):
        tracer = part.traces
        if tracer is None:
            continue
        now = tracer.seconds()
        since = None if since_seconds is None else now - since_seconds
        until = None if until_seconds is None else now - until_seconds
        try:
            events = await tracer.find(what, since, until, limit)
        except (OSError, sqlite3.Error) as problem:
            raise MailhostError(f"{part.name}: traces cannot be read now: {problem}") from problem
        found += _rows(part.name, events, dialogues)
    return found


def _rows(server: str, events: Iterable[TracedEvent], dialogues: bool) -> list[dict[str, Any]]:
    found = []
    room = _MOST_DIALOGUE
    for event in list(events)[-_MOST_EVENTS:]:
        row = {"server": server, **asdict(event), "has_dialogue": bool(event.dialogue)}
        room -= len(event.dialogue)
        if not dialogues or room < 0:
            row["dialogue"] = ""
        found.append(row)
    return found


#: What may be asked.
QUESTIONS: Mapping[str, Callable[..., Maybe[Any]]] = {"trace": _answer_trace}


@frozen
class TraceQuery:
    """
    Which messages are asked about: one of ``what``, ``since`` and ``until`` is needed.

    :ivar what: a queue id, a Message-ID, or an address of sender or recipient.
    :ivar since: events from so many seconds ago on.
    :ivar until: events up to so many seconds ago.
    :ivar limit: so many messages, the latest ones.
    :ivar dialogues: with what was said in attempts that failed.
    """

    server: str | None = text(allowed="the name of a virtual server", most=64)
    what: str = text("", most=_MOST_CHARACTERS)
    since: float | None = number(allowed="so many seconds ago")
    until: float | None = number(allowed="so many seconds ago")
    limit: int = whole(1, MOST_ROWS, _MESSAGES)
    dialogues: str = choice("yes", "no", default="no")


@frozen
class TraceListing:
    """Events, those of a message together."""

    missing_workers: tuple[int, ...]
    rows: Sequence[Mapping[str, Any]] = rows(TracedEvent, ("server", str), ("has_dialogue", bool))


async def _trace(call: Call) -> TraceListing:
    check_server(call)
    query = call.query
    if not query.what and query.since is None and query.until is None:
        raise Refusal(400, "what, since or until: one of them is needed")
    asked = {
        "server": query.server,
        "what": query.what,
        "since_seconds": query.since,
        "until_seconds": query.until,
        "limit": min(query.limit, _MOST_MESSAGES),
        "dialogues": query.dialogues == "yes",
    }
    found = await call.ask_holder("trace", asked)
    return TraceListing(call.missing, [] if found is None else found.value)


ROUTES = (
    Route(
        "GET",
        "/v1/traces",
        _trace,
        TraceListing,
        "What has happened to messages.",
        query=TraceQuery,
    ),
)
