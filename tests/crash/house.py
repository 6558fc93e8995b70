"""
A virtual server's directories, with the code that reads and writes them, on a clock of ours.

Real are Pickup, the relay with its settlement and reports, Drop and Badmail.  The queue is in
memory and outlives a process; it has the steps of `test_steps`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock, deferLater

from mailhost import durable
from mailhost.delivery import drop, part_file, quota
from mailhost.errors import DirectoryProblem
from mailhost.intake import claim
from mailhost.intake.desk import Desk
from mailhost.intake.pickup import Pickup
from mailhost.model.address import Mailbox
from mailhost.model.envelope import Envelope
from mailhost.relay.mail_exchange import MailExchangeResolver
from mailhost.relay.manager import RelayManager
from mailhost.relay.terms import Terms
from mailhost.routing.categorizer import make_categorizer
from mailhost.spool import badmail, purge
from mailhost.spool.memory import MemoryQueue
from tests.crash.calls import Calls, Killed, watched
from tests.support.world import START, FakeNames, make_settings

#: Whatever can be done is done by then: several retries of everything.
MOST_SECONDS = 8 * 3600.0
_STEP_SECONDS = 30.0
_SLOW_SECONDS = 45.0
ALICE = Mailbox("alice", "example.com")
_NOBODY = (Mailbox("nobody", "nowhere.example"), Mailbox("none", "nowhere.example"))
_LINE = b"0123456789" * 7 + b"\r\n"
_SIZES = {"small": 1, "large": 4200}  # lines; a large one is written in several calls


class Queue(MemoryQueue):
    """A dead process writes nothing down."""

    calls: Calls

    def record(self, *given: Any) -> Any:
        self.calls.check()
        return super().record(*given)

    def commit(self, *given: Any) -> Any:
        self.calls.check()
        return super().commit(*given)


def content(name: str) -> bytes:
    """The message called *name*; its size is the name's last word."""
    return b"Subject: %b\r\n\r\n" % name.encode() + _LINE * _SIZES[name.rpartition(" ")[2]]


