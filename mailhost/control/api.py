"""
The requests that control answers: a table of routes, JSON in and JSON out.

:Room: ``control``
:IIS: SES-01..05.
:Called by: `mailhost.control.door`, `mailhost.control.remote`, for each request.

A gate knows who asks, and `mailhost.control.rights` what he may do.  What changes something is
logged with who has asked for it and what came of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import attrs
from attrs import asdict, frozen
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from mailhost.config.faults import ConfigurationFaults
from mailhost.control import badmail, explanations, queue, submissions, traces
from mailhost.control.answers import session_order
from mailhost.control.callers import Caller, Gate
from mailhost.control.calls import MOST_ROWS, PAGE_ROWS, Call, Route, check_server
from mailhost.control.door import MOST_BODY_OCTETS, Page, send_later
from mailhost.control.openapi import describe
from mailhost.control.refusal import Refusal, no_server
from mailhost.control.rights import Need, Scoped
from mailhost.control.shapes import OfServer, read_page, rows, rows_in, text, texts, whole
from mailhost.control.steered import Answer, Steered
from mailhost.errors import MailhostError
from mailhost.model.view import ServerView, SessionView, WorkerView
from mailhost.relay.views import SiteView, Wait

#: So much of a body and of an answer is for the log.
_LOGGED_CHARACTERS = 500


# ---- seeing


@frozen(kw_only=True)
class WaitRow(Wait):
    """What mail of a virtual server waits for."""

    server: str
    worker: int


@frozen
class WarningRow:
    """What an operator should know: in words, and the setting behind it."""

    server: str
    reason: str
    setting: str
    worker: int


@frozen
class Status:
    """What there is now; ``missing_workers`` are down, or did not answer in time."""

    servers: tuple[ServerView, ...]
    workers: tuple[WorkerView, ...]
    missing_workers: tuple[int, ...]
    waits: Sequence[Mapping[str, Any]] = rows(WaitRow)
    warnings: Sequence[Mapping[str, Any]] = rows(WarningRow)


async def _status(call: Call) -> Status:
    # All at once: a worker that hangs is waited for once.
    asked: list[Deferred[Any]] = [
        Deferred.fromCoroutine(call.view()),
        Deferred.fromCoroutine(call.ask_all("waits", {"server": None})),
        Deferred.fromCoroutine(call.ask_all("warnings", {"server": None})),
    ]
    try:
        view, waits, warnings = await gatherResults(asked, consumeErrors=True)
    except FirstError as first:
        problem: Any = first.subFailure.value
        raise problem from None
    return Status(view.servers, view.workers, call.missing, _rows(waits), _rows(warnings))


@frozen
class SessionsQuery:
    """A page of sessions."""

    server: str | None = text(allowed="the name of a virtual server", most=64)
    after: str = text("", pattern="|[0-9]{1,4}-[0-9a-f]{1,16}", allowed="the id of a session")
    limit: int = whole(1, MOST_ROWS, PAGE_ROWS)


@frozen
class SessionListing:
    """A page of the sessions; ``next`` is where the next one begins."""

    total: int
    next: str | None
    missing_workers: tuple[int, ...]
    rows: Sequence[Mapping[str, Any]] = rows(SessionView)


async def _sessions(call: Call) -> SessionListing:
    check_server(call)
    query = call.query
    asked = {"server": query.server, "after": query.after, "limit": query.limit + 1}
    parts = await call.ask_all("sessions", asked)
    found = [row for part in parts for row in part.value["rows"]]
    found.sort(key=lambda row: session_order(row["id"]))
    return SessionListing(
        sum(part.value["total"] for part in parts),
        found[query.limit - 1]["id"] if len(found) > query.limit else None,
        call.missing,
        found[: query.limit],
    )


@frozen
class SiteListing:
    """Sites that have mail in memory, connections or a suspension."""

    missing_workers: tuple[int, ...]
    rows: Sequence[Mapping[str, Any]] = rows(SiteView, ("server", str), ("worker", int))


async def _sites(call: Call) -> SiteListing:
    check_server(call)
    parts = await call.ask_all("sites", {"server": call.query.server})
    return SiteListing(call.missing, _rows(parts))


@frozen
class CounterRow:
    """
    What one virtual server has counted in one process since that began.

    :ivar pid: of the process; another one begins with nothing.
    """

    server: str
    pid: int
    sessions: int
    accepted_messages: int
    relayed_messages: int
    delivered_messages: int
    failed_recipients: int
    delayed_recipients: int
    received_octets: int
    sent_octets: int


@frozen
class CounterListing:
    """Counters of all processes; their growth is a rate."""

    missing_workers: tuple[int, ...]
    rows: Sequence[Mapping[str, Any]] = rows(CounterRow, ("worker", int))


async def _counters(call: Call) -> CounterListing:
    parts = await call.ask_all("counters", {})
    return CounterListing(call.missing, _rows(parts))


def _rows(parts: Iterable[Answer]) -> list[dict[str, Any]]:
    """Lists of all workers as one; each row says whose it is."""
    return [{"worker": part.worker, **row} for part in parts for row in part.value]


# ---- changing


@frozen
class Steering:
    """The virtual server as it is then; null: it is gone, or nobody answers who knows it."""

    server: ServerView | None
    missing_workers: tuple[int, ...]


async def _steer(call: Call) -> Steering:
    name = call.path["name"]
    actions = {
        "start": call.steered.start,
        "pause": call.steered.pause,
        "stop": call.steered.stop,
    }
    try:
        await actions[call.path["action"]](name)
    except KeyError:
        raise no_server(name) from None
    view = await call.view()
    found = next((one for one in view.servers if one.name == name), None)
    return Steering(found, call.missing)


@frozen
class TerminateBody:
    """Sessions that are to end."""

    ids: list[str] = texts()


@frozen
class Terminated:
    """Those that were there, and those that were not."""

    ended: tuple[str, ...]
    unknown: tuple[str, ...]
    missing_workers: tuple[int, ...]


async def _terminate(call: Call) -> Terminated:
    ids = call.body.ids
    parts = await call.ask_all("terminate", {"ids": ids})
    ended = tuple(one for part in parts for one in part.value)
    if ids and not ended:
        raise Refusal(404, "there is no such session", unknown=ids)
    return Terminated(ended, tuple(one for one in ids if one not in ended), call.missing)


@frozen
class Reloaded:
    """The configuration is in force."""

    reloaded: bool


async def _reload(call: Call) -> Reloaded:
    try:
        await call.steered.reread()
    except ConfigurationFaults as wrong:
        faults = [str(fault) for fault in wrong.faults]
        raise Refusal(
            409, "the configuration has faults; nothing is changed", faults=faults
        ) from wrong
    return Reloaded(True)


# ---- describing


@frozen
class Description:
    """
    An OpenAPI document.

    :ivar openapi: the version of its language.
    """

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]
    security: tuple[dict[str, Any], ...]


async def _describe(call: Call) -> Description:
    return Description(**describe(ROUTES))


_STEER = "Lets a virtual server run, take no new sessions, or stop."

ROUTES: tuple[Route, ...] = (
    Route("GET", "/v1/status", _status, Status, "Virtual servers, workers, waits and warnings."),
    Route(
        "GET", "/v1/sessions", _sessions, SessionListing, "Sessions, in pages.", query=SessionsQuery
    ),
    Route("GET", "/v1/sites", _sites, SiteListing, "How sites are doing.", query=OfServer),
    Route("GET", "/v1/counters", _counters, CounterListing, "What was counted."),
    Route("GET", "/v1/openapi.json", _describe, Description, "This description."),
    Route(
        "POST",
        "/v1/servers/{name}/{action}",
        _steer,
        Steering,
        _STEER,
        actions=("start", "stop", "pause"),
        need=Need.RUN,
    ),
    Route(
        "POST",
        "/v1/sessions/terminate",
        _terminate,
        Terminated,
        "Ends sessions.",
        body=TerminateBody,
        need=Need.RUN,
    ),
    Route(
        "POST",
        "/v1/reload",
        _reload,
        Reloaded,
        "Reads the configuration; 409 with its faults.",
        need=Need.ADMINISTER,
    ),
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
    :param gate: knows who asks.
    """

    isLeaf = True
    _log = Logger()

    def __init__(self, steered: Steered, gate: Gate) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # upstream
        self._steered = steered
        self._gate = gate

    def render(self, request: Any) -> int:
        """See `Resource`."""
        answering = Deferred.fromCoroutine(self._answer(request)).addCallback(_in_json)
        sending = send_later(request, answering)
        sending.addErrback(lambda why: self._log.failure("Control has stumbled", why))
        return NOT_DONE_YET

    async def _answer(self, request: Any) -> tuple[int, Any]:
        """The status and what JSON is made of; never fails."""
        try:
            caller = await self._gate.admit(request)
            if not caller.rights.any:
                self._log.warn("{caller} may do nothing, and asks control", caller=str(caller))
                raise Refusal(403, "you may do nothing here")
            route, places = _find(request)
            steered = self._seen_by(caller, route)
            body = _body(request)
            call = Call(
                steered,
                caller,
                places,
                read_page(route.query, _query(request), as_text=True),
                read_page(route.body, body),
            )
        except Refusal as refusal:
            return refusal.status, {"error": str(refusal), **refusal.more}
        status, table = await self._handle(route, call)
        if route.method != "GET":
            self._log.info(
                "{caller}: {method} {path} {body}: {status} {result}",
                caller=str(caller),
                method=route.method,
                path=unquote(request.path.decode("ascii", "replace")),
                body="" if route.private else _shortened(body),
                status=status,
                result=_shortened(table),
            )
        return status, table

    def _seen_by(self, caller: Caller, route: Route) -> Steered:
        """
        The service, as far as *caller* may do what *route* is for.

        :raises Refusal: he may not.
        """
        scope = caller.rights.scope(route.need)
        if scope is None:
            return self._steered
        if not scope:
            self._log.warn(
                "{caller} may not {need}: {method} {path}",
                caller=str(caller),
                need=route.need.value,
                method=route.method,
                path=route.path,
            )
            raise Refusal(403, f"you may not {route.need.value} here")
        return Scoped(self._steered, scope)

    async def _handle(self, route: Route, call: Call) -> tuple[int, Any]:
        try:
            return 200, told(await route.handler(call))
        except Refusal as refusal:
            status, table = refusal.status, {"error": str(refusal), **refusal.more}
            return _as_far_as_known(status, table, call.missing)
        except MailhostError as problem:
            return 409, {"error": str(problem)}
        except Exception:
            self._log.failure("Control has stumbled")
            return 500, {"error": "a fault of the program; the log has it"}


