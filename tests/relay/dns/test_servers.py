"""Tests for `mailhost.relay.dns.servers`."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.relay.dns.files import Server
from mailhost.relay.dns.messages import A, Answer, Question, Verdict, failure
from mailhost.relay.dns.servers import AVOID_SECONDS, NameServers
from tests.relay.dns.fakes import FakeCarrier

ONE, TWO = ("192.0.2.1", 53), ("192.0.2.2", 53)
QUESTION = Question("example.com", A)


class NameServersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.verdicts: dict[Server, Verdict] = {}
        self.carrier = FakeCarrier(self.reply)
        self.configured: list[Server] = [ONE, TWO]
        self.servers = NameServers(self.carrier, lambda: self.configured, self.clock)

    def reply(self, question: Question, server: Server) -> Answer:
        return failure(question, self.verdicts.get(server, Verdict.ANSWERED), str(server))

    def ask(self) -> tuple[Verdict, list[Server]]:
        del self.carrier.asked[:]
        answer = self.successResultOf(Deferred.fromCoroutine(self.servers.ask(QUESTION)))
        return answer.verdict, [server for _, server in self.carrier.asked]

    def test_first_is_enough(self) -> None:
        """Where the first name server answers, no other is asked."""
        for verdict in (Verdict.ANSWERED, Verdict.NO_DOMAIN, Verdict.ENDLESS):
            self.verdicts[ONE] = verdict
            self.assertEqual((verdict, [ONE]), self.ask())

    def test_failure_goes_on_to_the_next(self) -> None:
        """A name server that fails is passed over, this time only."""
        self.verdicts[ONE] = Verdict.FAILED
        for _ in range(2):
            self.assertEqual((Verdict.ANSWERED, [ONE, TWO]), self.ask())

    def test_silent_ones_are_asked_twice(self) -> None:
        """All silent: each is asked twice, and that is all."""
        self.verdicts = {ONE: Verdict.SILENT, TWO: Verdict.SILENT}
        self.assertEqual((Verdict.SILENT, [ONE, TWO, ONE, TWO]), self.ask())

    def test_one_that_failed_is_not_asked_twice(self) -> None:
        """A second round is for those that were silent."""
        self.verdicts = {ONE: Verdict.FAILED, TWO: Verdict.SILENT}
        self.assertEqual((Verdict.SILENT, [ONE, TWO, TWO]), self.ask())

    def test_silent_one_stands_back(self) -> None:
        """After silence the others come first for a while."""
        self.verdicts = {ONE: Verdict.SILENT}
        self.assertEqual((Verdict.ANSWERED, [ONE, TWO]), self.ask())
        self.assertEqual((Verdict.ANSWERED, [TWO]), self.ask())
        self.verdicts = {}
        self.clock.advance(AVOID_SECONDS)
        self.assertEqual((Verdict.ANSWERED, [ONE]), self.ask())

    def test_servers_change(self) -> None:
        """The list is looked up at each question; one taken off it is not asked."""
        self.verdicts = {ONE: Verdict.SILENT}
        self.ask()
        self.configured = [("192.0.2.3", 53)]
        self.assertEqual((Verdict.ANSWERED, [("192.0.2.3", 53)]), self.ask())

    def test_no_server(self) -> None:
        """Nobody to ask is silence."""
        self.configured = []
        self.assertEqual((Verdict.SILENT, []), self.ask())
