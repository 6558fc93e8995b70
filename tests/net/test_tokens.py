"""Tests for `mailhost.net.tokens`, with a clock and an endpoint that answers when it is told to."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import WebProblem
from mailhost.model.security import Secret, TokenGrant
from mailhost.model.web import WebAnswer
from mailhost.net.tokens import (
    FRESH_SECONDS,
    REFUSAL_SECONDS,
    RENEW_SECONDS,
    TROUBLE_SECONDS,
    Token,
    TokenBroker,
    TokenProblem,
)

GRANT = TokenGrant(
    "https://login.example/token", "the client", Secret("pencil&+"), scope="mail .default"
)
REFRESH = TokenGrant("https://login.example/token", "us", refresh_token=Secret("refresh-0"))


class TokenCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.broker = TokenBroker(self.clock, post=self.post)
        self.asked: list[tuple[dict[str, str], dict[str, str]]] = []
        self.answers: list[Deferred[WebAnswer]] = []

    def post(
        self, grant: TokenGrant, form: dict[str, str], headers: dict[str, str]
    ) -> Deferred[WebAnswer]:
        self.asked.append((form, headers))
        self.answers.append(Deferred())
        return self.answers[-1]

    def answer(self, status: int = 200, body: bytes | None = None, **told: Any) -> None:
        """Answer the last question."""
        given = {"access_token": f"t{len(self.asked)}", "token_type": "Bearer", "expires_in": 3600}
        octets = json.dumps(given | told).encode() if body is None else body
        self.answers[-1].callback(WebAnswer(status, octets, told.pop("wait", 0)))

    def fetched(self, grant: TokenGrant = GRANT, **told: Any) -> Token:
        asking = self.broker.token(grant)
        self.answer(**told)
        return self.successResultOf(asking)

    def problem(self, asking: Deferred[Token]) -> TokenProblem:
        failure: Any = self.failureResultOf(asking, TokenProblem)
        return failure.value  # type: ignore[no-any-return]


class QuestionTests(TokenCase):
    def test_client_credentials(self) -> None:
        """RFC 6749 §4.4.2, with the secret in the form."""
        self.assertEqual("t1", self.fetched().text)
        form = {
            "grant_type": "client_credentials",
            "client_id": "the client",
            "client_secret": "pencil&+",
            "scope": "mail .default",
        }
        self.assertEqual([(form, {})], self.asked)

    def test_secret_in_the_header(self) -> None:
        """RFC 6749 §2.3.1: both parts are encoded as in a form, and not in the form."""
        self.fetched(evolve(GRANT, basic=True))
        form, headers = self.asked[0]
        expected = b64encode(b"the+client:pencil%26%2B").decode()
        self.assertEqual({"Authorization": f"Basic {expected}"}, headers)
        self.assertEqual({"grant_type", "scope"}, form.keys())

    def test_refresh(self) -> None:
        """RFC 6749 §6, of a public client."""
        self.fetched(REFRESH)
        form = {"grant_type": "refresh_token", "refresh_token": "refresh-0", "client_id": "us"}
        self.assertEqual([(form, {})], self.asked)


class RotationTests(TokenCase):
    def test_file(self) -> None:
        """A new refresh token is written down, and is what is read next time."""
        with TemporaryDirectory() as folder:
            file = Path(folder) / "refresh"
            file.write_text("refresh-0\n")
            file.chmod(0o600)
            grant = evolve(REFRESH, refresh_token=None, refresh_token_file=file)
            self.fetched(grant, refresh_token="refresh-1")
            self.assertEqual("refresh-1\n", file.read_text())
            self.clock.advance(4000)
            self.fetched(grant)
            self.assertEqual("refresh-1", self.asked[-1][0]["refresh_token"])
            file.write_text("refresh-9\n")  # the operator's, a new one
            self.clock.advance(4000)
            self.fetched(grant)
            self.assertEqual("refresh-9", self.asked[-1][0]["refresh_token"])

    def test_memory(self) -> None:
        """Without a file it is kept as long as the process lives, and the log says so."""
        for number in range(3):
            self.fetched(REFRESH, refresh_token=f"refresh-{number + 1}")
            self.assertEqual(f"refresh-{number}", self.asked[-1][0]["refresh_token"])
            self.clock.advance(4000)

    def test_file_that_cannot_be_written(self) -> None:
        """The token is good all the same, and the new refresh token is not forgotten."""
        with TemporaryDirectory() as folder:
            file = Path(folder) / "refresh"
            file.write_text("refresh-0\n")
            file.chmod(0o600)
            grant = evolve(REFRESH, refresh_token=None, refresh_token_file=file)

            def fails(work: Any) -> Deferred[Any]:
                raise OSError(30, "Read-only file system")

            self.broker.in_thread = fails
            self.assertEqual("t1", self.fetched(grant, refresh_token="refresh-1").text)
            self.clock.advance(4000)
            self.fetched(grant)
            self.assertEqual("refresh-1", self.asked[-1][0]["refresh_token"])


class LifeTests(TokenCase):
    def test_one_fetch_for_many(self) -> None:
        """Whoever comes while it is fetched waits for the same answer; later ones have it."""
        asking = [self.broker.token(GRANT) for _ in range(100)]
        asking[50].cancel()
        self.failureResultOf(asking[50])
        self.answer()
        self.assertEqual(
            {"t1"}, {self.successResultOf(d).text for d in asking if d is not asking[50]}
        )
        self.assertEqual("t1", self.successResultOf(self.broker.token(GRANT)).text)
        self.assertEqual(1, len(self.asked))

    def test_accounts(self) -> None:
        """Each grant has its own."""
        self.assertEqual("t1", self.fetched(GRANT).text)
        self.assertEqual("t2", self.fetched(REFRESH).text)

    def test_renewal(self) -> None:
        """Before it ends a new one is fetched, and nobody waits for that."""
        self.fetched()
        self.clock.advance(3600 - RENEW_SECONDS - 1)
        self.assertEqual("t1", self.successResultOf(self.broker.token(GRANT)).text)
        self.assertEqual(1, len(self.asked))
        self.clock.advance(2)
        for _ in range(3):
            self.assertEqual("t1", self.successResultOf(self.broker.token(GRANT)).text)
        self.assertEqual(2, len(self.asked))
        self.answer()
        self.assertEqual("t2", self.successResultOf(self.broker.token(GRANT)).text)

    def test_renewal_fails(self) -> None:
        """The old one is good until its end, and the endpoint is not asked all the time."""
        self.fetched()
        self.clock.advance(3600 - RENEW_SECONDS + 1)
        self.broker.token(GRANT)
        self.answers[-1].errback(WebProblem("down"))
        for _ in range(5):
            self.assertEqual("t1", self.successResultOf(self.broker.token(GRANT)).text)
        self.assertEqual(2, len(self.asked))
        self.clock.advance(TROUBLE_SECONDS)
        self.broker.token(GRANT)
        self.assertEqual(3, len(self.asked))

    def test_end(self) -> None:
        """A token that has ended, or is about to, is not used."""
        self.fetched(expires_in=100)
        self.clock.advance(96)
        self.assertNoResult(self.broker.token(GRANT))

    def test_life(self) -> None:
        """Texts are numbers too; what is no time at all is five minutes."""
        for told, seconds in (
            ("7200", 7200), (None, 300), (-1, 300), (0, 300), ("x", 300), (True, 300), (1, 10),
            (10**20, 86400), ([], 300), (float("nan"), 300), (float("inf"), 86400),
        ):  # fmt: skip
            broker = self.broker = TokenBroker(self.clock, post=self.post)
            self.assertEqual(seconds, self.fetched(expires_in=told).expires_at, told)
            del broker


class ReplaceTests(TokenCase):
    def test_fresh(self) -> None:
        """One that a host refuses is replaced by a fresh one."""
        refused = self.fetched()
        self.clock.advance(FRESH_SECONDS)
        asking = self.broker.replace(GRANT, refused)
        assert asking is not None
        self.answer()
        self.assertEqual("t2", self.successResultOf(asking).text)
        again = self.broker.replace(GRANT, refused)
        assert again is not None
        self.assertEqual("t2", self.successResultOf(again).text)
        self.assertEqual(2, len(self.asked))

    def test_new_token(self) -> None:
        """A new one that is refused says that we are, and is not replaced for ever."""
        self.assertIsNone(self.broker.replace(GRANT, self.fetched()))


class ProblemTests(TokenCase):
    def test_refusal(self) -> None:
        """RFC 6749 §5.2: the endpoint's words, without what it should not have repeated."""
        asking = [self.broker.token(GRANT) for _ in range(2)]
        self.answer(400, error="invalid_grant", error_description="no\r\n pencil&+ " + "x" * 999)
        for one in asking:
            problem = self.problem(one)
            self.assertEqual("4.7.8", problem.status)
            self.assertIn("login.example: 400 invalid_grant no   *** xxx", str(problem))
            self.assertLess(len(str(problem)), 300)
        self.assertEqual("4.7.8", self.problem(self.broker.token(GRANT)).status)
        self.assertEqual(1, len(self.asked))
        self.clock.advance(REFUSAL_SECONDS)
        self.assertEqual("t2", self.fetched().text)

    def test_trouble(self) -> None:
        """The endpoint's own trouble is another; it says when to come again, within reason."""
        for wait, later in ((0, TROUBLE_SECONDS), (100, 100), (99999, 600)):
            asking = self.broker.token(GRANT)
            self.answers[-1].callback(WebAnswer(503, b"<html>", wait))
            self.assertEqual("4.7.0", self.problem(asking).status)
            self.clock.advance(later - 1)
            self.problem(self.broker.token(GRANT))
            self.clock.advance(1)
        self.assertEqual(3, len(self.asked))

    def test_broken_answers(self) -> None:
        """What is no token is none."""
        for told in (
            {"body": b""}, {"body": b"{"}, {"body": b"[]"}, {"body": b"[" * 100_000},
            {"body": b"\xff\xfe"}, {"access_token": None}, {"access_token": ""},
            {"access_token": "a\nb"}, {"access_token": "\u00e4"}, {"token_type": "mac"},
        ):  # fmt: skip
            asking = self.broker.token(GRANT)
            self.answer(**told)  # type: ignore[arg-type]
            self.assertEqual("4.7.0", self.problem(asking).status)
            self.clock.advance(TROUBLE_SECONDS)

    def test_no_answer(self) -> None:
        """Its words are passed on; what nobody has foreseen is logged."""
        asking = self.broker.token(GRANT)
        self.answers[-1].errback(WebProblem("no answer within 10 s"))
        self.assertEqual("login.example: no answer within 10 s", str(self.problem(asking)))
        self.clock.advance(TROUBLE_SECONDS)
        asking = self.broker.token(GRANT)
        self.answers[-1].errback(RuntimeError("what"))
        self.assertEqual("4.7.0", self.problem(asking).status)
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_secret_that_cannot_be_read(self) -> None:
        """An operator can mend it; nobody is asked."""
        grant = evolve(GRANT, client_secret=None, client_secret_file=Path("/nonexistent/secret"))
        problem = self.problem(self.broker.token(grant))
        self.assertEqual("4.3.5", problem.status)
        self.assertIn("/nonexistent/secret", str(problem))
        self.assertEqual([], self.asked)

    def test_not_seen_by_chance(self) -> None:
        """Tokens and secrets are in no representation."""
        token = self.fetched(access_token="t0ken-secret")
        for one in (token, self.broker, GRANT, REFRESH):
            for secret in ("t0ken-secret", "pencil", "refresh-0"):
                self.assertNotIn(secret, repr(one))
