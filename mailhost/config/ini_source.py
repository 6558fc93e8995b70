"""
INI to the same tree as YAML.

:Room: ``config`` (a helper of `reader`, floor 7)
:Called by: `mailhost.config.reader`.

``[mailhost]`` holds the topmost keys, ``[virtual_server NAME]`` one item of
``virtual_servers``, ``[virtual_server NAME / access / relay]`` a page below it, and
``[virtual_server NAME / domain NAME]`` one item of its ``domains``.  A line indented deeper
than its key's continues the value.  A comment is a line of its own and starts with ``#`` or
``;`` (inside a value both are part of it: ``;`` separates smart hosts).
"""

from __future__ import annotations

import re
from typing import Any

from attrs import define, field

from mailhost.config.faults import Path, shown
from mailhost.config.keys import SectionKey, SectionsKey, known_keys
from mailhost.config.tree import Flaw, Listing, Node, Scalar, Table, Unusable, twice

_HEAD = re.compile(r"\[([^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*)\]")
_SLASH = re.compile(r"(?<!\S)/(?!\S)")
_ROOT = "mailhost"
#: The contract's tree is five sections deep.
_DEEPEST = 10
_NULLS = frozenset({"", "null"})


def read_ini(text: str, page: type[Any]) -> tuple[Table, list[Flaw], bool]:
    """
    :param text: the file, free of control characters.
    :param page: the class of the whole configuration; it says which sections are lists.
    :returns: as `mailhost.config.yaml_source.read_yaml`; an INI tree is always whole.
    """
    reader = _Reader(page)
    for number, line in enumerate(text.split("\n"), 1):
        reader.take(number, line)
    return reader.finish(), reader.flaws, True


@define
class _Section:
    """
    A section of the file on its way into the tree.

    :ivar line: of its head; `None` while only a section below it was seen.
    :ivar lists: the lists of sections below it: their members in order.
    """

    path: Path
    table: Table
    page: type[Any] | None
    line: int | None = None
    lists: dict[str, list[_Section]] = field(factory=dict)
    pages: dict[str, _Section] = field(factory=dict)
    label: str = ""


@define
class _Value:
    """A value that the next line may continue, where it is indented deeper than this one."""

    name: str
    line: int
    indent: int
    parts: list[Scalar]


@define
class _Reader:
    page: type[Any]
    flaws: list[Flaw] = field(factory=list)
    _root: _Section = field(init=False)
    _here: _Section | None = field(init=False, default=None)
    _value: _Value | None = field(init=False, default=None)
    _lost: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._root = _Section((), Table(1), self.page)

    def take(self, number: int, line: str) -> None:
        """One line of the file."""
        text = line.strip()
        if text.startswith(("#", ";")):
            return
        indent = len(line) - len(line.lstrip())
        if text and self._value is not None and indent > self._value.indent:
            self._value.parts.append(Scalar(text, number))
            return
        self._finish_value()
        if text.startswith("["):
            self._enter(number, text)
        elif text:
            self._start_value(number, text, indent)

    def finish(self) -> Table:
        """The tree, when all lines were taken."""
        self._finish_value()
        self._assemble(self._root)
        return self._root.table

    # ---- values

    def _start_value(self, number: int, text: str, indent: int) -> None:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            path = self._here.path if self._here is not None else ()
            words = f"{shown(text)} is neither 'key = value' nor a [section]"
            self.flaws.append(Flaw(number, path, f"{words}; allowed: one of them"))
        elif self._here is not None:
            self._value = _Value(name, number, indent, [Scalar(value.strip(), number)])
        elif not self._lost:
            words = "stands before any section; allowed: below [mailhost] or another section"
            self.flaws.append(Flaw(number, (name,), words))

    def _finish_value(self) -> None:
        value, self._value = self._value, None
        if value is None or self._here is None:
            return
        parts = [part for part in value.parts if part.text]
        node: Node
        if len(parts) > 1 or (parts and parts[0].line != value.line):
            node = Listing(tuple(parts), parts[0].line)
        else:
            text = parts[0].text if parts else ""
            is_null = text is None or text.lower() in _NULLS
            node = Scalar(None if is_null else text, value.line)
        earlier = self._here.table.add(value.name, value.line, node)
        if earlier is not None:
            path = (*self._here.path, value.name)
            self.flaws.append(Flaw(value.line, path, twice(value.name, earlier)))

    # ---- sections

    def _enter(self, number: int, text: str) -> None:
        self._here = None
        self._lost = True  # until the head turns out well, its keys are nobody's
        match = _HEAD.fullmatch(text)
        steps = [" ".join(step.split()) for step in _SLASH.split(match[1])] if match else []
        if not steps or not all(steps) or len(steps) > _DEEPEST:
            words = f"{shown(text)} is not a section's head"
            self.flaws.append(Flaw(number, (), f"{words}; allowed: [name] or [name / name]"))
            return
        section = self._root
        for step in steps if steps[0] != _ROOT else steps[1:]:
            below = self._below(section, step, number)
            if below is None:
                return
            section = below
        if section.line is not None:
            self.flaws.append(Flaw(number, section.path, twice(text, section.line)))
        else:
            section.line = section.table.line = number
        self._here = section
        self._lost = False

    def _below(self, section: _Section, step: str, number: int) -> _Section | None:
        word, _, label = step.partition(" ")
        for name, declared in known_keys(section.page).items() if section.page else ():
            if isinstance(declared.key, SectionsKey) and declared.key.ini == word:
                return self._member(section, name, declared.key.page, label, number)
        known = known_keys(section.page).get(step) if section.page else None
        page = known.key.page if known and isinstance(known.key, SectionKey) else None
        if step not in section.pages:
            section.pages[step] = _Section((*section.path, step), Table(number), page)
        return section.pages[step]

    def _member(
        self, section: _Section, name: str, page: type[Any], label: str, number: int
    ) -> _Section | None:
        members = section.lists.setdefault(name, [])
        for member in members:
            if member.label == label:
                return member
        path: Path = (*section.path, name, len(members))
        if not label:
            words = "the section's head has no name; allowed: such as [virtual_server default]"
            self.flaws.append(Flaw(number, path, words))
            return None
        member = _Section(path, Table(number), page, label=label)
        member.table.add("name", number, Scalar(label, number))
        members.append(member)
        return member

    # ---- the tree

    def _assemble(self, section: _Section) -> None:
        for step, below in section.pages.items():
            self._assemble(below)
            self._attach(section, step, below.table.line, below.table)
        for name, members in section.lists.items():
            items: list[Node] = []
            for member in members:
                self._assemble(member)
                items.append(self._declared(member, members))
            if members:
                line = items[0].line
                self._attach(section, name, line, Listing(tuple(items), line))

    def _declared(self, member: _Section, members: list[_Section]) -> Node:
        """*member*'s table, unless only pages of it were given: then its name is misspelt."""
        if member.line is not None:
            return member.table
        heads = ", ".join(f"'{m.label}'" for m in members if m.line is not None) or "none"
        words = f"{shown(member.label)} has no section of its own; those that have: {heads}"
        self.flaws.append(Flaw(member.table.line, member.path, words))
        return Unusable(member.table.line)

    def _attach(self, section: _Section, name: str, line: int, node: Node) -> None:
        earlier = section.table.add(name, line, node)
        if earlier is not None:
            self.flaws.append(Flaw(line, (*section.path, name), twice(name, earlier)))
