"""
Giving a content: to a file, to a program, or to a terminal, which obeys nothing of it.

:Room: ``cli`` (floor 7)
:Called by: `mailhost.cli.queue`, `mailhost.cli.badmail`.
"""

from __future__ import annotations

import sys
from base64 import b64decode
from pathlib import Path
from typing import Protocol

import click

from mailhost.cli.link import Link
from mailhost.cli.words import escaped, on_terminal


class Output(Protocol):
    """Where octets go."""

    def write(self, octets: bytes, /) -> object:
        """Take them."""


class EscapingOutput:
    """A terminal; what is not printable is shown escaped."""

    def write(self, octets: bytes, /) -> None:
        """See `Output`."""
        for line in octets.decode("utf-8", "backslashreplace").splitlines():
            click.echo(escaped(line))


def export_content(
    link: Link, path: str, size: int, output: Path | None, before: bytes = b""
) -> None:
    """
    Write *before* and the content at *path*, of *size* octets.

    :param output: a file that does not exist yet; `None`: standard output.
    :raises click.ClickException: it is not all there, or cannot be written.
    """
    if output is not None:
        try:
            with output.open("xb") as file:
                _copy(link, path, size, file, before)
        except OSError as problem:
            raise click.ClickException(f"{output}: {problem.strerror}") from None
    elif sys.stdout is None:
        raise click.ClickException("there is no output; say --output FILE")
    elif on_terminal(sys.stdout):
        _copy(link, path, size, EscapingOutput(), before)
    else:
        _copy(link, path, size, sys.stdout.buffer, before)


def _copy(link: Link, path: str, size: int, output: Output, before: bytes) -> None:
    output.write(before)
    start = 0
    while start < size:
        part = b64decode(link.get(path, start=start)["base64"])
        if not part:
            raise click.ClickException(f"only {start} of {size} octets are there")
        output.write(part)
        start += len(part)
