"""
Our side of AUTH at a next hop.

:Room: ``smtp`` -- sans-I/O.
:RFC: 4954 §4; 4616, 5802, 7677.
:IIS: DEL-21.
:Called by: `mailhost.smtp.client_dialogue`.
"""

from __future__ import annotations

from base64 import b64encode
from collections import deque

from attrs import define, field, frozen

from mailhost.errors import SyntaxProblem
from mailhost.model.reply import Reply
from mailhost.smtp.grammar import parse_base64
from mailhost.smtp.sasl.plain import plain_response
from mailhost.smtp.sasl.scram import SCRAM, SaltGiven, ScramClient

#: A longer response is not put behind AUTH (RFC 4954 §4: 512 octets for the line).
_MAX_LINE_OCTETS = 510


@frozen
class LoggedIn:
    """The peer believes us."""


@define
class ClientLogin:
    """
    One login.

    :ivar mechanisms: those that may be used, the best first.
    """

    username: str
    password: str = field(repr=False)
    mechanisms: tuple[str, ...]
    _scram: ScramClient | None = field(default=None, init=False)
    # Responses that have not been asked for yet.
    _answers: deque[bytes] = field(factory=deque, init=False, repr=False)
    _proved: bool = field(default=True, init=False)

    def begin(self, offered: str) -> bytes:
        """
        The AUTH command.

        :param offered: the words behind AUTH in the answer to EHLO.
        :raises SyntaxProblem: none of our mechanisms is among them, or the name cannot
            be sent.
        """
        known = offered.upper().split()
        chosen = next((one for one in self.mechanisms if one in known), None)
        if chosen is None:
            raise SyntaxProblem(
                f"the host offers {' '.join(known) or 'no login'}, "
                f"we may use {', '.join(self.mechanisms)}"
            )
        if chosen == SCRAM:
            self._scram, self._proved = ScramClient(self.username), False
            return self._command(chosen, self._scram.first())
        if chosen == "PLAIN":
            return self._command(chosen, plain_response(self.username, self.password))
        self._answers.extend((self.username.encode("utf-8"), self.password.encode("utf-8")))
        return b"AUTH LOGIN\r\n"

    def _command(self, mechanism: str, response: bytes) -> bytes:
        line = f"AUTH {mechanism} ".encode("ascii") + b64encode(response)
        if len(line) <= _MAX_LINE_OCTETS:
            return line + b"\r\n"
        self._answers.append(response)
        return f"AUTH {mechanism}\r\n".encode("ascii")

    def hear(self, reply: Reply) -> bytes | SaltGiven | LoggedIn:
        """
        The next line to send, what to compute, or that it is done.

        :raises SyntaxProblem: the peer refuses, or does not follow the mechanism.
        """
        if reply.code == 235:
            if not self._proved:
                raise SyntaxProblem("the host has not proved that it knows the password")
            return LoggedIn()
        if reply.code != 334:
            raise SyntaxProblem(f"refused: {reply}")
        if self._answers:
            return _line(self._answers.popleft())
        if self._scram is None:
            raise SyntaxProblem("the host asks for more than the mechanism has")
        return self._hear_scram(self._scram, parse_base64(reply.words[0] if reply.words else ""))

    def _hear_scram(self, scram: ScramClient, challenge: bytes) -> bytes | SaltGiven:
        if not scram.has_salt:
            return scram.hear_first(challenge)
        if self._proved:
            raise SyntaxProblem("the host asks for more than the mechanism has")
        scram.hear_final(challenge)
        self._proved = True
        return _line(b"")

    def prove(self, salted: bytes) -> bytes:
        """The answer to `SaltGiven`, from `salted_password`."""
        assert self._scram is not None, "a salt is given by SCRAM"
        return _line(self._scram.final(salted))


def _line(response: bytes) -> bytes:
    return b64encode(response) + b"\r\n"
