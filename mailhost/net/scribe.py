"""
Remembers what was said in a session, so that a failed attempt can be looked at.

:Room: ``net``
:Called by: `mailhost.net.outbound`, where there is somebody to read it.

What opened the session is kept, and the transaction under way.  Contents are not, and nothing
of a login: neither side's.
"""

from __future__ import annotations

from attrs import define, field

from mailhost.model.reply import printable
from mailhost.smtp.client_events import Phase

_MAX_OCTETS = 2048
_MAX_ENTRIES = 300


@define(eq=False)
class Scribe:
    """One session's words: ``C`` is us, ``S`` the peer."""

    _opening: list[tuple[str, bytes]] = field(factory=list, init=False)
    _current: list[tuple[str, bytes]] = field(factory=list, init=False)
    _left_out: bool = field(default=False, init=False)

    def begin(self) -> None:
        """A transaction begins; the one before is forgotten."""
        if not self._opening:
            self._opening = self._current
        self._current = []
        self._left_out = False

    def said(self, octets: bytes, phase: Phase) -> None:
        """We have said *octets*; *phase* is what we wait for then."""
        if phase is Phase.LOGIN:
            self._add("C", b"(login)")
        elif phase is Phase.CONTENT or (phase is Phase.DOT and self._last_is_content):
            if not self._last_is_content:
                self._add("C", b"(content)")
        else:
            self._add("C", octets)

    @property
    def _last_is_content(self) -> bool:
        return bool(self._current) and self._current[-1][1] == b"(content)"

    def heard(self, octets: bytes, phase: Phase) -> None:
        """The peer has said *octets* while we waited for *phase*."""
        self._add("S", b"(login)" if phase is Phase.LOGIN and octets[:1] == b"3" else octets)

    def _add(self, who: str, octets: bytes) -> None:
        if len(self._current) < _MAX_ENTRIES:
            self._current.append((who, octets[:_MAX_OCTETS]))
        else:
            self._left_out = True

    def text(self) -> str:
        """A line for each line that was said, with nothing in it that a terminal would obey."""
        lines = [
            f"{who}: {printable(line)}"
            for who, octets in (*self._opening, *self._current)
            for line in octets.decode("utf-8", "replace").splitlines()
        ]
        return "\n".join(lines + ["..."] * self._left_out)
