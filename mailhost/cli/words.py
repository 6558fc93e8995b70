"""
How commands tell what they have found: tables for people, JSON for programs.

:Room: ``cli`` (floor 7)

Nothing that came from the network reaches a terminal as it is: what is not printable is
shown escaped.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import click

_GAP = "  "


def echo_json(value: Any) -> None:
    """*value* for a program."""
    click.echo(json.dumps(value, indent=2))


def escaped(value: object) -> str:
    """*value* on one line, with nothing in it that a terminal would obey."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def echo_table(columns: Mapping[str, str], rows: Sequence[Mapping[str, object]]) -> None:
    """
    *rows* for people.

    :param columns: the keys of a row to show, with their titles.
    """
    for line in table_lines(columns, rows, _width()):
        click.echo(line)


def _width() -> int | None:
    """Characters in a line of the terminal; `None`: there is none, or no output at all."""
    return shutil.get_terminal_size().columns if on_terminal(sys.stdout) else None


def on_terminal(stream: IO[str] | None) -> bool:
    """Whether *stream* is read by people; `None`: it was closed before we began."""
    return stream is not None and stream.isatty()


def table_lines(
    columns: Mapping[str, str], rows: Sequence[Mapping[str, object]], width: int | None
) -> Iterator[str]:
    """
    *rows* below their titles, or where *width* is too small each as a list of its own.

    :param width: characters in a line; `None`: as many as are needed.
    """
    cells = [[escaped(row.get(key, "")) for key in columns] for row in rows]
    titles = list(columns.values())
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    if width is not None and sum(widths) + len(_GAP) * (len(widths) - 1) > width:
        yield from _lists(titles, cells)
        return
    numbers = [all(isinstance(row.get(key), int) for row in rows) and bool(rows) for key in columns]
    for line in (titles, *cells):
        yield _GAP.join(
            cell.rjust(size) if number else cell.ljust(size)
            for cell, size, number in zip(line, widths, numbers, strict=True)
        ).rstrip()


def _lists(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> Iterator[str]:
    for number, row in enumerate(cells):
        if number:
            yield ""
        for title, cell in zip(titles, row, strict=True):
            yield f"{title}: {cell}".rstrip()


class Table:
    """
    Rows for people that come page by page: the first page says how wide the columns are.

    :param columns: the keys of a row to show, with their titles.
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._columns = columns
        self._widths: list[int] | None = None
        self._listing = False
        self._begun = False

    def echo(self, rows: Sequence[Mapping[str, object]], whole: bool = False) -> None:
        """
        :param rows: the next ones.
        :param whole: that is all: titles are shown even where there was no row.
        """
        if not rows and (self._begun or not whole):
            return
        for line in self.lines(rows, _width()):
            click.echo(line)

    def lines(self, rows: Sequence[Mapping[str, object]], width: int | None) -> Iterator[str]:
        """
        *rows*, below the titles where they are the first.

        :param width: of the terminal; `None`: there is none.
        """
        cells = [[escaped(row.get(key, "")) for key in self._columns] for row in rows]
        titles = list(self._columns.values())
        first, self._begun = not self._begun, True
        if self._widths is None:
            self._widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
            # The last column may be long: it is cut, not wrapped.
            needed = sum(self._widths[:-1]) + len(_GAP) * (len(titles) - 1) + len(titles[-1])
            self._listing = width is not None and needed > width
        if self._listing:
            if not first and rows:
                yield ""
            yield from _lists(titles, cells)
            return
        for line in (titles, *cells) if first else cells:
            text = _GAP.join(cell.ljust(n) for cell, n in zip(line, self._widths, strict=True))
            yield shortened(text.rstrip(), width)


def shortened(text: str, width: int | None) -> str:
    """*text*, its end left out where it is longer than *width*; `None`: as long as it is."""
    return text if width is None or len(text) <= width else f"{text[: width - 1]}…"


def counted(count: int, noun: str) -> str:
    """``1 message``, ``2 messages``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def span(seconds: float) -> str:
    """A time in its two largest units: ``2h 5m``."""
    left = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or parts or unit == "s":
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])
