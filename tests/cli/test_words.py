"""Tests for `mailhost.cli.words`."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.cli.words import escaped, span, table_lines

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
