"""Tests for `mailhost.later`."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import AlreadyCalledError, CancelledError, Deferred, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mailhost.later import Later, hear


class LaterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.done: list[Any] = []
        self.failed: list[Failure] = []

    def hear(self, answer: Any) -> None:
        hear(answer, self.done.append, self.failed.append)

    def told(self) -> tuple[Later[int], Later[int]]:
        """One that has come to 1, and one to a failure; both were listened to."""
        right: Later[int] = Later()
        wrong: Later[int] = Later()
        for one in (right, wrong):
            self.hear(one)
        right.callback(1)
        wrong.errback(ValueError("2"))
        return right, wrong

    def test_listener(self) -> None:
        """It is told of the result, or of the failure."""
        self.told()

        self.assertEqual([1], self.done)
        self.assertEqual(["2"], [failure.getErrorMessage() for failure in self.failed])

    def test_others(self) -> None:
        """They have the chain, with the result, whenever they come; nobody minds the listener."""
        answer: Later[int] = Later()
        self.hear(answer)
        found: list[Any] = []
        answer.addCallback(lambda result: found.append(result) or result)

        answer.callback(1)
        answer.addCallback(found.append)

        self.assertEqual(([1], [1, 1]), (self.done, found))

    def test_others_come_late(self) -> None:
        """Who comes afterwards has the result; a failure has been told."""
        right, wrong = self.told()

        self.assertEqual(1, self.successResultOf(right))
        self.assertIsNone(self.successResultOf(wrong))

    def test_failure_for_others(self) -> None:
        """A chain has the failure as well."""
        answer: Later[int] = Later()
        self.hear(answer)
        trapped = answer.addErrback(lambda failure: failure.trap(ValueError))

        answer.errback(ValueError())

        self.assertIs(ValueError, self.successResultOf(trapped))
        self.assertEqual(1, len(self.failed))

    def test_nobody_listens(self) -> None:
        """Then it is a Deferred."""
        answer: Later[int] = Later()
        answer.errback(ValueError())

        self.failureResultOf(answer, ValueError)

    def test_late_listener(self) -> None:
        """What was there before has to be told as well."""
        answer: Later[int] = Later()
        answer.callback(1)
        self.hear(answer)

        self.assertEqual([1], self.done)

    def test_second_listener(self) -> None:
        """Both are told."""
        answer: Later[int] = Later()
        self.hear(answer)
        self.hear(answer)

        answer.callback(1)

        self.assertEqual([1, 1], self.done)

    def test_once(self) -> None:
        """As with a Deferred."""
        for fire in (lambda answer: answer.callback(2), lambda answer: answer.errback(OSError())):
            answer: Later[int] = Later()
            self.hear(answer)
            answer.callback(1)
            self.assertRaises(AlreadyCalledError, fire, answer)
        self.assertEqual([1, 1], self.done)

    def test_cancelled(self) -> None:
        """The listener hears of it, and not of what comes too late."""
        answer: Later[int] = Later()
        self.hear(answer)

        answer.cancel()
        answer.callback(1)

        self.assertEqual([], self.done)
        self.assertTrue(self.failed[0].check(CancelledError))

    def test_fault_of_the_listener(self) -> None:
        """It is logged; who answers does not hear of it."""

        def fault(what: object) -> None:
            raise ValueError

        right: Later[int] = Later()
        wrong: Later[int] = Later()
        for one in (right, wrong):
            hear(one, fault, fault)
        right.callback(1)
        wrong.errback(OSError())

        self.assertEqual(2, len(self.flushLoggedErrors(ValueError)))

    def test_any_awaitable(self) -> None:
        """Deferreds and coroutines are heard too."""

        async def answer() -> int:
            return await succeed(2)

        waiting: Deferred[int] = Deferred()
        self.hear(waiting)
        self.hear(answer())
        waiting.callback(3)

        self.assertEqual([2, 3], self.done)
