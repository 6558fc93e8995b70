"""Tests for `mailhost.traces`: what is noted is found, for a while, and costs nobody's mail."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailhost.model.address import Mailbox
from mailhost.traces import tracer as tracing
from mailhost.traces.events import MAX_PATHS, Event, TracedEvent, event
from mailhost.traces.store import TraceWriter, find_events
from mailhost.traces.tracer import Tracer

START = 1_000_000_000.0
BOB, CAROL = Mailbox("bob", "example.net"), Mailbox("carol", "example.org")


def name(number: int) -> str:
    return f"{number:024x}"


def accepted(number: int, at: float = START, **given: object) -> Event:
    facts = {
        "paths": (BOB, CAROL),
        "sender": "alice@example.com",
        "other": f"<{number}@x.example>",
        **given,
    }
    return event(at, name(number), "accepted", "100 octets", **facts)  # type: ignore[arg-type]


class StoreTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.directory = Path(folder.name) / "Trace"

    def writer(self, number: int = 0, keep: float = 3600, most: int = 1 << 30) -> TraceWriter:
        writer = TraceWriter(self.directory / f"worker-{number}.sqlite", keep, most)
        self.addCleanup(writer.close)
        return writer

    def write(self, number: int) -> None:
        """One event, by a writer of its own."""
        writer = self.writer()
        writer.write([accepted(number)])
        writer.close()

    def find(
        self,
        what: str = "",
        since: float | None = None,
        until: float | None = None,
        limit: int = 100,
    ) -> list[TracedEvent]:
        return find_events(self.directory, what, since, until, limit)

    def ids(self, *asked: object, limit: int = 100) -> list[int]:
        found = self.find(*asked, limit=limit)  # type: ignore[arg-type]
        return list(dict.fromkeys(int(one.id, 16) for one in found))

    def test_found(self) -> None:
        """By id, Message-ID, sender, recipient, time; across all workers."""
        self.writer(0).write([accepted(1), event(START + 9, name(1), "relayed", "2.0.0 250 ok")])
        self.writer(1).write([accepted(2, START + 5, paths=(CAROL,), sender="<>")])

        self.assertEqual([1], self.ids(name(1)))
        self.assertEqual([1], self.ids("<1@x.example>"))
        self.assertEqual([1], self.ids("1@x.example"))
        self.assertEqual([1], self.ids("ALICE@example.com"))
        self.assertEqual([1], self.ids("bob@EXAMPLE.net"))
        self.assertEqual([1, 2], self.ids("carol@example.org"))
        self.assertEqual([], self.ids("ob@example.net"))
        self.assertEqual([], self.ids("' OR 1 --"))
        self.assertEqual([2], self.ids("", START + 1, START + 6))
        self.assertEqual([1], self.ids("", None, None, limit=1))
        kinds = [(one.kind, one.at) for one in self.find(name(1))]
        self.assertEqual([("accepted", START), ("relayed", START + 9)], kinds)

    def test_linked(self) -> None:
        """Reports about a message are found with it, and it with them."""
        report = event(START + 9, name(2), "report", "about", paths=(BOB,), other=name(1))
        self.writer(0).write([accepted(1)])
        self.writer(1).write([report])

        self.assertEqual([1, 2], self.ids(name(1)))
        self.assertEqual([2, 1], self.ids(name(2)))

    def test_many_recipients(self) -> None:
        """The first of them are kept, and the rest is counted."""
        paths = tuple(Mailbox(f"r{n}", "example.net") for n in range(MAX_PATHS + 5))
        self.writer().write([accepted(1, paths=paths)])

        (found,) = self.find("r7@example.net")
        self.assertTrue(found.paths.endswith(" and 5 more"))

    def test_age(self) -> None:
        """What is too old goes, and nothing else."""
        writer = self.writer(keep=100)
        writer.write([accepted(n, START + n) for n in range(200)])

        writer.purge(START + 250)

        self.assertEqual(50, len(self.find(limit=1000)))
        writer.purge(START + 1000)
        self.assertEqual([], self.find())

    def test_size(self) -> None:
        """The oldest make room, and the file does not grow beyond."""
        writer = self.writer(most=1 << 20)
        for start in range(0, 60_000, 10_000):
            writer.write([accepted(n, START + n) for n in range(start, start + 10_000)])
            writer.purge(START)
        size = writer.path.stat().st_size

        self.assertLess(size, 12 << 20)
        for start in range(60_000, 90_000, 10_000):
            writer.write([accepted(n, START + n) for n in range(start, start + 10_000)])
            writer.purge(START)
        self.assertLess(writer.path.stat().st_size, size * 1.2)

    def test_damaged(self) -> None:
        """It is begun anew; a newer format too; a directory of others is none of ours."""
        self.write(1)
        path = self.directory / "worker-0.sqlite"
        for damage in (b"no database at all" * 100, b""):
            path.write_bytes(damage)
            path.with_name(path.name + "-wal").unlink(missing_ok=True)
            self.assertEqual([], self.find())
            self.write(2)
            self.assertEqual([2], self.ids())
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 99")
        self.assertEqual([], self.find())
        (self.directory / "worker-1.sqlite").write_text("x")
        (self.directory / "notes.sqlite").write_text("mine")
        self.write(3)
        self.assertEqual([3], self.ids())

    def test_mode(self) -> None:
        """Who wrote to whom is for the server alone."""
        self.writer(0).write([accepted(1)])
        self.assertEqual(0o700, self.directory.stat().st_mode & 0o777)
        self.assertEqual(0o600, (self.directory / "worker-0.sqlite").stat().st_mode & 0o777)


class TracerTests(TestCase):
    timeout = 20

    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "Trace" / "worker-0.sqlite"
        self.tracer = Tracer()

    def start(self) -> None:
        self.tracer.start(reactor, self.path, 3600, 1 << 30)
        self.addCleanup(self.tracer.stop)

    async def test_in_order(self) -> None:
        """Noted, found at once, and there after the end."""
        self.start()
        for number in range(5000):
            self.tracer.note(accepted(number % 10, START + number / 100))

        found = await self.tracer.find(name(3), None, None, 10)
        self.assertEqual(500, len(found))
        self.assertEqual(sorted(found, key=lambda one: one.at), found)
        self.tracer.note(accepted(77))
        await self.tracer.stop()
        self.assertEqual(1, len(find_events(self.path.parent, name(77), None, None, 10)))

    async def test_written_by_itself(self) -> None:
        """After a moment, though nobody asks."""
        self.start()
        self.tracer.note(accepted(1))
        while not find_events(self.path.parent, name(1), None, None, 10):
            await deferLater(reactor, 0.02)

    def test_off(self) -> None:
        """Nobody is asked to note anything."""
        self.assertFalse(self.tracer.on)

    async def test_disk_that_fails(self) -> None:
        """It is told once; what was not written is lost, and what comes later is there again."""
        self.path.parent.write_text("no directory")
        self.start()
        for number in range(3):
            self.tracer.note(accepted(number))
            await deferLater(reactor, 2 * tracing.GATHER_SECONDS)
        os.unlink(self.path.parent)

        self.tracer.note(accepted(9))

        self.assertEqual(1, len(await self.tracer.find(name(9), None, None, 10)))

    async def test_too_much(self) -> None:
        """What a disk does not keep up with is not kept in memory."""
        self.patch(tracing, "MAX_PENDING", 100)
        self.start()
        for number in range(1000):
            self.tracer.note(accepted(number))

        found = await self.tracer.find("", 0.0, None, 1000)

        self.assertEqual(100, len(found))
