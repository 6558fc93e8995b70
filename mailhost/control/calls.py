"""
A request, and where requests of a kind go.

:Room: ``control``
:Called by: `mailhost.control.api`, and the tables of routes beside it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

from attrs import frozen

from mailhost.control.callers import Caller
from mailhost.control.refusal import no_server
from mailhost.control.rights import Need
from mailhost.control.shapes import Nothing
from mailhost.control.steered import Steered

#: Rows in one page of a listing, where nothing is said and at most.
PAGE_ROWS, MOST_ROWS = 1000, 10_000


@frozen
class Call:
    """
    One request.

    :ivar steered: the service, as far as the caller may see it.
    :ivar caller: who asks.
    :ivar path: what stands in the path's places.
    :ivar query: an instance of the route's ``query``: what stood behind the question mark.
    :ivar body: an instance of the route's ``body``: the JSON table that came with it.
    """

    steered: Steered
    caller: Caller
    path: Mapping[str, str]
    query: Any
    body: Any


Handler = Callable[[Call], Awaitable[Any]]


@frozen
class Route:
    """
    :ivar method: of HTTP; whatever is not GET changes something.
    :ivar path: with places in braces.
    :ivar handler: gives an instance of *answer*.
    :ivar answer: what goes back, a class of attributes that JSON has.
    :ivar words: what it gives or does, in one line.
    :ivar query: what may stand behind the question mark, a class of `mailhost.control.shapes`.
    :ivar body: what comes with it, another such class.
    :ivar actions: what may stand in the place ``action``, if there is one.
    :ivar private: what came with the request is not for the log.
    :ivar need: what the caller has to be allowed.
    """

    method: str
    path: str
    handler: Handler
    answer: type[Any]
    words: str
    query: type[Any] = Nothing
    body: type[Any] = Nothing
    actions: tuple[str, ...] = ()
    private: bool = False
    need: Need = Need.SEE

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
    server = call.query.server
    if server is None:
        return
    view = await call.steered.view()
    if server not in {one.name for one in view.servers}:
        raise no_server(server)
