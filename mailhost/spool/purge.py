"""
Badmail does not grow for ever: old triples go, the oldest first.

:Room: ``spool``
:Called by: `mailhost.spool.badmail`, in a thread; everything here blocks.

A triple is there when its reason (.BDR) is, so that file goes first.  A crash
leaves a rest without a reason; it is a rest of ours only where the names are, and
the next purge counts and removes it like a triple.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Set

from attrs import define, field, frozen

from mailhost.spool.steps import Passed, Step

_NAME = re.compile(r"([0-9a-f]{24})\.(BAD|BDP|BDR)")
#: The reason first, the message last.
_ORDER = ("BDR", "BDP", "BAD")


@frozen
class Purged:
    """
    What came of it.

    :ivar count: triples that were removed, or would be.
    :ivar left: triples that are to be removed as well, but were too many for once.
    :ivar stems: the names of those that were only counted.
    """

    count: int
    left: int = 0
    stems: tuple[str, ...] = ()


@define
class _Triple:
    """What of one triple is there."""

    octets: int = 0
    written_at: float = 0.0
    names: list[str] = field(factory=list)


def purge(
    directory_fd: int,
    oldest_at: float | None,
    max_octets: int | None,
    passed: Passed,
    stems: Set[str] | None = None,
    dry_run: bool = False,
    most: int | None = None,
) -> Purged:
    """
    See `mailhost.spool.badmail.Badmail.purge`.

    :param oldest_at: triples written before are removed.
    :raises OSError: the directory cannot be used.
    """
    chosen = _chosen(_triples(directory_fd, stems), oldest_at, max_octets)
    if dry_run:
        return Purged(len(chosen), stems=tuple(triple.names[0][:24] for triple in chosen))
    now = chosen[:most]
    for triple in now:
        _remove(triple, directory_fd, passed)
    if now:
        os.fsync(directory_fd)
    return Purged(len(now), len(chosen) - len(now))


def _chosen(
    triples: list[_Triple], oldest_at: float | None, max_octets: int | None
) -> list[_Triple]:
    """Those that go, the oldest first."""
    triples.sort(key=lambda triple: triple.written_at)
    octets = sum(triple.octets for triple in triples)
    for count, triple in enumerate(triples):
        old = oldest_at is not None and triple.written_at < oldest_at
        if not old and (max_octets is None or octets <= max_octets):
            return triples[:count]
        octets -= triple.octets
    return triples


def _triples(directory_fd: int, stems: Set[str] | None) -> list[_Triple]:
    found: dict[str, _Triple] = {}
    for name in sorted(os.listdir(directory_fd)):
        match = _NAME.fullmatch(name)
        if match is not None and stems is not None and match[1] not in stems:
            continue
        facts = _facts(name, directory_fd) if match is not None else None
        if match is not None and facts is not None:
            triple = found.setdefault(match[1], _Triple())
            triple.octets += facts.st_size
            triple.written_at = max(triple.written_at, facts.st_mtime)
            triple.names.append(name)
    return list(found.values())


def _facts(name: str, directory_fd: int) -> os.stat_result | None:
    try:
        facts = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None  # Somebody else has removed it just now.
    return facts if stat.S_ISREG(facts.st_mode) else None


def _remove(triple: _Triple, directory_fd: int, passed: Passed) -> None:
    for name in sorted(triple.names, key=lambda name: _ORDER.index(name[-3:])):
        try:
            os.unlink(name, dir_fd=directory_fd)
        except FileNotFoundError:
            continue  # It is gone, which is what was wanted.
        if name.endswith(_ORDER[0]):
            passed(Step.TRIPLE_PURGED)
