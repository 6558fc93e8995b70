"""
From a tree to settings, collecting every fault on the way.

:Room: ``config`` (a helper of `reader`, floor 7)
:Called by: `mailhost.config.reader`, for YAML and INI alike.

A faulty value is noted and its default put in its place, so that one reading finds all
faults.  What rests on a faulty value is not judged (`Structurer.is_sound`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

from attrs import define, field

from mailhost.config.faults import Fault, Path, dotted, shown
from mailhost.config.keys import (
    Key,
    ListKey,
    ScalarKey,
    SectionKey,
    SectionsKey,
    known_keys,
)
from mailhost.config.tree import Listing, Node, Scalar, Table, Unusable

_MISSING = object()


class _Broken(Exception):
    """A page cannot even be made with stand-ins; the fault is noted."""


@define
class Structurer:
    """
    One reading of one file.

    :ivar file: the file's name, for the faults.
    :ivar faults: what is wrong so far.
    :ivar lines: where each key that is known stands.
    """

    file: str
    faults: list[Fault] = field(factory=list)
    lines: dict[Path, int] = field(factory=dict)
    _faulty: set[Path] = field(factory=set)

    def settings(self, root: Table, page: type[Any]) -> Any | None:
        """*root* as an instance of *page*; `None` where there can be none."""
        try:
            return self._page(root, page, ())
        except _Broken:
            return None

    def note(self, line: int, path: Path, words: str) -> None:
        """Note a fault of the value of *path*, so that nothing is judged by that value."""
        self.note_flaw(line, path, words)
        self._faulty.add(path)

    def note_flaw(self, line: int, path: Path, words: str) -> None:
        """Note a fault of the way something is written; what can be read of it counts."""
        self.faults.append(Fault(self.file, line, dotted(path), words))

    def line_of(self, path: Path) -> int:
        """The line of *path*, or of the nearest thing above it that is in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def is_sound(self, path: Path) -> bool:
        """Whether no fault was found in the value of *path*."""
        return not any(
            path[: len(faulty)] == faulty or faulty[: len(path)] == path for faulty in self._faulty
        )

    # ---- tables

    def _page(self, node: Node, page: type[Any], path: Path) -> Any:
        table = self._table(node, path)
        known = known_keys(page)
        for name, entry in table.entries.items():
            if name not in known:
                self._refuse_key(entry.line, (*path, name), page)
        arguments: dict[str, Any] = {}
        for name, declared in known.items():
            here = (*path, name)
            entry_or_none = table.entries.get(name)
            if entry_or_none is None:
                value = self._absent(declared.key, table.line, here)
            else:
                self.lines[here] = entry_or_none.line
                value = self._value(entry_or_none.node, declared.key, here)
            if value is not _MISSING:
                arguments[declared.argument] = value
        return self._make(page, arguments, table.line, path)

    def _make(self, page: type[Any], arguments: dict[str, Any], line: int, path: Path) -> Any:
        try:
            return page(**arguments)
        except ValueError as wrong:
            self.note(line, path, str(wrong))
            raise _Broken from None

    def _table(self, node: Node, path: Path) -> Table:
        self.lines.setdefault(path, node.line)
        if isinstance(node, Table):
            return node
        if isinstance(node, Unusable):
            self._faulty.add(path)
        elif not isinstance(node, Scalar) or node.text is not None:
            self.note(node.line, path, f"{_what(node)} where keys are expected; allowed: a table")
        return Table(node.line)

    def _refuse_key(self, line: int, path: Path, page: type[Any]) -> None:
        name = str(path[-1])
        below = _find_below(page, name)
        if below is not None:
            self.note(line, path, f"unknown key here; allowed: below '{below}'")
            return
        nearest = _find_nearest(page, name)
        if nearest is not None:
            self.note(line, path, f"unknown key; allowed: the nearest known is '{nearest}'")
        else:
            self.note(line, path, f"unknown key; allowed: {', '.join(known_keys(page))}")

    def _absent(self, key: Key, line: int, path: Path) -> Any:
        if isinstance(key, ScalarKey) and key.required:
            self.note(line, path, f"missing; allowed: {key.kind.allowed}")
            return key.kind.parse(key.stand_in)
        if isinstance(key, SectionsKey) and key.least:
            self.note(line, path, f"missing; allowed: at least {key.least}")
        return _MISSING

    # ---- values

    def _value(self, node: Node, key: Key, path: Path) -> Any:
        if isinstance(key, SectionKey):
            return key.make(self._page(node, key.page, path))
        if isinstance(key, SectionsKey):
            return self._pages(node, key, path)
        if isinstance(node, Unusable):
            self._faulty.add(path)
            return _stand_in(key)
        if isinstance(key, ListKey):
            return self._values(node, key, path)
        assert isinstance(key, ScalarKey)
        return self._scalar(node, key, path)

    def _scalar(self, node: Node, key: ScalarKey, path: Path) -> Any:
        if not isinstance(node, Scalar):
            words = f"{_what(node)} where one value is expected"
            self.note(node.line, path, f"{words}; allowed: {key.kind.allowed}")
            return _stand_in(key)
        if key.nullable and _is_none(node):
            return _MISSING
        value = self._parsed(node, key, path)
        return _stand_in(key) if value is _MISSING else value

    def _parsed(self, node: Scalar, key: ScalarKey | ListKey, path: Path) -> Any:
        """The value of one text; `_MISSING`, and a fault, where it has none."""
        try:
            if node.text is None or not node.text.strip():
                raise ValueError("no value")
            value = key.kind.parse(node.text)
            key.kind.check(value)
        except ValueError as wrong:
            null = ", or null" if key.nullable else ""
            self.note(node.line, path, f"{wrong}; allowed: {key.kind.allowed}{null}")
            return _MISSING
        return value

    # ---- lists

    def _values(self, node: Node, key: ListKey, path: Path) -> Any:
        if key.nullable and isinstance(node, Scalar) and _is_none(node):
            return _MISSING
        found: list[Any] = []
        count = 0
        for item in self._items(node, key):
            here = (*path, count)
            count += 1
            if key.word and isinstance(item, Scalar) and _text(item) == key.word:
                found.append(None)
                continue
            self.lines[here] = item.line
            value = self._item(item, key, here)
            if value is not _MISSING:
                found.append(value)
            else:
                self._faulty.add(path)  # so positions in `found` need not be right
        if found == [None] and count == 1:
            return None
        if None in found:
            self.note(node.line, path, f"'{key.word}' among others; allowed: '{key.word}' alone")
            return _MISSING
        if count < key.least:
            self.note(
                node.line, path, f"no value; allowed: at least {key.least}: {key.kind.allowed}"
            )
        return tuple(found) if self.is_sound(path) else _MISSING

    def _items(self, node: Node, key: ListKey) -> Iterator[Node]:
        """*node*'s values; a text with separators is several."""
        if isinstance(node, Listing):
            for item in node.items:
                yield from self._split(item, key)
        elif not isinstance(node, Scalar) or not _is_none(node):
            yield from self._split(node, key)

    def _split(self, node: Node, key: ListKey) -> Iterator[Node]:
        if not isinstance(node, Scalar) or node.text is None:
            yield node
            return
        parts = [part for part in re.split(f"[{key.separators}]", node.text) if part.strip()]
        for part in parts or [""]:
            yield Scalar(part.strip(), node.line)

    def _item(self, node: Node, key: ListKey, path: Path) -> Any:
        if isinstance(node, Unusable):
            self._faulty.add(path)
            return _MISSING
        if isinstance(node, Table) and key.tables is not None:
            before = len(self.faults)
            page = self._page(node, key.tables, path)
            return _MISSING if len(self.faults) > before else page.item()
        if not isinstance(node, Scalar):
            self.note(node.line, path, f"{_what(node)} in a list; allowed: {key.kind.allowed}")
            return _MISSING
        return self._parsed(node, key, path)

    def _pages(self, node: Node, key: SectionsKey, path: Path) -> Any:
        if isinstance(node, Unusable):
            self._faulty.add(path)
            return ()
        if isinstance(node, Listing):
            items = node.items
        else:
            items = ()
            if not isinstance(node, Scalar) or node.text is not None:
                words = f"{_what(node)} where a list of tables is expected"
                self.note(
                    node.line,
                    path,
                    f"{words}; allowed: '- name: ...' items, in INI [... {key.ini} NAME] sections",
                )
                return ()
        if len(items) < key.least:
            self.note(node.line, path, f"empty; allowed: at least {key.least}")
        return tuple(self._page(item, key.page, (*path, n)) for n, item in enumerate(items))


