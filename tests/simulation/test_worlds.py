"""
Seeded worlds of faults, each from the first message to the last retry, in milliseconds.

A world that is wrong names the command that shows it again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from mailhost.model.outcome import Fate, Outcome
from mailhost.model.queue import Submission
from mailhost.relay import connection, outcomes
from mailhost.relay.settlement import Settlement
from tests.simulation.__main__ import replay_words
from tests.simulation.invariants import faults
from tests.simulation.world import run_world

WORLDS = 400
#: A fault of ours has to show in so many worlds at most.
FEW = 60


def wrong_worlds(seeds: Iterable[int]) -> list[str]:
    """What is wrong in each world that is, behind the command that shows it again."""
    told = []
    for seed in seeds:
        found = faults(run_world(seed))
        if found:
            told.append(f"{replay_words(seed)}: {'; '.join(found[:3])}")
    return told


class WorldTests(SynchronousTestCase):
    def tearDown(self) -> None:
        # A host, a disk or a resolver that nobody has foreseen is logged as a
        # failure; what matters is what becomes of the mail.
        self.flushLoggedErrors()

    def test_worlds(self) -> None:
        """P2-P4: one outcome for each recipient, and no report for what may heal."""
        self.assertEqual([], wrong_worlds(range(1, WORLDS + 1)))

    def test_same_seed_same_world(self) -> None:
        """A seed that fails can be looked at."""
        one, other = (run_world(7) for _ in range(2))

        self.assertEqual(one.timeline.elapsed, other.timeline.elapsed)
        self.assertEqual(len(one.disk.recorded), len(other.disk.recorded))
        self.assertEqual(len(one.internet.dots), len(other.internet.dots))

    def assert_noticed(self) -> None:
        seeds = iter(range(1, FEW + 1))
        while seeds and not (found := wrong_worlds([next(seeds)])):
            pass
        self.assertTrue(found)

    def test_two_reports_are_noticed(self) -> None:
        """The worlds find a relay that returns a message twice."""
        honest = Settlement.reports

        async def twice(self: Settlement, *given: Any) -> list[Submission]:
            return 2 * await honest(self, *given)

        self.patch(Settlement, "reports", twice)
        self.assert_noticed()

    def test_a_doubt_that_is_taken_for_success_is_noticed(self) -> None:
        """The worlds find a relay that forgets whom no host has answered for."""

        def hopeful(*given: Any) -> list[Outcome]:
            found = outcomes.transcript_outcomes(*given)
            return [
                evolve(one, fate=Fate.RELAYED) if one.fate is Fate.DELAYED else one for one in found
            ]

        self.patch(connection, "transcript_outcomes", hopeful)
        self.assert_noticed()

    def test_a_delay_that_is_taken_for_failure_is_noticed(self) -> None:
        """P4: the worlds find a relay that returns what a host has only put off."""

        def hasty(*given: Any) -> list[Outcome]:
            found = outcomes.transcript_outcomes(*given)
            return [
                evolve(one, fate=Fate.FAILED, status="5.0.0") if one.fate is Fate.DELAYED else one
                for one in found
            ]

        self.patch(connection, "transcript_outcomes", hasty)
        self.assert_noticed()