@define(eq=False)
class House:
    """
    :ivar home: has the directories.
    :ivar calls: of the process there is.
    :ivar clock: the wall's; lives go on where the last one ended.
    :ivar runs: pieces of work that were given to threads.
    :ivar slow: the number of the one that takes its time, from 1; 0 for none.
    """

    home: Path
    calls: Calls = field(factory=Calls)
    clock: Clock = field(factory=Clock)
    store: Queue = field(init=False)
    pickup: Pickup = field(init=False)
    relay: RelayManager = field(init=False)
    runs: int = 0
    slow: int = 0
    was_killed: bool = False

    def __attrs_post_init__(self) -> None:
        self.clock.advance(START)
        self.store = Queue(lambda: self.clock.seconds())
        self.store.calls = self.calls

    # ---- what there is to do

    def fill(self) -> None:
        """Mail of every kind that touches a directory."""
        folder = self.home / "Pickup"
        folder.mkdir()
        for name in ("to drop small", "to drop large"):
            head = b"From: ann@example.org\r\nTo: bob@example.com, carl@example.com\r\n"
            (folder / f"{name}.eml").write_bytes(head + content(name))
        for name in ("bad small", "bad large"):
            (folder / f"{name}.eml").write_bytes(content(name))
        self._queue("comes back small", ALICE)
        self._queue("comes back large", ALICE)
        self._queue("cannot come back small", None)
        self._queue("cannot come back large", None)

    def _queue(self, name: str, sender: Mailbox | None) -> None:
        incoming = self.store.new_message(content(name), None)
        envelope = Envelope(sender, _NOBODY)
        self.store.commit(incoming, self.store.new_queue_id(), envelope, "", START)

    # ---- lives

    def run(self, function: Callable[..., Any], *given: Any) -> Deferred[Any]:
        """Stands for the threads, of which one may take long."""
        self.runs += 1
        if self.runs == self.slow:
            return deferLater(self.clock, _SLOW_SECONDS, function, *given)
        return execute(function, *given)

    def live(self, calls: Calls) -> None:
        """A process, until nothing is left to do, or it dies."""
        self.calls = self.store.calls = calls
        earlier, self.clock = self.clock, Clock()
        self.clock.advance(earlier.seconds())
        with watched(calls, part_file, drop, quota, badmail, purge, durable, claim):
            with suppress(Killed):
                self._start()
            # Of a process that has died nothing that was planned comes.
            while not calls.dead and not self._is_done():
                self.clock.advance(_STEP_SECONDS)
            if not calls.dead:
                self._stop()
        self.was_killed = self.was_killed or calls.dead

    def _start(self) -> None:
        settings = make_settings(home=self.home)
        delivery = drop.DropDelivery(self.home / "Drop", self.run)
        bad = badmail.Badmail(self.home / "Badmail", self.run)
        for directory in (delivery, bad):
            try:
                directory.start()
            except DirectoryProblem:
                continue  # As a virtual server does: mail for it waits.
        names = FakeNames()
        categorizer = make_categorizer(settings)
        resolver = MailExchangeResolver(names, self.clock, random=Random(1))  # type: ignore[arg-type]  # it is told the time
        terms = Terms.of(settings, categorizer)
        self.relay = RelayManager(
            self.store, resolver, self.clock, terms, delivery, bad, random=Random(1)
        )
        desk = Desk(settings, categorizer, self.store, names, self.clock, self.relay.accept)
        self.pickup = Pickup(desk, self.home / "Pickup", bad, self.clock, self.run)
        self.relay.start()
        self.pickup.start()

    def _is_done(self) -> bool:
        if self.clock.seconds() > START + MOST_SECONDS:
            return True
        return not (self.store.messages or self.waiting())

    def _stop(self) -> None:
        stopping: list[Deferred[Any]] = [self.pickup.stop(), self.relay.stop(1.0)]
        self.clock.pump([1.0] * int(_SLOW_SECONDS + 5))
        assert all(one.called for one in stopping)

    # ---- what came of it

    def waiting(self) -> list[str]:
        """Names in Pickup."""
        folder = self.home / "Pickup"
        return [
            path.name
            for place in (folder, folder / ".work")
            if place.is_dir()
            for path in place.iterdir()
            if path.name != ".work"
        ]

    def dropped(self) -> list[str]:
        """What lies in Drop, by name: whose message it is, or what it is a report about."""
        return sorted(self._known(path) for path in self._listed("Drop"))

    def bad(self) -> list[str]:
        """What lies in Badmail, by name."""
        found = self._listed("Badmail")
        stems = sorted({path.name[:24] for path in found})
        names = [self.home / "Badmail" / f"{s}.{k}" for s in stems for k in ("BAD", "BDP", "BDR")]
        if sorted(names) != sorted(found):
            return [f"triples in pieces: {[path.name for path in found]}"]
        told = []
        for stem in stems:
            tree = json.loads((self.home / "Badmail" / f"{stem}.BDP").read_bytes())
            whose = self._known(self.home / "Badmail" / f"{stem}.BAD")
            # The name that it had in Pickup is forgotten with the process.
            told.append(f"{whose}, {'out of Pickup' if tree['source'] else 'out of the queue'}")
        return sorted(told)

    def _listed(self, folder: str) -> list[Path]:
        """Files, hidden ones too."""
        return sorted((self.home / folder).iterdir())

    def _known(self, path: Path) -> str:
        octets = path.read_bytes()
        name = octets.rpartition(b"\r\nSubject: ")[2].partition(b"\r\n")[0].decode()
        if not octets.startswith(b"\r\n"):
            name = (b"\r\n" + octets).rpartition(b"\r\nSubject: ")[2].partition(b"\r\n")[0].decode()
        if "(Failure)" in octets.decode("latin-1"):
            return f"report about {name}"
        whole = name.rpartition(" ")[2] in _SIZES and octets.endswith(content(name))
        return name if whole else f"{path.name} is {octets[:200]!r}"
