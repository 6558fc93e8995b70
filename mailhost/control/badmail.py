"""
The requests about Badmail, and what one process answers to them.

:Room: ``control``
:IIS: §10.5, MSG-06.
:Called by: `mailhost.control.api` (routes), `mailhost.control.answers` (questions).

Of several workers one looks after the Badmail of a virtual server.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mailhost.control.calls import Call, Refusal, Route, check_server
from mailhost.control.steered import Parts, chosen_parts
from mailhost.errors import MailhostError, SyntaxProblem
from mailhost.intake.badmail_desk import BadmailDesk
from mailhost.interfaces import Maybe
from mailhost.model.listing import sender_text
from mailhost.smtp.grammar import parse_mailbox
from mailhost.spool.bad_triples import BadTriple

#: Recipients that a listing names.
_LISTED_RECIPIENTS = 20
#: Octets of content in one answer.
_PART_OCTETS = 1 << 20
_HEADER_OCTETS = 16_384
_NAME = re.compile(r"[0-9a-f]{24}")


# ---- what one process answers


def _desks(parts: Parts, server: str | None) -> Iterator[tuple[str, BadmailDesk]]:
    for part in chosen_parts(parts, server):
        desk = part.badmail_desk
        if desk is not None:
            yield part.name, desk


async def _answer_page(parts: Parts, server: str | None, after: str, limit: int) -> Any:
    rows: list[Any] = []
    total = 0
    for name, desk in _desks(parts, server):
        triples, count = await desk.page(after, limit)
        rows += [_row(name, desk, triple) for triple in triples]
        total += count
    return {"rows": rows, "total": total}


def _row(name: str, desk: BadmailDesk, triple: BadTriple) -> dict[str, Any]:
    return {
        "id": triple.stem,
        "server": name,
        "size": triple.size,
        "written_at": triple.written_at,
        "age_seconds": max(0.0, desk.desk.clock.seconds() - triple.written_at),
        "reason": triple.reason or triple.fault,
        "sender": sender_text(triple.reverse_path) if triple.sender_known else None,
        "recipient_count": len(triple.recipients),
        "recipients": [str(one) for one in triple.recipients[:_LISTED_RECIPIENTS]],
        "source": triple.source,
        "queue_id": triple.queue_id,
    }


async def _answer_show(parts: Parts, id: str) -> Any:
    for name, desk in _desks(parts, None):
        triple = await desk.find(id)
        if triple is not None:
            start = await desk.content(id, 0, _HEADER_OCTETS)
            return {**_row(name, desk, triple), "header": header_lines(start)}
    return None


def header_lines(start: bytes) -> list[str]:
    """The lines of the header at the *start* of a content; what is no UTF-8 is escaped."""
    header, _, _ = start.replace(b"\r\n", b"\n").partition(b"\n\n")
    return header.decode("utf-8", "backslashreplace").splitlines()


async def _answer_content(parts: Parts, id: str, start: int) -> Any:
    for _, desk in _desks(parts, None):
        if await desk.find(id) is not None:
            octets = await desk.content(id, start, _PART_OCTETS)
            return b64encode(octets).decode("ascii")
    return None


async def _answer_requeue(parts: Parts, ids: list[str], to: list[str], who: str) -> Any:
    """What each of *ids* that is here has become, or why it has not."""
    done: list[dict[str, str]] = []
    for name, desk in list(_desks(parts, None)):
        for one in ids:
            triple = await desk.find(one)
            if triple is None:
                continue
            try:
                made = await desk.requeue(triple, list(map(parse_mailbox, to)), who)
                done.append({"id": one, "server": name, "became": made})
            except MailhostError as problem:
                done.append({"id": one, "server": name, "problem": str(problem)})
    return done


async def _answer_purge(
    parts: Parts,
    server: str | None,
    ids: list[str] | None,
    older: float | None,
    max_octets: int | None,
    who: str,
    dry_run: bool,
) -> Any:
    desks = list(_desks(parts, server))
    return sum([await one.purge(ids, older, max_octets, who, dry_run) for _, one in desks])


#: What may be asked.
QUESTIONS: Mapping[str, Callable[..., Maybe[Any]]] = {
    "badmail_page": _answer_page,
    "badmail_show": _answer_show,
    "badmail_content": _answer_content,
    "badmail_requeue": _answer_requeue,
    "badmail_purge": _answer_purge,
}


# ---- requests


async def _list(call: Call) -> Any:
    await check_server(call)
    after = call.query.get("after", "")
    if after:
        _checked(after)
    limit = min(call.limit, 1000)
    asked = {"server": call.server, "after": after, "limit": limit + 1}
    answers = await call.steered.ask("badmail_page", asked)
    rows = [row for part in answers.parts for row in part.value["rows"]]
    rows.sort(key=lambda row: str(row["id"]))
    return {
        "total": sum(part.value["total"] for part in answers.parts),
        "rows": rows[:limit],
        "next": rows[limit - 1]["id"] if len(rows) > limit else None,
        "missing_workers": answers.missing,
    }


def _checked(id: str) -> str:
    if not _NAME.fullmatch(id):
        raise Refusal(404, "what is in Badmail has a name of 24 hexadecimal digits", unknown=[id])
    return id


async def _show(call: Call) -> Any:
    return await _of_one(call, "badmail_show", {})


async def _content(call: Call) -> Any:
    start = call.query.get("start", "0")
    if not re.fullmatch(r"[0-9]{1,15}", start):
        raise Refusal(400, "start: a whole number")
    return {"base64": await _of_one(call, "badmail_content", {"start": int(start)})}


async def _of_one(call: Call, question: str, more: Mapping[str, Any]) -> Any:
    id = _checked(call.path["id"])
    answers = await call.steered.ask(question, {"id": id, **more})
    for part in answers.parts:
        if part.value is not None:
            return part.value
    raise Refusal(404, f"there is no {id} in Badmail", unknown=[id])


async def _requeue(call: Call) -> Any:
    ids = [_checked(one) for one in call.texts("ids")]
    to = call.texts("to") if "to" in call.body else []
    for address in to:
        try:
            parse_mailbox(address)
        except SyntaxProblem as wrong:
            raise Refusal(400, f"to: {wrong}") from None
    asked = {"ids": ids, "to": to, "who": str(call.caller)}
    answers = await call.steered.ask("badmail_requeue", asked)
    done = [one for part in answers.parts for one in part.value]
    known = {one["id"] for one in done}
    return {"done": done, "unknown": [one for one in ids if one not in known]}


async def _purge(call: Call) -> Any:
    await check_server(call)
    ids = [_checked(one) for one in call.texts("ids")] if "ids" in call.body else None
    older, most = call.body.get("older"), call.body.get("max_octets")
    for name, value in (("older", older), ("max_octets", most)):
        good = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        if value is not None and not good:
            raise Refusal(400, f"{name}: a number")
    if ids is None and older is None and most is None and call.body.get("all") is not True:
        raise Refusal(400, "ids, older, max_octets or all: one of them is needed")
    asked = {
        "server": call.server,
        "ids": ids,
        "older": older,
        "max_octets": most,
        "who": str(call.caller),
        "dry_run": bool(call.body.get("dry_run")),
    }
    answers = await call.steered.ask("badmail_purge", asked)
    count = sum(part.value for part in answers.parts)
    return {"messages": count, "missing_workers": answers.missing}


ROUTES = (
    Route("GET", "/v1/badmail", _list),
    Route("GET", "/v1/badmail/{id}", _show),
    Route("GET", "/v1/badmail/{id}/content", _content),
    Route("POST", "/v1/badmail/requeue", _requeue),
    Route("POST", "/v1/badmail/purge", _purge),
)
