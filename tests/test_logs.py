"""Tests for `mailhost.logs`."""

from __future__ import annotations

from io import StringIO

from twisted.internet.defer import fail
from twisted.logger import Logger, LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mailhost.logs import TextObserver


class TextObserverTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.out = StringIO()
        self.log = Logger("mailhost.x", observer=LogPublisher(TextObserver(self.out)))

    def said(self) -> list[str]:
        """The lines, each behind its time."""
        lines = self.out.getvalue().split("\n")
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
