"""
What is left over of each limit when every worker has its part, lent one by one.

:Room: ``workers``
:Called by: `mailhost.workers.supervisor`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping

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
    """
    Counts by key; who holds a loan is the number of a worker.

    The spare of a key that ends with a line end is that of each key that begins with it: there
    are too many sites, and nobody knows them beforehand.
    """

    _spares: Mapping[str, int] = field(factory=dict, init=False)
    _accounts: dict[str, _Account] = field(factory=dict, init=False)

    def set_spares(self, spares: Mapping[str, int]) -> None:
        """
        From now on lend so much of each key; what is not named is not lent.

        What was lent beyond that comes back by itself.
        """
        self._spares = dict(spares)
        for key, account in self._accounts.items():
            account.spare = self._spare(key)
            account.serve()

    def borrow(self, key: str, worker: int) -> Deferred[None]:
        """Fires when *worker* has one."""
        asked: Deferred[None] = Deferred()
        account = self._account(key)
        account.waiting.append((worker, asked))
        account.serve()
        return asked

    def borrow_now(self, key: str, worker: int) -> bool:
        """
        Whether *worker* has one now.

        Those who wait come first: they would wait for ever otherwise.
        """
        account = self._account(key)
        return not account.waiting and account.lend(worker)

    def give_back(self, key: str, worker: int) -> None:
        """*worker* has one less; one that it does not have is no concern."""
        account = self._accounts.get(key)
        if account is None or not account.lent[worker]:
            return
        account.lent[worker] -= 1
        account.serve()
        self._close_unused([key])

    def forget(self, worker: int) -> None:
        """*worker* has ended: what it had comes back, what it waited for is void."""
        for account in self._accounts.values():
            del account.lent[worker]
            account.waiting = deque(one for one in account.waiting if one[0] != worker)
            account.serve()
        self._close_unused(list(self._accounts))

    def lent(self, key: str) -> int:
        """How many are lent of *key*."""
        account = self._accounts.get(key)
        return 0 if account is None else account.lent.total()

    # ---- helpers

    def _spare(self, key: str) -> int:
        family, end, _ = key.partition("\n")
        return self._spares.get(key, self._spares.get(family + end, 0))

    def _account(self, key: str) -> _Account:
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = _Account(self._spare(key))
        return account

    def _close_unused(self, keys: Iterable[str]) -> None:
        """What is remembered is bounded by what is lent and waited for."""
        for key in keys:
            # Whoever was served meanwhile may have given back, and closed it, already.
            account = self._accounts.get(key)
            if account is not None and not account.waiting and not account.lent.total():
                del self._accounts[key]