def _as_far_as_known(
    status: int, table: dict[str, Any], missing: tuple[int, ...]
) -> tuple[int, dict[str, Any]]:
    """A refusal; what is not there may be where a worker is that is *missing*."""
    if not missing or status not in (404, 409):
        return status, table
    workers = ", ".join(map(str, missing))
    silent = f"worker {workers} does" if len(missing) == 1 else f"workers {workers} do"
    words = f"{table['error']}, as far as is known: {silent} not answer"
    return 503, {**table, "error": words, "missing_workers": list(missing)}


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
        if route.method != method:
            continue
        action = places.get("action")
        if action is not None and action not in route.actions:
            allowed = ", ".join(route.actions)
            raise Refusal(404, f"{action!r} cannot be done; allowed: {allowed}")
        return route, places
    allowed = ", ".join(sorted({route.method for route, _ in found}))
    request.setHeader("allow", allowed)
    raise Refusal(405, f"allowed: {allowed}")


def told(answer: Any) -> dict[str, Any]:
    """What JSON is made of; lists that came from other processes are made of it already."""
    return {
        one.name: value if rows_in(one) else _plain(value)
        for one in attrs.fields(type(answer))
        for value in (getattr(answer, one.name),)
    }


def _plain(value: Any) -> Any:
    if attrs.has(type(value)):
        return asdict(value)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value


def _query(request: Any) -> dict[str, str]:
    return {
        name.decode("utf-8", "replace"): values[0].decode("utf-8", "replace")
        for name, values in request.args.items()
    }


def _body(request: Any) -> dict[str, Any]:
    octets = request.content.read(MOST_BODY_OCTETS + 1)
    if len(octets) > MOST_BODY_OCTETS:
        raise Refusal(413, f"at most {MOST_BODY_OCTETS} octets")
    if not octets.strip():
        return {}
    try:
        table = json.loads(octets)
    except (ValueError, RecursionError):
        raise Refusal(400, "the body is no JSON") from None
    if not isinstance(table, dict):
        raise Refusal(400, "the body is no JSON table")
    return table
