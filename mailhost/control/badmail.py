"""
The requests about Badmail, and what one process answers to them.

:Room: ``control``
:IIS: §10.5, MSG-06.
:Called by: `mailhost.control.api` (routes), `mailhost.control.answers` (questions).

Of several workers one looks after Badmail; the others answer `None`.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from attrs import asdict, frozen

from mailhost.control.calls import MOST_ROWS, PAGE_ROWS, Call, Route, check_server
from mailhost.control.contents import Content, ContentQuery
from mailhost.control.refusal import Refusal
from mailhost.control.rights import Need
from mailhost.control.shapes import OfServer, number, rows, text, texts, truth, whole
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
#: Messages that are sent again, and thrown away, for one request.
_MOST_REQUEUED, _MOST_PURGED = 100, 1000
_STEM = "[0-9a-f]{24}"
_NAME = re.compile(_STEM)


@frozen
class BadmailRow:
    """
    A message in Badmail.

    :ivar size: octets.
    :ivar written_at: seconds since the epoch.
    :ivar reason: why it is there.
    :ivar sender: null: nobody knows.
    :ivar recipients: the first of them; ``recipient_count`` says how many there are.
    :ivar source: the Pickup file that it was; empty: it was none.
    :ivar queue_id: how it was called in the queue; empty: it was not there.
    """

    id: str
    server: str
    size: int
    written_at: float
    age_seconds: float
    reason: str
    sender: str | None
    recipient_count: int
    recipients: tuple[str, ...]
    source: str
    queue_id: str


@frozen(kw_only=True)
class BadmailMessage(BadmailRow):
    """A message in Badmail, with the lines of its header."""

    header: tuple[str, ...]


# ---- what one process answers


def _desks(parts: Parts, server: str | None) -> Iterator[tuple[str, BadmailDesk]]:
    for part in chosen_parts(parts, server):
        desk = part.badmail_desk
        if desk is not None:
            yield part.name, desk


def _elsewhere(parts: Parts) -> bool:
    """Whether another process looks after Badmail, or nobody does."""
    return next(_desks(parts, None), None) is None


async def _answer_page(parts: Parts, server: str | None, after: str, limit: int) -> Any:
    if _elsewhere(parts):
        return None
    rows: list[Any] = []
    total = 0
    for name, desk in _desks(parts, server):
        triples, count = await desk.page(after, limit)
        rows += [_row(name, desk, triple) for triple in triples]
        total += count
    return {"rows": rows, "total": total}


def _row(name: str, desk: BadmailDesk, triple: BadTriple) -> dict[str, Any]:
    row = BadmailRow(
        id=triple.stem,
        server=name,
        size=triple.size,
        written_at=triple.written_at,
        age_seconds=max(0.0, desk.desk.clock.seconds() - triple.written_at),
        reason=triple.reason or triple.fault,
        sender=sender_text(triple.reverse_path) if triple.sender_known else None,
        recipient_count=len(triple.recipients),
        recipients=tuple(str(one) for one in triple.recipients[:_LISTED_RECIPIENTS]),
        source=triple.source,
        queue_id=triple.queue_id,
    )
    return asdict(row)


async def _answer_show(parts: Parts, id: str) -> Any:
    """The message, empty where there is none."""
    if _elsewhere(parts):
        return None
    for name, desk in _desks(parts, None):
        triple = await desk.find(id)
        if triple is not None:
            start = await desk.content(id, 0, _HEADER_OCTETS)
            return {**_row(name, desk, triple), "header": header_lines(start)}
    return {}


def header_lines(start: bytes) -> list[str]:
    """The lines of the header at the *start* of a content; what is no UTF-8 is escaped."""
    header, _, _ = start.replace(b"\r\n", b"\n").partition(b"\n\n")
    return header.decode("utf-8", "backslashreplace").splitlines()


async def _answer_content(parts: Parts, id: str, start: int) -> Any:
    """A part of its content, empty where there is no such message."""
    if _elsewhere(parts):
        return None
    for _, desk in _desks(parts, None):
        if await desk.find(id) is not None:
            octets = await desk.content(id, start, _PART_OCTETS)
            return {"base64": b64encode(octets).decode("ascii")}
    return {}


async def _answer_requeue(parts: Parts, ids: list[str], to: list[str], who: str) -> Any:
    """What each of *ids* that is here has become, or why it has not."""
    if _elsewhere(parts):
        return None
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
    limit: int,
) -> Any:
    if _elsewhere(parts):
        return None
    count = left = 0
    known: list[str] = []
    for _, desk in list(_desks(parts, server)):
        purged = await desk.purge(ids, older, max_octets, who, dry_run, limit - count)
        count += purged.count
        left += purged.left
        known += purged.stems if ids is not None else ()
    return {"count": count, "left": left, "known": known}


#: What may be asked.
QUESTIONS: Mapping[str, Callable[..., Maybe[Any]]] = {
    "badmail_page": _answer_page,
    "badmail_show": _answer_show,
    "badmail_content": _answer_content,
    "badmail_requeue": _answer_requeue,
    "badmail_purge": _answer_purge,
}


# ---- requests


@frozen
class BadmailQuery:
    """A page of what lies in Badmail."""

    server: str | None = text(allowed="the name of a virtual server", most=64)
    after: str = text("", most=64)
    limit: int = whole(1, MOST_ROWS, PAGE_ROWS)


@frozen
class RequeueBody:
    """What is sent again, and to whom; nobody named: to those it was for."""

    ids: list[str] = texts(pattern=_STEM, most=_MOST_REQUEUED)
    to: list[str] = texts(())


@frozen
class PurgeBody:
    """
    What is thrown away: some, what is older, what is too much, or all; one has to be said.

    :ivar older: seconds.
    :ivar max_octets: the oldest go until so much is left.
    :ivar dry_run: only count; all that would go, whatever the *limit*.
    :ivar limit: so many now, the oldest first.
    """

    ids: list[str] | None = texts(None, pattern=_STEM)
    older: float | None = number()
    max_octets: float | None = number(most=1e15, allowed="a number of octets")
    all: bool = truth()
    dry_run: bool = truth()
    limit: int = whole(1, _MOST_PURGED, _MOST_PURGED)


@frozen
class BadmailListing:
    """A page of Badmail; ``next`` is where the next one begins."""

    total: int
    next: str | None
    missing_workers: tuple[int, ...]
    rows: Sequence[Mapping[str, Any]] = rows(BadmailRow)


@frozen
class Requeued:
    """What became of one message: a queue id or a Pickup file, or why nothing did."""

    id: str
    server: str
    became: str = ""
    problem: str = ""


@frozen
class RequeueAnswer:
    """What became of each."""

    missing_workers: tuple[int, ...]
    unknown: tuple[str, ...]
    done: Sequence[Mapping[str, Any]] = rows(Requeued)


@frozen
class Purged:
    """
    How many were thrown away, or would be.

    :ivar left: how many more are to be thrown away: ask again.
    :ivar ids: with ``dry_run``, of the ids that were asked for those that would.
    """

    messages: int
    left: int
    missing_workers: tuple[int, ...]
    ids: tuple[str, ...] | None = None


async def _list(call: Call) -> BadmailListing:
    check_server(call)
    after, limit = call.query.after, min(call.query.limit, 1000)
    if after:
        _checked(after)
    asked = {"server": call.query.server, "after": after, "limit": limit + 1}
    answer = await call.ask_holder("badmail_page", asked)
    page: Any = answer.value if answer is not None else {"total": 0, "rows": []}
    found = sorted(page["rows"], key=lambda row: str(row["id"]))
    return BadmailListing(
        page["total"],
        found[limit - 1]["id"] if len(found) > limit else None,
        call.missing,
        found[:limit],
    )


def _checked(id: str) -> str:
    if not _NAME.fullmatch(id):
        raise Refusal(404, "what is in Badmail has a name of 24 hexadecimal digits", unknown=[id])
    return id


async def _show(call: Call) -> BadmailMessage:
    return BadmailMessage(**await _of_one(call, "badmail_show", {}))


async def _content(call: Call) -> Content:
    return Content(**await _of_one(call, "badmail_content", {"start": call.query.start}))


async def _of_one(call: Call, question: str, more: Mapping[str, Any]) -> Any:
    id = _checked(call.path["id"])
    answer = await call.ask_holder(question, {"id": id, **more})
    if answer is not None and answer.value:
        return answer.value
    raise Refusal(404, f"there is no {id} in Badmail", unknown=[id])


async def _requeue(call: Call) -> RequeueAnswer:
    ids = [_checked(one) for one in call.body.ids]
    to = list(call.body.to)
    for address in to:
        try:
            parse_mailbox(address)
        except SyntaxProblem as wrong:
            raise Refusal(400, f"to: {wrong}") from None
    asked = {"ids": ids, "to": to, "who": str(call.caller)}
    answer = await call.ask_holder("badmail_requeue", asked)
    done = answer.value if answer is not None else []
    known = {one["id"] for one in done}
    return RequeueAnswer(call.missing, tuple(one for one in ids if one not in known), done)


async def _purge(call: Call) -> Purged:
    check_server(call)
    body = call.body
    ids = None if body.ids is None else [_checked(one) for one in body.ids]
    if ids is None and body.older is None and body.max_octets is None and not body.all:
        raise Refusal(400, "ids, older, max_octets or all: one of them is needed")
    asked = {
        "server": call.query.server,
        "ids": ids,
        "older": body.older,
        "max_octets": body.max_octets,
        "who": str(call.caller),
        "dry_run": body.dry_run,
        "limit": body.limit,
    }
    answer = await call.ask_holder("badmail_purge", asked)
    found: Any = answer.value if answer is not None else {"count": 0, "left": 0, "known": []}
    known = tuple(found["known"]) if body.dry_run and ids is not None else None
    return Purged(found["count"], found["left"], call.missing, known)


ROUTES = (
    Route(
        "GET",
        "/v1/badmail",
        _list,
        BadmailListing,
        "What lies in Badmail, in pages.",
        query=BadmailQuery,
    ),
    Route("GET", "/v1/badmail/{id}", _show, BadmailMessage, "One message in Badmail."),
    Route(
        "GET",
        "/v1/badmail/{id}/content",
        _content,
        Content,
        "A part of its content, from start on.",
        query=ContentQuery,
        need=Need.MAIL,
    ),
    Route(
        "POST",
        "/v1/badmail/requeue",
        _requeue,
        RequeueAnswer,
        "Sends some again.",
        body=RequeueBody,
        need=Need.RUN,
    ),
    Route(
        "POST",
        "/v1/badmail/purge",
        _purge,
        Purged,
        "Throws some away.",
        query=OfServer,
        body=PurgeBody,
        need=Need.RUN,
    ),
)
