"""
Small contents kept in memory between the commit and the first attempt.

:Room: ``spool``
:Called by: the SQLite store.

Most messages are delivered within a second of their commit, and reading them
back from the disk would be the larger half of the work.  The budget is fixed
(P7): when it is used up the oldest goes, and is read back if it is still needed.
"""

from __future__ import annotations

from attrs import define, field


@define
class HeldContents:
    """
    :ivar budget_octets: in all.
    """

    budget_octets: int
    _contents: dict[int, bytes] = field(factory=dict, init=False)
    _octets: int = field(default=0, init=False)

    def hold(self, key: int, octets: bytes) -> None:
        """Keep *octets* of the message *key* as long as there is room."""
        if len(octets) > self.budget_octets:
            return
        self._contents[key] = octets
        self._octets += len(octets)
        while self._octets > self.budget_octets:
            self.let_go(next(iter(self._contents)))

    def find(self, key: int) -> bytes | None:
        """The content of *key*, if it is still here."""
        return self._contents.get(key)

    def let_go(self, key: int) -> bool:
        """
        It will not be asked for soon; harmless when it is not here.

        :returns: whether it was.
        """
        octets = self._contents.pop(key, None)
        if octets is None:
            return False
        self._octets -= len(octets)
        return True
