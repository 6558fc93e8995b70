"""Clients that submit at a steady rate, and a ledger of what they were promised."""

from __future__ import annotations

import smtplib
import threading
import time
from collections import Counter
from collections.abc import Iterable
from random import Random

from attrs import define, field

from tests.support.peer_case import content
from tests.support.process import split_address

#: Where mail goes; the hosts behind the domains do what the names say.
REMOTE = ("good", "slow", "grey", "dying", "refusing")
LOCAL_PATH = "here@example.com"
_SESSIONS = 8
_MESSAGES_A_SESSION = 40
_REPLY_SECONDS = 60.0
_LINE = "0123456789abcdef" * 4 + "\r\n"
#: Octets, and how many of a hundred messages are so large.
_SIZES = ((1_000, 45), (4_000, 35), (20_000, 14), (200_000, 5), (1_000_000, 1))


@define(eq=False)
class Ledger:
    """
    :ivar promised: for each message that got its 250, who is to get it.
    :ivar arrived: how often each recipient's copy came; a refused one's is its report.
    """

    promised: dict[str, tuple[str, ...]] = field(factory=dict)
    arrived: Counter[tuple[str, str]] = field(factory=Counter)

    def arrive(self, test_id: str, paths: Iterable[str]) -> None:
        self.arrived.update((test_id, path) for path in paths)

    def lost(self) -> list[tuple[str, str]]:
        """Who was promised a message and has no copy."""
        return [
            (one, path)
            for one, paths in list(self.promised.items())
            for path in paths
            if (one, path) not in self.arrived
        ]

    def delivered(self) -> int:
        return len(self.arrived)

    def again(self) -> Counter[str]:
        """Copies beyond the first, by domain."""
        return Counter(
            {
                domain: count
                for domain in {path.partition("@")[2] for _, path in self.arrived}
                if (
                    count := sum(
                        n - 1 for (_, p), n in self.arrived.items() if p.endswith("@" + domain)
                    )
                )
            }
        )


@define(eq=False)
class Load:
    """
    :ivar address: the server.
    :ivar rate: messages a second in all.
    :ivar deferred: messages that were put off with 4yz, which is no promise.
    """

    address: str
    rate: float
    seed: int
    ledger: Ledger
    deferred: int = 0
    problems: list[BaseException] = field(factory=list)
    _over: threading.Event = field(factory=threading.Event)
    _threads: list[threading.Thread] = field(factory=list)

    def start(self) -> None:
        for number in range(_SESSIONS):
            thread = threading.Thread(target=self._run, args=(number,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Let each session end its message."""
        self._over.set()
        for thread in self._threads:
            thread.join(_REPLY_SECONDS)

    def _run(self, session: int) -> None:
        random = Random(self.seed * 1000 + session)
        interval = _SESSIONS / self.rate
        due = time.monotonic() + interval * random.random()
        number = 0
        try:
            while not self._over.is_set():
                with smtplib.SMTP(*split_address(self.address), timeout=_REPLY_SECONDS) as client:
                    for _ in range(_MESSAGES_A_SESSION):
                        if self._over.wait(max(0.0, due - time.monotonic())):
                            return
                        due += interval
                        number += 1
                        self._submit(client, f"s{session}n{number}", random)
        except (OSError, smtplib.SMTPException) as problem:
            self.problems.append(problem)

    def _submit(self, client: smtplib.SMTP, test_id: str, random: Random) -> None:
        (octets,) = random.choices([s for s, _ in _SIZES], [w for _, w in _SIZES])
        domains = random.sample(REMOTE, random.choice((0, 1, 1, 1, 2, 3)))
        paths = [
            f"a{n}@{domain}.example" for domain in domains for n in range(random.choice((1, 3)))
        ]
        if not paths or random.random() < 0.2:
            paths.append(LOCAL_PATH)
        body = _LINE * (octets // len(_LINE))
        try:
            client.sendmail(f"{test_id}@example.com", paths, content(test_id, body))
        except smtplib.SMTPDataError as refused:
            if refused.smtp_code >= 500:
                raise
            self.deferred += 1
            return
        self.ledger.promised[test_id] = tuple(paths)
