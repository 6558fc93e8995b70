"""
Greylisting beside the reactor: the database is asked in a thread of its own.

:Room: ``intake``
:RFC: 6647.
:Called by: `mailhost.intake.stranger`; made by `mailhost.server`.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from attrs import astuple, define, field
from twisted.logger import Logger

from mailhost.model.access import client_network, client_place
from mailhost.model.address import Mailbox
from mailhost.model.greylist import GreylistTerms
from mailhost.policy.greylisting import Triplet, judge
from mailhost.spool.greylist import GreylistFile, Row

#: Clients that are known, of which nobody has to ask the database.
MAX_REMEMBERED = 10_000
#: The database hears of a known client again after so long, so that it stays known.
_REFRESH_SECONDS = 3600.0
#: Questions that may wait for the database; beyond it everybody passes.
MAX_WAITING = 1_000


def _judge(row: Row | None, terms: GreylistTerms, now: float) -> tuple[float, Row]:
    known = None if row is None else Triplet(row[0], row[1], bool(row[2]))
    wait, kept = judge(known, terms, now)
    first_at, last_at, passed = astuple(kept)
    return wait, (first_at, last_at, int(passed))


@define(eq=False)
class Greylist:
    """
    Greylisting of one virtual server.  Where it fails everybody passes (promise P4).

    :ivar path: the database, of all workers.
    :ivar run: runs a function in one thread, which is always the same.
    """

    path: Path
    run: Callable[..., Awaitable[Any]]
    _file: GreylistFile = field(init=False)
    # From a known client to when the database has heard of it.
    _known: OrderedDict[str, float] = field(factory=OrderedDict, init=False)
    _waiting: int = field(default=0, init=False)
    _failed: bool = field(default=False, init=False)

    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self._file = GreylistFile(self.path, _judge)

    def passes(self, peer: str, terms: GreylistTerms, now: float) -> bool:
        """Whether the client at *peer* is known, so that nobody need be asked."""
        heard_at = self._known.get(_place(peer, terms))
        return heard_at is not None and 0 <= now - heard_at < _REFRESH_SECONDS

    async def wait(
        self,
        peer: str,
        sender: Mailbox | None,
        recipient: Mailbox,
        terms: GreylistTerms,
        now: float,
    ) -> float:
        """How many seconds the client has to wait with this message; 0: it is let in."""
        if self._waiting >= MAX_WAITING:
            return 0.0
        place = _place(peer, terms)
        whose = str(sender or "").lower(), str(recipient).lower()
        self._waiting += 1
        try:
            wait, known = await self.run(self._file.ask, place, *whose, terms, now)
        except (OSError, sqlite3.Error) as error:
            if not self._failed:
                self._log.error(
                    "{path}: nobody is greylisted: {error}", path=self.path, error=error
                )
            self._failed = True
            return 0.0
        finally:
            self._waiting -= 1
        self._failed = False
        if known:
            self._remember(place, now)
        return float(wait)

    def _remember(self, place: str, now: float) -> None:
        self._known[place] = now
        self._known.move_to_end(place)
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)

    async def stop(self) -> None:
        """Close the database."""
        await self.run(self._file.close)


def _place(peer: str, terms: GreylistTerms) -> str:
    return client_network(peer) if terms.networks else client_place(peer)
