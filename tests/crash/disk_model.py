"""
A disk as a power cut sees it: what was synced, and what only might have got there.

The rules are POSIX's, not a kind file system's.  A sync of a file makes its own octets and
its length durable, never its name; a sync of a directory makes the names in it durable,
never what they name.  Whatever was not synced may be there, or not, each piece for itself;
a write may be torn between sectors.

A rename may leave one name, both or none, unless the disk is made with ``atomic_renames``: then
it is there as a whole or not at all, and a sync of either directory makes it durable, with all
that was done there before it.  Every file system with a journal does so.
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
class Renaming:
    """
    Both sides of one that is there as a whole or not at all.

    :ivar sides: the directories, with the number that it has in each.
    """

    sides: list[tuple[Directory, int]] = field(factory=list)

    def sync(self) -> None:
        for directory, number in self.sides:
            directory.sync(number)


@define(eq=False)
class Directory:
    """
    :ivar names: as the running process sees them.
    :ivar synced: those that are durable.
    :ivar pending: names given (a node) and taken (`None`) since, in order, numbered, each with the
        renaming that it is a side of.
    """

    names: dict[str, File | Directory] = field(factory=dict)
    synced: dict[str, File | Directory] = field(factory=dict)
    pending: list[tuple[int, str, File | Directory | None, Renaming | None]] = field(factory=list)
    done: int = 0

    def give(self, name: str, node: File | Directory, renaming: Renaming | None = None) -> None:
        self._do(name, node, renaming)
        self.names[name] = node

    def take(self, name: str, renaming: Renaming | None = None) -> File | Directory:
        self._do(name, None, renaming)
        return self.names.pop(name)

    def _do(self, name: str, node: File | Directory | None, renaming: Renaming | None) -> None:
        self.done += 1
        self.pending.append((self.done, name, node, renaming))
        if renaming is not None:
            renaming.sides.append((self, self.done))

    def sync(self, up_to: int) -> None:
        """See `File.sync`."""
        now = [one for one in self.pending if one[0] <= up_to]
        self.pending = [one for one in self.pending if one[0] > up_to]
        for _, name, node, renaming in now:
            _set(self.synced, name, node)
            if renaming is not None:
                renaming.sync()

    def survivor(
        self, chance: random.Random | None, lucky: dict[Renaming, bool] | None = None
    ) -> dict[str, File | Directory]:
        """
        See `File.survivor`.

        :param lucky: what has become of renamings, as far as it is decided.
        """
        names = dict(self.synced)
        for _, name, node, renaming in self.pending if chance is not None else ():
            assert chance is not None
            luck = chance.random() < 0.5
            if renaming is not None and lucky is not None:
                luck = lucky.setdefault(renaming, luck)
            if luck:
                _set(names, name, node)
        return names


def _set(names: dict[str, File | Directory], name: str, node: File | Directory | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


@define(eq=False)
class Disk:
    """
    Everything below one directory, which itself is durable.

    :ivar atomic_renames: see the module.
    """

    top: Path
    root: Directory = field(factory=Directory)
    atomic_renames: bool = False

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

    def load(self, source: Path) -> None:
        """What is there below *source* on the real disk is there, and durable."""
        _load(self.root, source)

    def rename(self, before: str, after: str) -> None:
        renaming = Renaming() if self.atomic_renames else None
        source, first = self.parent(before)
        target, last = self.parent(after)
        target.give(last, source.names[first], renaming)
        source.take(first, renaming)

    def survive(self, target: Path, chance: random.Random | None) -> None:
        """Write what a power cut leaves now below *target*, which is empty."""
        _write(self.root, target, chance, {})


def _load(node: Directory, source: Path) -> None:
    for path in source.iterdir():
        if path.is_dir():
            below = Directory()
            _load(below, path)
            node.give(path.name, below)
        else:
            file = File()
            file.do(Write(0, path.read_bytes()))
            file.sync(file.done)
            node.give(path.name, file)
    node.sync(node.done)


def _write(
    node: Directory,
    target: Path,
    chance: random.Random | None,
    lucky: dict[Renaming, bool],
) -> None:
    for name, one in node.survivor(chance, lucky).items():
        if isinstance(one, Directory):
            (target / name).mkdir()
            _write(one, target / name, chance, lucky)
        else:
            (target / name).write_bytes(one.survivor(chance))
