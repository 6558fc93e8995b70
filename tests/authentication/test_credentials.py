"""Tests for `mailhost.authentication.credentials`: files, directories, checkers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.cred.checkers import (
    ICredentialsChecker,
    InMemoryUsernamePasswordDatabaseDontUse,
)
from twisted.cred.credentials import IUsernamePassword
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from mailhost.authentication import credentials
from mailhost.authentication.credentials import (
    LOOK_AGAIN_SECONDS,
    MAX_WAITING,
    THREADS,
    DirectoryCredentials,
    FileCredentials,
    Hashers,
    SeveralCredentials,
    as_credentials,
)
from mailhost.authentication.users import change_file, make_user
from mailhost.errors import AuthenticationProblem, LookupProblem
from mailhost.model.account import Account
from mailhost.smtp.sasl.ntlm_messages import nt_hash
from mailhost.smtp.sasl.scram import make_keys


class FileTests(TestCase):
    """In real threads."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.path = Path(self.mktemp())
        change_file(self.path, make_user("Kim@example.com", "pencil"), "Kim@example.com")
        self.clock = Clock()
        self.hashers = Hashers(reactor, "test")
        self.hashers.start()
        self.addCleanup(self.hashers.stop)
        self.subject = FileCredentials(self.path, self.hashers, self.clock.seconds)

    async def test_passwords(self) -> None:
        """Right, wrong, and a name that nobody has; case does not matter for names."""
        found = await self.subject.check_password("kim@EXAMPLE.com", "pencil")
        self.assertEqual(Account("Kim@example.com"), found)
        self.assertIsNone(await self.subject.check_password("kim@example.com", "Pencil"))
        self.assertIsNone(await self.subject.check_password("lee@example.com", "pencil"))
        self.assertIsNone(await self.subject.check_password("kim@example.com", "\x07"))

    async def test_nobody_costs_the_same(self) -> None:
        """A17: for a name that nobody has a hash of the same cost is computed."""
        checked: list[str] = []
        real = credentials.fits

        def watched(password: str, phc: str) -> bool:
            checked.append(phc)
            return real(password, phc)

        self.patch(credentials, "fits", watched)
        for name in ("kim@example.com", "lee@example.com"):
            self.assertIsNone(await self.subject.check_password(name, "wrong"))
        known, unknown = checked
        self.assertNotEqual(known, unknown)
        self.assertEqual(known.split("$")[:4], unknown.split("$")[:4])
        self.assertEqual(len(known), len(unknown))

    async def test_changes_are_seen(self) -> None:
        """Who is added can log in, who is removed cannot."""
        self.assertIsNone(await self.subject.check_password("lee", "pen"))
        change_file(self.path, make_user("lee", "pen"), "lee")
        change_file(self.path, None, "kim@example.com")
        self.clock.advance(LOOK_AGAIN_SECONDS)
        self.assertEqual(Account("lee"), await self.subject.check_password("lee", "pen"))
        self.assertIsNone(await self.subject.check_password("kim@example.com", "pencil"))

    async def test_too_many(self) -> None:
        """P7: the line before the threads is bounded; who finds it full may come again."""
        waiting = []
        for _ in range(THREADS + MAX_WAITING):
            waiting.append(self.subject.check_password("lee", "x"))
        with self.assertRaises(AuthenticationProblem):
            self.subject.check_password("lee", "x")
        for one in waiting:
            await one
        self.assertIsNone(await self.subject.check_password("lee", "x"))


class FileFaultTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        change_file(self.path, make_user("kim", "pencil"), "kim")
        self.clock = Clock()
        self.subject = FileCredentials(self.path, Hashers(None, "test"), self.clock.seconds)

    def test_keys(self) -> None:
        """Keys of the user; for a stranger some that do not change, also in another process."""
        self.assertEqual(Account("kim"), self.subject.find_keys("KIM").account)
        stranger = self.subject.find_keys("lee")
        self.assertIsNone(stranger.account)
        other = FileCredentials(self.path, Hashers(None, "test"), self.clock.seconds)
        self.assertEqual(stranger, other.find_keys("lee"))
        self.assertNotEqual(stranger.keys.salt, other.find_keys("max").keys.salt)
        known = self.subject.find_keys("kim").keys
        self.assertEqual(len(known.salt), len(stranger.keys.salt))
        self.assertEqual(known.iterations, stranger.keys.iterations)

    def test_keys_of_nobody_are_like_others(self) -> None:
        """A17: also where users have keys of another cost; a user who is added changes none."""
        older = make_keys("pencil", b"0123456789abcdef", 4096)
        change_file(self.path, evolve(make_user("kim", "pencil"), keys=older), "kim")
        before = self.subject.find_keys("lee").keys
        self.assertEqual(4096, before.iterations)
        change_file(self.path, make_user("max", "pencil"), "max")
        self.clock.advance(LOOK_AGAIN_SECONDS)
        self.assertEqual(before, self.subject.find_keys("lee").keys)

    def test_proofs(self) -> None:
        """The secret of its kind is compared; nobody's is as well, and never fits."""
        change_file(self.path, make_user("lee", "pencil", None, ("nt",)), "lee")
        compared: list[bytes] = []

        def fits(secret: bytes) -> bool:
            compared.append(secret)
            return True

        self.assertEqual(Account("lee"), self.subject.check_proof("LEE", "nt", fits))
        self.assertIsNone(self.subject.check_proof("lee", "nt", lambda secret: False))
        self.assertIsNone(self.subject.check_proof("lee", "password", fits))
        self.assertIsNone(self.subject.check_proof("nobody", "nt", fits))
        self.assertEqual(nt_hash("pencil"), compared[0])
        self.assertEqual(3, len(set(compared)))

    def test_gone_or_open(self) -> None:
        """A file that has gone, or that others may read, lets nobody in, and 454 says so."""
        self.subject.find_keys("kim")
        os.rename(self.path, self.path.with_suffix(".gone"))
        self.assertEqual(Account("kim"), self.subject.find_keys("kim").account)
        self.clock.advance(LOOK_AGAIN_SECONDS)
        for _ in range(2):
            with self.assertRaises(AuthenticationProblem):
                self.subject.find_keys("kim")
        os.rename(self.path.with_suffix(".gone"), self.path)
        self.path.chmod(0o604)
        self.clock.advance(LOOK_AGAIN_SECONDS)
        with self.assertRaises(AuthenticationProblem):
            self.subject.find_keys("kim")
        self.path.chmod(0o600)
        self.clock.advance(LOOK_AGAIN_SECONDS)
        self.assertEqual(Account("kim"), self.subject.find_keys("kim").account)

    def test_faulty_line(self) -> None:
        """A line that cannot be read is left out, and the log has no secret of it."""
        with self.path.open("a") as file:
            file.write("lee:secret-in-clear\n")
        self.assertIsNone(self.subject.find_keys("lee").account)


