"""
A request, and where requests of a kind go.

:Room: ``control``
:Called by: `mailhost.control.api`, and the tables of routes beside it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

from attrs import field, frozen

from mailhost.control.callers import Caller
from mailhost.control.refusal import no_server
from mailhost.control.rights import Need
from mailhost.control.shapes import Nothing
from mailhost.control.steered import Answer, Steered
from mailhost.model.view import ServiceView

#: Rows in one page of a listing, where nothing is said and at most.
PAGE_ROWS, MOST_ROWS = 1000, 10_000


@frozen
class Call:
    """
    One request, and who has not answered to it.

    Handlers ask by its methods: so `mailhost.control.api` knows whether an answer is whole.

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
    _missing: set[int] = field(factory=set, init=False, eq=False)

    @property
    def missing(self) -> tuple[int, ...]:
        """Workers that are down, or did not answer in time, and may know more."""
        return tuple(sorted(self._missing))

    async def view(self) -> ServiceView:
        """What there is now, in all workers that answer."""
        view = await self.steered.view()
        self._missing.update(view.missing)
        return view

    async def ask_all(self, question: str, arguments: Mapping[str, Any]) -> tuple[Answer, ...]:
        """
        What every process answers to one of `mailhost.control.answers.QUESTIONS`.

        :raises mailhost.errors.MailhostError: it cannot be done; the words say why.
        """
        answers = await self.steered.ask(question, arguments)
        self._missing.update(answers.missing)
        return answers.parts

    async def ask_holder(self, question: str, arguments: Mapping[str, Any]) -> Answer | None:
        """
        What the one process answers that has what is asked about; those without it say `None`.

        The others may be silent then.  `None`: nobody has it who answers.

        :raises mailhost.errors.MailhostError: it cannot be done; the words say why.
        """
        answers = await self.steered.ask(question, arguments)
        found = next((part for part in answers.parts if part.value is not None), None)
        if found is None:
            self._missing.update(answers.missing)
        return found


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


def check_server(call: Call) -> None:
    """:raises Refusal: there is no virtual server of the name that was given."""
    server = call.query.server
    if server is not None and server not in call.steered.names():
        raise no_server(server)
