"""Tests for `mailhost.server.held`: one who asks by ETRN means the mail of all processes."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import MailhostError, SpoolProblem
from mailhost.model.held import HeldDomains
from mailhost.server.held import CannotSay
from mailhost.server.share import Share
from tests.support.world import FakeHeldMail

BRANCH = HeldDomains(("branch.example",))
WITH, WITHOUT = {"branch.example"}, {"other.example"}


@define(eq=False)
class FakeRelay:
    held: FakeHeldMail


@define(eq=False)
class FakeColleagues:
    """Say what they have when the test says so."""

    asked: list[tuple[str, tuple[str, ...], str]] = field(factory=list)
    answer: Deferred[list[bool | None]] = field(factory=Deferred)

    def start_held(
        self, server: str, domains: tuple[str, ...], who: str
    ) -> Deferred[list[bool | None]]:
        self.asked.append((server, domains, who))
        return self.answer


class SharedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.own, self.adopted = FakeHeldMail(set(WITHOUT)), FakeHeldMail(set(WITHOUT))
        self.colleagues = FakeColleagues()

    def start(self, alone: bool = False) -> Deferred[bool]:
        relays: Any = [FakeRelay(self.own), FakeRelay(self.adopted)]
        share = Share(colleagues=None if alone else self.colleagues)
        held = share.held(self.own, "one", lambda: relays)
        return Deferred.fromCoroutine(held.start(BRANCH, "a test"))

    def test_alone(self) -> None:
        """One process: its own queue and those it has adopted."""
        self.assertFalse(self.successResultOf(self.start(alone=True)))
        self.adopted.domains = WITH
        self.assertTrue(self.successResultOf(self.start(alone=True)))
        self.assertEqual([(BRANCH.names, "a test")], self.adopted.started)
        self.own.problem = SpoolProblem("disk")
        self.assertTrue(self.successResultOf(self.start(alone=True)))
        self.adopted.domains = WITHOUT
        self.failureResultOf(self.start(alone=True), SpoolProblem)

    def test_own_mail(self) -> None:
        """The others are asked, and nobody waits for their answer."""
        self.own.domains = WITH

        self.assertTrue(self.successResultOf(self.start()))
        self.assertEqual([("one", BRANCH.names, "a test")], self.colleagues.asked)
        self.assertEqual(1, len(self.own.started))

    def test_mail_of_others(self) -> None:
        """What they say is waited for: started, nothing there, or not to be known."""
        for found, expected in (
            ([False, True, None], True),
            ([False, False], False),
            ([False, None], CannotSay),
        ):
            self.colleagues = FakeColleagues()
            starting = self.start()
            self.assertNoResult(starting)
            self.colleagues.answer.callback(found)
            if isinstance(expected, bool):
                self.assertIs(expected, self.successResultOf(starting))
            else:
                self.failureResultOf(starting, expected)

    def test_own_queue_cannot_be_read(self) -> None:
        """That somebody else has mail is known all the same; that nobody has is not."""
        self.own.problem = SpoolProblem("disk")
        for found in (True, False):
            self.colleagues = FakeColleagues()
            starting = self.start()
            self.colleagues.answer.callback([found])
            if found:
                self.assertTrue(self.successResultOf(starting))
            else:
                self.failureResultOf(starting, MailhostError)

    def test_turned(self) -> None:
        """A session that is turned round gets what its own process has."""
        held = Share(colleagues=self.colleagues).held(self.own, "one", list)
        self.own.domains = WITH

        self.assertTrue(self.successResultOf(Deferred.fromCoroutine(held.waits(BRANCH))))
        protocol = held.session(BRANCH, "192.0.2.1", 25)
        self.assertEqual([(BRANCH.names, "192.0.2.1", protocol)], self.own.turned)
        self.assertEqual([], self.colleagues.asked)
