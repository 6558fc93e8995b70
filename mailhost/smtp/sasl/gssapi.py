"""
GSSAPI: Kerberos, both sides; what touches keytabs and key servers is handed in.

:Room: ``smtp`` -- sans-I/O.
:RFC: 4752 (SASL GSSAPI), 4121 (Kerberos).
:IIS: ACC-05, DEL-22.

A security layer is not offered: TLS is one.
"""

from __future__ import annotations

from typing import Protocol

from attrs import define, field

from mailhost.errors import SyntaxProblem
from mailhost.smtp.sasl.base import Challenge, Failed, Identified, Place, Step, Work, decoded

GSSAPI = "GSSAPI"
#: RFC 4752 §3.3: no security layer, and so no room for one.
_NO_LAYER, _OFFER = 1, b"\x01\0\0\0"


class Context(Protocol):
    """A security context of GSS-API; whatever it raises about its peer is `SyntaxProblem`."""

    @property
    def complete(self) -> bool:
        """No more tokens have to be exchanged."""

    @property
    def peer(self) -> str:
        """Who has begun it, ``user@REALM``; on the accepting side, when it is complete."""

    def step(self, token: bytes) -> bytes:
        """What follows from the peer's *token*; may take long."""

    def wrap(self, octets: bytes) -> bytes:
        """*octets*, so that they cannot be changed."""

    def unwrap(self, octets: bytes) -> bytes:
        """What the peer has wrapped."""


@define
class GSSAPIServer:
    """The server's side of one exchange."""

    place: Place
    _context: Context | None = field(default=None, init=False)
    _token_sent: bool = field(default=False, init=False)
    _offered: bool = field(default=False, init=False)

    def step(self, response: bytes | None) -> Step:
        """See `base.ServerMechanism`."""
        if response is None:
            return Challenge(b"")
        try:
            return self._hear(response)
        except SyntaxProblem:
            return Failed()

    def _hear(self, response: bytes) -> Step:
        if self._context is None:
            if self.place.accept is None:
                return Failed()
            self._context = self.place.accept()
        context = self._context
        if not context.complete:
            return Work(lambda: context.step(response))
        if not self._offered:
            return self._offer(context) if not response else Failed(malformed=True)
        return self._answered(context.unwrap(response), context.peer)

    def worked(self, octets: bytes) -> Step:
        """See `base.Works`."""
        assert self._context is not None, "it has worked"
        if not self._context.complete or octets:
            return Challenge(octets)
        return self._offer(self._context)

    def _offer(self, context: Context) -> Step:
        self._offered = True
        return Challenge(context.wrap(_OFFER))

    def _answered(self, answer: bytes, peer: str) -> Step:
        acting_for = decoded(answer[4:])
        if len(answer) < 4 or answer[0] != _NO_LAYER or acting_for is None:
            return Failed(malformed=True)
        if acting_for.casefold() not in ("", peer.casefold(), peer.partition("@")[0].casefold()):
            return Failed()
        return Identified((peer,), anybody=True)


@define
class GSSAPIClient:
    """Our side at a next hop."""

    context: Context
    _proved: bool = field(default=False, init=False)

    def first(self) -> Work:
        """See `mailhost.smtp.sasl.client.ClientMechanism`."""
        return Work(lambda: self.context.step(b""))

    def hear(self, challenge: bytes) -> bytes | Work:
        """See `mailhost.smtp.sasl.client.ClientMechanism`."""
        if not self.context.complete:
            return Work(lambda: self.context.step(challenge))
        if self._proved:
            raise SyntaxProblem("the host asks for more than the mechanism has")
        offered = self.context.unwrap(challenge)
        if len(offered) != 4 or not offered[0] & _NO_LAYER:
            raise SyntaxProblem("the host insists on a security layer")
        self._proved = True
        return self.context.wrap(_OFFER)

    def worked(self, octets: bytes) -> bytes:
        """See `mailhost.smtp.sasl.client.ClientMechanism`."""
        return octets

    @property
    def proved(self) -> bool:
        """See `mailhost.smtp.sasl.client.ClientMechanism`."""
        return self._proved

    @property
    def complaint(self) -> str:
        """See `mailhost.smtp.sasl.client.ClientMechanism`."""
        return ""
