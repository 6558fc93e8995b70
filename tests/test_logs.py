"""Tests for `mailhost.logs`."""

from __future__ import annotations

import json
import sys
from io import BytesIO, StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.defer import fail
from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.settings import LogSettings
from mailhost.facts import WANTED, FactLog
from mailhost.logs import Journal, JSONLine


class JournalCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.out = BytesIO()
        self.journal = Journal(self.out.write)
        self.log = Logger("mailhost.x", observer=LogPublisher(self.journal))
        self.patch(WANTED, "info", WANTED.info)

    def lines(self) -> list[str]:
        return self.out.getvalue().decode().splitlines()


class TextTests(JournalCase):
    def said(self) -> list[str]:
        """The lines, each behind its time."""
        lines = self.out.getvalue().decode().split("\n")
        self.assertEqual("", lines.pop())
        for line in lines:
            if not line.startswith("\t"):
                self.assertRegex(line, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \[")
        return [line.partition(" ")[2] if line[:1] != "\t" else line for line in lines]

    def test_line(self) -> None:
        """Where it comes from, how grave it is, and the words."""
        self.log.info("{id}: to={path}", id="a1", path="b@example.com")
        self.log.warn("{number:.1f} {whom[0]}", number=1.25, whom=("c",))

        expected = ["[mailhost.x#info] a1: to=b@example.com", "[mailhost.x#warn] 1.2 c"]
        self.assertEqual(expected, self.said())

    def test_calls(self) -> None:
        """What only Twisted's own format knows is still understood."""
        self.log.info("{make()}", make=lambda: "made")
        self.assertEqual(["[mailhost.x#info] made"], self.said())

    def test_unformattable(self) -> None:
        """An event with a key too few says so, and nothing is raised."""
        self.log.info("{absent}")
        (line,) = self.said()
        self.assertIn("Unable to format event", line)

    def test_control_characters(self) -> None:
        """A74: nobody's words begin a line of the log, move the cursor or change a colour."""
        self.log.info("{words}", words="a\r\n2026-01-01T00:00:00+0000 [x] b\x1b[31m\x00\u2028\x85")
        first, second = self.said()
        self.assertEqual("[mailhost.x#info] a\\r", first)
        self.assertTrue(second.startswith("\t2026-01-01"))
        self.assertTrue(second.endswith("b\\x1b[31m\\x00\\u2028\\x85"))

    def test_traceback(self) -> None:
        """A failure is told whole, on lines that begin with a tab."""
        fail(ValueError("no\x07")).addErrback(lambda why: self.log.failure("Trouble", why))
        lines = self.said()
        self.assertEqual("[mailhost.x#critical] Trouble", lines[0])
        self.assertTrue(all(line.startswith("\t") for line in lines[1:]))
        self.assertIn("ValueError: no\\x07", lines[-1])

    def test_long_words(self) -> None:
        """No line is longer than 64 KiB and some, whatever somebody sends."""
        self.log.info("{words}", words="x" * 1_000_000)
        (line,) = self.said()
        self.assertLess(len(line), 66_000)
        self.assertTrue(line.endswith("x..."))


class JSONTests(JournalCase):
    def setUp(self) -> None:
        super().setUp()
        self.journal.line = JSONLine()

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines()]

    def test_facts(self) -> None:
        """A table in each line: when, how grave, who, the words, and what they are made of."""
        self.log.warn("{id}: {paths}", id="a1", paths=("b@x.example", 3), doubt=False, none=None)
        (table,) = self.told()
        self.assertRegex(table.pop("time"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        self.assertEqual(
            {
                "level": "warn",
                "logger": "mailhost.x",
                "text": "a1: ('b@x.example', 3)",
                "id": "a1",
                "paths": ["b@x.example", 3],
                "doubt": False,
                "none": None,
            },
            table,
        )

    def test_control_characters(self) -> None:
        """A74: one line whatever is said, and nothing in it that a terminal obeys."""
        self.log.info("{words}", words="a\r\n\x1b[31m\u2028\x85\x00", path=Path("/x\n"))
        (line,) = self.lines()
        self.assertTrue(line.isascii() and line.isprintable())
        self.assertEqual("/x\n", self.told()[0]["path"])

    def test_own_names_stay(self) -> None:
        """A fact cannot pass for the level or the time of the event."""
        facts = {"level": "info", "time": 0, "text": "x"}
        self.journal(
            {**facts, "log_level": LogLevel.error, "log_time": 1.0, "log_format": "{level}"}
        )
        (table,) = self.told()
        self.assertEqual(("error", "info"), (table["level"], table["text"]))

    def test_traceback(self) -> None:
        """A failure is in the text of its one line."""
        fail(ValueError("no")).addErrback(lambda why: self.log.failure("Trouble", why))
        (table,) = self.told()
        self.assertTrue(table["text"].startswith("Trouble\nTraceback"))


class SettingsTests(JournalCase):
    def test_level(self) -> None:
        """What is less grave is not written, and what costs something is not made."""
        heard: list[Any] = []
        facts = FactLog("mailhost.y", observer=heard.append)
        for level, written, made in (("debug", 3, 1), ("info", 2, 1), ("error", 1, 0)):
            self.out.truncate(0)
            self.out.seek(0)
            heard.clear()
            self.journal.configure(LogSettings(level=level))
            self.log.debug("a")
            self.log.info("b")
            self.log.error("c")
            facts.info("{x}", x=1)
            self.assertEqual((written, made), (len(self.lines()), len(heard)), level)

    def test_fact_is_an_event(self) -> None:
        """What the cheap logger makes is what Twisted's makes."""
        heard: list[Any] = []
        for make in (FactLog, Logger):
            make("mailhost.y", observer=heard.append).info("{x}", x=1)
        mine, theirs = heard
        self.assertEqual(set(theirs), set(mine))
        for name in set(mine) - {"log_time", "log_logger"}:
            self.assertEqual(theirs[name], mine[name], name)
        self.assertLess(abs(mine["log_time"] - theirs["log_time"]), 60)

    def test_file_that_cannot_be(self) -> None:
        """It is said once, past the log, and nobody is harmed."""
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        in_the_way = Path(folder.name) / "x"
        in_the_way.touch()
        said = StringIO()
        self.patch(sys, "__stderr__", said)
        self.journal.configure(LogSettings(file=in_the_way / "x.log"))
        self.log.info("one")
        self.log.info("two")
        in_the_way.unlink()
        self.log.info("three")

        self.assertEqual(1, said.getvalue().count("The log cannot be written"))
        first, second = (in_the_way / "x.log").read_text().splitlines()
        self.assertTrue(first.endswith("three"))
        self.assertIn("2 lines of the log are lost", second)

    def test_file_and_format_change(self) -> None:
        """A reload acts on the next line; without a file lines go where they went before."""
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name) / "x.log"
        self.log.info("one")
        self.journal.configure(LogSettings(format="json", file=path))
        self.log.info("two")
        self.journal.configure(LogSettings())
        self.log.info("three")

        self.assertEqual("two", json.loads(path.read_text())["text"])
        self.assertEqual(["one", "three"], [line.rpartition(" ")[2] for line in self.lines()])
