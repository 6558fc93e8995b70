"""
Access tokens of clients: signed by an issuer that we believe, and for us.

:Room: ``authentication``
:RFC: 7519 (JWT), 7517 (keys), 9068 (access tokens); 8725 §3 (what to be careful about).
:Implements: `mailhost.interfaces.ITokenReader`.
:Called by: `mailhost.authentication.exchange`; made by `mailhost.server.logins`.

Keys are fetched when the first client comes, and again when they are old or a token is
signed by another; not more often than once a minute, whatever clients send.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhost.errors import AuthenticationProblem
from mailhost.interfaces import ITokenReader

#: Public keys only: who can check a signature must not be able to make one.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
#: So long keys are believed, and so often they are fetched at most.
KEEP_SECONDS, LEAST_SECONDS = 3600.0, 60.0
#: Clocks differ.
LEEWAY_SECONDS = 60.0
MAX_KEYS = 100
#: A longer token does not fit into a line of AUTH anyway.
MAX_TOKEN_OCTETS = 12288


@implementer(ITokenReader)
@define(eq=False)
class TokenReader:
    """
    :ivar issuer: ``iss`` of good tokens.
    :ivar audience: ``aud`` of good tokens: we.
    :ivar claim: has the user's name.
    :ivar fetch: the issuer's keys, a JWKS.
    :ivar seconds: tells the time.
    """

    issuer: str
    audience: str
    claim: str
    fetch: Callable[[], Awaitable[bytes]]
    seconds: Callable[[], float]
    _keys: Mapping[str, Any] = field(factory=dict, init=False, repr=False)
    _fetched_at: float = field(default=float("-inf"), init=False)
    _asked_at: float = field(default=float("-inf"), init=False)
    _waiting: list[Deferred[None]] | None = field(default=None, init=False)

    _log = Logger()

    async def name_in(self, token: str) -> str | None:
        """See `ITokenReader`."""
        # An extra; who takes no tokens does not load it.
        import jwt

        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            return None
        key = await self._key(str(header.get("kid", "")))
        if key is None or header.get("alg") not in ALGORITHMS:
            return None
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[header["alg"]],
                audience=self.audience,
                issuer=self.issuer,
                # The time is ours to tell.
                options={
                    "require": ["exp", "iss", "aud"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.PyJWTError, ValueError, TypeError) as wrong:
            self._log.info("a token is not good: {why}", why=type(wrong).__name__)
            return None
        name = claims.get(self.claim)
        good = isinstance(name, str) and bool(name) and self._is_now(claims)
        return str(name) if good else None

    def _is_now(self, claims: Mapping[str, Any]) -> bool:
        now = self.seconds()
        until, since = claims["exp"], claims.get("nbf", 0)
        if not all(isinstance(one, int | float) for one in (until, since)):
            return False
        return bool(since - LEEWAY_SECONDS <= now < until + LEEWAY_SECONDS)

    # ---- keys

    async def _key(self, number: str) -> Any | None:
        now = self.seconds()
        old = now - self._fetched_at >= KEEP_SECONDS
        if (old or number not in self._keys) and now - self._asked_at >= LEAST_SECONDS:
            self._asked_at = now
            self._waiting = []
            Deferred.fromCoroutine(self._refresh()).addErrback(self._failed)
        if self._waiting is not None:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting
        if not self._keys:
            raise AuthenticationProblem(f"the keys of {self.issuer} are not known")
        return self._keys.get(number)

    async def _refresh(self) -> None:
        self._keys = read_keys(await self.fetch())
        self._fetched_at = self.seconds()
        self._wake()

    def _failed(self, failure: Failure) -> None:
        # Old keys are better than none: the issuer may be down for a while.
        self._log.error(
            "no keys of {issuer}: {why}", issuer=self.issuer, why=failure.getErrorMessage()
        )
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting or [], None
        for one in waiting:
            one.callback(None)


def read_keys(octets: bytes) -> Mapping[str, Any]:
    """
    The keys of a JWKS that can be used here, by their numbers (``kid``).

    :raises AuthenticationProblem: it is none.
    """
    import jwt

    try:
        given = json.loads(octets)["keys"]
        items = [one for one in given if isinstance(one, dict)][:MAX_KEYS]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise AuthenticationProblem("no JWKS") from None
    found: dict[str, Any] = {}
    for item in items:
        if item.get("kty") == "oct" or item.get("use", "sig") != "sig":
            continue
        try:
            found[str(item.get("kid", ""))] = jwt.PyJWK(item)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
    return found
