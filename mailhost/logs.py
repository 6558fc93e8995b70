"""
The log: one line for each event, for people or for programs, written as cheaply as can be.

:Room: ``logs``
:Called by: `mailhost.tap`, which gives a `Journal` to twistd; `mailhost.service` and
    `mailhost.workers`, which tell it the settings; `mailhost.workers.child`.

Twisted's own text observer spends more time on a line than the whole dialogue on
a command: it reads the clock's zone, formats with a class of its own, and asks
for the same names again and again.  A line here costs a few microseconds, looks
the same, and holds no control characters, whoever has sent the words: what begins a
line is ours.  Lines gather, and a thread of its own writes them (`mailhost.background`).
"""

from __future__ import annotations

import json
import os
import pwd
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, TextIO

from attrs import define, field
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText, formatEvent
from zope.interface import implementer

from mailhost.background import AppendedFile, Background, write_all
from mailhost.config.settings import LogSettings
from mailhost.facts import RANKS, WANTED

_RANK_OF = {level: RANKS[level.name] for level in LogLevel.iterconstants()}
#: Control characters, and the separators that some programs take for ends of lines.
_ESCAPED = {
    number: ascii(chr(number))[1:-1]
    for number in (*range(32), *range(127, 160), 0x2028, 0x2029)
    if chr(number) != "\t"
} | {10: "\n\t"}
#: What is not one of an event's facts: Twisted's own, those that it makes for old observers,
#: and what `json_line` writes itself.
_OTHERS = frozenset({"format", "isError", "message", "system", "time", "level", "logger", "text"})
#: What JSON has as it is.
_SIMPLE = frozenset({str, int, float, bool, type(None)})
#: A line is cut here.
_MOST_CHARACTERS = 65_536

Line = Callable[[LogEvent], str]


# ---- lines


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
    if len(text) > _MOST_CHARACTERS:
        text = f"{text[:_MOST_CHARACTERS]}..."
    return text if text.isprintable() else text.translate(_ESCAPED)


def event_facts(event: LogEvent) -> dict[str, Any]:
    """What *event* has besides its words, made of what JSON has."""
    return {
        name: value if type(value) in _SIMPLE else _plain(value)
        for name, value in event.items()
        if name[:4] != "log_" and name not in _OTHERS
    }


def _plain(value: Any) -> Any:
    if isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [one if type(one) in _SIMPLE else _plain(one) for one in value]
    return str(value)


@define(eq=False)
class TextLine:
    """``2026-01-31T12:34:56+0000 [namespace#level] words``."""

    _second: int = field(default=-1, init=False)
    _stamp: str = field(default="", init=False)

    def __call__(self, event: LogEvent) -> str:
        """The line, with its end."""
        second = int(event["log_time"])
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(second))
        return f"{self._stamp} [{_source(event)}{event_text(event)}\n"


def _source(event: LogEvent) -> str:
    system = event.get("log_system")
    if system is not None:
        return f"{system}] "
    return _place(event.get("log_namespace", "-"), event.get("log_level", LogLevel.info))


@lru_cache(maxsize=1024)
def _place(namespace: str, level: Any) -> str:
    return f"{namespace}#{level.name}] "


@define(eq=False)
class JSONLine:
    """
    A table: ``time`` (RFC 3339, UTC, with microseconds), ``level``, ``logger``, ``text``, and the
    event's facts.
    """

    _second: int = field(default=-1, init=False)
    _stamp: str = field(default="", init=False)

    def __call__(self, event: LogEvent) -> str:
        """The line, with its end."""
        at = event["log_time"]
        second = int(at)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        level: Any = event.get("log_level", LogLevel.info)
        table = {
            "time": f"{self._stamp}.{int((at - second) * 1_000_000):06}Z",
            "level": level.name,
            "logger": event.get("log_namespace", event.get("log_system", "-")),
            "text": event_text(event).replace("\n\t", "\n"),
            **event_facts(event),
        }
        # ASCII: no control character, and nothing that a terminal would obey.
        return json.dumps(table) + "\n"


_FORMATS: dict[str, type[TextLine | JSONLine]] = {"text": TextLine, "json": JSONLine}


# ---- where they go


@implementer(ILogObserver)
@define(eq=False)
class Journal:
    """
    Takes events, and has a thread write them.

    :ivar out: takes lines where the settings name no file.
    :ivar line: makes a line of an event.
    """

    out: Callable[[bytes], None]
    line: Line = field(factory=TextLine)
    _least: int = field(default=0, init=False)
    _file: AppendedFile | None = field(default=None, init=False)
    # Not written to any more; closed by the thread that has.
    _left: list[AppendedFile] = field(factory=list, init=False)
    _failing: bool = field(default=False, init=False)
    _background: Background[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._background = Background("log", self._write, self._lost)

    def start(self) -> None:
        """From now on a thread writes; before, whoever has an event does."""
        self._background.start()

    def stop(self) -> None:
        """Write what has gathered."""
        self._background.stop()

    def configure(self, settings: LogSettings, user: str | None = None) -> None:
        """
        Go by *settings* from now on.

        :param user: who writes the file from now on, where it is made before we are that user.
        """
        self.limit(settings.level)
        if not isinstance(self.line, _FORMATS[settings.format]):
            self.line = _FORMATS[settings.format]()
        before, path = self._file, settings.file
        if before is None or before.path != path:
            self._file = None if path is None else AppendedFile(path, owner_for(user))
            self._left += [before] if before is not None else []

    def limit(self, level: str) -> None:
        """Take nothing that is less grave than *level* from now on."""
        self._least = RANKS[level]
        WANTED.info = self._least <= RANKS["info"]

    def __call__(self, event: LogEvent) -> None:
        """See `ILogObserver`."""
        if _RANK_OF[event.get("log_level", LogLevel.info)] >= self._least:
            self._background.put(self.line(event))

    def _write(self, lines: Sequence[str]) -> None:
        octets = "".join(lines).encode("utf-8", "backslashreplace")
        while self._left:
            self._left.pop().close()
        try:
            (self.out if self._file is None else self._file.write)(octets)
        except OSError as error:
            self._tell(error)
            raise
        self._failing = False

    def _tell(self, error: OSError) -> None:
        """Where there is no log somebody may look at what Python itself would say."""
        failing, self._failing = self._failing, True
        if not failing and sys.__stderr__ is not None:
            with suppress(OSError, ValueError):
                sys.__stderr__.write(f"The log cannot be written: {error}\n")
                sys.__stderr__.flush()

    def _lost(self, count: int) -> str:
        return self.line(
            {
                "log_time": time.time(),
                "log_level": LogLevel.error,
                "log_namespace": __name__,
                "log_format": "{count} lines of the log are lost: it could not be written as fast",
                "count": count,
            }
        )


def to_stream(stream: TextIO) -> Callable[[bytes], None]:
    """Writes to *stream* at once, past what it keeps back."""

    def write(octets: bytes) -> None:
        write_all(stream.fileno(), octets)

    return write


def owner_for(user: str | None) -> tuple[int, int] | None:
    """Who is to own a file that *user* goes on with; `None`: whoever makes it."""
    if user is None or os.geteuid() != 0:
        return None
    found = pwd.getpwnam(user)
    return found.pw_uid, found.pw_gid
