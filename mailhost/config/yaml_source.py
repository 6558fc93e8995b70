"""
YAML to a tree with lines.

:Room: ``config`` (a helper of `reader`, floor 7)
:Called by: `mailhost.config.reader`.

Built from the parser's events, never with a YAML constructor: nothing in a file makes an
object.  Anchors, aliases and tags are refused: a configuration has no need of them, and
they are how small files become large ones.  Scalars stay text, so `yes`, `0x10` and
`1:30` mean what the key's kind says, not what YAML 1.1 makes of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import yaml
from attrs import define, field

from mailhost.config.faults import Path, shown
from mailhost.config.tree import Flaw, Listing, Node, Scalar, Table, Unusable, twice

#: The contract's tree is seven levels deep.
_DEEPEST = 20
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
# The C parser is ten times as fast; PyYAML may have been built without it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _CannotGoOn(Exception):
    """The rest of the file cannot be understood; the flaw is noted."""


def read_yaml(text: str) -> tuple[Table, list[Flaw], bool]:
    """
    :param text: the file, free of control characters.
    :returns: the tree, as far as it could be read; what is wrong with the writing; and
        whether the tree is the whole of it.
    """
    reader = _Reader(text)
    try:
        return reader.document(), reader.flaws, True
    except _CannotGoOn:
        return Table(1), reader.flaws, False
    except yaml.MarkedYAMLError as error:
        reader.note_syntax(error)
    except yaml.YAMLError as error:
        reader.flaws.append(Flaw(1, (), f"not YAML: {' '.join(str(error).split())}"))
    return Table(1), reader.flaws, False


@define
class _Reader:
    text: str
    flaws: list[Flaw] = field(factory=list)
    _events: Iterator[yaml.Event] = field(init=False)
    _last: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._last = self.text.rstrip("\n").count("\n")
        self._events = yaml.parse(self.text, Loader=_LOADER)

    def _line(self, event: yaml.Event) -> int:
        mark = event.start_mark
        # The null that ends a file is marked behind its last line.
        return min(mark.line, self._last) + 1 if mark is not None else 1

    def document(self) -> Table:
        next(self._events)  # the stream's start
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return Table(1)
        first = next(self._events)
        root = self._node(first, ())
        next(self._events)  # the document's end
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            self._note(after, (), "a second document begins here; allowed: one document in a file")
        if isinstance(root, Table):
            return root
        if not isinstance(root, Scalar) or root.text is not None:
            self._note(first, (), "the file is not a table of keys; allowed: 'key: value' lines")
            raise _CannotGoOn
        return Table(1)

    def note_syntax(self, error: yaml.MarkedYAMLError) -> None:
        """Note where the parser gave up."""
        lines = self.text.rstrip().split("\n")
        # What is never closed is noticed at the end of the file, but was begun elsewhere.
        inside = [
            mark
            for mark in (error.problem_mark, error.context_mark)
            if mark is not None and mark.line < len(lines)
        ]
        line = inside[0].line + 1 if inside else len(lines)
        words = f"not YAML: {error.problem or error.context or 'cannot be understood'}"
        if error.context and error.context_mark is not None and error.problem:
            words += f" ({error.context} that begins on line {error.context_mark.line + 1})"
        if "\t" in lines[line - 1][: len(lines[line - 1]) - len(lines[line - 1].lstrip())]:
            words += "; the line is indented with a tab; allowed: spaces"
        else:
            words += "; allowed: quotes around values with [ ] { } : # * & ! % @ in them"
        self.flaws.append(Flaw(line, (), words))

    def _note(self, event: yaml.Event, path: Path, words: str) -> None:
        self.flaws.append(Flaw(self._line(event), path, words))

    def _node(self, event: yaml.Event, path: Path) -> Node:
        if len(path) > _DEEPEST:
            self._note(event, (), f"nested too deeply; allowed: {_DEEPEST} levels")
            raise _CannotGoOn
        if isinstance(event, yaml.AliasEvent):
            self._note(event, path, f"alias *{event.anchor}; allowed: the value itself")
            return Unusable(self._line(event))
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            self._note(event, path, f"anchor &{event.anchor}; allowed: no anchors")
        if isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)) and event.tag:
            self._note(event, path, f"tag {shown(event.tag)}; allowed: no tags")
        if isinstance(event, yaml.ScalarEvent):
            is_plain = event.style is None or event.style == ""
            is_null = is_plain and event.value in _NULLS
            return Scalar(None if is_null else event.value, self._line(event))
        if isinstance(event, yaml.SequenceStartEvent):
            return self._listing(event, path)
        return self._table(event, path)

    def _listing(self, start: yaml.Event, path: Path) -> Listing:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items))))
        return Listing(tuple(items), self._line(start))

    def _table(self, start: yaml.Event, path: Path) -> Table:
        table = Table(self._line(start))
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            name = self._key(event, path)
            node = self._node(next(self._events), (*path, name or "?"))
            if name is None:
                continue
            earlier = table.add(name, self._line(event), node)
            if earlier is not None:
                self._note(event, (*path, name), twice(name, earlier))
        return table

    def _key(self, event: yaml.Event, path: Path) -> str | None:
        """The key's name; `None`, and a flaw, where it is no plain word."""
        node = self._node(event, (*path, "?"))
        if isinstance(node, Scalar) and node.text:
            return node.text
        if not isinstance(node, Unusable):
            self._note(event, path, "a key is not a word; allowed: key names")
        return None
