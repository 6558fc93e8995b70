"""
What is wrong with a configuration, and where.

:Room: ``config`` (floor 1)
:Made by: `mailhost.config.reader` and its helpers; shown by ``mailhost check`` and `mailhost.tap`.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from mailhost.errors import MailhostError

#: Where a key stands in the tree: key names and positions in lists, from the root.
Path = tuple[str | int, ...]

#: Stands for the key where a fault is about the file as a whole.
WHOLE_FILE = "(file)"

_LONGEST_SHOWN = 60


def dotted(path: Path) -> str:
    """*path* as one word: ``virtual_servers[0].messages.max_recipients``."""
    words = ""
    for step in path:
        if isinstance(step, int):
            words += f"[{step}]"
        else:
            words += f".{one_line(step)}" if words else one_line(step)
    return words or WHOLE_FILE


def one_line(text: str) -> str:
    """*text* with everything escaped that could break or disguise a line of output."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shown(text: str) -> str:
    """*text* quoted for a message, on one line, cut where it is long."""
    if len(text) > _LONGEST_SHOWN:
        text = text[: _LONGEST_SHOWN - 3] + "..."
    return f"'{one_line(text)}'"


@frozen(order=True)
class Fault:
    """
    One thing that is wrong.

    :ivar file: the file as it was named to us.
    :ivar line: counted from 1; 1 where the fault is the file as a whole.
    :ivar key: the dotted key, see `dotted`; `WHOLE_FILE` where there is none.
    :ivar words: what is wrong, and what is allowed.
    """

    file: str
    line: int
    key: str
    words: str

    def __str__(self) -> str:
        return f"{one_line(self.file)}:{self.line}: {self.key}: {one_line(self.words)}"


class ConfigurationFaults(MailhostError):
    """
    A configuration cannot be used; its `str` is one line per fault.

    :ivar faults: at least one, in the order of the file.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults: tuple[Fault, ...] = tuple(sorted(faults, key=lambda f: (f.file, f.line)))
        super().__init__("\n".join(str(fault) for fault in self.faults))
