"""Each clause of RFC 5321 has a test that is there, or a reason (docs/clauses.yaml)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from functools import cache

from twisted.trial.unittest import SynchronousTestCase

from tests.docs.clauses import ROOT, WORDS, clauses, is_section, page

PAGE = ROOT / "docs" / "clauses.rst"


@cache
def names_in(path: str) -> frozenset[str]:
    """``Class::test_name`` of each test that stands in the file, read but not imported."""
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    return frozenset(
        f"{node.name}::{member.name}"
        for node in ast.parse(file.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef)
        for member in node.body
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def exists(test: str) -> bool:
    """Whether the name is that of a test, or of a dialogue that is played."""
    path, _, name = test.partition("::")
    if name:
        return name.rpartition("::")[2].startswith("test_") and name in names_in(path)
    return path.startswith("tests/dialogues/files/") and (ROOT / path).is_file()


class ClauseTests(SynchronousTestCase):
    def test_every_test_exists(self) -> None:
        """No clause rests on a test that is gone."""
        named = {test for row in clauses() for test in row.tests}

        self.assertEqual([], sorted(test for test in named if not exists(test)))
        self.assertGreater(len(named), 100)

    def test_a_missing_test_is_noticed(self) -> None:
        """What is no test, no dialogue, or no file is not taken for one."""
        here = "tests/docs/test_clauses.py::ClauseTests"
        self.assertTrue(exists(f"{here}::test_a_missing_test_is_noticed"))
        for name in (f"{here}::test_gone", f"{here}::setUp", here, "tests/gone.py::A::test_b"):
            self.assertFalse(exists(name), name)
        self.assertFalse(exists("tests/dialogues/files/gone.txt"))

    def test_sections(self) -> None:
        """Each stands in the RFC, and the rows are in its order."""
        numbers = [row.section for row in clauses()]

        self.assertEqual([], [number for number in numbers if not is_section(number)])
        order = [[int(part) for part in number.split(".")] for number in numbers]
        self.assertEqual(sorted(order), order)
        for wrong in ("1", "8", "4.6", "4.1.1.12", "3.9.3", "4.1.4.1", "02.1", "4.", ""):
            self.assertFalse(is_section(wrong), wrong)

    def test_one_row_each(self) -> None:
        """Nothing is asked twice in the same words, and all four words occur."""
        seen = Counter((row.section, row.who, row.word, row.what) for row in clauses())

        self.assertEqual([], [row for row, count in seen.items() if count > 1])
        self.assertEqual(set(WORDS), {row.word for row in clauses()})

    def test_form(self) -> None:
        """What is asked is a phrase, a reason one or more sentences."""
        for row in clauses():
            self.assertRegex(row.what, r"\A[A-Z][^\n]*[^.\s]\Z")
            if row.reason:
                self.assertRegex(row.reason, r"\A[A-Z][^\n]*\.\Z")

    def test_page_is_up_to_date(self) -> None:
        """``docs/clauses.rst`` says what ``docs/clauses.yaml`` says now."""
        self.assertEqual(
            PAGE.read_text("utf-8"), page(), "run: python -m tests.docs.clauses > docs/clauses.rst"
        )

    def test_command(self) -> None:
        """The command in the page's head writes the page."""
        done = subprocess.run(
            [sys.executable, "-m", "tests.docs.clauses"], cwd=ROOT, capture_output=True, check=True
        )

        self.assertEqual(PAGE.read_bytes(), done.stdout)
