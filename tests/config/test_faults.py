"""Tests for `mailhost.config.faults`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.faults import WHOLE_FILE, ConfigurationFaults, Fault, dotted, shown
from mailhost.errors import MailhostError


class FaultTests(SynchronousTestCase):
    def test_form(self) -> None:
        """A fault reads ``file:line: key: words``."""
        fault = Fault("etc/mailhost.yaml", 7, "workers", "wrong; allowed: right")

        self.assertEqual("etc/mailhost.yaml:7: workers: wrong; allowed: right", str(fault))

    def test_one_line_whatever_the_file_holds(self) -> None:
        """Nothing in a file's name, key or value can start a line of its own."""
        fault = Fault("a\nb.yaml", 1, dotted(("x\ny", 0)), shown("\x1b[2J\r\n"))

        self.assertEqual("a\\nb.yaml:1: x\\ny[0]: '\\x1b[2J\\r\\n'", str(fault))

    def test_faults_in_the_order_of_the_file(self) -> None:
        """The exception sorts by line and prints one line per fault."""
        late, early = Fault("f", 9, "b", "late"), Fault("f", 2, "a", "early")

        wrong = ConfigurationFaults([late, early])

        self.assertEqual((early, late), wrong.faults)
        self.assertEqual("f:2: a: early\nf:9: b: late", str(wrong))
        self.assertIsInstance(wrong, MailhostError)

    def test_dotted(self) -> None:
        """Keys are joined by dots, positions stand in brackets, and nothing is the file."""
        self.assertEqual("a[0].b.c[12]", dotted(("a", 0, "b", "c", 12)))
        self.assertEqual(WHOLE_FILE, dotted(()))

    def test_long_values_are_cut(self) -> None:
        """A value of any length takes at most a line of a terminal."""
        self.assertEqual(62, len(shown("x" * 10_000)))
