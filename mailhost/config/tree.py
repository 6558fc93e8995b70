"""
What a file says, before anybody knows whether it makes sense: values with their lines.

:Room: ``config`` (a helper of `reader`, floor 7)
:Made by: `mailhost.config.yaml_source` and `mailhost.config.ini_source`, the same tree
    for the same configuration; read by `mailhost.config.structure`.
"""

from __future__ import annotations

from attrs import define, field, frozen

from mailhost.config.faults import Path


@frozen
class Scalar:
    """
    A text, not interpreted.

    :ivar text: `None` for null.
    :ivar line: counted from 1.
    """

    text: str | None
    line: int


@frozen
class Listing:
    """Several values in order."""

    items: tuple[Node, ...]
    line: int


@frozen
class Unusable:
    """A value that was refused already, so that nothing more is said about it."""

    line: int


@frozen
class Entry:
    """A key with its value; *line* is the key's."""

    line: int
    node: Node


@define
class Table:
    """Keys with their values; the first of equal keys counts."""

    line: int
    entries: dict[str, Entry] = field(factory=dict)

    def add(self, name: str, line: int, node: Node) -> int | None:
        """
        Enter a key.

        :returns: `None`, or the line of the same key, which stays.
        """
        earlier = self.entries.get(name)
        if earlier is not None:
            return earlier.line
        self.entries[name] = Entry(line, node)
        return None


Node = Scalar | Listing | Unusable | Table


@frozen
class Flaw:
    """
    Something wrong with the way the file is written.

    :ivar path: the key it concerns, empty where it is none.
    """

    line: int
    path: Path
    words: str


def twice(name: str, earlier_line: int) -> str:
    """What is said of a key that is given again."""
    return f"given twice, first on line {earlier_line}; allowed: once"
