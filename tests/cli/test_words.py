"""Tests for `mailhost.cli.words`."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.cli.words import Table, counted, escaped, span, table_lines

COLUMNS = {"name": "NAME", "count": "COUNT"}
ROWS: list[dict[str, Any]] = [{"name": "a", "count": 5}, {"name": "longer", "count": 12}]


class WordTests(SynchronousTestCase):
    def test_table(self) -> None:
        """Texts begin below each other, numbers end so."""
        self.assertEqual(
            ["NAME    COUNT", "a           5", "longer     12"],
            list(table_lines(COLUMNS, ROWS, None)),
        )
        self.assertEqual(["NAME  COUNT"], list(table_lines(COLUMNS, [], 80)))

    def test_narrow(self) -> None:
        """Where a row does not fit it is a list."""
        self.assertEqual(
            ["NAME: a", "COUNT: 5", "", "NAME: longer", "COUNT: 12"],
            list(table_lines(COLUMNS, ROWS, 12)),
        )
        self.assertEqual(3, len(list(table_lines(COLUMNS, ROWS, 13))))

    @given(st.text())
    def test_nothing_to_obey(self, text: str) -> None:
        """What is shown is printable, whatever it was, and one line."""
        self.assertTrue(escaped(text).isprintable())
        (_, line) = table_lines({"a": "A"}, [{"a": text}], None)
        self.assertTrue(line.isprintable())

    def test_escapes(self) -> None:
        """They can be told apart."""
        self.assertEqual("a\\x1b[31mb\\n\\u202e", escaped("a\x1b[31mb\n\u202e"))

    def test_spans(self) -> None:
        """The two largest units."""
        for seconds, words in ((0.9, "0s"), (61, "1m 1s"), (3600, "1h 0m"), (90061, "1d 1h")):
            self.assertEqual(words, span(seconds))

    def test_pages(self) -> None:
        """Titles once, columns as wide as the first page asks; the last one is cut."""
        table = Table({"name": "NAME", "why": "WHY"})
        first = list(table.lines([{"name": "a", "why": "x" * 50}], 20))
        second = list(table.lines([{"name": "longer", "why": "y"}], 20))

        self.assertEqual(["NAME  WHY", "a     " + "x" * 13 + "…"], first)
        self.assertEqual(["longer  y"], second)

    def test_narrow_pages(self) -> None:
        """On a terminal of 40 columns, say, each row is a list on every page."""
        table = Table({"name": "NAME", "address": "ADDRESS", "why": "WHY"})
        row = {"name": "a" * 24, "address": "b" * 20, "why": "c"}
        expected = [f"NAME: {'a' * 24}", f"ADDRESS: {'b' * 20}", "WHY: c"]

        self.assertEqual(expected, list(table.lines([row], 40)))
        self.assertEqual(["", *expected], list(table.lines([row], 40)))

    def test_counts(self) -> None:
        """One, and many."""
        self.assertEqual(
            ("1 mail", "0 mails", "1,000 mails"), tuple(counted(n, "mail") for n in (1, 0, 1000))
        )
