"""
What is left over of each limit when every worker has its part, lent one by one.

:Room: ``workers``
:Called by: `mailhost.workers.supervisor`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

from attrs import define, field
from twisted.internet.defer import Deferred


@define(eq=False)
class _Account:
    """One limit: what may be lent, who has how much, who waits for one."""

    spare: int = 0
    lent: Counter[int] = field(factory=Counter)
    waiting: deque[tuple[int, Deferred[None]]] = field(factory=deque)

    def lend(self, worker: int) -> bool:
        if self.lent.total() >= self.spare:
            return False
        self.lent[worker] += 1
        return True

    def serve(self) -> None:
        """Lend to those who wait, in the order of asking."""
        while self.waiting and self.lend(self.waiting[0][0]):
            self.waiting.popleft()[1].callback(None)


@define(eq=False)
class Lender:
    """Counts by key; who holds a loan is the number of a worker."""

    _accounts: dict[str, _Account] = field(factory=dict, init=False)

    def set_spares(self, spares: Mapping[str, int]) -> None:
        """
        From now on lend so much of each key; what is not named is not lent.

        What was lent beyond that comes back by itself.
        """
        for key in set(self._accounts) | set(spares):
            account = self._accounts.setdefault(key, _Account())
            account.spare = spares.get(key, 0)
            account.serve()

    def borrow(self, key: str, worker: int) -> Deferred[None]:
        """Fires when *worker* has one."""
        asked: Deferred[None] = Deferred()
        account = self._accounts.setdefault(key, _Account())
        account.waiting.append((worker, asked))
        account.serve()
        return asked

    def borrow_now(self, key: str, worker: int) -> bool:
        """
        Whether *worker* has one now.

        Those who wait come first: they would wait for ever otherwise.
        """
        account = self._accounts.setdefault(key, _Account())
        return not account.waiting and account.lend(worker)

    def give_back(self, key: str, worker: int) -> None:
        """*worker* has one less; one that it does not have is no concern."""
        account = self._accounts.get(key)
        if account is None or not account.lent[worker]:
            return
        account.lent[worker] -= 1
        account.serve()

    def forget(self, worker: int) -> None:
        """*worker* has ended: what it had comes back, what it waited for is void."""
        for account in self._accounts.values():
            del account.lent[worker]
            account.waiting = deque(one for one in account.waiting if one[0] != worker)
            account.serve()

    def lent(self, key: str) -> int:
        """How many are lent of *key*."""
        account = self._accounts.get(key)
        return 0 if account is None else account.lent.total()
