"""
``docs/clauses.rst``, written from ``docs/clauses.yaml``: what RFC 5321 asks, and what proves it.

Run by whoever changes a row::

    python -m tests.docs.clauses > docs/clauses.rst
"""

from __future__ import annotations

import sys
import textwrap
from itertools import groupby
from pathlib import Path

import yaml
from attrs import field, frozen
from attrs.validators import in_, min_len

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "docs" / "clauses.yaml"
KINDS = ("server", "client", "both")
WORDS = ("MUST", "MUST NOT", "SHOULD", "SHOULD NOT")
#: How the reason of a clause begins that the code does not keep.
NOT_KEPT = "Not kept"
_WIDTH = 98
#: How many subsections each section of RFC 5321 has, for those that have any.
_PARTS = {
    "2": 4, "2.2": 3, "2.3": 11,
    "3": 9, "3.4": 0, "3.5": 4, "3.6": 3, "3.7": 5, "3.9": 2,
    "4": 5, "4.1": 5, "4.1.1": 11, "4.2": 5, "4.3": 2, "4.5": 5, "4.5.3": 2, "4.5.3.1": 10,
    "4.5.3.2": 7, "4.5.4": 2,
    "5": 2, "6": 4, "7": 9,
}  # fmt: skip

_HEAD = """\
Clauses of RFC 5321
===================

.. This page is generated: python -m tests.docs.clauses > docs/clauses.rst

Every MUST and SHOULD of sections 2 to 7 that a server or a client has to keep, in a few words, with
the tests that fail when it is broken, or with the reason why there are none. It is written from
``docs/clauses.yaml``. ``tests/docs/test_clauses.py`` looks whether each of the tests is there.

{counts}

What is not kept
----------------

"""


@frozen
class Clause:
    """
    One row.

    :ivar tests: ``file.py::Class::test_name``, or a dialogue's file; else `reason` says why not.
    """

    section: str = field(validator=min_len(1))
    who: str = field(validator=in_(KINDS))
    word: str = field(validator=in_(WORDS))
    what: str = field(validator=min_len(1))
    tests: tuple[str, ...]
    reason: str

    @property
    def broken(self) -> bool:
        """Nobody claims that it is kept."""
        return self.reason.startswith(NOT_KEPT)


def is_section(number: str) -> bool:
    """Whether RFC 5321 has such a section, among those that oblige anybody."""
    above, _, last = number.rpartition(".")
    if not last.isdecimal() or last[0] == "0":
        return False
    if not above:
        return number in _PARTS
    return is_section(above) and int(last) <= _PARTS.get(above, 0)


def clauses() -> list[Clause]:
    """
    All rows.

    :raises ValueError: a row has both tests and a reason, or neither, or an unknown word.
    :raises TypeError: a row has an unknown key, or one too few.
    """
    return [_clause(**row) for row in yaml.safe_load(SOURCE.read_text("utf-8"))]


def _clause(
    section: str,
    who: str,
    word: str,
    what: str,
    test: str | list[str] | None = None,
    reason: str = "",
) -> Clause:
    if bool(test) == bool(reason):
        raise ValueError(f"{section}, {what}: either tests or a reason")
    tests = (test,) if isinstance(test, str) else tuple(test or ())
    return Clause(section, who, word, what, tests, reason)


def page() -> str:
    """The whole page, reStructuredText."""
    rows = clauses()
    proved = sum(bool(row.tests) for row in rows)
    broken = [row for row in rows if row.broken]
    counts = f"{len(rows)} clauses: {proved} with tests, {len(rows) - proved} with a reason."
    parts = [_HEAD.format(counts=counts) + "".join(_item(row, True) for row in broken)]
    for section, group in groupby(rows, key=lambda row: row.section):
        title = f"Section {section}"
        items = "".join(_item(row, False) for row in group)
        parts.append(f"{title}\n{'-' * len(title)}\n\n{items}")
    return "\n".join(parts)


def _item(row: Clause, with_section: bool) -> str:
    place = f"§{row.section}, " if with_section else ""
    proof = ", ".join(f"``{test}``" for test in row.tests) or row.reason
    return (
        textwrap.fill(
            f"- {place}{row.who} {row.word}: {row.what}. {proof}",
            _WIDTH,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        + "\n"
    )


if __name__ == "__main__":
    sys.stdout.buffer.write(page().encode("utf-8"))
