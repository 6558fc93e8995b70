"""Sessions that log in by an access token: a refused one is replaced, once."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import WebProblem
from mailhost.model.outcome import Outcome
from mailhost.model.reply import Reply
from mailhost.model.route import NextHop
from mailhost.model.security import Login, OutboundSecurity, Secret, TLSLevel, TokenGrant
from mailhost.model.web import WebAnswer
from mailhost.net.outbound import Transcript
from mailhost.net.tokens import FRESH_SECONDS
from mailhost.relay.job import Destination
from mailhost.relay.line import Line, Opened
from mailhost.smtp.client_events import Phase

GRANT = TokenGrant("https://login.example/token", "us", Secret("x"))
LOGIN = Login("kim", mechanisms=("XOAUTH2",), tokens=GRANT)
NO = Transcript((), "refused", False, False, Reply(535, "5.7.8", ("no",)), Phase.LOGIN)
LATER = Transcript((), "refused", False, False, Reply(454, "4.7.0", ("later",)), Phase.LOGIN)


class RefusedTokenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        exchanges: Any = None  # addresses in brackets need none
        self.line = Line(self.clock, exchanges, "us.example", connect=self.connect)
        self.line.tokens.post = self.post
        self.given = 0
        self.shown: list[str] = []
        # Tokens that the host takes, and what it says to others.
        self.good: set[str] = set()
        self.refusal = NO
        self.down = False

    def post(self, grant: TokenGrant, form: Any, headers: Any) -> Deferred[WebAnswer]:
        if self.down:
            raise WebProblem("down")
        self.given += 1
        told = {"access_token": f"t{self.given}", "token_type": "Bearer", "expires_in": 3600}
        return succeed(WebAnswer(200, json.dumps(told).encode()))

    def connect(self, place: Any, factory: Any) -> Deferred[Any]:
        session = factory.buildProtocol(None)
        token = session._protection.login.secret
        self.shown.append(token)
        session.ready.callback(None if token in self.good else self.refusal)
        return succeed(session)

    def open(self) -> Opened | Outcome | None:
        security = OutboundSecurity(TLSLevel.VERIFIED, None, LOGIN)
        destination = Destination("one", (NextHop("192.0.2.1", literal=True),), security=security)
        opening = self.line.open(destination, set(), lambda: None)
        return self.successResultOf(Deferred.fromCoroutine(opening))

    def test_taken_back(self) -> None:
        """One that was good, and is refused, makes way for a fresh one in the same attempt."""
        self.good = {"t1"}
        self.assertIsInstance(self.open(), Opened)
        self.clock.advance(FRESH_SECONDS)
        self.good = {"t2"}
        self.assertIsInstance(self.open(), Opened)
        self.assertEqual(["t1", "t1", "t2"], self.shown)

    def test_refused_again(self) -> None:
        """Not a third time: the mail waits, and the next attempts do not ask for more."""
        for _ in range(2):
            outcome = self.open()
            assert isinstance(outcome, Outcome)
            self.assertEqual("4.7.8", outcome.status)
        self.clock.advance(FRESH_SECONDS)
        self.open()
        self.assertEqual(["t1", "t1", "t1", "t2"], self.shown)

    def test_not_now(self) -> None:
        """A host that cannot say now has not refused the token."""
        self.refusal = LATER
        self.clock.advance(FRESH_SECONDS)
        self.open()
        self.clock.advance(FRESH_SECONDS)
        self.open()
        self.assertEqual(["t1", "t1"], self.shown)

    def test_no_token(self) -> None:
        """Without a token nobody is connected to."""
        self.down = True
        outcome = self.open()
        assert isinstance(outcome, Outcome)
        self.assertEqual("4.7.0", outcome.status)
        self.assertIn("login.example: down", outcome.words)
        self.assertEqual([], self.shown)
