"""
One client's way through AUTH.

:Room: ``authentication``
:RFC: 4954 §4 (replies), 4422.
:IIS: ACC-02, ACC-04 (default domain); attacks.md A15-A17.
:Called by: `mailhost.net.inbound`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from mailhost.authentication.credentials import as_credentials
from mailhost.authentication.throttle import Throttle
from mailhost.errors import AuthenticationProblem, SyntaxProblem
from mailhost.interfaces import ICredentials, ITokenReader, Maybe
from mailhost.model.account import Account, ScramEntry
from mailhost.model.reply import Reply
from mailhost.model.session import SessionFacts
from mailhost.smtp import replies
from mailhost.smtp.sasl import MECHANISMS, Place, ServerMechanism
from mailhost.smtp.sasl.base import (
    Bindings,
    Challenge,
    Failed,
    Identified,
    KeysWanted,
    PasswordGiven,
    ProofGiven,
    Proved,
    Step,
    TakesKeys,
    TokenGiven,
    Work,
    Works,
)
from mailhost.smtp.sasl.bearer import BearerServer
from mailhost.smtp.sasl.prepare import prepared


@define(eq=False)
class Authentication:
    """
    What the logins of one virtual server share.

    :ivar credentials: knows names and passwords; a ``twisted.cred`` checker will do.
    :ivar clock: the time, and the delays of failures.
    :ivar default_domain: completes names without a domain (ACC-04).
    :ivar host: our name, for mechanisms that tell it.
    :ivar tokens: judges access tokens; `None`: they are not taken.
    :ivar accept: makes security contexts of GSS-API; `None`: nobody logs in by Kerberos.
    :ivar in_thread: does what would keep the reactor waiting.
    :ivar maps_certificates: who shows the certificate of a user has logged in by that (ACC-13).
    """

    credentials: ICredentials = field(converter=as_credentials)
    clock: IReactorTime
    default_domain: str | None = None
    host: str = ""
    tokens: ITokenReader | None = None
    maps_certificates: bool = False
    accept: Callable[[], Any] | None = None
    in_thread: Callable[..., Awaitable[Any]] = maybeDeferred
    throttle: Throttle = field(factory=Throttle)

    _log = Logger()

    def exchange(self, session: SessionFacts, bindings: Bindings) -> Exchange:
        """For one connection."""
        return Exchange(self, session, bindings)

    def certified(self, session: SessionFacts, names: Sequence[str]) -> Account | None:
        """Who has logged in by showing a certificate for *names*; `None`: nobody."""
        if not self.maps_certificates:
            return None
        try:
            account = self.account_of(names)
        except AuthenticationProblem as problem:
            self._log.error("Logins have to wait: {problem}", problem=str(problem))
            return None
        if account is not None:
            self._log.info(
                "{peer} has logged in as {name} by its certificate",
                peer=session.peer,
                name=account.name,
            )
        return account

    def account_of(self, names: Sequence[str]) -> Account | None:
        """
        The first of *names*, which somebody else has proved, that is a user.

        :raises AuthenticationProblem: it cannot be said now.
        """
        for name in names:
            with suppress(SyntaxProblem):
                found: Account | None = self.credentials.find_account(prepared(name))
                if found is not None:
                    return found
        return None

    def full_name(self, name: str) -> str:
        """
        *name* as it is looked up.

        :raises SyntaxProblem: it has characters that no name may have.
        """
        found = prepared(name)
        if self.default_domain is None or "@" in found or "\\" in found:
            return found
        return f"{found}@{self.default_domain}"


# No repr: an event of the log carries its source, and a name may be a password.
@define(eq=False, repr=False)
class Exchange:
    """
    The logins of one connection, one after the other.

    A success is written into the session's facts.
    """

    _shared: Authentication
    _session: SessionFacts
    _bindings: Bindings
    _name: str = field(default="", init=False)
    _chosen: str = field(default="", init=False)
    _mechanism: ServerMechanism | None = field(default=None, init=False)
    # Whose keys SCRAM goes on with.
    _account: Account | None = field(default=None, init=False)

    _log = Logger()

    def begin(self, mechanism: str, response: bytes | None) -> Maybe[Reply]:
        """AUTH, of a *mechanism* that is offered."""
        if self._shared.throttle.is_banned(self._session.peer, self._now):
            # Before anything is hashed: a flood of guesses costs us nothing.
            return replies.TOO_MANY_LOGINS
        self._chosen, self._name, self._account = mechanism, "", None
        self._mechanism = MECHANISMS[mechanism](
            Place(
                self._bindings, self._shared.host, self._now, self._certified, self._shared.accept
            )
        )
        return self._follow(self._mechanism.step(response))

    def go_on(self, response: bytes) -> Maybe[Reply]:
        """The answer to the challenge that was given last."""
        assert self._mechanism is not None, "no answer without a challenge"
        return self._follow(self._mechanism.step(response))

    @property
    def _certified(self) -> tuple[str, ...]:
        tls = self._session.tls
        return tls.client_names if tls is not None else ()

    @property
    def _now(self) -> float:
        return self._shared.clock.seconds()

    def _follow(self, step: Step) -> Maybe[Reply]:
        if isinstance(step, Challenge):
            return replies.challenge(step.octets)
        if isinstance(step, PasswordGiven):
            return self._with_name(step.name, lambda name: self._check(name, step.password))
        if isinstance(step, ProofGiven):
            return self._with_name(
                step.name, lambda name: self._check_proof(name, step.kind, step.fits)
            )
        if isinstance(step, Work):
            return self._work(step)
        if isinstance(step, TokenGiven):
            return self._check_token(step)
        if isinstance(step, Identified):
            return self._identified(step)
        if isinstance(step, KeysWanted):
            return self._with_name(step.name, self._fetch_keys)
        if isinstance(step, Proved):
            return self._passed(self._account) if self._account else self._failed()
        assert isinstance(step, Failed)
        # A16: what is malformed is 501; it costs as much as a wrong password.
        return self._failed(replies.LOGIN_MALFORMED if step.malformed else replies.LOGIN_FAILED)

    def _with_name(self, name: str, go_on: Callable[[str], Awaitable[Reply]]) -> Maybe[Reply]:
        try:
            self._name = self._shared.full_name(name)
        except SyntaxProblem:
            return self._failed()
        if self._shared.throttle.is_name_banned(self._session.peer, self._key, self._now):
            self._log.warn("{peer} guesses, and is not heard", peer=self._session.peer)
            return replies.TOO_MANY_LOGINS
        return go_on(self._name)

    @property
    def _key(self) -> str:
        return self._name.casefold()

    async def _check(self, name: str, password: str) -> Reply:
        try:
            account = await _ready(self._shared.credentials.check_password(name, password))
        except AuthenticationProblem as problem:
            return self._not_now(problem)
        return self._passed(account) if account is not None else await self._failed()

    async def _check_proof(self, name: str, kind: str, fits: Callable[[bytes], bool]) -> Reply:
        try:
            account = await _ready(self._shared.credentials.check_proof(name, kind, fits))
        except AuthenticationProblem as problem:
            return self._not_now(problem)
        return self._passed(account) if account is not None else await self._failed()

    async def _check_token(self, step: TokenGiven) -> Reply:
        assert self._shared.tokens is not None, "it is offered where there is somebody to ask"
        try:
            name = await self._shared.tokens.name_in(step.token)
        except AuthenticationProblem as problem:
            return self._not_now(problem)
        if name is None or step.name.casefold() not in ("", name.casefold()):
            assert isinstance(self._mechanism, BearerServer), "it has given the token"
            return replies.challenge(self._mechanism.refuse().octets)
        self._name = name
        try:
            known = self._shared.credentials.find_account(name)
        except AuthenticationProblem as problem:
            return self._not_now(problem)
        # Whose tokens we believe says who there is.
        return self._passed(known or Account(name))

    async def _work(self, step: Work) -> Reply:
        assert isinstance(self._mechanism, Works), "it has work to do"
        try:
            octets = await self._shared.in_thread(step.run)
        except SyntaxProblem as problem:
            self._log.info("{peer}: {problem}", peer=self._session.peer, problem=str(problem))
            return await self._failed()
        except AuthenticationProblem as problem:
            return self._not_now(problem)
        return await _ready(self._follow(self._mechanism.worked(octets)))

    def _identified(self, step: Identified) -> Maybe[Reply]:
        try:
            account = self._shared.account_of(step.names)
            if account is None and step.anybody:
                account = Account(step.names[0])
        except AuthenticationProblem as problem:
            return self._not_now(problem)
        if account is None:
            return self._failed()
        self._name = account.name
        return self._passed(account)

    async def _fetch_keys(self, name: str) -> Reply:
        assert isinstance(self._mechanism, TakesKeys), "it wants keys"
        try:
            entry: ScramEntry = await _ready(self._shared.credentials.find_keys(name))
        except AuthenticationProblem as problem:
            return self._not_now(problem)
        self._account = entry.account
        step = self._mechanism.take_keys(entry.keys)
        assert isinstance(step, Challenge)
        return replies.challenge(step.octets)

    def _not_now(self, problem: AuthenticationProblem) -> Reply:
        self._log.error("Logins have to wait: {problem}", problem=str(problem))
        return replies.LOGIN_NOT_NOW

    def _passed(self, account: Account) -> Reply:
        self._session.account = account
        self._shared.throttle.succeeded(self._session.peer, self._key)
        self._log.info(
            "{peer} has logged in as {account} by {mechanism}",
            peer=self._session.peer,
            account=account.name,
            mechanism=self._chosen,
        )
        return replies.LOGGED_IN

    def _failed(self, reply: Reply = replies.LOGIN_FAILED) -> Deferred[Reply]:
        # Without the name: people type passwords where names belong.
        self._log.info(
            "{peer} could not log in by {mechanism}",
            peer=self._session.peer,
            mechanism=self._chosen,
        )
        seconds = self._shared.throttle.failed(self._session.peer, self._key, self._now)
        return deferLater(self._shared.clock, seconds, lambda: reply)


async def _ready(answer: Any) -> Any:
    return await answer if hasattr(answer, "__await__") else answer
