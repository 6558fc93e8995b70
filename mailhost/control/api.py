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
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

from attrs import asdict, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from mailhost.config.faults import ConfigurationFaults
from mailhost.control.answers import session_order
from mailhost.control.callers import Caller
from mailhost.control.steered import Answers, Steered
from mailhost.errors import MailhostError

#: Rows in one page of a listing, where nothing is said and at most.
PAGE_ROWS, MOST_ROWS = 1000, 10_000
_MOST_BODY_OCTETS = 1 << 20


class Refusal(MailhostError):
    """
    A request that is not done.

    :ivar status: of HTTP.
    :ivar more: what is told beside the words.
    """

    def __init__(self, status: int, words: str, **more: Any) -> None:
        super().__init__(words)
        self.status = status
        self.more = more


@frozen
class Call:
    """
    One request.

    :ivar steered: the service.
    :ivar caller: who asks.
    :ivar path: what stands in the path's places.
    :ivar query: the first value of each name behind the question mark.
    :ivar body: the JSON table that came with it.
    """

    steered: Steered
    caller: Caller
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def server(self) -> str | None:
        """The virtual server that is meant; `None`: all of them."""
        return self.query.get("server")

    @property
    def limit(self) -> int:
        """
        How many rows are wanted.

        :raises Refusal: it is no number.
        """
        text = self.query.get("limit", str(PAGE_ROWS))
        if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= MOST_ROWS:
            raise Refusal(400, f"limit: a whole number from 1 to {MOST_ROWS}")
        return int(text)

    def texts(self, name: str) -> list[str]:
        """
        A list of texts in the body.

        :raises Refusal: it is none.
        """
        found = self.body.get(name)
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise Refusal(400, f"{name}: a list of texts")
        return found


Handler = Callable[[Call], Awaitable[Any]]


@frozen
class Route:
    """
    :ivar method: of HTTP; whatever is not GET changes something.
    :ivar path: with places in braces.
    :ivar handler: gives the answer, made of what JSON has.
    """

    method: str
    path: str
    handler: Handler

    def match(self, path: str) -> Mapping[str, str] | None:
        """What stands in the places of *path*; `None` where it is another one."""
        wanted, given = self.path.split("/"), path.split("/")
        if len(wanted) != len(given):
            return None
        places: dict[str, str] = {}
        for pattern, part in zip(wanted, given, strict=True):
            if pattern.startswith("{"):
                places[pattern[1:-1]] = unquote(part)
            elif pattern != part:
                return None
        return places


# ---- seeing


async def _status(call: Call) -> Any:
    view = await call.steered.view()
    waits = await call.steered.ask("waits", {"server": None})
    return {**asdict(view), "waits": _rows(waits), "missing_workers": waits.missing}


async def _sessions(call: Call) -> Any:
    await _check_server(call)
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
    await _check_server(call)
    answers = await call.steered.ask("sites", {"server": call.server})
    return {"rows": _rows(answers), "missing_workers": answers.missing}


async def _check_server(call: Call) -> None:
    """:raises Refusal: there is no virtual server of the name that was given."""
    if call.server is None:
        return
    view = await call.steered.view()
    if call.server not in {server.name for server in view.servers}:
        raise _no_server(call.server)


def _no_server(name: str) -> Refusal:
    return Refusal(404, f"there is no virtual server {name!r}")


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
        raise _no_server(name) from None
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
        gone: list[bool] = []
        request.notifyFinish().addBoth(lambda result: gone.append(True))
        answering = Deferred.fromCoroutine(self._answer(request))

        def send(answer: tuple[int, Any]) -> None:
            status, table = answer
            if gone:
                return
            request.setResponseCode(status)
            request.setHeader(b"content-type", b"application/json")
            request.write(json.dumps(table).encode("ascii"))
            request.finish()

        answering.addCallback(send)
        answering.addErrback(lambda why: self._log.failure("Control has stumbled", why))
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
                body=json.dumps(call.body),
                status=status,
                result=json.dumps(table),
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
