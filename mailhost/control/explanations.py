"""
The request to explain what would become of a message, and what one process answers to it.

:Room: ``control``
:Called by: `mailhost.control.api` (routes), `mailhost.control.answers` (questions).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any

from attrs import NOTHING, asdict, frozen

from mailhost.control.calls import Call, Route, check_server
from mailhost.control.refusal import Refusal
from mailhost.control.shapes import choice, text
from mailhost.control.steered import Parts
from mailhost.errors import SyntaxProblem
from mailhost.interfaces import Maybe
from mailhost.model.address import Mailbox
from mailhost.model.explanation import Explanation
from mailhost.model.listing import NULL_SENDER
from mailhost.smtp.grammar import parse_mailbox

#: Whoever asks about no client in particular asks about this machine.
_HERE = "127.0.0.1"


def _path(text: str) -> Mailbox | None:
    return None if text in ("", NULL_SENDER) else parse_mailbox(text)


async def _answer_explain(
    parts: Parts, server: str, client: str, sender: str, to: str, login: str | None, secure: bool
) -> Any:
    """The explanation; `None`: the virtual server does not run here."""
    explainer = parts[server].explainer() if server in parts else None
    if explainer is None:
        return None
    found = await explainer.explain(client, _path(sender), parse_mailbox(to), login, secure)
    return asdict(found)


#: What may be asked.
QUESTIONS: Mapping[str, Callable[..., Maybe[Any]]] = {"explain": _answer_explain}


@frozen
class ExplainQuery:
    """
    A message that nobody has sent.

    :ivar from_: its sender; ``<>``, or nothing: a report.
    :ivar client: the IP address it comes from.
    :ivar login: who has logged in there.
    :ivar secure: whether TLS is on where it is offered.
    """

    to: str = text(NOTHING, allowed="an address", least=1)
    from_: str = text(NULL_SENDER)
    client: str = text(_HERE, allowed="an IP address")
    login: str | None = text()
    secure: str = choice("yes", "no", default="yes")
    server: str | None = text(allowed="the name of a virtual server", most=64)


@frozen(kw_only=True)
class Explained(Explanation):
    """An explanation, and who gives it."""

    server: str
    worker: int


async def _explain(call: Call) -> Explained:
    """In the first worker that answers: what is known of a site is each worker's own."""
    check_server(call)
    query = call.query
    server = query.server or next(iter(call.steered.names()), None)
    if server is None:
        raise Refusal(409, "there is no virtual server")
    asked = {
        "server": server,
        "client": _client(query.client),
        "sender": _checked("from", query.from_),
        "to": _checked("to", query.to),
        "login": query.login,
        "secure": query.secure == "yes",
    }
    if asked["to"] in ("", NULL_SENDER):
        raise Refusal(400, "to: an address")
    found = await call.ask_holder("explain", asked)
    if found is None:
        raise Refusal(409, f"{server} is stopped")
    return Explained(server=server, worker=found.worker, **found.value)


def _client(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise Refusal(400, "client: an IP address") from None


def _checked(name: str, text: str) -> str:
    try:
        _path(text)
    except SyntaxProblem as wrong:
        raise Refusal(400, f"{name}: {wrong}") from None
    return text


ROUTES = (
    Route(
        "GET",
        "/v1/explain",
        _explain,
        Explained,
        "What would become of a message, and why.",
        query=ExplainQuery,
    ),
)
