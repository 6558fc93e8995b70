"""
How long a failed login takes for a name that somebody has, and for one that nobody has.

By hand: ``python -m tests.bench.guessing [--rounds N]``.

Each round logs in once with each, in an order that is drawn, through the very exchange of a
session; only the waits of `mailhost.authentication.throttle` are left out, which would cover
what is to be seen.  Printed are medians, and the mean of the differences with the interval in
which it lies with 95 %, the outer twentieths left out; and the noise: the standard deviation of
one difference.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.task import react
from twisted.logger import globalLogBeginner

from mailhost.authentication.credentials import FileCredentials, Hashers
from mailhost.authentication.exchange import Authentication
from mailhost.authentication.throttle import Throttle
from mailhost.authentication.users import change_file, make_user
from mailhost.model.reply import Reply
from mailhost.model.session import SessionFacts
from mailhost.smtp.sasl.base import NT_HASH, PASSWORD

KNOWN, UNKNOWN = "known@example.com", "other@example.com"


class Unthrottled(Throttle):
    """Lets nobody wait."""

    def failed(self, address: str, name: str, now: float) -> float:
        """See `Throttle`."""
        return 0.0


async def plain(subject: Any, name: str) -> Reply:
    """One wrong password, checked with Argon2id in a thread."""
    return await _ready(subject.begin("PLAIN", f"\0{name}\0wrong".encode()))


async def scram(subject: Any, name: str) -> Reply:
    """A first message of SCRAM, and a proof that is none."""
    said = await _ready(subject.begin("SCRAM-SHA-256", f"n,,n={name},r=abcdefgh".encode()))
    nonce = b64decode(said.words[0]).partition(b",")[0]
    proof = b64encode(bytes(32))
    return await _ready(subject.go_on(b"c=biws," + nonce + b",p=" + proof))


async def cram(subject: Any, name: str) -> Reply:
    """A digest that is none."""
    await _ready(subject.begin("CRAM-MD5", None))
    return await _ready(subject.go_on(f"{name} {'0' * 32}".encode()))


async def _ready(answer: Any) -> Any:
    return await answer if hasattr(answer, "__await__") else answer


async def measure(
    authentication: Authentication, ask: Callable[..., Any], rounds: int
) -> dict[str, list[float]]:
    """Seconds of each failed login, by name."""
    taken: dict[str, list[float]] = {KNOWN: [], UNKNOWN: []}
    for number in range(rounds + 20):
        for name in random.sample((KNOWN, UNKNOWN), 2):
            subject = authentication.exchange(SessionFacts("x", "192.0.2.1"), lambda name: None)
            began = time.perf_counter()
            await ask(subject, name)
            if number >= 20:  # the first ones warm up
                taken[name].append(time.perf_counter() - began)
    return taken


def tell(what: str, taken: dict[str, list[float]]) -> None:
    """One line of the table."""
    known, unknown = taken[KNOWN], taken[UNKNOWN]
    differences = sorted(a - b for a, b in zip(known, unknown, strict=True))
    # What the machine did meanwhile is at both ends.
    cut = len(differences) // 20
    differences = differences[cut : len(differences) - cut]
    mean, spread = statistics.fmean(differences), statistics.stdev(differences)
    error = 1.96 * spread / len(differences) ** 0.5
    print(
        f"{what:16}{1e6 * statistics.median(known):12.1f}{1e6 * statistics.median(unknown):12.1f}"
        f"{1e6 * mean:14.2f} ± {1e6 * error:6.2f}{1e6 * spread:12.1f}"
    )


async def run(reactor: Any, rounds: int) -> None:
    """All mechanisms that use a users file."""
    hashers = Hashers(reactor, "bench")
    hashers.start()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "users")
        kinds = (NT_HASH, PASSWORD)
        for name in (KNOWN, *(f"user{number}@example.com" for number in range(20))):
            change_file(path, make_user(name, "pencil", None, kinds), name)
        credentials = FileCredentials(path, hashers, reactor.seconds)
        authentication = Authentication(credentials, reactor, throttle=Unthrottled())
        print(
            f"{'mechanism':16}{'known, µs':>12}{'unknown, µs':>12}{'difference':>23}{'noise':>12}"
        )
        for ask, count in ((plain, rounds), (scram, 20 * rounds), (cram, 20 * rounds)):
            tell(ask.__name__, await measure(authentication, ask, count))
    hashers.stop()


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.guessing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    given = parser.parse_args()
    globalLogBeginner.beginLoggingTo([lambda event: None], redirectStandardIO=False)
    react(run, (given.rounds,))


if __name__ == "__main__":
    main()
