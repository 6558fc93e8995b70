"""
Hours of load by hand: what is lost, and what grows.

``python -m tests.soak --minutes N [--rate R] [--workers W]``: messages of several sizes to
several recipients, of whom some are refused, put off or slow, and one host dies and comes back;
the configuration is reloaded every minute.  Ends with 1 on a loss, on a copy too many, or on
growth beyond the limit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.soak.trial import NOISE_KB, Trial


def main() -> int:
    """Soak, and tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=20.0, help="messages a second")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--most-kb",
        type=float,
        default=200.0,
        help=f"growth for 1000 messages that is too much, if it is {NOISE_KB} KB in all",
    )
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mailhost-")))
        trial = Trial(
            folder,
            stack.callback,
            given.minutes * 60,
            given.rate,
            given.workers,
            given.seed,
            given.most_kb,
            lambda words: print(words, flush=True),
        )
        wrong = trial.run()
        print(trial.summary())
        print("\n".join(wrong[:50]) or "nothing is wrong")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
