"""The table of RFCs and the citations in the code say the same (docs/rfc.rst)."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "rfc.rst"

#: ``RFC 5321 §4.1``, also across the end of a docstring's or a comment's line.
_CITED = re.compile(r"\bRFC[\s#:]+(\d{3,4})\b")
#: The value of a ``:RFC:`` field, with the lines that continue it.
_FIELD = re.compile(r"^:RFC:(.*(?:\n +\S.*)*)", re.MULTILINE)
#: In such a value further numbers stand behind a comma, a semicolon or "and".
_LISTED = re.compile(r"(?:^|[,;]|\band)\s+(\d{3,4})(?=[\s,;.]|$)")
_ROW = re.compile(r"^(\d{3,4}) +(yes|partial|no) +\S", re.MULTILINE)


def cited(text: str) -> set[int]:
    """The RFCs that *text* refers to."""
    found = {int(number) for number in _CITED.findall(text)}
    for value in _FIELD.findall(text):
        # What stands in parentheses says what a section is about.
        plain = re.sub(r"\([^()]*\)", "", value)
        found |= {int(number) for number in _LISTED.findall(plain)}
    return found


def rows() -> dict[int, str]:
    """RFC to ``yes``, ``partial`` or ``no``."""
    return {int(number): done for number, done in _ROW.findall(TABLE.read_text("utf-8"))}


class RFCTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.cited: dict[int, list[str]] = {}
        for path in sorted((ROOT / "mailhost").rglob("*.py")):
            for number in cited(path.read_text("utf-8")):
                self.cited.setdefault(number, []).append(str(path.relative_to(ROOT)))

    def test_parser(self) -> None:
        """The forms in which the code cites are all understood."""
        text = (
            '"""\n:RFC: 5321 §4.2 (replies, 354 too), 2034 and 3463 (status); 6522 §3,\n'
            '    7505; promises P2.\n:IIS: DEL-01, 452.\n\nRFC 1870 §6, and (RFC\n6152 §2).\n"""\n'
            "#: see RFC\n#: 1035 §2.3.4: 255 octets, 4096 in all\n"
        )
        self.assertEqual({5321, 2034, 3463, 6522, 7505, 1870, 6152, 1035}, cited(text))

    def test_every_citation_is_in_the_table(self) -> None:
        """Whoever cites an RFC says in the table how far it is kept."""
        missing = {number: paths for number, paths in self.cited.items() if number not in rows()}
        self.assertEqual({}, missing)

    def test_every_claim_is_cited(self) -> None:
        """What is done, or done in part, stands at its line in the code."""
        idle = [n for n, done in rows().items() if done != "no" and n not in self.cited]
        self.assertEqual([], idle)

    def test_rows(self) -> None:
        """Each RFC once, in order."""
        numbers = [int(number) for number, _ in _ROW.findall(TABLE.read_text("utf-8"))]
        self.assertEqual(sorted(set(numbers)), numbers)
        self.assertGreater(len(numbers), 40)
