"""Tests for `mailhost.server.held`: one who asks by ETRN means the mail of all processes."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import MailhostError, SpoolInUse, SpoolProblem
from mailhost.model.held import HeldDomains
from mailhost.server.held import CannotSay, SharedHeldMail
from mailhost.server.orphans import Orphan
from mailhost.server.share import Share
from mailhost.server.turned import Tour
from tests.support.world import FakeHeldMail

BRANCH = HeldDomains(("branch.example",))
WITH, WITHOUT = {"branch.example"}, {"other.example"}


@define(eq=False)
class FakeColleagues:
    """Say what they have when the test says so."""

    asked: list[tuple[str, tuple[str, ...], str | None]] = field(factory=list)
    answer: Deferred[list[bool | None]] = field(factory=Deferred)
    numbers: tuple[int, ...] = (1,)

    def ask_held(
        self, server: str, domains: tuple[str, ...], who: str | None
    ) -> Deferred[list[bool | None]]:
        self.asked.append((server, domains, who))
        return self.answer

    def lend(self, number: int, server: str, tour: Tour, descriptor: int) -> Deferred[bool]:
        raise AssertionError("nothing is given back here")


class SharedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.own, self.adopted = FakeHeldMail(set(WITHOUT)), FakeHeldMail(set(WITHOUT))
        self.colleagues = FakeColleagues()

    def shared(self, alone: bool = False) -> SharedHeldMail:
        share = Share(colleagues=None if alone else self.colleagues)
        return share.held(self.own, "one", lambda: (self.own, self.adopted), Clock())

    def start(self, alone: bool = False) -> Deferred[bool]:
        return Deferred.fromCoroutine(self.shared(alone).start(BRANCH, "a test"))

    def waits(self, alone: bool = False) -> Deferred[bool]:
        return Deferred.fromCoroutine(self.shared(alone).waits(BRANCH))

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

    def test_waits(self) -> None:
        """ATRN: whether anybody has any is asked, and nothing is started."""
        self.assertFalse(self.successResultOf(self.waits(alone=True)))
        waiting = self.waits()
        self.assertEqual([("one", BRANCH.names, None)], self.colleagues.asked)
        self.assertNoResult(waiting)
        self.colleagues.answer.callback([True])
        self.assertTrue(self.successResultOf(waiting))
        self.adopted.domains = WITH
        self.assertTrue(self.successResultOf(self.waits()))
        self.assertEqual(([], []), (self.own.started, self.adopted.started))

    def test_adopted_queue_in_use(self) -> None:
        """Another process has it: nobody hears that there is no mail."""
        with TemporaryDirectory() as folder:
            orphan = Orphan(Path(folder), Path(folder), Clock(), fail_to_open, never)
            orphan.start(never)
            queues: tuple[Any, ...] = (self.own, orphan.held)
            shared = Share().held(self.own, "one", lambda: queues, Clock())
            for asked in (shared.start(BRANCH, "a test"), shared.waits(BRANCH)):
                self.failureResultOf(Deferred.fromCoroutine(asked), CannotSay)
            self.own.domains = WITH
            started = Deferred.fromCoroutine(shared.start(BRANCH, "a test"))
            self.assertTrue(self.successResultOf(started))

    def test_turned(self) -> None:
        """A session that is turned round begins with what its own process has."""
        self.own.domains = WITH

        protocol = self.shared().session(BRANCH, "192.0.2.1", 25)
        self.assertEqual([(BRANCH.names, "192.0.2.1", protocol)], self.own.turned)
        self.assertEqual([], self.colleagues.asked)


def fail_to_open() -> Any:
    raise SpoolInUse("in use")


def never(*given: Any) -> Any:
    raise AssertionError("not while it is in use")
