"""
The requests about mail in the queue.

:Room: ``control``
:Called by: `mailhost.control.api`.

A listing is in the order of the queue ids, that is of time, over all virtual servers and
workers.  Whoever asks goes on behind the id ``next`` until there is none.  A page may have
fewer rows than were wanted, or none: only a part of a queue is looked at for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mailhost.config.units import parse_next_hop
from mailhost.control.calls import Call, Refusal, Route, check_server
from mailhost.relay.steward import Action

#: Messages that are changed for one request.
MOST_AT_ONCE = 1000
#: Octets of content in one answer.
PART_OCTETS = 1 << 20

_ID = re.compile(r"[0-9a-f]{24}")
_TEXTS = ("sender", "domain", "recipient", "site")
_HELD = {"yes": True, "no": False}
_MOST_CHARACTERS = 512


def _cursor(text: object) -> str:
    if text in (None, ""):
        return ""
    if not isinstance(text, str) or not _ID.fullmatch(text):
        raise Refusal(400, "after: a queue id, 24 hexadecimal digits")
    return text


def _wanted(given: Mapping[str, Any]) -> dict[str, Any]:
    """
    A filter, checked, for `mailhost.control.queue_answers`.

    :raises Refusal: it is none.
    """
    known = {"ids", "older", "held", *_TEXTS}
    strange = sorted(set(given) - known)
    if strange:
        raise Refusal(400, f"{strange[0]}: not known; allowed: {', '.join(sorted(known))}")
    wanted: dict[str, Any] = {}
    for name in _TEXTS:
        text = given.get(name)
        if text is None:
            continue
        if not isinstance(text, str) or not text or len(text) > _MOST_CHARACTERS:
            raise Refusal(400, f"{name}: a text of up to {_MOST_CHARACTERS} characters")
        wanted[name] = text
    if given.get("ids") is not None:
        wanted["ids"] = _ids(given["ids"])
    if given.get("older") is not None:
        wanted["older"] = _seconds(given["older"])
    if given.get("held") is not None:
        if given["held"] not in _HELD:
            raise Refusal(400, "held: yes or no")
        wanted["held"] = _HELD[given["held"]]
    return wanted


def _ids(given: object) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise Refusal(400, "ids: a list of texts")
    ids = [one.lower() for one in given]
    strange = [one for one in ids if not _ID.fullmatch(one)]
    if strange:
        raise Refusal(404, "a queue id has 24 hexadecimal digits", unknown=strange)
    return ids


def _seconds(given: object) -> float:
    try:
        seconds = float(given) if isinstance(given, str | int | float) else -1.0
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e10:
        raise Refusal(400, "older: seconds")
    return seconds


# ---- seeing


async def _list(call: Call) -> Any:
    await check_server(call)
    beside = ("server", "after", "limit")
    wanted = _wanted({name: text for name, text in call.query.items() if name not in beside})
    return await _page(call, wanted, _cursor(call.query.get("after")), min(call.limit, 1000))


async def _page(
    call: Call, wanted: dict[str, Any], after: str, limit: int, brief: bool = False
) -> dict[str, Any]:
    """One page of all queues together; see the module's words."""
    asked = {
        "server": call.server,
        "wanted": wanted,
        "after": after,
        "limit": limit,
        "brief": brief,
    }
    answers = await call.steered.ask("queue_page", asked)
    parts = answers.parts
    rows = [{**row, "worker": part.worker} for part in parts for row in part.value["rows"]]
    rows.sort(key=lambda row: str(row["id"]))
    reached = [part.value["reached"] for part in parts if part.value["reached"] is not None]
    bound = min(reached, default=None)
    if bound is not None:
        rows = [row for row in rows if row["id"] <= bound]
    more = len(rows) > limit
    return {
        "rows": rows[:limit],
        "next": rows[limit - 1]["id"] if more else bound,
        "stopped": sorted({name for part in parts for name in part.value["stopped"]}),
        "missing_workers": answers.missing,
    }


