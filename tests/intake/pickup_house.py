"""A Pickup directory for tests: real files, a clock of ours, no threads."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any
from unittest.mock import patch

from attrs import evolve
from twisted.internet.defer import execute
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.intake.pickup import Pickup
from mailhost.model.queue import QueuedMessage
from mailhost.spool.badmail import Badmail
from mailhost.spool.memory import MemoryQueue
from tests.support.world import World, make_settings

MESSAGE = b"From: ann@example.com\nTo: bob@example.net\nSubject: test\n\nHello\n"


class FickleQueue(MemoryQueue):
    """A queue whose methods a test may replace, one object at a time."""


class PickupTestCase(SynchronousTestCase):
    """A virtual server's Pickup, which has been started."""

    def setUp(self) -> None:
        self.home = Path(mkdtemp())
        self.addCleanup(rmtree, self.home)
        self.directory = self.home / "Pickup"
        clock = Clock()
        self.world = World(make_settings(home=self.home), clock, store=FickleQueue(clock.seconds))
        self.badmail = Badmail(self.home / "Badmail", execute)
        self.pickup = self.make_pickup()
        self.pickup.start()

    def make_pickup(self) -> Pickup:
        """One more, as after a crash."""
        made = Pickup(self.world.desk, self.directory, self.badmail, self.world.clock, execute)
        self.addCleanup(made.stop)
        return made

    def crash(self) -> None:
        """The process dies and another one starts: nothing but the files is left."""
        self.successResultOf(self.pickup.stop())
        self.pickup = self.make_pickup()
        self.pickup.start()

    def set_limits(self, **limits: Any) -> None:
        """Other settings of the Messages page, as after a reload."""
        settings = self.world.desk.settings
        self.world.desk.settings = evolve(settings, messages=evolve(settings.messages, **limits))

    def put(self, octets: bytes = MESSAGE, name: str = "a.eml") -> Path:
        """Write a file into Pickup."""
        path = self.directory / name
        path.write_bytes(octets)
        return path

    def settle(self) -> None:
        """Let so much time pass that a file is seen twice."""
        for _ in range(3):
            self.world.clock.advance(1.0)

    def send(self, octets: bytes = MESSAGE) -> QueuedMessage:
        """Put a file into Pickup and return the one message that it becomes."""
        before = len(self.accepted)
        self.put(octets)
        self.settle()
        self.assertEqual([], self.bad())
        self.assertEqual(before + 1, len(self.accepted))
        self.assertEqual([], self.left())
        return self.accepted[-1]

    @property
    def accepted(self) -> list[QueuedMessage]:
        """The messages that the relay was told of."""
        return self.world.accepted

    def recipients(self, message: QueuedMessage) -> list[str]:
        """Where *message* goes, in order."""
        return [str(one.forward_path) for one in message.recipients.values()]

    def content(self, message: QueuedMessage) -> bytes:
        """The content of *message* without the Received field in front."""
        octets = bytes(self.world.store.open_content(message).read())
        received, date, rest = octets.split(b"\r\n", 2)
        self.assertEqual(
            f"Received: from mail pickup service by mail.example.com id {message.queue_id};",
            received.decode("ascii"),
        )
        self.assertTrue(date.startswith(b"\t "), date)
        return rest

    def left(self) -> list[str]:
        """What lies in Pickup and in .work."""
        work = self.directory / ".work"
        names = os.listdir(work) if work.is_dir() else []
        return sorted({*os.listdir(self.directory)} - {".work"}) + [f".work/{n}" for n in names]

    def bad(self) -> list[dict[str, Any]]:
        """The Badmail triples: the JSON, with the message and the reason in it."""
        found = []
        for path in sorted(self.badmail.directory.glob("*.BDP")):
            tree = json.loads(path.read_bytes())
            tree["content"] = path.with_suffix(".BAD").read_bytes()
            tree["text"] = path.with_suffix(".BDR").read_text("ascii")
            found.append(tree)
        return found

    def refuse(self, call: str, number: int, concerns: Callable[[str], bool]) -> Any:
        """
        While in force the system refuses *call* for names that *concerns* picks.

        Root may do everything, so it has to be pretended.
        """
        real = getattr(os, call)

        def refusing(name: Any, *arguments: Any, **options: Any) -> Any:
            if concerns(str(name)):
                raise OSError(number, os.strerror(number))
            return real(name, *arguments, **options)

        return patch.object(os, call, refusing)


def in_work(name: str) -> bool:
    """Whether *name* is that of a claimed file."""
    return len(name.removesuffix(".again")) == 24 and "/" not in name
