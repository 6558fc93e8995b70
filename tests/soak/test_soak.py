"""A few seconds of the soak, and whether it would notice."""

from __future__ import annotations

from tests.soak.load import Ledger
from tests.soak.samples import Growth, Sample
from tests.soak.trial import Trial
from tests.support.peer_case import PeerCase

_SECONDS = 8.0


class SoakTests(PeerCase):
    def test_a_few_seconds(self) -> None:
        """Nothing is lost, doubled or left open, through reloads and a dying host."""
        trial = Trial(self.directory, self.addCleanup, _SECONDS, 30.0, tell=lambda words: None)

        wrong = trial.run()

        print(f"\n{trial.summary()}")
        self.assertEqual([], wrong)
        self.assertGreater(len(trial.ledger.promised), _SECONDS * 10)
        self.assertGreater(trial.deaths, 1)
        self.assertGreater(trial.reloads, 1)


class AccountTests(PeerCase):
    def test_loss_and_copies(self) -> None:
        """A recipient without a copy is lost; a second copy is counted."""
        ledger = Ledger({"m": ("a@x.example", "b@y.example")})
        ledger.arrive("m", ["a@x.example"])
        ledger.arrive("m", ["a@x.example"])

        self.assertEqual([("m", "b@y.example")], ledger.lost())
        self.assertEqual({"x.example": 1}, dict(ledger.again()))

    def test_growth(self) -> None:
        """A leak of 3 KB a message at ten a second, under noise."""
        samples = [
            Sample(float(n), 10 * n, 50_000 + 30 * n + (n % 3) * 100, 20) for n in range(300)
        ]

        growth = Growth.of(samples)

        self.assertEqual(30, round(growth.kb_per_thousand / 100))
        self.assertEqual(108, round(growth.kb_per_hour / 1000))
        self.assertEqual(90, round(growth.kb / 100))
