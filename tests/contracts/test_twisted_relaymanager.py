"""
What ``twisted.mail.relaymanager`` gets wrong in ordinary use, pinned.

Each test passes while upstream has the defect.  One that fails says that it has
been repaired, and that `mailhost.relay.manager.RelayManager`, which subclasses
upstream's manager, may have less to replace.  ``MXCalculator`` has a page of its
own beside this one.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.mail.relaymanager import (
    MXCalculator,
    Queue,
    SmartHostESMTPRelayingManager,
    _AttemptManager,
)
from twisted.names.dns import Record_MX
from twisted.trial.unittest import SynchronousTestCase

from tests.contracts.test_twisted_mx_calculator import Records

REPAIRED = "upstream has repaired this: {}"
NAME = "message"


class RelayingManagerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def queue(self, *envelope: str) -> Any:
        """Upstream's queue with one message waiting, where an *envelope* is given."""
        if envelope:
            (self.directory / f"{NAME}-H").write_bytes(pickle.dumps(list(envelope)))
            (self.directory / f"{NAME}-D").write_bytes(b"Subject: x\n\nhello\n")
        Queue.noisy, before = False, Queue.noisy
        self.addCleanup(setattr, Queue, "noisy", before)
        return Queue(str(self.directory))

    def test_works_when_empty(self) -> None:
        """The calls used below are right: an empty queue is nothing to do."""
        self.assertIsNone(SmartHostESMTPRelayingManager(self.queue()).checkState())

    def test_check_state(self) -> None:
        """``checkState`` fails as soon as one message waits: nothing is ever relayed."""
        manager = SmartHostESMTPRelayingManager(self.queue("a@example.org", "b@example.com"))
        manager.mxcalc = MXCalculator(Records((10, "a.example")), Clock())
        try:
            manager.checkState()
        except AttributeError:
            return
        self.fail(REPAIRED.format("checkState with a message that waits"))

    def test_pickled_envelopes(self) -> None:
        """An envelope on disk is a pickle of one sender and one recipient."""
        queue = self.queue("a@example.org", "b@example.com")
        found = queue.getEnvelope(NAME)
        self.assertEqual(
            ["a@example.org", "b@example.com"], found, REPAIRED.format("the form of envelopes")
        )

    def test_one_host(self) -> None:
        """Of the hosts of a domain the manager is told one, so there is no other to try."""
        exchanges = MXCalculator(Records((10, "a.example"), (20, "b.example")), Clock())
        found = self.successResultOf(exchanges.getMX("example.com"))
        self.assertIsInstance(found, Record_MX, REPAIRED.format("one mail exchange only"))

    def test_no_retry(self) -> None:
        """A message whose host could not be reached never waits for another attempt."""
        clock = Clock()
        queue = self.queue("a@example.org", "b@example.com")
        queue.setRelaying(NAME)
        manager = SmartHostESMTPRelayingManager(queue)
        attempt = _AttemptManager(manager, noisy=False, reactor=clock)
        relayer = object()
        manager.managed[relayer] = [NAME]

        attempt.notifyNoConnection(relayer)
        clock.advance(3600)

        waiting = list(queue.getWaiting())
        self.assertEqual([], waiting, REPAIRED.format("another attempt after a failed connection"))
