"""
A disk as a power cut sees it: what was synced, and what only might have got there.

The rules are POSIX's, not a kind file system's.  A sync of a file makes its own octets and
its length durable, never its name; a sync of a directory makes the names in it durable,
never what they name.  Whatever was not synced may be there, or not, each piece for itself;
a write may be torn between sectors.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from attrs import define, field

SECTOR_OCTETS = 512


@define(eq=False)
class Write:
    """Octets at an offset."""

    offset: int
    octets: bytes

    def apply(self, content: bytearray) -> None:
        missing = self.offset - len(content)
        if missing > 0:
            content.extend(bytes(missing))
        content[self.offset : self.offset + len(self.octets)] = self.octets

    def torn(self, chance: random.Random) -> Iterator[Write]:
        """Some of its sectors."""
        at = 0
        while at < len(self.octets):
            end = at + SECTOR_OCTETS - (self.offset + at) % SECTOR_OCTETS
            if chance.random() < 0.5:
                yield Write(self.offset + at, self.octets[at:end])
            at = end


@define(eq=False)
class Truncate:
    """A new length."""

    octets: int

    def apply(self, content: bytearray) -> None:
        del content[self.octets :]
        content.extend(bytes(self.octets - len(content)))

    def torn(self, chance: random.Random) -> Iterator[Truncate]:
        """It has no parts."""
        yield self


@define(eq=False)
class File:
    """
    :ivar synced: what is durable.
    :ivar pending: what was done since, in order, numbered.
    :ivar size: octets as the running process sees it.
    """

    synced: bytearray = field(factory=bytearray)
    pending: list[tuple[int, Write | Truncate]] = field(factory=list)
    size: int = 0
    done: int = 0

    def do(self, change: Write | Truncate) -> None:
        """What a running process sees at once, and a disk maybe never."""
        self.done += 1
        self.pending.append((self.done, change))
        if isinstance(change, Write):
            self.size = max(self.size, change.offset + len(change.octets))
        else:
            self.size = change.octets

    def sync(self, up_to: int) -> None:
        """All that was done up to the number *up_to* is durable."""
        for number, change in self.pending:
            if number <= up_to:
                change.apply(self.synced)
        self.pending = [one for one in self.pending if one[0] > up_to]

    def survivor(self, chance: random.Random | None) -> bytes:
        """What is left of it: all that was synced, and with *chance* some of the rest."""
        content = bytearray(self.synced)
        for _, change in self.pending if chance is not None else ():
            assert chance is not None
            luck = chance.random()
            if luck < 0.4:
                change.apply(content)
            elif luck < 0.7:
                for part in change.torn(chance):
                    part.apply(content)
        return bytes(content)


@define(eq=False)
class Directory:
    """
    :ivar names: as the running process sees them.
    :ivar synced: those that are durable.
    :ivar pending: names given (a node) and taken (`None`) since, in order, numbered.
    """

    names: dict[str, File | Directory] = field(factory=dict)
    synced: dict[str, File | Directory] = field(factory=dict)
    pending: list[tuple[int, str, File | Directory | None]] = field(factory=list)
    done: int = 0

    def give(self, name: str, node: File | Directory) -> None:
        self._do(name, node)
        self.names[name] = node

    def take(self, name: str) -> File | Directory:
        self._do(name, None)
        return self.names.pop(name)

    def _do(self, name: str, node: File | Directory | None) -> None:
        self.done += 1
        self.pending.append((self.done, name, node))

    def sync(self, up_to: int) -> None:
        """See `File.sync`."""
        for number, name, node in self.pending:
            if number <= up_to:
                _set(self.synced, name, node)
        self.pending = [one for one in self.pending if one[0] > up_to]

    def survivor(self, chance: random.Random | None) -> dict[str, File | Directory]:
        """See `File.survivor`."""
        names = dict(self.synced)
        for _, name, node in self.pending if chance is not None else ():
            assert chance is not None
            if chance.random() < 0.5:
                _set(names, name, node)
        return names


def _set(names: dict[str, File | Directory], name: str, node: File | Directory | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


@define(eq=False)
class Disk:
    """Everything below one directory, which itself is durable."""

    top: Path
    root: Directory = field(factory=Directory)

    def holds(self, path: str) -> bool:
        return PurePosixPath(path).is_relative_to(self.top)

    def find(self, path: str) -> File | Directory | None:
        """What the running process sees under *path*."""
        node: File | Directory | None = self.root
        for part in PurePosixPath(path).relative_to(self.top).parts:
            if not isinstance(node, Directory):
                return None
            node = node.names.get(part)
        return node

    def parent(self, path: str) -> tuple[Directory, str]:
        """The directory that *path* lies in, and its name there."""
        pure = PurePosixPath(path)
        found = self.find(str(pure.parent))
        if not isinstance(found, Directory):
            raise AssertionError(f"{pure.parent} is no directory")
        return found, pure.name

    def survive(self, target: Path, chance: random.Random | None) -> None:
        """Write what a power cut leaves now below *target*, which is empty."""
        _write(self.root, target, chance)


def _write(node: Directory, target: Path, chance: random.Random | None) -> None:
    for name, one in node.survivor(chance).items():
        if isinstance(one, Directory):
            (target / name).mkdir()
            _write(one, target / name, chance)
        else:
            (target / name).write_bytes(one.survivor(chance))
