"""
The request about what has happened to messages, and what one process answers to it.

:Room: ``control``
:Called by: `mailhost.control.api` (routes), `mailhost.control.answers` (questions).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import asdict

from mailhost.control.calls import Call, Refusal, Route, check_server
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
    The events; times as seconds before now.

    :raises MailhostError: they cannot be read.
    """
    rows: list[dict[str, Any]] = []
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
        rows += _rows(part.name, events, dialogues)
    return rows


def _rows(server: str, events: Iterable[TracedEvent], dialogues: bool) -> list[dict[str, Any]]:
    rows = []
    room = _MOST_DIALOGUE
    for event in list(events)[-_MOST_EVENTS:]:
        row = {"server": server, **asdict(event), "has_dialogue": bool(event.dialogue)}
        room -= len(event.dialogue)
        if not dialogues or room < 0:
            row["dialogue"] = ""
        rows.append(row)
    return rows


#: What may be asked.
QUESTIONS: Mapping[str, Callable[..., Maybe[Any]]] = {"trace": _answer_trace}


async def _trace(call: Call) -> Any:
    await check_server(call)
    query = call.query
    what = query.get("what", "")
    since, until = _seconds(query, "since"), _seconds(query, "until")
    if not what and since is None and until is None:
        raise Refusal(400, "what, since or until: one of them is needed")
    if len(what) > _MOST_CHARACTERS:
        raise Refusal(400, f"what: up to {_MOST_CHARACTERS} characters")
    limit = min(call.limit, _MOST_MESSAGES) if "limit" in query else _MESSAGES
    asked = {
        "server": call.server,
        "what": what,
        "since_seconds": since,
        "until_seconds": until,
        "limit": limit,
        "dialogues": query.get("dialogues") == "yes",
    }
    answers = await call.steered.ask("trace", asked)
    return {"rows": [row for part in answers.parts for row in part.value]}


def _seconds(query: Mapping[str, str], name: str) -> float | None:
    """So long ago."""
    text = query.get(name)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e10:
        raise Refusal(400, f"{name}: so many seconds ago")
    return seconds


ROUTES = (Route("GET", "/v1/traces", _trace),)