@implementer(ICredentialsChecker)
class PasswordsOnly:
    credentialInterfaces = (IUsernamePassword,)

    def requestAvatarId(self, given: Any) -> Any:
        return given.username


class FakeDirectory:
    """Knows one password, or nothing at all."""

    def __init__(self, down: bool = False) -> None:
        self.down = down

    async def bind_as(self, login: str, password: str) -> bool:
        if self.down:
            raise LookupProblem("down")
        return (login, password) == ("kim", "pencil")


class OtherTests(SynchronousTestCase):
    def ask(self, credentials: Any, name: str, password: str) -> Any:
        answer = credentials.check_password(name, password)
        if isinstance(answer, Deferred) or hasattr(answer, "__await__"):
            return self.successResultOf(ensureDeferred(answer))
        return answer

    def prove(self, credentials: Any, name: str, kind: str, expected: bytes) -> Any:
        answer = credentials.check_proof(name, kind, lambda secret: secret == expected)
        return self.successResultOf(ensureDeferred(answer))

    def test_checker_of_passwords_only(self) -> None:
        """One that cannot compare what was computed says so, and refuses nobody for it."""
        subject: Any = as_credentials(PasswordsOnly())
        answer = ensureDeferred(subject.check_proof("kim", "nt", lambda secret: True))
        self.failureResultOf(answer, AuthenticationProblem)

    def test_directory(self) -> None:
        """A bind decides; a directory that is down, or off, is no wrong password."""
        up = DirectoryCredentials(FakeDirectory)  # type: ignore[arg-type]  # the part that is used
        self.assertEqual(Account("kim", by_directory=True), self.ask(up, "kim", "pencil"))
        self.assertIsNone(self.ask(up, "kim", "pen"))
        down: Any = DirectoryCredentials(lambda: FakeDirectory(down=True))  # type: ignore[arg-type, return-value]
        for subject in (down, DirectoryCredentials(lambda: None)):
            answer = ensureDeferred(subject.check_password("kim", "pencil"))
            self.failureResultOf(answer, AuthenticationProblem)

    def test_checker(self) -> None:
        """A twisted.cred checker of passwords will do."""
        checker: Any = InMemoryUsernamePasswordDatabaseDontUse()
        checker.addUser(b"kim", b"pencil")
        subject = as_credentials(checker)
        self.assertEqual(Account("kim"), self.ask(subject, "kim", "pencil"))
        self.assertIsNone(self.ask(subject, "kim", "pen"))
        self.assertIsNone(self.ask(subject, "lee", "pencil"))
        self.assertEqual(Account("kim"), self.prove(subject, "kim", "nt", nt_hash("pencil")))
        self.assertEqual(Account("kim"), self.prove(subject, "kim", "password", b"pencil"))
        self.assertIsNone(self.prove(subject, "kim", "nt", nt_hash("pen")))
        self.assertIsNone(self.prove(subject, "lee", "nt", nt_hash("pencil")))
        with self.assertRaises(TypeError):
            as_credentials(object())

    def test_several(self) -> None:
        """The first that says yes counts."""
        checker: Any = InMemoryUsernamePasswordDatabaseDontUse()
        checker.addUser(b"lee", b"pen")
        both = SeveralCredentials(
            (as_credentials(checker), DirectoryCredentials(FakeDirectory))  # type: ignore[arg-type]
        )
        self.assertEqual(Account("lee"), self.ask(both, "lee", "pen"))
        self.assertEqual(Account("kim", by_directory=True), self.ask(both, "kim", "pencil"))
        self.assertIsNone(self.ask(both, "kim", "pen"))
