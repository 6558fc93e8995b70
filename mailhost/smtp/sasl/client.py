"""
Our side of each mechanism, at a next hop.

:Room: ``smtp`` -- sans-I/O.
:RFC: 4422 §3; 4616, 5802, 7628.
:Called by: `mailhost.smtp.client_login`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from attrs import define, field, frozen

from mailhost.errors import SyntaxProblem
from mailhost.smtp.sasl.base import Work
from mailhost.smtp.sasl.bearer import BEARER, XOAUTH2, BearerClient
from mailhost.smtp.sasl.gssapi import GSSAPI, Context, GSSAPIClient
from mailhost.smtp.sasl.ntlm import NTLM_MECHANISM, NTLMClient
from mailhost.smtp.sasl.plain import plain_response
from mailhost.smtp.sasl.scram import SCRAM, ScramClient, salted_password


@frozen
class Credentials:
    """
    Who we are at one host.

    :ivar secret: a password, or an access token.
    :ivar host: whom we mean to talk to.
    :ivar now: seconds since the epoch.
    :ivar context: a security context of GSS-API; `None`: there is none.
    """

    username: str
    secret: str = field(repr=False)
    host: str = ""
    now: float = 0.0
    context: Context | None = None


class ClientMechanism(Protocol):
    """One exchange."""

    def first(self) -> bytes | Work | None:
        """
        What we begin with; `None`: the server speaks first.

        :raises SyntaxProblem: name or password cannot be sent in this way.
        """

    def hear(self, challenge: bytes) -> bytes | Work:
        """
        What answers *challenge*.

        :raises SyntaxProblem: the server does not follow the mechanism.
        """

    def worked(self, octets: bytes) -> bytes:
        """What is sent when `Work` has given *octets*."""

    @property
    def proved(self) -> bool:
        """The server has proved itself, as far as the mechanism makes it do so."""

    @property
    def complaint(self) -> str:
        """What the server has said of why it refuses; empty: nothing."""


@define
class Answers:
    """Ready answers, one after the other; the base of what needs no more than that."""

    _answers: deque[bytes] = field(factory=deque, repr=False)

    def first(self) -> bytes | Work | None:
        """See `ClientMechanism`."""
        return None

    def hear(self, challenge: bytes) -> bytes | Work:
        """See `ClientMechanism`."""
        if not self._answers:
            raise SyntaxProblem("the host asks for more than the mechanism has")
        return self._answers.popleft()

    def worked(self, octets: bytes) -> bytes:
        """See `ClientMechanism`."""
        return octets

    @property
    def proved(self) -> bool:
        """See `ClientMechanism`."""
        return True

    @property
    def complaint(self) -> str:
        """See `ClientMechanism`."""
        return ""


@define
class PlainLogin(Answers):
    """PLAIN (RFC 4616)."""

    _response: bytes = field(default=b"", repr=False)

    def first(self) -> bytes | Work | None:
        """See `ClientMechanism`."""
        return self._response


@define
class ScramLogin(Answers):
    """SCRAM-SHA-256 (RFC 5802); hashing the password takes a while."""

    _scram: ScramClient = field(kw_only=True)
    _password: str = field(kw_only=True, repr=False)
    _proved: bool = field(default=False, init=False)

    def first(self) -> bytes | Work | None:
        """See `ClientMechanism`."""
        return self._scram.first()

    def hear(self, challenge: bytes) -> bytes | Work:
        """See `ClientMechanism`."""
        if not self._scram.has_salt:
            given = self._scram.hear_first(challenge)
            return Work(partial(salted_password, self._password, given.salt, given.iterations))
        if self._proved:
            raise SyntaxProblem("the host asks for more than the mechanism has")
        self._scram.hear_final(challenge)
        self._proved = True
        return b""

    def worked(self, octets: bytes) -> bytes:
        """See `ClientMechanism`."""
        return self._scram.final(octets)

    @property
    def proved(self) -> bool:
        """See `ClientMechanism`."""
        return self._proved


def _plain(given: Credentials) -> ClientMechanism:
    return PlainLogin(response=plain_response(given.username, given.secret))


def _login(given: Credentials) -> ClientMechanism:
    return Answers(deque((given.username.encode("utf-8"), given.secret.encode("utf-8"))))


def _scram(given: Credentials) -> ClientMechanism:
    return ScramLogin(scram=ScramClient(given.username), password=given.secret)


def _xoauth2(given: Credentials) -> ClientMechanism:
    return BearerClient(XOAUTH2, given.username, given.secret)


def _bearer(given: Credentials) -> ClientMechanism:
    return BearerClient(BEARER, given.username, given.secret)


def _ntlm(given: Credentials) -> ClientMechanism:
    return NTLMClient(given.username, given.secret, given.now)


def _gssapi(given: Credentials) -> ClientMechanism:
    assert given.context is not None, "it is chosen where there is one"
    return GSSAPIClient(given.context)


#: name -> what makes our side of it.
CLIENTS: dict[str, Callable[[Credentials], ClientMechanism]] = {
    SCRAM: _scram,
    "PLAIN": _plain,
    "LOGIN": _login,
    XOAUTH2: _xoauth2,
    BEARER: _bearer,
    NTLM_MECHANISM: _ntlm,
    GSSAPI: _gssapi,
}
