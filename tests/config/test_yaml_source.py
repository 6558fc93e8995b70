"""Tests for `mailhost.config.yaml_source`."""

from __future__ import annotations

import yaml
from twisted.trial.unittest import SynchronousTestCase

from mailhost.config import yaml_source
from mailhost.config.tree import Entry, Flaw, Listing, Scalar, Table, Unusable
from mailhost.config.yaml_source import read_yaml


class TreeTests(SynchronousTestCase):
    def test_lines(self) -> None:
        """Every value and key knows its line; scalars stay text."""
        table, flaws, is_whole = read_yaml("# one\na: 010\nb:\n  - yes\n  - {c: 1:30}\n")

        inner = Table(5, {"c": Entry(5, Scalar("1:30", 5))})
        self.assertEqual(
            Table(
                2,
                {
                    "a": Entry(2, Scalar("010", 2)),
                    "b": Entry(3, Listing((Scalar("yes", 4), inner), 4)),
                },
            ),
            table,
        )
        self.assertEqual(([], True), (flaws, is_whole))

    def test_nulls(self) -> None:
        """Null is what YAML calls so, unless it is quoted."""
        table, _, _ = read_yaml("a:\nb: ~\nc: null\nd: 'null'\ne: ''\n")

        self.assertEqual(
            {"a": None, "b": None, "c": None, "d": "null", "e": ""},
            {
                name: entry.node.text
                for name, entry in table.entries.items()
                if isinstance(entry.node, Scalar)
            },
        )

    def test_nothing_at_all(self) -> None:
        """Comments, or a null, are a table without keys."""
        for text in ("# nothing\n", "~\n", "---\n"):
            table, flaws, is_whole = read_yaml(text)
            self.assertEqual(({}, [], True), (table.entries, flaws, is_whole), text)

    def test_without_the_c_parser(self) -> None:
        """PyYAML's own parser, where libyaml is missing, gives the same."""
        text = "a: 1\nb: [x, &y z, *y, !!str w]\na: ~\n"
        fast = read_yaml(text)
        self.patch(yaml_source, "_LOADER", yaml.SafeLoader)

        self.assertEqual(fast, read_yaml(text))


class RefusedTests(SynchronousTestCase):
    def flaws(self, text: str) -> list[Flaw]:
        """What is wrong with the writing of *text*."""
        return read_yaml(text)[1]

    def test_duplicates(self) -> None:
        """The second of two keys is refused, the first counts."""
        table, flaws, _ = read_yaml("a: 1\nb: {c: 1,\n  c: 2}\na: 3\n")

        self.assertEqual(
            [
                Flaw(3, ("b", "c"), "given twice, first on line 2; allowed: once"),
                Flaw(4, ("a",), "given twice, first on line 1; allowed: once"),
            ],
            flaws,
        )
        self.assertEqual(Scalar("1", 1), table.entries["a"].node)

    def test_aliases_anchors_tags(self) -> None:
        """All three are refused where they stand, and reading goes on."""
        table, flaws, is_whole = read_yaml(
            "a: &x 1\nb: *x\nc: !!python/object:os.system d\ne: [!t f]\n<<: *x\n"
        )

        self.assertEqual(
            [(1, ("a",)), (2, ("b",)), (3, ("c",)), (4, ("e", 0)), (5, ("<<",))],
            [(flaw.line, flaw.path) for flaw in flaws],
        )
        self.assertEqual(Unusable(2), table.entries["b"].node)
        self.assertTrue(is_whole)

    def test_keys_that_are_no_words(self) -> None:
        """A key is a word; a list, a table, null or an alias is none."""
        for text in ("? [a]\n: 1\n", "{a: 1}: 2\n", "? \n: 1\n", "~: 1\n", "*a : 1\n"):
            table, flaws, _ = read_yaml(text)
            self.assertEqual(([1], {}), ([flaw.line for flaw in flaws], table.entries), text)

    def test_syntax(self) -> None:
        """What is not YAML is refused with the line where it stopped being so."""
        for text, line in (
            ("a: 1\nb: [1, 2\nc: 3\n", 3),
            ("a: 1\n\tb: 2\n", 2),
            ("a: b: c\n", 1),
            ("a: 'x\n", 1),
            ("a: @x\n", 1),
            ("route: [192.0.2.20]:2525\n", 1),
            ("%YAML 9.9\n---\na: 1\n", 1),
            ('a: "\\ud800"\n', 1),
            ("- b\na: 1\n", 2),
        ):
            table, flaws, is_whole = read_yaml(text)
            self.assertFalse(is_whole, text)
            self.assertEqual(1, len(flaws), text)
            self.assertIn("not YAML", flaws[0].words)
            self.assertIn("allowed: ", flaws[0].words)
            self.assertEqual(line, flaws[0].line, (text, flaws))

    def test_tab(self) -> None:
        """An indentation with tabs is called so."""
        (flaw,) = self.flaws("a:\n\tb: 1\n")

        self.assertEqual(2, flaw.line)
        self.assertIn("indented with a tab; allowed: spaces", flaw.words)

    def test_not_a_table(self) -> None:
        """A list or a word is not a configuration."""
        for text in ("- a\n", "hello\n", "'~'\n"):
            _, flaws, is_whole = read_yaml(text)
            self.assertEqual((1, False), (len(flaws), is_whole), text)

    def test_second_document(self) -> None:
        """Only one document is read, so a second is refused."""
        (flaw,) = self.flaws("a: 1\n---\nb: 2\n")

        self.assertEqual(2, flaw.line)

    def test_depth(self) -> None:
        """Depth is bounded, however deep the parser would go."""
        for text in ("a: " + "[" * 500 + "]" * 500, "".join(f"{' ' * n}a:\n" for n in range(500))):
            _, flaws, is_whole = read_yaml(text)
            self.assertEqual((1, False), (len(flaws), is_whole))
            self.assertIn("nested too deeply", flaws[0].words)
