"""
The request to send a message, and what one process answers to it.

:Room: ``control``
:Called by: `mailhost.control.api` (routes), `mailhost.control.answers` (questions).
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any

from attrs import NOTHING, frozen

from mailhost.control.calls import Call, Route
from mailhost.control.door import MOST_BODY_OCTETS
from mailhost.control.refusal import Refusal, no_server
from mailhost.control.rights import Need
from mailhost.control.shapes import text
from mailhost.control.steered import Parts
from mailhost.errors import MailhostError
from mailhost.intake.pickup_file import BadPickupFile
from mailhost.intake.text_submission import submit_text
from mailhost.interfaces import Maybe


async def _answer_submit(parts: Parts, server: str, base64: str) -> Any:
    """Queue ids, or why there are none; `None`: the virtual server's Pickup is not here."""
    submitter = parts[server].submitter if server in parts else None
    if submitter is None:
        return None
    try:
        return {"ids": await submit_text(submitter, b64decode(base64))}
    except BadPickupFile as bad:
        return {"bad": bad.reason}
    except MailhostError as problem:
        return {"problem": str(problem)}


#: What may be asked.
QUESTIONS: Mapping[str, Callable[..., Maybe[Any]]] = {"submit": _answer_submit}


@frozen
class SubmitBody:
    """A message, as it would stand in a file in Pickup, and the virtual server it is for."""

    server: str = text(NOTHING, allowed="the name of a virtual server", most=64)
    base64: str = text(NOTHING, allowed="a Pickup file in base 64", most=MOST_BODY_OCTETS)


@frozen
class Submitted:
    """The queue ids of the message: one for each group of recipients that differ."""

    ids: tuple[str, ...]


async def _submit(call: Call) -> Submitted:
    server, content = call.body.server, call.body.base64
    try:
        b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(400, "base64: it is none") from None
    if server not in call.steered.names():
        raise no_server(server)
    found = await call.ask_holder("submit", {"server": server, "base64": content})
    if found is None:
        raise Refusal(409, f"{server} is stopped")
    if "bad" in found.value:
        raise Refusal(422, found.value["bad"])
    if "problem" in found.value:
        raise Refusal(409, found.value["problem"])
    return Submitted(tuple(found.value["ids"]))


ROUTES = (
    Route(
        "POST",
        "/v1/submissions",
        _submit,
        Submitted,
        "Sends a message.",
        body=SubmitBody,
        private=True,
        need=Need.RUN,
    ),
)