async def _show(call: Call) -> Any:
    id = _ids([call.path["id"]])[0]
    answers = await call.steered.ask("queue_message", {"id": id})
    for part in answers.parts:
        if part.value is not None:
            return {"worker": part.worker, **part.value}
    raise _not_queued(id)


async def _content(call: Call) -> Any:
    id = _ids([call.path["id"]])[0]
    start = call.query.get("start", "0")
    if not re.fullmatch(r"[0-9]{1,15}", start):
        raise Refusal(400, "start: a whole number")
    asked = {"id": id, "start": int(start), "size": PART_OCTETS}
    answers = await call.steered.ask("queue_content", asked)
    for part in answers.parts:
        if part.value is not None:
            return {"base64": part.value}
    raise _not_queued(id)


def _not_queued(id: str) -> Refusal:
    return Refusal(404, f"there is no message {id} in the queue", unknown=[id])


# ---- changing


async def _change(call: Call) -> Any:
    """
    Do something to the next messages that are wanted, `MOST_AT_ONCE` at most.

    The body: ``filter``, ``after``, ``limit``, ``dry_run``; ``report`` to delete, ``host`` to
    reroute.
    """
    action, body = call.path["action"], call.body
    if action not in {one.name.lower() for one in Action}:
        allowed = ", ".join(one.name.lower() for one in Action)
        raise Refusal(404, f"{action!r} cannot be done; allowed: {allowed}")
    await check_server(call)
    wanted = _wanted(_table(body.get("filter")))
    limit = body.get("limit", MOST_AT_ONCE)
    if not isinstance(limit, int) or not 1 <= limit <= MOST_AT_ONCE:
        raise Refusal(400, f"limit: a whole number from 1 to {MOST_AT_ONCE}")
    host = _host(action, body)
    page = await _page(call, wanted, _cursor(body.get("after")), limit, brief=True)
    told = {name: page[name] for name in ("next", "stopped", "missing_workers")}
    rows = page["rows"]
    if body.get("dry_run"):
        count = sum(row["recipient_count"] for row in rows)
        return {"messages": len(rows), "recipients": count, "ids": _known(wanted, rows), **told}
    if not rows:
        return {"messages": 0, "recipients": 0, "busy_messages": 0, "busy_recipients": 0, **told}
    asked = {
        "server": call.server,
        "wanted": wanted,
        "ids": [row["id"] for row in rows],
        "action": action,
        "who": str(call.caller),
        "host": host,
        "report": bool(body.get("report")),
    }
    answers = await call.steered.ask("queue_change", asked)
    names = ("messages", "recipients", "busy_messages", "busy_recipients")
    done = {name: sum(part.value[name] for part in answers.parts) for name in names}
    return {**done, **told}


def _known(wanted: Mapping[str, Any], rows: list[dict[str, Any]]) -> list[str] | None:
    """Of the ids that were asked for, those that are there; `None`: there were none."""
    return [row["id"] for row in rows] if "ids" in wanted else None


def _table(given: object) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise Refusal(400, "filter: a table; an empty one is everything")
    return given


def _host(action: str, body: Mapping[str, Any]) -> str | None:
    host = body.get("host")
    if action != "reroute":
        if host is not None:
            raise Refusal(400, "host: only to reroute")
        return None
    if "host" not in body:
        raise Refusal(400, "host: where the mail is to go; null: where its domain says")
    if host is None:
        return None
    try:
        return str(parse_next_hop(str(host)))
    except ValueError as wrong:
        raise Refusal(400, f"host: {wrong}") from None


ROUTES = (
    Route("GET", "/v1/queue", _list),
    Route("GET", "/v1/queue/{id}", _show),
    Route("GET", "/v1/queue/{id}/content", _content),
    Route("POST", "/v1/queue/{action}", _change),
)
