"""The manual names what is there, and everything it should name."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.rst"))

#: A file or folder of the project, as the manual writes it.
_FILE = re.compile(r"``((?:mailhost|tests|docs|etc|twisted)/[\w./*-]*)``")
_INCLUDED = re.compile(r"^\.\. (?:include|literalinclude):: (\S+)", re.MULTILINE)
#: Below these lie a user's own directories; ``/var/lib`` and ``/etc`` are everybody's.
_HOME = re.compile(r"(?<![\w.])(?:/home/|/root/|/Users/|/tmp/|~/)")
_UNDERLINE = re.compile(r"([=\-~^\"'])\1{2,}")


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def rooms() -> list[str]:
    """The folders of the package that hold modules."""
    found = (path for path in (ROOT / "mailhost").iterdir() if path.is_dir())
    return sorted(path.name for path in found if (path / "__init__.py").exists())


class PresenceTests(SynchronousTestCase):
    def test_pages(self) -> None:
        """The pages that the README sends its readers to are there."""
        named = re.findall(r"``(docs/[\w.-]+\.rst)``", text_of(ROOT / "README.rst"))
        ours = {
            "settings",
            "security",
            "operations",
            "architecture",
            "embedding",
            "extending",
            "rfc",
        }
        self.assertLessEqual(ours, {Path(name).stem for name in named})
        missing = [name for name in ours if not (DOCS / f"{name}.rst").exists()]
        self.assertEqual([], missing)

    def test_every_room(self) -> None:
        """Each room of the house stands in architecture.rst."""
        text = text_of(DOCS / "architecture.rst")
        missing = [room for room in rooms() if f"``mailhost/{room}/``" not in text]
        self.assertGreater(len(rooms()), 10)
        self.assertEqual([], missing)

    def test_every_file_exists(self) -> None:
        """A file that a page names is there, with or without the room's floor."""
        missing = [
            f"{page.relative_to(ROOT)}: {name}"
            for page in PAGES
            for name in _FILE.findall(text_of(page))
            if not (list(ROOT.glob(name)) if "*" in name else (ROOT / name).exists())
        ]
        self.assertEqual([], missing)

    def test_every_inclusion_exists(self) -> None:
        """What a page includes lies beside it."""
        missing = [
            f"{page.relative_to(ROOT)}: {name}"
            for page in PAGES
            for name in _INCLUDED.findall(text_of(page))
            if not (page.parent / name).exists()
        ]
        self.assertEqual([], missing)

    def test_every_module_name_exists(self) -> None:
        """A dotted name of ours leads to a module, or to a name in one."""
        missing = [
            f"{page.relative_to(ROOT)}: {name}"
            for page in PAGES
            for name in re.findall(r"``(mailhost(?:\.\w+)+)", text_of(page))
            if not _leads_somewhere(name)
        ]
        self.assertEqual([], missing)


class ExampleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.examples = sorted(path.name for path in (DOCS / "examples").glob("*.py"))

    def test_named(self) -> None:
        """Each example is shown in embedding.rst, and named where it is shown."""
        text = text_of(DOCS / "embedding.rst")
        missing = [
            name
            for name in self.examples
            if f"``docs/examples/{name}``" not in text or f":: examples/{name}" not in text
        ]
        self.assertGreater(len(self.examples), 5)
        self.assertEqual([], missing)

    def test_run(self) -> None:
        """Each example is run by a test."""
        tests = (ROOT / "tests" / "docs" / "test_examples.py").read_text("utf-8")
        missing = [name for name in self.examples if f'"{name}"' not in tests]
        self.assertEqual([], missing)


class FormTests(SynchronousTestCase):
    def test_no_home_paths(self) -> None:
        """Nothing leads into somebody's own directories."""
        pages = [*PAGES, *(DOCS / "examples").glob("*.py")]
        faults = [
            f"{page.relative_to(ROOT)}: {found}"
            for page in pages
            for found in _HOME.findall(text_of(page))
        ]
        self.assertEqual([], faults)

    def test_no_tabs(self) -> None:
        """White space is spaces, and none at the end of a line."""
        faults = [
            f"{page.relative_to(ROOT)}:{number}"
            for page in PAGES
            for number, line in enumerate(text_of(page).splitlines(), 1)
            if "\t" in line or line != line.rstrip()
        ]
        self.assertEqual([], faults)

    def test_titles(self) -> None:
        """A title's line is as long as the title, and each page begins with one."""
        faults = []
        for page in PAGES:
            lines = text_of(page).splitlines()
            if page.name != "README.rst" and page.parent.name == "news":
                continue  # fragments have none: they become part of another page
            if len(lines) < 2 or not _UNDERLINE.fullmatch(lines[1]):
                faults.append(f"{page.relative_to(ROOT)}: no title")
            for number, (above, line) in enumerate(zip(lines, lines[1:], strict=False), 2):
                blank_before = number < 3 or not lines[number - 3]
                is_title = bool(above.strip()) and not above.startswith((" ", "=", "-"))
                underlined = is_title and blank_before and _UNDERLINE.fullmatch(line)
                if underlined and len(line) != len(above):
                    faults.append(f"{page.relative_to(ROOT)}:{number}: {above}")
        self.assertEqual([], faults)

    def test_tables(self) -> None:
        """No cell of a simple table runs into the next column."""
        faults = [
            f"{page.relative_to(ROOT)}:{number}"
            for page in PAGES
            for number in _broken_rows(text_of(page).splitlines())
        ]
        self.assertEqual([], faults)

    def test_decisions(self) -> None:
        """Decisions are numbered without gaps, and each has its three parts."""
        pages = sorted((DOCS / "decisions").glob("[0-9]*.rst"))
        self.assertEqual(list(range(1, len(pages) + 1)), [int(page.name[:4]) for page in pages])
        for page in pages:
            text = text_of(page)
            self.assertTrue(text.startswith(f"{page.name[:4]}: "), page.name)
            for part in ("Context\n---", "Decision\n---", "Consequences\n---"):
                self.assertIn(part, text, page.name)

    def test_news(self) -> None:
        """A fragment's name says to which issue and of which kind it is."""
        kinds = "feature|bugfix|doc|removal"
        faults = [
            page.name
            for page in (DOCS / "news").iterdir()
            if page.name != "README.rst" and not re.fullmatch(rf"\d+\.({kinds})\.rst", page.name)
        ]
        self.assertEqual([], faults)


def _leads_somewhere(dotted: str) -> bool:
    """Whether it is a module, or a name that stands in one."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:count])
        module = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if module.exists():
            rest = parts[count:]
            text = module.read_text("utf-8")
            return all(re.search(rf"\b{name}\b", text) for name in rest)
    return False


def _broken_rows(lines: list[str]) -> list[int]:
    """Numbers of lines in simple tables with text between two columns."""
    gaps: list[int] = []
    rules_seen = 0
    broken = []
    for number, line in enumerate(lines, 1):
        if re.fullmatch(r"=+(?: +=+)+", line):
            rules_seen += 1
            gaps = [found.start() for found in re.finditer(" ", line)]
            if rules_seen % 3 == 0:
                gaps = []
        elif gaps and any(line[at : at + 1] not in ("", " ") for at in gaps):
            broken.append(number)
    return broken