def _stand_in(key: Key) -> Any:
    """What takes a faulty value's place: the default, where there is one."""
    if isinstance(key, ScalarKey) and key.required:
        return key.kind.parse(key.stand_in)
    return _MISSING


def _text(node: Scalar) -> str:
    return (node.text or "").strip().lower()


def _is_none(node: Scalar) -> bool:
    return node.text is None or _text(node) == "none"


def _what(node: Node) -> str:
    if isinstance(node, Listing):
        return "a list"
    if isinstance(node, Table):
        return "a table"
    return f"{shown(node.text or '')}" if isinstance(node, Scalar) else "nothing"


def _find_below(page: type[Any], name: str) -> str | None:
    """The page below *page* that has the key *name*, dotted."""
    for above, declared in known_keys(page).items():
        if isinstance(declared.key, SectionKey):
            if name in known_keys(declared.key.page):
                return above
            below = _find_below(declared.key.page, name)
            if below is not None:
                return f"{above}.{below}"
    return None


def _squashed(name: str) -> str:
    return re.sub(r"[\s_-]", "", name.lower())


def _find_nearest(page: type[Any], name: str) -> str | None:
    """The known key that *name* resembles, by our name for it or by IIS's."""
    candidates: dict[str, str] = {}
    for known, declared in known_keys(page).items():
        iis = declared.key.iis.split()[-1:]
        for spelling in (known, *iis):
            candidates.setdefault(_squashed(spelling), known)
        if isinstance(declared.key, SectionsKey) and " " in name:
            candidates[_squashed(declared.key.ini)] = f"{declared.key.ini} NAME"
            name = name.partition(" ")[0]
    near = difflib.get_close_matches(_squashed(name), candidates, n=1, cutoff=0.5)
    return candidates[near[0]] if near else None
