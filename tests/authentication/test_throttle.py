"""Tests for `mailhost.authentication.throttle` and `exchange`: guesses cost time."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mailhost.authentication.credentials import as_credentials
from mailhost.authentication.exchange import Authentication
from mailhost.authentication.throttle import (
    MAX_DELAY_SECONDS,
    MAX_PER_ADDRESS,
    MAX_PER_NAME,
    MAX_REMEMBERED,
    WINDOW_SECONDS,
    Throttle,
)
from mailhost.errors import AuthenticationProblem
from mailhost.model.account import Account
from mailhost.model.reply import Reply
from mailhost.model.session import SessionFacts
from mailhost.smtp import replies
from tests.authentication.passwords import Passwords

PEER = "192.0.2.7"


class ThrottleTests(SynchronousTestCase):
    def test_ban_by_address(self) -> None:
        """After ten failures an address is not heard for ten minutes; others are."""
        subject = Throttle()
        for number in range(MAX_PER_ADDRESS):
            self.assertFalse(subject.is_banned(PEER, 0.0))
            subject.failed(PEER, f"name{number}", 0.0)
        self.assertTrue(subject.is_banned(PEER, WINDOW_SECONDS - 1))
        self.assertFalse(subject.is_banned("192.0.2.8", 0.0))
        self.assertFalse(subject.is_banned(PEER, WINDOW_SECONDS))

    def test_ipv6_by_network(self) -> None:
        """A customer has 2^64 addresses, and counts once."""
        subject = Throttle()
        for number in range(MAX_PER_ADDRESS):
            subject.failed(f"2001:db8::{number:x}", "kim", 0.0)
        self.assertTrue(subject.is_banned("2001:db8::ffff", 0.0))
        self.assertFalse(subject.is_banned("2001:db8:0:1::1", 0.0))
        subject.failed("::ffff:192.0.2.7", "kim", 0.0)

    def test_ban_by_name_spares_the_owner(self) -> None:
        """A4 of the world guesses one name: strangers are not heard, its owner's place is."""
        subject = Throttle()
        subject.succeeded(PEER, "kim")
        for number in range(MAX_PER_NAME):
            subject.failed(f"198.51.100.{number}", "kim", 0.0)
        self.assertTrue(subject.is_name_banned("203.0.113.1", "kim", 0.0))
        self.assertFalse(subject.is_name_banned(PEER, "kim", 0.0))
        self.assertFalse(subject.is_name_banned("203.0.113.1", "lee", 0.0))

    def test_delay_grows(self) -> None:
        """1, 2, 4, 8 seconds and no more; a success forgets."""
        subject = Throttle()
        delays = [subject.failed(PEER, "kim", 0.0) for _ in range(6)]
        self.assertEqual([1.0, 2.0, 4.0, 8.0, MAX_DELAY_SECONDS, MAX_DELAY_SECONDS], delays)
        subject.succeeded(PEER, "kim")
        self.assertEqual(1.0, subject.failed(PEER, "kim", 0.0))

    def test_bounded(self) -> None:
        """P7: a flood from everywhere does not fill the memory."""
        subject = Throttle()
        for number in range(MAX_REMEMBERED + 10):
            subject.failed(f"peer{number}", f"name{number}", 0.0)
        self.assertLessEqual(len(subject._addresses), MAX_REMEMBERED)
        self.assertLessEqual(len(subject._names), MAX_REMEMBERED)


class ExchangeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.passwords = Passwords({"kim@example.com": "pencil"})
        self.shared = Authentication(self.passwords, self.clock, "example.com")
        self.session = SessionFacts("1", PEER, 40000)
        self.subject = self.shared.exchange(self.session, lambda name: None)

    def login(self, name: str, password: str, wait: float = 60.0) -> Reply:
        said = self.subject.begin("PLAIN", f"\0{name}\0{password}".encode())
        if isinstance(said, Reply):
            return said
        waiting: Deferred[Reply] = ensureDeferred(said)  # type: ignore[arg-type]
        self.clock.advance(wait)
        return self.successResultOf(waiting)

    def test_default_domain(self) -> None:
        """ACC-04: a name without a domain gets the default one, others stay as they are."""
        self.assertEqual(replies.LOGGED_IN, self.login("kim", "pencil"))
        self.assertEqual(Account("kim@example.com"), self.session.account)
        self.login("kim@example.net", "pencil")
        self.login("OFFICE\\kim", "pencil")
        self.assertEqual(
            ["kim@example.com", "kim@example.net", "OFFICE\\kim"], self.passwords.asked
        )

    def test_failure_waits(self) -> None:
        """A17: the reply to a wrong password is late, for known and unknown names alike."""
        for name in ("kim", "nobody"):
            waiting: Any = self.subject.begin("PLAIN", f"\0{name}\0wrong".encode())
            told = ensureDeferred(waiting)
            self.assertNoResult(told)
            self.clock.advance(2.0)
            self.assertEqual(replies.LOGIN_FAILED, self.successResultOf(told))
        self.assertIsNone(self.session.account)

    def test_banned(self) -> None:
        """An address that guesses is not heard, not even with the right password."""
        for _ in range(MAX_PER_ADDRESS):
            self.assertEqual(replies.LOGIN_FAILED, self.login("kim", "wrong", 8.0))
        asked = len(self.passwords.asked)
        self.assertEqual(replies.TOO_MANY_LOGINS, self.login("kim", "pencil"))
        self.assertEqual(asked, len(self.passwords.asked), "nothing is hashed for it")
        self.clock.advance(WINDOW_SECONDS)
        self.assertEqual(replies.LOGGED_IN, self.login("kim", "pencil"))

    def test_not_now(self) -> None:
        """P4: when nobody can say, it is 454, and counts as no guess."""
        self.passwords.problem = AuthenticationProblem("down")
        for _ in range(MAX_PER_ADDRESS + 1):
            self.assertEqual(replies.LOGIN_NOT_NOW, self.login("kim", "pencil"))
        self.flushLoggedErrors()

    def test_malformed_counts(self) -> None:
        """A16: what is no PLAIN is 501, as late as a wrong password."""
        said: Any = self.subject.begin("PLAIN", b"kim")
        self.clock.advance(1.0)
        self.assertEqual(replies.LOGIN_MALFORMED, self.successResultOf(said))

    def test_nothing_secret_is_logged(self) -> None:
        """A75: neither passwords nor what was typed for a name are in the log."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.login("Typed-as-name", "Typed-as-password")
        self.login("kim", "pencil")
        text = "\n".join(f"{formatEvent(event)} {event}" for event in events)
        self.assertIn("has logged in as kim@example.com by PLAIN", text)
        self.assertIn("could not log in by PLAIN", text)
        for secret in ("yped-as", "pencil"):
            self.assertNotIn(secret, text)

    def test_checker(self) -> None:
        """What an application passes in is taken as it is."""
        self.assertIs(self.passwords, as_credentials(self.passwords))
