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
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from mailhost.config.units import parse_next_hop
from mailhost.control.calls import MOST_ROWS, PAGE_ROWS, Call, Route, check_server
from mailhost.control.contents import Content, ContentQuery
from mailhost.control.queue_answers import QueueMessage, QueueRow
from mailhost.control.refusal import Refusal
from mailhost.control.rights import Need
from mailhost.control.shapes import (
    OfServer,
    choice,
    nullable,
    number,
    rows,
    table,
    text,
    texts,
    truth,
    whole,
)
from mailhost.relay.steward import Action

#: Messages that are changed for one request.
MOST_AT_ONCE = 1000
#: Octets of content in one answer.
PART_OCTETS = 1 << 20

QUEUE_ID = "[0-9a-f]{24}"
_ID = re.compile(QUEUE_ID)
_MOST_CHARACTERS = 512


def check_ids(ids: Sequence[str]) -> list[str]:
    """
    *ids* in small letters.

    :raises Refusal: one of them is no queue id.
    """
    found = [one.lower() for one in ids]
    strange = [one for one in found if not _ID.fullmatch(one)]
    if strange:
        raise Refusal(404, "a queue id has 24 hexadecimal digits", unknown=strange)
    return found


def _after() -> Any:
    return text("", pattern=f"|{QUEUE_ID}", allowed="a queue id, 24 hexadecimal digits", most=24)


def _wanted() -> Any:
    return text(least=1, most=_MOST_CHARACTERS)


@frozen
class QueueQuery:
    """What is listed: a filter, and a page."""

    server: str | None = text(allowed="the name of a virtual server", most=64)
    after: str = _after()
    limit: int = whole(1, MOST_ROWS, PAGE_ROWS)
    sender: str | None = _wanted()
    domain: str | None = _wanted()
    recipient: str | None = _wanted()
    site: str | None = _wanted()
    older: float | None = number()
    held: str | None = choice("yes", "no")


@frozen
class FilterBody:
    """Which messages are meant; nothing said: all of them."""

    ids: list[str] | None = texts(None, pattern=QUEUE_ID)
    sender: str | None = _wanted()
    domain: str | None = _wanted()
    recipient: str | None = _wanted()
    site: str | None = _wanted()
    older: float | None = number()
    held: str | None = choice("yes", "no")


#: Nothing was said of a host; null means something.
NO_HOST = "."


@frozen
class ChangeBody:
    """What is done to mail, and to which."""

    filter: FilterBody = table(FilterBody)
    after: str = _after()
    limit: int = whole(1, MOST_AT_ONCE, MOST_AT_ONCE)
    dry_run: bool = truth()
    report: bool = truth()
    host: str | None = nullable(text(most=_MOST_CHARACTERS), NO_HOST)


@frozen
class QueueListing:
    """
    A page of what waits.

    :ivar next: where the next page begins; null: this is the last.
    :ivar stopped: virtual servers whose queues are not open.
    """

    next: str | None
    stopped: tuple[str, ...]
    missing_workers: tuple[int, ...]
    rows: Sequence[Mapping[str, Any]] = rows(QueueRow, ("worker", int))


@frozen
class Changed:
    """
    What was done, or with ``dry_run`` what would be.

    :ivar busy_messages: those that are being sent just now, and were left alone.
    :ivar ids: with ``dry_run``, of the ids that were asked for those that are there.
    :ivar next: where to go on; null: that was all.
    """

    messages: int
    recipients: int
    next: str | None
    stopped: tuple[str, ...]
    missing_workers: tuple[int, ...]
    busy_messages: int = 0
    busy_recipients: int = 0
    ids: tuple[str, ...] | None = None


def _filter(given: QueueQuery | FilterBody) -> dict[str, Any]:
    """For `mailhost.control.queue_answers`; what was not said is not in it."""
    names = ("sender", "domain", "recipient", "site", "older")
    wanted = {name: getattr(given, name) for name in names}
    wanted["held"] = None if given.held is None else given.held == "yes"
    if isinstance(given, FilterBody) and given.ids is not None:
        wanted["ids"] = check_ids(given.ids)
    return {name: value for name, value in wanted.items() if value is not None}


# ---- seeing


