"""Tests for `mailhost.config.ini_source`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.ini_source import read_ini
from mailhost.config.settings import Settings
from mailhost.config.tree import Entry, Flaw, Listing, Scalar, Table


def tree(text: str) -> Table:
    """The tree of a text without flaws."""
    table, flaws, is_whole = read_ini(text, Settings)
    assert not flaws and is_whole, flaws
    return table


def flaws(text: str) -> list[Flaw]:
    """What is wrong with the writing."""
    return read_ini(text, Settings)[1]


class TreeTests(SynchronousTestCase):
    def test_sections_become_the_tree(self) -> None:
        """Heads name the place in the tree; every key and value has its line."""
        table = tree(
            "[mailhost]\nworkers = 1\n[resolver]\ncache=5\n"
            "[virtual_server a b]\nhome = x\n"
            "[virtual_server a b / access / relay]\ndefault = deny\n"
            "[virtual_server a b / domain *.x.example]\ntype = remote\n"
        )

        relay = Table(7, {"default": Entry(8, Scalar("deny", 8))})
        domain = Table(
            9, {"name": Entry(9, Scalar("*.x.example", 9)), "type": Entry(10, Scalar("remote", 10))}
        )
        server = Table(
            5,
            {
                "name": Entry(5, Scalar("a b", 5)),
                "home": Entry(6, Scalar("x", 6)),
                "access": Entry(7, Table(7, {"relay": Entry(7, relay)})),
                "domains": Entry(9, Listing((domain,), 9)),
            },
        )
        self.assertEqual(
            Table(
                1,
                {
                    "workers": Entry(2, Scalar("1", 2)),
                    "resolver": Entry(3, Table(3, {"cache": Entry(4, Scalar("5", 4))})),
                    "virtual_servers": Entry(5, Listing((server,), 5)),
                },
            ),
            table,
        )

    def test_order_of_sections_is_free(self) -> None:
        """A page may stand before the section it belongs to."""
        table = tree("[virtual_server a / drop]\nquota = 1K\n[virtual_server a]\nhome = x\n")

        servers = table.entries["virtual_servers"].node
        assert isinstance(servers, Listing)
        (server,) = servers.items
        assert isinstance(server, Table)
        self.assertEqual({"name", "home", "drop"}, set(server.entries))

    def test_values(self) -> None:
        """A value is what follows the first =; nothing and null are null."""
        table = tree("[mailhost]\na = b = c ; d # e\nb=\nc = null\nd=  x y  \n")

        self.assertEqual(
            {"a": "b = c ; d # e", "b": None, "c": None, "d": "x y"},
            {
                name: entry.node.text
                for name, entry in table.entries.items()
                if isinstance(entry.node, Scalar)
            },
        )

    def test_continued(self) -> None:
        """Lines indented deeper continue a value; each keeps its own line."""
        table = tree("[mailhost]\na = 1,\n  2\n\t# a comment\n   3\nb =\n  4\n\nc = 5\n")

        self.assertEqual(
            Listing((Scalar("1,", 2), Scalar("2", 3), Scalar("3", 5)), 2), table.entries["a"].node
        )
        self.assertEqual(Listing((Scalar("4", 7),), 7), table.entries["b"].node)
        self.assertEqual(Scalar("5", 9), table.entries["c"].node)

    def test_indented_keys(self) -> None:
        """Keys that are all indented alike do not continue one another."""
        table = tree("[mailhost]\n  a = 1\n  b = 2\n\n  c = 3\n")

        self.assertEqual(["a", "b", "c"], list(table.entries))

    def test_comments_and_blank_lines(self) -> None:
        """Lines that start with # or ; say nothing."""
        self.assertEqual({}, tree("# a\n; b\n\n   # c\n").entries)


class RefusedTests(SynchronousTestCase):
    def places(self, text: str) -> list[tuple[int, str]]:
        """Line and words, up to the semicolon, of each flaw."""
        return [(flaw.line, flaw.words.partition(";")[0]) for flaw in flaws(text)]

    def test_lines_that_are_nothing(self) -> None:
        """A line is a comment, a key or a section."""
        self.assertEqual(
            [
                (1, "stands before any section"),
                (3, "'hello' is neither 'key = value' nor a [section]"),
                (4, "'= 1' is neither 'key = value' nor a [section]"),
            ],
            self.places("a = 1\n[mailhost]\nhello\n= 1\n"),
        )

    def test_heads(self) -> None:
        """A head that cannot be read is refused once, without its keys."""
        for head in ("[", "[]", "[a", "[a]b", "[ / ]", "[a / / b]", "[" + "a / " * 20 + "a]"):
            self.assertEqual([2], [flaw.line for flaw in flaws(f"\n{head}\na = 1\nb = 2\n")], head)

    def test_head_without_name(self) -> None:
        """A virtual server has a name."""
        self.assertEqual(
            [(1, "the section's head has no name")], self.places("[virtual_server]\nhome = x\n")
        )

    def test_twice(self) -> None:
        """Keys and sections are given once; a name stands in the head only."""
        self.assertEqual(
            [
                (3, "given twice, first on line 2"),
                (5, "given twice, first on line 4"),
                (6, "given twice, first on line 1"),
            ],
            self.places(
                "[virtual_server a]\nhome = x\nhome = y\n[resolver]\n[resolver]\n"
                "[virtual_server a]\n"
            ),
        )
        self.assertEqual(
            [(2, "given twice, first on line 1")], self.places("[virtual_server a]\nname = b\n")
        )

    def test_key_and_section_of_one_name(self) -> None:
        """What is a page cannot be a value too."""
        self.assertEqual(
            [(3, "given twice, first on line 2")],
            self.places("[mailhost]\nresolver = x\n[resolver]\n"),
        )

    def test_page_of_a_server_that_is_not_there(self) -> None:
        """A misspelt name in a head does not make a virtual server."""
        self.assertEqual(
            [(2, "'defalt' has no section of its own")],
            self.places("[virtual_server default]\n[virtual_server defalt / drop]\nquota = 1K\n"),
        )
