"""
Which files in Pickup are whole, and which were looked at in vain.

:Room: ``intake`` -- no I/O; the times are the caller's.
:IIS: PIC-01 (files should be moved in), PIC-10.
:Called by: `mailhost.intake.pickup`, with what `mailhost.intake.claim` has seen.

A file that was moved in is whole.  Any other may still be written, so it has to
look the same twice, `SETTLE_SECONDS` apart.
"""

from __future__ import annotations

from attrs import define, field, frozen

from mailhost.intake.claim import Identity

SETTLE_SECONDS = 1.0
#: So many files are watched until they settle; the others have to wait.
MAX_WATCHED = 1000
#: So many files are remembered that stay where they are.
MAX_LEFT = 10_000


@frozen
class _Sighting:
    identity: Identity
    whole_at: float


@define(eq=False)
class Sightings:
    """What earlier looks have seen."""

    _watched: dict[str, _Sighting] = field(factory=dict, init=False)
    # With the number of the pass that saw it last, so that it can be forgotten.
    _left: dict[str, tuple[Identity, int]] = field(factory=dict, init=False)
    _pass: int = field(default=0, init=False)

    @property
    def watched(self) -> list[str]:
        """Files to look at again."""
        return list(self._watched)

    def is_whole(self, name: str, identity: Identity, started: float, ended: float) -> bool:
        """
        Whether the file may be taken now; it is forgotten then, else watched.

        :param started: when the look began that saw it, in seconds.
        :param ended: when that look was over.
        """
        known = self._watched.get(name)
        if known is None or known.identity != identity:
            if known is not None or len(self._watched) < MAX_WATCHED:
                self._watched[name] = _Sighting(identity, ended + SETTLE_SECONDS)
            return False
        if started < known.whole_at:
            return False
        del self._watched[name]
        return True

    def postpone(self, name: str, identity: Identity, until: float) -> None:
        """Do not take it before *until*."""
        self._watched[name] = _Sighting(identity, until)

    def forget(self, name: str) -> None:
        """It has gone, or is taken."""
        self._watched.pop(name, None)
        self._left.pop(name, None)

    # ---- what stays where it is

    def leave(self, name: str, identity: Identity) -> None:
        """Do not ask about it again until it is another."""
        self._watched.pop(name, None)
        self._left[name] = (identity, self._pass)

    def is_left(self, name: str, identity: Identity) -> bool:
        """Whether it is one that was left, unchanged."""
        known = self._left.get(name)
        if known is None or known[0] != identity:
            return False
        self._left[name] = (identity, self._pass)
        return True

    @property
    def may_leave(self) -> bool:
        """Whether one more can be remembered."""
        return len(self._left) < MAX_LEFT

    def passed(self) -> None:
        """Every name was read once more: what was not among them has gone."""
        self._left = {
            name: (identity, seen)
            for name, (identity, seen) in self._left.items()
            if seen >= self._pass
        }
        self._pass += 1