async def _list(call: Call) -> QueueListing:
    check_server(call)
    query = call.query
    return await _page(call, _filter(query), query.after, min(query.limit, 1000))


async def _page(
    call: Call, wanted: dict[str, Any], after: str, limit: int, brief: bool = False
) -> QueueListing:
    """One page of all queues together; see the module's words."""
    asked = {
        "server": call.query.server,
        "wanted": wanted,
        "after": after,
        "limit": limit,
        "brief": brief,
    }
    parts = await call.ask_all("queue_page", asked)
    found = [{**row, "worker": part.worker} for part in parts for row in part.value["rows"]]
    found.sort(key=lambda row: str(row["id"]))
    reached = [part.value["reached"] for part in parts if part.value["reached"] is not None]
    bound = min(reached, default=None)
    if bound is not None:
        found = [row for row in found if row["id"] <= bound]
    more = len(found) > limit
    return QueueListing(
        str(found[limit - 1]["id"]) if more else bound,
        tuple(sorted({name for part in parts for name in part.value["stopped"]})),
        call.missing,
        found[:limit],
    )


async def _show(call: Call) -> QueueMessage:
    id = check_ids([call.path["id"]])[0]
    found = await call.ask_holder("queue_message", {"id": id})
    if found is None:
        raise _not_queued(id)
    return QueueMessage(worker=found.worker, **found.value)


async def _content(call: Call) -> Content:
    id = check_ids([call.path["id"]])[0]
    asked = {"id": id, "start": call.query.start, "size": PART_OCTETS}
    found = await call.ask_holder("queue_content", asked)
    if found is None:
        raise _not_queued(id)
    return Content(found.value)


def _not_queued(id: str) -> Refusal:
    return Refusal(404, f"there is no message {id} in the queue", unknown=[id])


# ---- changing


async def _change(call: Call) -> Changed:
    """Do something to the next messages that are wanted, `MOST_AT_ONCE` at most."""
    action, body = call.path["action"], call.body
    check_server(call)
    wanted = _filter(body.filter)
    host = _host(action, body.host)
    page = await _page(call, wanted, body.after, body.limit, brief=True)
    ids = tuple(str(row["id"]) for row in page.rows)
    if body.dry_run:
        count = sum(row["recipient_count"] for row in page.rows)
        known = ids if "ids" in wanted else None
        return Changed(len(ids), count, page.next, page.stopped, call.missing, ids=known)
    if not ids:
        return Changed(0, 0, page.next, page.stopped, call.missing)
    asked = {
        "server": call.query.server,
        "wanted": wanted,
        "ids": list(ids),
        "action": action,
        "who": str(call.caller),
        "host": host,
        "report": body.report,
    }
    parts = await call.ask_all("queue_change", asked)
    names = ("messages", "recipients", "busy_messages", "busy_recipients")
    done = {name: sum(part.value[name] for part in parts) for name in names}
    return Changed(
        next=page.next, stopped=page.stopped, missing_workers=call.missing, ids=None, **done
    )


def _host(action: str, host: str | None) -> str | None:
    if action != "reroute":
        if host is not None and host != NO_HOST:
            raise Refusal(400, "host: only to reroute")
        return None
    if host == NO_HOST:
        raise Refusal(400, "host: where the mail is to go; null: where its domain says")
    if host is None:
        return None
    try:
        return str(parse_next_hop(host))
    except ValueError as wrong:
        raise Refusal(400, f"host: {wrong}") from None


_ACTIONS = tuple(one.name.lower() for one in Action)

ROUTES = (
    Route("GET", "/v1/queue", _list, QueueListing, "What waits, in pages.", query=QueueQuery),
    Route("GET", "/v1/queue/{id}", _show, QueueMessage, "One message."),
    Route(
        "GET",
        "/v1/queue/{id}/content",
        _content,
        Content,
        "A part of its content, from start on.",
        query=ContentQuery,
        need=Need.MAIL,
    ),
    Route(
        "POST",
        "/v1/queue/{action}",
        _change,
        Changed,
        "Does something to the next messages of a filter.",
        query=OfServer,
        body=ChangeBody,
        actions=_ACTIONS,
        need=Need.RUN,
    ),
)
