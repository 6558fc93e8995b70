"""
The server's dialogue, with somebody who writes down each command and its reply.

:Room: ``smtp`` -- sans-I/O.
:IIS: GEN-08; what IIS logs of a session, command by command.
:Called by: `mailhost.net.inbound`, in place of `ServerDialogue` where a protocol log is on; a
    session without one pays nothing.

A dialogue takes the next command when the last has its reply, so the two belong together.
What is said in an exchange of AUTH is not told, nor a line that is no command: it may be
the password of a client that has lost its way.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from mailhost.model.protocol_log import Turn
from mailhost.model.reply import Reply
from mailhost.smtp.chunks import ChunkedContent
from mailhost.smtp.commands import ENDING, NOT_OFFERED, TABLE
from mailhost.smtp.content import ContentReader
from mailhost.smtp.grammar import parse_verb
from mailhost.smtp.server_dialogue import ServerDialogue

_KNOWN = frozenset(TABLE) | NOT_OFFERED | frozenset(ENDING) | {"LHLO"}
#: Positive replies that only lead to the real one: 334, 354.
_HALF = range(300, 400)


@define
class RecordedDialogue(ServerDialogue):
    """
    One session.

    :ivar tell: takes each exchange.
    """

    tell: Callable[[Turn], None] = field(kw_only=True)
    _verb: str = field(default="", init=False)
    _argument: str = field(default="", init=False)
    _received: int = field(default=0, init=False)
    _sent: int = field(default=0, init=False)
    _begun: float = field(default=0.0, init=False)

    def _command(self, line: bytes) -> None:
        verb, argument = parse_verb(line.decode("utf-8", "backslashreplace"))
        if verb not in _KNOWN:
            verb, argument = "UNKNOWN", ""
        elif verb == "AUTH":
            argument = argument.partition(" ")[0]
        self._note(verb, argument, len(line) + 2)
        super()._command(line)

    def _login_line(self, line: bytes) -> None:
        self._note(self._verb or "AUTH", self._argument, len(line) + 2)
        super()._login_line(line)

    def _note(self, verb: str, argument: str, octets: int) -> None:
        if verb != "AUTH" or not self._received:
            self._begun = self.seconds()
        self._verb, self._argument = verb, argument
        self._received += octets

    def _read_content(self, reader: ContentReader) -> None:
        before = len(self._buffer)
        super()._read_content(reader)
        self._received += before - len(self._buffer)

    def _read_chunk(self, chunks: ChunkedContent) -> None:
        before = len(self._buffer)
        super()._read_chunk(chunks)
        self._received += before - len(self._buffer)

    def _put(self, reply: Reply) -> None:
        before = len(self._out)
        super()._put(reply)
        self._sent += sum(map(len, self._out[before:]))
        if reply.code in _HALF or (not self._verb and reply.positive):
            return  # more is to come; the banner belongs to no command
        argument = self._argument
        if self._verb in ("DATA", "BDAT") and reply.code == 250 and reply.words[0][:1] == "<":
            argument = reply.words[0].partition(" ")[0]  # IIS names the message here
        seconds = self.seconds() - self._begun if self._verb else 0.0
        self.tell(Turn(self._verb, argument, reply.code, self._received, self._sent, seconds))
        self._verb = self._argument = ""
        self._received = self._sent = 0
