"""
The requests that control answers: a table of routes, JSON in and JSON out.

:Room: ``control``
:IIS: SES-01..05.
:Called by: `mailhost.control.door`, for each request on the local socket.

Whoever asks is known by the kernel's word.  What changes something is logged with who has
asked for it and what came of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from attrs import asdict
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from mailhost.config.faults import ConfigurationFaults
from mailhost.control import badmail, explanations, queue, submissions, traces
from mailhost.control.answers import session_order
from mailhost.control.callers import Caller
from mailhost.control.calls import Call, Refusal, Route, check_server, no_server
from mailhost.control.door import Page, send_later
from mailhost.control.steered import Answers, Steered
from mailhost.errors import MailhostError

_MOST_BODY_OCTETS = 1 << 20
#: So much of a body and of an answer is for the log.
_LOGGED_CHARACTERS = 500


# ---- seeing


async def _status(call: Call) -> Any:
    view = await call.steered.view()
    waits = await call.steered.ask("waits", {"server": None})
    warnings = await call.steered.ask("warnings", {"server": None})
    return {
        **asdict(view),
        "waits": _rows(waits),
        "warnings": _rows(warnings),
        "missing_workers": waits.missing,
    }


async def _sessions(call: Call) -> Any:
    await check_server(call)
    after = call.query.get("after", "")
    try:
        _ = session_order(after) if after else None
    except ValueError:
        raise Refusal(400, "after: the id of a session") from None
    limit = call.limit
    asked = {"server": call.server, "after": after, "limit": limit + 1}
    answers = await call.steered.ask("sessions", asked)
    rows = [row for part in answers.parts for row in part.value["rows"]]
    rows.sort(key=lambda row: session_order(row["id"]))
    return {
        "total": sum(part.value["total"] for part in answers.parts),
        "rows": rows[:limit],
        "next": rows[limit - 1]["id"] if len(rows) > limit else None,
        "missing_workers": answers.missing,
    }


async def _sites(call: Call) -> Any:
    await check_server(call)
    answers = await call.steered.ask("sites", {"server": call.server})
    return {"rows": _rows(answers), "missing_workers": answers.missing}


def _rows(answers: Answers) -> list[dict[str, Any]]:
    """Lists of all workers as one; each row says whose it is."""
    return [{"worker": part.worker, **row} for part in answers.parts for row in part.value]


# ---- changing


async def _steer(call: Call) -> Any:
    name, action = call.path["name"], call.path["action"]
    actions = {
        "start": call.steered.start,
        "pause": call.steered.pause,
        "stop": call.steered.stop,
    }
    if action not in actions:
        raise Refusal(404, f"{action!r} cannot be done; allowed: {', '.join(actions)}")
    try:
        await actions[action](name)
    except KeyError:
        raise no_server(name) from None
    view = await call.steered.view()
    return {"server": next((asdict(one) for one in view.servers if one.name == name), None)}


async def _terminate(call: Call) -> Any:
    ids = call.texts("ids")
    answers = await call.steered.ask("terminate", {"ids": ids})
    ended = [one for part in answers.parts for one in part.value]
    if ids and not ended:
        raise Refusal(404, "there is no such session", unknown=ids)
    return {"ended": ended, "unknown": [one for one in ids if one not in ended]}


async def _reload(call: Call) -> Any:
    try:
        await call.steered.reread()
    except ConfigurationFaults as wrong:
        faults = [str(fault) for fault in wrong.faults]
        raise Refusal(
            409, "the configuration has faults; nothing is changed", faults=faults
        ) from wrong
    return {"reloaded": True}


ROUTES = (
    Route("GET", "/v1/status", _status),
    Route("GET", "/v1/sessions", _sessions),
    Route("GET", "/v1/sites", _sites),
    Route("POST", "/v1/servers/{name}/{action}", _steer),
    Route("POST", "/v1/sessions/terminate", _terminate),
    Route("POST", "/v1/reload", _reload),
    *queue.ROUTES,
    *badmail.ROUTES,
    *explanations.ROUTES,
    *submissions.ROUTES,
    *traces.ROUTES,
)


# ---- HTTP


class ControlAPI(Resource):
    """
    Answers requests about a service.

    :param steered: the service.
    """

    isLeaf = True
    _log = Logger()

    def __init__(self, steered: Steered) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # upstream
        self._steered = steered

    def render(self, request: Any) -> int:
        """See `Resource`."""
        answering = Deferred.fromCoroutine(self._answer(request)).addCallback(_in_json)
        sending = send_later(request, answering)
        sending.addErrback(lambda why: self._log.failure("Control has stumbled", why))
        return NOT_DONE_YET

    async def _answer(self, request: Any) -> tuple[int, Any]:
        """The status and what JSON is made of; never fails."""
        try:
            caller = Caller.of(request.channel.transport)
            if not caller.is_trusted:
                self._log.warn("{caller} is refused at the control socket", caller=str(caller))
                raise Refusal(403, "only root and the server's own user may do this")
            route, places = _find(request)
            call = Call(self._steered, caller, places, _query(request), _body(request))
        except Refusal as refusal:
            return refusal.status, {"error": str(refusal), **refusal.more}
        status, table = await self._handle(route, call)
        if route.method != "GET":
            self._log.info(
                "{caller}: {method} {path} {body}: {status} {result}",
                caller=str(caller),
                method=route.method,
                path=unquote(request.path.decode("ascii", "replace")),
                body="" if route.private else _shortened(call.body),
                status=status,
                result=_shortened(table),
            )
        return status, table

    async def _handle(self, route: Route, call: Call) -> tuple[int, Any]:
        try:
            return 200, await route.handler(call)
        except Refusal as refusal:
            return refusal.status, {"error": str(refusal), **refusal.more}
        except MailhostError as problem:
            return 409, {"error": str(problem)}
        except Exception:
            self._log.failure("Control has stumbled")
            return 500, {"error": "a fault of the program; the log has it"}


def _in_json(answer: tuple[int, Any]) -> Page:
    status, table = answer
    return status, "application/json", json.dumps(table).encode("ascii")


def _shortened(table: Any) -> str:
    text = json.dumps(table)
    more = len(text) - _LOGGED_CHARACTERS
    return text if more <= 0 else f"{text[:_LOGGED_CHARACTERS]}... and {more} characters more"


def _find(request: Any) -> tuple[Route, Mapping[str, str]]:
    path = request.path.decode("ascii", "replace")
    found = [(route, places) for route in ROUTES if (places := route.match(path)) is not None]
    if not found:
        raise Refusal(404, "there is nothing of this name")
    method = request.method.decode("ascii", "replace")
    for route, places in found:
        if route.method == method:
            return route, places
    raise Refusal(405, f"allowed: {', '.join(sorted({route.method for route, _ in found}))}")


def _query(request: Any) -> dict[str, str]:
    return {
        name.decode("utf-8", "replace"): values[0].decode("utf-8", "replace")
        for name, values in request.args.items()
    }


def _body(request: Any) -> dict[str, Any]:
    octets = request.content.read(_MOST_BODY_OCTETS + 1)
    if len(octets) > _MOST_BODY_OCTETS:
        raise Refusal(413, f"at most {_MOST_BODY_OCTETS} octets")
    if not octets.strip():
        return {}
    try:
        table = json.loads(octets)
    except (ValueError, RecursionError):
        raise Refusal(400, "the body is no JSON") from None
    if not isinstance(table, dict):
        raise Refusal(400, "the body is no JSON table")
    return table
