"""
Access tokens for our logins: fetched, kept, and renewed before they end.

:Room: ``net``
:RFC: 6749 §4.4 (client credentials), §5 (answers), §6 (refresh tokens); 6750.
:IIS: DEL-21; what became of basic authentication.
:Called by: `mailhost.relay.line`, once for each connection.

One fetch serves all who wait.  What has failed is not asked again at once, so a thousand
connections cost an endpoint that is down, or that does not know us, one question.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote_plus, urlsplit

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailhost.errors import MailhostError, WebProblem
from mailhost.model.security import TokenGrant
from mailhost.model.web import WebAnswer
from mailhost.secrets import SecretProblem, replace_file, reveal

#: Where the endpoint does not say how long a token lives (RFC 6749 §5.1).
_USUAL_SECONDS = 300.0
_SHORTEST_SECONDS, _LONGEST_SECONDS = 10.0, 86400.0
#: A token is renewed when less than this, and less than a quarter of its life, is left.
RENEW_SECONDS = 300.0
#: A token with less than this left is not used: the login takes time as well.
_LEAST_SECONDS = 5.0
#: After a failure nobody is asked for so long: it may heal soon, or it will not.
TROUBLE_SECONDS, REFUSAL_SECONDS = 15.0, 60.0
_LONGEST_WAIT_SECONDS = 600.0
#: A token that is younger is not replaced because a host has refused it.
FRESH_SECONDS = 60.0
#: Of the endpoint's own words.
_MAX_WORDS = 200


Form = dict[str, str]
#: Asks the endpoint of a grant, with a form and headers.
Post = Callable[[TokenGrant, Form, Form], Awaitable[WebAnswer]]


class TokenProblem(MailhostError):
    """
    There is no token now; always temporary.

    :ivar status: RFC 3463: ``4.7.8`` the endpoint refuses us, ``4.7.0`` it does not answer
        as it should, ``4.3.5`` a secret cannot be read.
    """

    def __init__(self, words: str, status: str = "4.7.0", wait_seconds: float = 0) -> None:
        super().__init__(words)
        self.status = status
        self.wait_seconds = wait_seconds


@frozen
class Token:
    """
    :ivar fetched_at: by the reactor's clock, as `expires_at` is.
    """

    text: str = field(repr=False)
    fetched_at: float
    expires_at: float

    @property
    def renew_at(self) -> float:
        """From here on there should be a newer one."""
        lead = min(RENEW_SECONDS, (self.expires_at - self.fetched_at) / 4)
        return self.expires_at - lead


@define(eq=False)
class _Account:
    """What is known about one grant."""

    token: Token | None = None
    problem: TokenProblem | None = None
    # Nobody is asked before.
    not_before: float = 0.0
    fetching: bool = False
    waiting: list[Deferred[Token]] = field(factory=list)
    # The refresh token as the operator gives it, and what has taken its place since.
    given: str = field(default="", repr=False)
    rotated: str = field(default="", repr=False)


@define(eq=False)
class TokenBroker:
    """
    The tokens of one virtual server.

    :ivar reactor: connects and tells the time.
    :ivar in_thread: does what waits for a disk.
    :ivar post: asks the endpoint; replaced in tests.
    """

    reactor: Any
    in_thread: Callable[..., Deferred[Any]] = maybeDeferred
    post: Post | None = None
    _accounts: dict[TokenGrant, _Account] = field(factory=dict, init=False)

    _log = Logger()

    def token(self, grant: TokenGrant) -> Deferred[Token]:
        """
        One that can be used now.

        :raises TokenProblem: there is none.
        """
        account = self._account(grant)
        now, token = self.reactor.seconds(), account.token
        if token is not None and now < token.expires_at - _LEAST_SECONDS:
            if now >= token.renew_at and now >= account.not_before:
                self._fetch(grant, account)
            return succeed(token)
        return self._wait(grant, account)

    def replace(self, grant: TokenGrant, refused: Token) -> Deferred[Token] | None:
        """
        Another than *refused*, which a host has not taken.

        :returns: `None` where *refused* was new: another would not be better.
        """
        account = self._account(grant)
        if account.token is not None and account.token != refused:
            return succeed(account.token)
        if self.reactor.seconds() - refused.fetched_at < FRESH_SECONDS:
            return None
        account.token = None
        return self._wait(grant, account)

    def _account(self, grant: TokenGrant) -> _Account:
        found = self._accounts.get(grant)
        if found is None:
            found = self._accounts[grant] = _Account()
        return found

    # ---- fetching

    def _wait(self, grant: TokenGrant, account: _Account) -> Deferred[Token]:
        if account.problem is not None and self.reactor.seconds() < account.not_before:
            return fail(account.problem)
        # Whoever gives up waiting does not end the fetch that others wait for.
        waiting: Deferred[Token] = Deferred(account.waiting.remove)
        account.waiting.append(waiting)
        self._fetch(grant, account)
        return waiting

    def _fetch(self, grant: TokenGrant, account: _Account) -> None:
        if account.fetching:
            return
        account.fetching = True
        fetching = Deferred.fromCoroutine(self._ask(grant, account))
        fetching.addCallbacks(
            lambda token: self._fetched(account, token),
            lambda failure: self._failed(grant, account, failure),
        )

    def _fetched(self, account: _Account, token: Token) -> None:
        account.token, account.problem, account.fetching = token, None, False
        waiting, account.waiting = account.waiting, []
        for one in waiting:
            one.callback(token)

    def _failed(self, grant: TokenGrant, account: _Account, failure: Failure) -> None:
        problem = failure.value
        if not isinstance(problem, TokenProblem):
            self._log.failure("A token could not be fetched", failure)
            problem = TokenProblem(f"{_host(grant)}: local error in processing")
        refused = problem.status != "4.7.0"
        usual = REFUSAL_SECONDS if refused else TROUBLE_SECONDS
        wait = min(max(usual, problem.wait_seconds), _LONGEST_WAIT_SECONDS)
        account.problem, account.fetching = problem, False
        account.not_before = self.reactor.seconds() + wait
        self._log.warn("no token: {problem}", problem=str(problem))
        waiting, account.waiting = account.waiting, []
        for one in waiting:
            one.errback(problem)

    def _post(self, grant: TokenGrant, form: Form, headers: Form) -> Awaitable[WebAnswer]:
        # treq is large: who uses no tokens does not load it.
        from mailhost.net.web import WebClient

        return WebClient(self.reactor, grant.ca, grant.timeout_seconds).post(
            grant.url, form, headers
        )

    async def _ask(self, grant: TokenGrant, account: _Account) -> Token:
        form, headers, sent = _question(grant, account)
        try:
            answer = await (self.post or self._post)(grant, form, headers)
        except WebProblem as problem:
            raise TokenProblem(f"{_host(grant)}: {problem}") from problem
        told = _told(answer.body)
        if answer.status != 200:
            raise _refusal(grant, answer.status, answer.retry_after_seconds, told, sent)
        token = self._token_in(grant, told)
        renewed = told.get("refresh_token")
        if grant.refreshes and isinstance(renewed, str) and renewed not in ("", sent[-1]):
            await self._keep(grant, account, renewed)
        self._log.info("a new token from {host}", host=_host(grant))
        return token

    def _token_in(self, grant: TokenGrant, told: dict[str, Any]) -> Token:
        text, sort = told.get("access_token"), str(told.get("token_type", "")).lower()
        if not isinstance(text, str) or not text or not (text.isascii() and text.isprintable()):
            raise TokenProblem(f"{_host(grant)}: the answer holds no access token")
        if sort != "bearer":
            raise TokenProblem(f"{_host(grant)}: the token is not of the type Bearer")
        now = self.reactor.seconds()
        return Token(text, now, now + _life_seconds(told.get("expires_in")))

    async def _keep(self, grant: TokenGrant, account: _Account, new: str) -> None:
        """A refresh token may be good for one use only (RFC 6749 §6)."""
        account.rotated = new
        path = grant.refresh_token_file
        if path is None or "\n" in new or "\r" in new:
            self._log.warn(
                "{host} has given a new refresh token; it is lost at a restart: use "
                "refresh_token_file",
                host=_host(grant),
            )
            return
        try:
            await self.in_thread(lambda: replace_file(path, f"{new}\n"))
        except OSError as error:
            self._log.error(
                "the new refresh token from {host} cannot be written into {file}: {words}",
                host=_host(grant),
                file=str(path),
                words=error.strerror,
            )


def _question(
    grant: TokenGrant, account: _Account
) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    """The form, the headers, and the secrets in them, the refresh token last."""
    form, headers, sent = {"grant_type": "client_credentials"}, {}, []
    try:
        if grant.has_secret:
            sent.append(reveal(grant.client_secret, grant.client_secret_file))
        if grant.refreshes:
            sent.append(_refresh_token(grant, account))
    except SecretProblem as problem:
        raise TokenProblem(str(problem), "4.3.5") from problem
    if grant.has_secret and grant.basic:
        # RFC 6749 §2.3.1: both are encoded as in a form first.
        pair = f"{quote_plus(grant.client_id)}:{quote_plus(sent[0])}".encode("ascii")
        headers["Authorization"] = f"Basic {b64encode(pair).decode('ascii')}"
    else:
        form["client_id"] = grant.client_id
        if grant.has_secret:
            form["client_secret"] = sent[0]
    if grant.refreshes:
        form |= {"grant_type": "refresh_token", "refresh_token": sent[-1]}
    if grant.scope:
        form["scope"] = grant.scope
    return form, headers, tuple(sent)


def _refresh_token(grant: TokenGrant, account: _Account) -> str:
    given = reveal(grant.refresh_token, grant.refresh_token_file)
    if given != account.given:
        account.given, account.rotated = given, ""
    return account.rotated or given


def _told(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _refusal(
    grant: TokenGrant, status: int, retry_after: int, told: dict[str, Any], sent: tuple[str, ...]
) -> TokenProblem:
    """RFC 6749 §5.2: 400 and 401 speak of us, all else of the endpoint."""
    words = [f"{_host(grant)}: {status}"]
    words += [str(told[name]) for name in ("error", "error_description") if name in told]
    text = " ".join(words)
    for secret in sent:
        text = text.replace(secret, "***")
    text = "".join(one if one.isprintable() else " " for one in text)[:_MAX_WORDS]
    return TokenProblem(text, "4.7.8" if status in (400, 401, 403) else "4.7.0", retry_after)


def _life_seconds(told: Any) -> float:
    """``expires_in``; some endpoints write it as a text."""
    if isinstance(told, str) and told.isdecimal() and len(told) < 10:
        told = int(told)
    if not isinstance(told, int | float) or isinstance(told, bool) or not told > 0:
        return _USUAL_SECONDS
    return min(max(float(told), _SHORTEST_SECONDS), _LONGEST_SECONDS)


def _host(grant: TokenGrant) -> str:
    return urlsplit(grant.url).netloc
