"""What the server's processes hold: memory and descriptors, and how they grow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from tests.crash.kill import children_of

_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


@frozen
class Sample:
    """
    :ivar at: monotonic seconds.
    :ivar messages: acknowledged so far.
    :ivar memory_kb: resident, of all processes.
    :ivar descriptors: open, of all processes.
    """

    at: float
    messages: int
    memory_kb: int
    descriptors: int


def take_sample(pid: int, at: float, messages: int) -> Sample:
    """Of *pid* and its children; one that is just ending counts as nothing."""
    memory = descriptors = 0
    for one in (pid, *children_of(pid)):
        try:
            memory += int(Path(f"/proc/{one}/statm").read_text("ascii").split()[1]) * _PAGE_KB
            descriptors += len(os.listdir(f"/proc/{one}/fd"))
        except OSError:
            continue
    return Sample(at, messages, memory, descriptors)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """How steeply *points* rise, by least squares; 0 where that cannot be told."""
    if not points:
        return 0.0
    middle = sum(x for x, _ in points) / len(points)
    height = sum(y for _, y in points) / len(points)
    spread = sum((x - middle) ** 2 for x, _ in points)
    if not spread:
        return 0.0
    return sum((x - middle) * (y - height) for x, y in points) / spread


@frozen
class Growth:
    """
    Memory over time.

    :ivar kb_per_hour: by least squares.
    :ivar kb_per_thousand: of messages.
    :ivar kb: over all samples.
    """

    kb_per_hour: float
    kb_per_thousand: float
    kb: float

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Growth:
        a_second = slope([(one.at, one.memory_kb) for one in samples])
        a_message = slope([(one.messages, one.memory_kb) for one in samples])
        window = samples[-1].at - samples[0].at if samples else 0.0
        return cls(a_second * 3600, a_message * 1000, a_second * window)
