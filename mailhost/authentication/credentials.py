"""
Whose name and password is it: a users file, a directory, or a ``twisted.cred`` checker.

:Room: ``authentication``
:Implements: `mailhost.interfaces.ICredentials`.
:Called by: `mailhost.authentication.exchange`; made by `mailhost.server.logins`.

An Argon2id check takes 30 ms and 19 MiB.  So there are few threads and a short line
before them: a flood of logins is put off with 454, and costs mail nothing.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword, UsernamePassword
from twisted.cred.error import LoginFailed, UnauthorizedLogin, UnhandledCredentials
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from mailhost.authentication.hashing import (
    SCRAM_ITERATIONS,
    fits,
    hash_of_nobody,
)
from mailhost.authentication.users import User, read_file, read_users, user_key
from mailhost.errors import AuthenticationProblem, LookupProblem, SyntaxProblem
from mailhost.interfaces import IAddressResolver, ICredentials, Maybe
from mailhost.model.account import Account, ScramEntry, ScramKeys
from mailhost.secrets import file_stamp
from mailhost.smtp.sasl.base import NT_HASH
from mailhost.smtp.sasl.ntlm_messages import nt_hash

#: Threads that hash at a time, and logins that wait for them.
THREADS, MAX_WAITING = 2, 40
#: So often the users file is looked at, at most: when a client logs in.
LOOK_AGAIN_SECONDS = 2.0


@define(eq=False)
class Hashers:
    """
    Threads for password checks, and a bounded line before them.

    :ivar reactor: has ``callFromThread``.
    :ivar pool: the threads.
    """

    reactor: Any
    name: str
    pool: ThreadPool = field(init=False)
    _pending: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.pool = ThreadPool(0, THREADS, f"passwords {self.name}")

    def start(self) -> None:
        """Threads come when they are needed."""
        self.pool.start()

    def stop(self) -> None:
        """Wait for what is being hashed."""
        self.pool.stop()

    def run(self, work: Callable[[], Any]) -> Deferred[Any]:
        """:raises AuthenticationProblem: too many wait."""
        if self._pending >= THREADS + MAX_WAITING:
            raise AuthenticationProblem("too many passwords wait to be checked")
        self._pending += 1
        done: Deferred[Any] = deferToThreadPool(self.reactor, self.pool, work)
        return done.addBoth(self._finish)

    def _finish(self, result: Any) -> Any:
        self._pending -= 1
        return result


@frozen
class _Known:
    """
    A users file as it was read.

    :ivar seed: what salts for nobody are made of: the same for every process that has
        read this file and while its first user stays, unknown to who has not read it.
    :ivar like: a hash that others are like.
    :ivar iterations: of SCRAM keys that others are like.
    """

    users: Mapping[str, User]
    seed: bytes
    like: str | None
    iterations: int


@implementer(ICredentials)
@define(eq=False)
class FileCredentials:
    """
    A users file, read anew when it has changed; while the new one cannot be read nobody
    logs in, since whoever was to be shut out by it must not.

    :ivar path: where it lies.
    :ivar hashers: check passwords.
    :ivar seconds: tells the time.
    """

    path: Path
    hashers: Hashers
    seconds: Callable[[], float]
    _known: _Known | None = field(default=None, init=False, repr=False)
    _stamp: object = field(default=None, init=False)
    _looked_at: float = field(default=float("-inf"), init=False)

    _log = Logger()

    def check_password(self, name: str, password: str) -> Deferred[Account | None]:
        """See `ICredentials`."""
        known = self._current()
        user = known.users.get(user_key(name))
        # Nobody's password is hashed as well, and as slowly (promise of equal time).
        phc = user.phc if user is not None else hash_of_nobody(known.like)

        def told(good: bool) -> Account | None:
            return user.account if good and user is not None else None

        return self.hashers.run(lambda: _fits(password, phc)).addCallback(told)

    def check_proof(self, name: str, kind: str, fits: Callable[[bytes], bool]) -> Account | None:
        """See `ICredentials`."""
        known = self._current()
        user = known.users.get(user_key(name))
        secret = user.secrets.get(kind) if user is not None else None
        # Nobody's secret is made for everybody, and compared as well: equal time.
        nobody = _secret_of_nobody(kind)
        good = fits(secret if secret is not None else nobody)
        return user.account if good and secret is not None and user is not None else None

    def find_account(self, name: str) -> Account | None:
        """See `ICredentials`."""
        user = self._current().users.get(user_key(name))
        return user.account if user is not None else None

    def find_keys(self, name: str) -> ScramEntry:
        """See `ICredentials`."""
        known = self._current()
        key = user_key(name)
        user = known.users.get(key)
        nobody = ScramEntry(_keys_of_nobody(known, key), None)  # for everybody: equal time
        if user is None or user.keys is None:
            return nobody
        return ScramEntry(user.keys, user.account)

    def _current(self) -> _Known:
        """:raises AuthenticationProblem: the file cannot be used."""
        now = self.seconds()
        if self._known is not None and now - self._looked_at < LOOK_AGAIN_SECONDS:
            return self._known
        self._looked_at = now
        return self._look_again()

    def _look_again(self) -> _Known:
        stamp = file_stamp(self.path)
        if self._known is not None and stamp is not None and stamp == self._stamp:
            return self._known
        self._known = None
        text = read_file(self.path)
        users, faults = read_users(text)
        for words in faults:
            self._log.warn("{file}: {words}", file=self.path, words=words)
        like = next((user.phc for user in users.values()), None)
        seed = sha256((like or text).encode("utf-8")).digest()
        keys = next((user.keys for user in users.values() if user.keys is not None), None)
        iterations = keys.iterations if keys is not None else SCRAM_ITERATIONS
        self._known, self._stamp = _Known(users, seed, like, iterations), stamp
        return self._known


def _fits(password: str, phc: str) -> bool:
    try:
        return fits(password, phc)
    except SyntaxProblem:
        return False


def _secret_of_nobody(kind: str) -> bytes:
    return os.urandom(16) if kind == NT_HASH else os.urandom(16).hex().encode("ascii")


def _keys_of_nobody(known: _Known, name: str) -> ScramKeys:
    def octets(what: str) -> bytes:
        return hmac.digest(known.seed, f"{what} {name}".encode(), "sha256")

    return ScramKeys(octets("salt")[:16], known.iterations, octets("stored"), octets("server"))


@implementer(ICredentials)
@frozen
class DirectoryCredentials:
    """
    Who can bind to the LDAP directory with his password.

    :ivar find_directory: the one in force; `None`: LDAP routing is off.
    """

    find_directory: Callable[[], IAddressResolver | None]

    async def check_password(self, name: str, password: str) -> Account | None:
        """See `ICredentials`."""
        directory = self.find_directory()
        if directory is None:
            raise AuthenticationProblem("there is no directory to ask: ldap.enabled is false")
        try:
            good = await directory.bind_as(name, password)
        except LookupProblem as problem:
            raise AuthenticationProblem(str(problem)) from problem
        return Account(name, by_directory=True) if good else None

    def check_proof(self, name: str, kind: str, fits: Callable[[bytes], bool]) -> Account | None:
        """See `ICredentials`; a directory does not give passwords away."""
        raise AuthenticationProblem("a directory takes passwords only")

    def find_account(self, name: str) -> Account | None:
        """See `ICredentials`; a directory is asked with passwords only."""
        return None

    def find_keys(self, name: str) -> ScramEntry:
        """See `ICredentials`; a directory does not give passwords away."""
        raise AuthenticationProblem("SCRAM does not work with a directory")


@implementer(ICredentials)
@frozen
class SeveralCredentials:
    """
    One source after the other; the first that says yes counts.

    :ivar sources: the users file comes first: only it knows keys for SCRAM.
    """

    sources: Sequence[Any]

    async def check_password(self, name: str, password: str) -> Account | None:
        """See `ICredentials`."""
        for source in self.sources:
            found: Account | None = await _ready(source.check_password(name, password))
            if found is not None:
                return found
        return None

    def check_proof(
        self, name: str, kind: str, fits: Callable[[bytes], bool]
    ) -> Maybe[Account | None]:
        """See `ICredentials`."""
        found: Maybe[Account | None] = self.sources[0].check_proof(name, kind, fits)
        return found

    def find_account(self, name: str) -> Account | None:
        """See `ICredentials`."""
        found = (source.find_account(name) for source in self.sources)
        return next((account for account in found if account is not None), None)

    def find_keys(self, name: str) -> Maybe[ScramEntry]:
        """See `ICredentials`."""
        found: Maybe[ScramEntry] = self.sources[0].find_keys(name)
        return found


@implementer(ICredentials)
@frozen
class CheckerCredentials:
    """
    A ``twisted.cred`` checker, as an application for ``twisted.mail`` has one.

    :ivar checker: takes ``IUsernamePassword``, and for NTLM and CRAM-MD5
        ``IUsernameHashedPassword``; names and passwords go to it as octets.
    """

    checker: Any

    async def check_password(self, name: str, password: str) -> Account | None:
        """See `ICredentials`."""
        return await self._ask(UsernamePassword(name.encode("utf-8"), password.encode("utf-8")))

    async def check_proof(
        self, name: str, kind: str, fits: Callable[[bytes], bool]
    ) -> Account | None:
        """See `ICredentials`."""
        if IUsernameHashedPassword not in self.checker.credentialInterfaces:
            raise AuthenticationProblem("the checker takes passwords only")
        return await self._ask(_Proof(name.encode("utf-8"), kind, fits))

    async def _ask(self, given: Any) -> Account | None:
        try:
            avatar = await maybeDeferred(self.checker.requestAvatarId, given)
        except (UnauthorizedLogin, UnhandledCredentials, LoginFailed):
            return None
        except Exception as error:
            raise AuthenticationProblem(f"the checker has failed: {error!r}") from error
        # ``ANONYMOUS`` is an empty tuple: nobody.
        return Account(_text(avatar)) if avatar else None

    def find_account(self, name: str) -> Account | None:
        """See `ICredentials`; a checker is asked with passwords only."""
        return None

    def find_keys(self, name: str) -> ScramEntry:
        """See `ICredentials`."""
        raise AuthenticationProblem("SCRAM does not work with a checker of passwords")


@implementer(IUsernameHashedPassword)
@frozen
class _Proof:
    """What the client has computed, for a checker that knows passwords."""

    username: bytes
    kind: str
    fits: Callable[[bytes], bool] = field(repr=False)

    def checkPassword(self, password: bytes | str) -> bool:
        """See `IUsernameHashedPassword`."""
        text = password if isinstance(password, str) else password.decode("utf-8", "replace")
        return self.fits(nt_hash(text) if self.kind == NT_HASH else text.encode("utf-8"))


def as_credentials(given: Any) -> Any:
    """
    *given* as `ICredentials`.

    :raises TypeError: it is neither that nor a ``twisted.cred`` checker of passwords.
    """
    if ICredentials.providedBy(given):
        return given
    if ICredentialsChecker.providedBy(given):
        return CheckerCredentials(given)
    raise TypeError(f"{given!r} is neither ICredentials nor a twisted.cred checker")


def _text(avatar: str | bytes) -> str:
    return avatar if isinstance(avatar, str) else avatar.decode("utf-8", "replace")


async def _ready(answer: Awaitable[Any] | Any) -> Any:
    return await answer if hasattr(answer, "__await__") else answer
