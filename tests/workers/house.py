"""A mailhost with several workers, as processes."""

from __future__ import annotations

import re
import smtplib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from attrs import define, field

from tests.support.mailroot import Mailroot
from tests.support.peer_case import PeerCase, Server, content
from tests.support.process import Mailhost, reserve_address, wait_until


@define(eq=False)
class House(Server):
    """
    :ivar workers: how many.
    :ivar user: whom to be, if anybody.
    :ivar top: further topmost keys of the configuration.
    """

    workers: int = 2
    user: str | None = None
    top: dict[str, Any] = field(factory=dict)

    def configure(self, **changes: Any) -> None:
        self.settings |= changes
        server = {
            "name": "one",
            "home": str(self.root.home),
            "fqdn": "mail.example.com",
            "domain": "example.com",
            "listen": [self.address],
            **self.settings,
        }
        self.mailhost.write(
            {"workers": self.workers, "user": self.user, **self.top, "virtual_servers": [server]}
        )

    def start(self) -> None:
        """Run it until each worker listens."""
        self.mailhost.launch()
        self.process.wait_until(
            lambda: len(self.mailhost.running()) >= self.workers, f"{self.workers} workers"
        )

    def worker_pids(self) -> list[int]:
        """The process ids, in the order of the workers' numbers, of the last to be started."""
        found = re.findall(r"Worker (\d+) is process (\d+)", self.process.said())
        return [pid for _, pid in sorted({int(n): int(pid) for n, pid in found}.items())]

    def queues(self) -> list[Path]:
        """The databases there are, that of the first worker first."""
        queue = self.root.home / "Queue"
        return [path for path in (queue, *sorted(queue.glob("worker-*"))) if path.is_dir()]

    def waiting(self) -> list[int]:
        """How many recipients wait in each of `queues`."""
        return [_recipients(path / "queue.sqlite") for path in self.queues()]

    def session(self, sender: str) -> tuple[smtplib.SMTP, int]:
        """A session that has sent one message from *sender*, and its worker's number."""
        client = self.client()
        client.sendmail(sender, ["here@example.com"], content())
        told = re.compile(rf"worker (\d+): \w+: from=<{re.escape(sender)}>")
        return client, int(
            self.process.wait_until(
                lambda: told.search(self.process.said()), f"{sender} in the log"
            )[1]
        )

    def sessions_of_both(self) -> dict[int, list[smtplib.SMTP]]:
        """Open sessions, by the number of the worker, until there is one of each worker."""
        found: dict[int, list[smtplib.SMTP]] = {}
        for number in range(100):
            client, worker = self.session(f"s{number}@example.com")
            found.setdefault(worker, []).append(client)
            if len(found) == self.workers:
                return found
        raise AssertionError(f"only the workers {list(found)} take sessions")


def _recipients(database: Path) -> int:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection:
        return int(connection.execute("SELECT count(*) FROM recipients").fetchone()[0])


def is_alive(pid: int) -> bool:
    """Whether there is a process *pid* that has not ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_gone(*pids: int) -> None:
    """Until none of *pids* is there."""
    wait_until(lambda: not any(map(is_alive, pids)), f"the end of {pids}")


class HouseCase(PeerCase):
    """Runs mailhost with workers."""

    def make_house(
        self, workers: int = 2, user: str | None = None, home: Path | None = None, **settings: Any
    ) -> House:
        folder = self.path("server")
        folder.mkdir()
        house = House(
            Mailhost(self.addCleanup, folder / "mailhost.yaml"),
            reserve_address(),
            Mailroot(home or folder / "home"),
            dict(settings),
            workers=workers,
            user=user,
        )
        house.configure()
        return house

    def start_house(self, **settings: Any) -> House:
        house = self.make_house(**settings)
        house.start()
        return house
