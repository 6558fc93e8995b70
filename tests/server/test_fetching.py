"""When providers are asked for mail, and what of."""

from __future__ import annotations

from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.settings.fetch import FetchSettings
from mailhost.model.outcome import Fate, Outcome
from mailhost.model.reply import Reply
from mailhost.model.route import HostAddress, NextHop
from mailhost.model.security import Login, OutboundSecurity, TLSLevel
from mailhost.relay.line import Opened
from mailhost.server.fetching import Fetcher

LOGIN = OutboundSecurity(TLSLevel.REQUIRED, login=Login("kim"))
ATRN = FetchSettings(NextHop("provider.example"), security=LOGIN, every=600)
ETRN = FetchSettings(
    NextHop("provider.example", 26), by="etrn", domains=("a.example", "b.example"), every=60
)


@define(eq=False)
class Provider:
    """Stands where the relay's line and its session do."""

    answer: Reply | None = Reply(453, "4.2.0", "no mail")
    heard: list[str] = field(factory=list)
    opened: list[Any] = field(factory=list)
    closed: int = 0
    reachable: bool = True
    slow: Deferred[Any] | None = None

    def open(self, destination: Any, tried: Any, gone: Any) -> Any:
        self.opened.append(destination)
        if not self.reachable:
            return succeed(Outcome(Fate.DELAYED, "4.4.1", "down"))
        session: Any = self
        opened = Opened(session, HostAddress("provider.example", "192.0.2.1", 366))
        return self.slow or succeed(opened)

    def ask(self, command: str) -> Any:
        self.heard.append(command)
        return succeed(self.answer)

    def quit(self) -> None:
        self.closed += 1


class FetchingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.provider = Provider()
        nothing: Any = None
        line: Any = self.provider
        self.fetcher = Fetcher(self.clock, line, nothing, nothing, nothing)

    def run_for(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1)

    def test_schedule(self) -> None:
        """At once, and then so often; what it is asked is what the entry says."""
        self.fetcher.configure((ATRN, ETRN))
        self.run_for(119)

        self.assertEqual(["ATRN", *["ETRN a.example", "ETRN b.example"] * 2], self.provider.heard)
        self.assertEqual([366, 26, 26], [one.hops[0].port for one in self.provider.opened])
        self.assertEqual(3, self.provider.closed)

    def test_changed(self) -> None:
        """What stays goes on, what is new begins, what is gone is asked no more."""
        self.fetcher.configure((ATRN,))
        self.run_for(1)
        self.fetcher.configure((ATRN, ETRN))
        self.run_for(1)
        self.fetcher.configure((ETRN,))
        self.run_for(57)
        self.assertEqual(["ATRN", "ETRN a.example", "ETRN b.example"], self.provider.heard)
        self.fetcher.stop()
        self.run_for(1000)
        self.assertEqual(3, len(self.provider.heard))

    def test_not_there(self) -> None:
        """It is asked at its next time; a lost connection ends one attempt."""
        self.provider.reachable = False
        self.fetcher.configure((ETRN,))
        self.run_for(1)
        self.provider.reachable, self.provider.answer = True, None
        self.run_for(60)

        self.assertEqual((2, ["ETRN a.example"]), (len(self.provider.opened), self.provider.heard))

    def test_slow(self) -> None:
        """One connection at a time, however long it takes; a stop ends it."""
        self.provider.slow = Deferred()
        self.fetcher.configure((ETRN,))
        self.run_for(300)
        self.assertEqual(1, len(self.provider.opened))

        self.fetcher.stop()
        self.assertTrue(self.provider.slow.called)

    def test_refused_settings(self) -> None:
        """ATRN without a login, ETRN without a domain."""
        self.assertRaises(ValueError, FetchSettings, NextHop("x"))
        self.assertRaises(ValueError, evolve, ETRN, domains=())
