"""
Our side of AUTH at a next hop.

:Room: ``smtp`` -- sans-I/O.
:RFC: 4954 §4.
:IIS: DEL-21, DEL-22.
:Called by: `mailhost.smtp.client_dialogue`.
"""

from __future__ import annotations

from base64 import b64encode

from attrs import define, field, frozen

from mailhost.errors import SyntaxProblem
from mailhost.model.reply import Reply
from mailhost.smtp.grammar import EncodingProblem, parse_base64
from mailhost.smtp.sasl.base import Work
from mailhost.smtp.sasl.client import CLIENTS, ClientMechanism, Credentials
from mailhost.smtp.sasl.gssapi import Context

#: A longer response is not put behind AUTH (RFC 4954 §4: 512 octets for the line).
_MAX_LINE_OCTETS = 510


@frozen
class LoggedIn:
    """The peer believes us."""


@define
class ClientLogin:
    """
    One login.

    :ivar secret: a password, or an access token.
    :ivar mechanisms: those that may be used, the best first.
    :ivar host: whom we mean to talk to.
    :ivar now: seconds since the epoch.
    :ivar context: for GSSAPI.
    """

    username: str
    secret: str = field(repr=False)
    mechanisms: tuple[str, ...]
    host: str = ""
    now: float = 0.0
    context: Context | None = None
    _chosen: str = field(default="", init=False)
    _mechanism: ClientMechanism | None = field(default=None, init=False)
    _begun: bool = field(default=False, init=False)
    # A first response that has not been asked for yet.
    _held: bytes | None = field(default=None, init=False, repr=False)

    def begin(self, offered: str) -> bytes | Work:
        """
        The AUTH command, or what has to be done for it.

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
        self._chosen = chosen
        self._mechanism = CLIENTS[chosen](
            Credentials(self.username, self.secret, self.host, self.now, self.context)
        )
        first = self._mechanism.first()
        return first if isinstance(first, Work) else self._command(first)

    def _command(self, response: bytes | None) -> bytes:
        self._begun = True
        if response is not None:
            # RFC 4954 §4: an empty response is "=".
            line = f"AUTH {self._chosen} ".encode("ascii") + (b64encode(response) or b"=")
            if len(line) <= _MAX_LINE_OCTETS:
                return line + b"\r\n"
            self._held = response
        return f"AUTH {self._chosen}\r\n".encode("ascii")

    def hear(self, reply: Reply) -> bytes | Work | LoggedIn:
        """
        The next line to send, what to compute, or that it is done.

        :raises SyntaxProblem: the peer refuses, or does not follow the mechanism.
        """
        mechanism = self._mechanism
        assert mechanism is not None, "a reply to AUTH"
        if reply.code == 235:
            if not mechanism.proved:
                raise SyntaxProblem("the host has not proved that it knows the password")
            return LoggedIn()
        if reply.code != 334:
            why = f" ({mechanism.complaint})" if mechanism.complaint else ""
            raise SyntaxProblem(f"refused: {reply}{why}")
        held, self._held = self._held, None
        if held is not None:
            return _line(held)
        answer = mechanism.hear(_challenge_in(reply))
        return answer if isinstance(answer, Work) else _line(answer)

    def worked(self, octets: bytes) -> bytes:
        """The line that follows when `Work` has given *octets*."""
        assert self._mechanism is not None, "it has asked for it"
        response = self._mechanism.worked(octets)
        return _line(response) if self._begun else self._command(response)


def _challenge_in(reply: Reply) -> bytes:
    """
    What the host asks; nothing where it cannot be read.

    Some hosts write the prompts of LOGIN as they like, and who reads his challenge refuses
    an empty one.
    """
    try:
        return parse_base64(reply.words[0] if reply.words else "")
    except EncodingProblem:
        return b""


def _line(response: bytes) -> bytes:
    return b64encode(response) + b"\r\n"
