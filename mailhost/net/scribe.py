"""
Hears what is said in a session: remembers it, so that a failed attempt can be looked at, and tells
the protocol log.

:Room: ``net``
:Called by: `mailhost.net.outbound`, where there is somebody to read it.

What opened the session is kept, and the transaction under way.  Contents are not, and nothing
of a login: neither side's.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from mailhost.model.protocol_log import OUTBOUND_COMMAND, OUTBOUND_RESPONSE, Turn
from mailhost.model.reply import printable
from mailhost.protocol_log.log import ProtocolLog
from mailhost.smtp.client_events import Phase
from mailhost.smtp.grammar import parse_verb

# Looked up here, because a member of an enumeration costs several times as much.
_LOGIN, _CONTENT, _DOT = Phase.LOGIN, Phase.CONTENT, Phase.DOT

#: Who has said something.
_US, _PEER = "C", "S"
#: Instead of what is not remembered.
_SECRET, _HIDDEN = b"(login)", b"(content)"
#: Behind them comes no BDAT that is a command.
_NO_CHUNK = (_HIDDEN, b"DATA\r\n")
#: Of an entry's text.
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
        if phase is _DOT or phase is _CONTENT:
            self._said_content(octets)
        else:
            self._add(_US, _SECRET if phase is _LOGIN else octets)

    def _said_content(self, octets: bytes) -> None:
        """One entry, however many blocks there are."""
        chunk = self._chunk(octets)
        if chunk:
            self._add(_US, chunk)
        if not self._current or self._current[-1][1] is not _HIDDEN:
            self._add(_US, _HIDDEN)

    def _chunk(self, octets: bytes) -> bytes:
        """The BDAT with which a content begins, if one does; what comes behind DATA is content."""
        if self._left_out or not octets.startswith(b"BDAT "):
            return b""
        for who, said in self._current:
            if who is _US and (said in _NO_CHUNK or said.endswith(b"\r\nDATA\r\n")):
                return b""
        return octets[: octets.find(b"\r\n") + 2]

    def heard(self, octets: bytes, phase: Phase) -> None:
        """The peer has said *octets* while we waited for *phase*."""
        if phase is _LOGIN and octets[:1] == b"3":
            octets = _SECRET
        self._add(_PEER, octets[:_MAX_OCTETS])

    def _add(self, who: str, octets: bytes) -> None:
        if len(self._current) < _MAX_ENTRIES:
            self._current.append((who, octets))
        else:
            self._left_out = True

    def text(self) -> str:
        """A line for each line that was said, with nothing in it that a terminal would obey."""
        lines = [
            f"{who}: {printable(line)}"
            for who, octets in (*self._opening, *self._current)
            for line in octets[:_MAX_OCTETS].decode("utf-8", "replace").splitlines()
        ]
        return "\n".join(lines + ["..."] * self._left_out)


@define(eq=False)
class LoggedScribe(Scribe):
    """
    A scribe who tells the protocol log of each command and each reply.

    :ivar log: is told.
    :ivar seconds: since the epoch, now.
    :ivar peer: the other end's IP address.
    :ivar port: its port.
    """

    log: ProtocolLog = field(kw_only=True)
    seconds: Callable[[], float] = field(kw_only=True)
    peer: str = field(kw_only=True)
    port: int = field(kw_only=True)
    _begun: float = field(init=False)
    _reply: bytes = field(default=b"", init=False)

    def __attrs_post_init__(self) -> None:
        self._begun = self.seconds()

    def said(self, octets: bytes, phase: Phase) -> None:
        """See `Scribe`."""
        in_content = phase is _DOT or phase is _CONTENT
        commands = self._chunk(octets) if in_content else octets
        super().said(octets, phase)
        for line in commands.split(b"\r\n"):
            if not line:
                continue
            verb, argument = parse_verb(line.decode("utf-8", "backslashreplace"))
            if phase is Phase.LOGIN:
                # The mechanism is no secret; a response is.
                is_first = verb == "AUTH"
                verb, argument = "AUTH", argument.partition(" ")[0] if is_first else ""
            self._tell(OUTBOUND_COMMAND, verb, argument, len(line) + 2)

    def heard(self, octets: bytes, phase: Phase) -> None:
        """See `Scribe`."""
        super().heard(octets, phase)
        *lines, self._reply = (self._reply + octets).split(b"\r\n")
        self._reply = self._reply[:_MAX_OCTETS]
        for line in lines:
            words = line[:_MAX_OCTETS].decode("utf-8", "backslashreplace")
            if phase is Phase.LOGIN and words[:1] == "3":
                words = words[:3]
            self._tell(OUTBOUND_RESPONSE, "", words, len(line) + 2)

    def _tell(self, name: str, verb: str, words: str, octets: int) -> None:
        now = self.seconds()
        # As IIS counts: the octets of either side stand in one column, the status is 0.
        turn = Turn(verb, words, 0, 0, octets, now - self._begun)
        self.log.outbound(now, self.peer, self.port, name, turn)
