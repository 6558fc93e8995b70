"""
A request, what may be wrong with it, and where requests of a kind go.

:Room: ``control``
:Called by: `mailhost.control.api`, and the tables of routes beside it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

from attrs import frozen

from mailhost.control.callers import Caller
from mailhost.control.steered import Steered
from mailhost.errors import MailhostError

#: Rows in one page of a listing, where nothing is said and at most.
PAGE_ROWS, MOST_ROWS = 1000, 10_000


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
    :ivar private: what came with the request is not for the log.
    """

    method: str
    path: str
    handler: Handler
    private: bool = False

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


async def check_server(call: Call) -> None:
    """:raises Refusal: there is no virtual server of the name that was given."""
    if call.server is None:
        return
    view = await call.steered.view()
    if call.server not in {server.name for server in view.servers}:
        raise no_server(call.server)


def no_server(name: str) -> Refusal:
    """There is no virtual server of this name."""
    return Refusal(404, f"there is no virtual server {name!r}")
