"""
What one process answers when it is asked about its part of everything.

:Room: ``control``
:IIS: SES-01, SES-02.
:Called by: `mailhost.service`, where there is one process; `mailhost.workers.child`.

A question has a name and arguments, and an answer is made of what JSON has: it may
come from another process.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from attrs import asdict

from mailhost.control import badmail, explanations, metrics, queue_answers, submissions, traces
from mailhost.control.steered import Parts, chosen_parts
from mailhost.interfaces import Maybe
from mailhost.model.held import HeldDomains
from mailhost.relay.held import any_of


async def answer(parts: Parts, question: str, arguments: Mapping[str, Any]) -> Any:
    """
    The answer to *question*.

    :param parts: the virtual servers in this process, by name.
    :param arguments: of the question; ``scope``: names of virtual servers, beside which there are
        no others for whoever asks.
    :raises KeyError: it is none of `QUESTIONS`.
    """
    given = dict(arguments)
    scope = given.pop("scope", None)
    if scope is not None:
        parts = {name: part for name, part in parts.items() if name in scope}
    found = QUESTIONS[question](parts, **given)
    return await found if isinstance(found, Awaitable) else found


def session_order(session_id: str) -> tuple[int, int]:
    """
    Where a session stands in a listing: those of a worker together, older ones first.

    :raises ValueError: *session_id* is not what a session is called.
    """
    worker, _, number = session_id.partition("-")
    return int(worker), int(number, 16)


def _sessions(parts: Parts, server: str | None, after: str, limit: int) -> dict[str, Any]:
    """The next *limit* sessions behind the session *after*, and how many there are in all."""
    views = [view for part in chosen_parts(parts, server) for view in part.session_views()]
    total = len(views)
    if after:
        begin = session_order(after)
        views = [view for view in views if session_order(view.id) > begin]
    views.sort(key=lambda view: session_order(view.id))
    return {"total": total, "rows": [asdict(view) for view in views[:limit]]}


def _terminate(parts: Parts, ids: list[str]) -> list[str]:
    """End sessions; the ids of those that were here."""
    wanted = frozenset(ids)
    return [one for part in list(parts.values()) for one in part.terminate(wanted)]


def _sites(parts: Parts, server: str | None) -> list[dict[str, Any]]:
    """How each site is doing that has mail in memory, connections or a suspension."""
    return [
        {"server": part.name, **asdict(view)}
        for part in chosen_parts(parts, server)
        for relay in part.relays
        for view in relay.sites()
    ]


def _waits(parts: Parts, server: str | None) -> list[dict[str, Any]]:
    """What mail waits for that belongs to no single site."""
    return [
        {"server": part.name, **asdict(wait)}
        for part in chosen_parts(parts, server)
        for relay in part.relays
        for wait in relay.waits()
    ]


def _warnings(parts: Parts, server: str | None) -> list[dict[str, Any]]:
    """What an operator should know: overload, an open relay."""
    return [
        {"server": part.name, "reason": words, "setting": setting}
        for part in chosen_parts(parts, server)
        for words, setting in part.warnings()
    ]


async def _held(parts: Parts, server: str, domains: list[str], who: str | None) -> bool | None:
    """
    Whether mail waits for *domains*; *who*, if anybody, has it started.

    `None`: this process cannot say.

    :raises mailhost.errors.MailhostError: a queue cannot say, and the others have none.
    """
    part = parts.get(server)
    if part is None or part.state == "stopped":
        return None
    return await any_of(part.held_queues, HeldDomains(tuple(map(str, domains))), who)


#: What of a `Tally` is told by `_counters`.
COUNTED = (
    *("sessions", "accepted_messages", "relayed_messages", "delivered_messages"),
    *("failed_recipients", "delayed_recipients", "received_octets", "sent_octets"),
)


def _counters(parts: Parts) -> list[dict[str, Any]]:
    """What each virtual server has counted in this process since it began; needs no disk."""
    return [
        {"server": part.name, "pid": os.getpid()}
        | {name: getattr(part.tally, name) for name in COUNTED}
        for part in parts.values()
    ]


#: What may be asked.
QUESTIONS: Mapping[str, Callable[..., Maybe[Any]]] = {
    **queue_answers.QUESTIONS,
    **badmail.QUESTIONS,
    **submissions.QUESTIONS,
    **explanations.QUESTIONS,
    **traces.QUESTIONS,
    **metrics.QUESTIONS,
    "sessions": _sessions,
    "terminate": _terminate,
    "sites": _sites,
    "waits": _waits,
    "counters": _counters,
    "warnings": _warnings,
    "held": _held,
}
