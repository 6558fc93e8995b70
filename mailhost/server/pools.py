"""
The threads of one virtual server: those for its directories, and how busy all of them are.

:Room: ``server``
:Called by: `mailhost.server.virtual_server`; promise P9.

Nothing is counted while work is done: who asks is told what each pool knows of itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from mailhost.delivery.drop import Run
from mailhost.model.view import PoolView


@define(eq=False)
class Pools:
    """
    :ivar reactor: has ``callFromThread``.
    :ivar name: of the virtual server.
    """

    reactor: Any
    name: str
    _opened: dict[str, ThreadPool] = field(factory=dict, init=False)

    def open(self, what: str, limit: int) -> Run:
        """
        Threads that begin with the first work.

        :param what: they are for.
        :param limit: of them at most.
        :returns: runs a function in one of them.
        """
        pool = self._opened[what] = ThreadPool(0, limit, f"{what} {self.name}")
        pool.start()
        return partial(deferToThreadPool, self.reactor, pool)

    def run(self, what: str, function: Any) -> Deferred[Any]:
        """Call *function* in a thread of those for *what*."""
        return deferToThreadPool(self.reactor, self._opened[what], function)

    def stop(self) -> None:
        """Wait for what they do; there are none until they are opened again."""
        while self._opened:
            self._opened.popitem()[1].stop()

    def views(self, *others: Mapping[str, ThreadPool]) -> Iterator[PoolView]:
        """
        How busy they are now.

        :param others: pools of the same virtual server that somebody else looks after.
        """
        for pools in (self._opened, *others):
            for what, pool in pools.items():
                yield PoolView(what, len(pool.working), pool.q.qsize(), pool.max)
