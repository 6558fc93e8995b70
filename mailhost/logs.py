"""
The log: one line for each event, written as cheaply as can be.

:Room: ``logs``
:Called by: `mailhost.tap`, which gives it to twistd; `mailhost.workers.child`.

Twisted's own text observer spends more time on a line than the whole dialogue on
a command: it reads the clock's zone, formats with a class of its own, and asks
for the same names again and again.  A line here costs a few microseconds, looks
the same, and holds no control characters, whoever has sent the words: what begins a
line is ours.
"""

from __future__ import annotations

import time
from typing import Any, TextIO

from attrs import define, field
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText, formatEvent
from zope.interface import implementer

_LEVELS = {level: f"#{level.name}] " for level in LogLevel.iterconstants()}
#: Control characters, and the separators that some programs take for ends of lines.
_ESCAPED = {
    number: ascii(chr(number))[1:-1]
    for number in (*range(32), *range(127, 160), 0x2028, 0x2029)
    if chr(number) != "\t"
} | {10: "\n\t"}


def event_text(event: LogEvent) -> str:
    """
    What *event* says; a line that follows the first, as of a traceback, begins with a tab.

    Never raises: an event that cannot be formatted says so.
    """
    words = event.get("log_format")
    if words is None:
        text = formatEvent(event)
    else:
        try:
            text = words.format_map(event)
        except Exception:
            # Twisted's format knows more: calls, and how to tell of a fault.
            text = formatEvent(event)
    if "log_failure" in event:
        text = eventAsText(event, includeTimestamp=False, includeSystem=False).rstrip("\n")
    return text if text.isprintable() else text.translate(_ESCAPED)


@implementer(ILogObserver)
@define(eq=False)
class TextObserver:
    """
    Writes each event as ``2026-01-31T12:34:56+0000 [namespace#level] words``.

    :ivar out: takes the lines; flushed after each where it can be.
    """

    out: TextIO
    _second: int = field(default=-1, init=False)
    _stamp: str = field(default="", init=False)

    def __call__(self, event: LogEvent) -> None:
        """See `ILogObserver`."""
        second = int(event["log_time"])
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(second))
        self.out.write(f"{self._stamp} [{_source(event)}{event_text(event)}\n")
        self.out.flush()


def _source(event: LogEvent) -> str:
    system = event.get("log_system")
    if system is not None:
        return f"{system}] "
    level: Any = event.get("log_level", LogLevel.info)
    return f"{event.get('log_namespace', '-')}{_LEVELS[level]}"
