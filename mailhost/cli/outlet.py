"""
The group of all commands, as far as it knows what becomes of an output that is not taken.

:Room: ``cli`` (floor 7)
:Exit status: `READER_GONE`, 1 where what was told could not be written.

Only listings go on for long behind their first line, so nothing is left half done when a reader
closes the pipe.  Who has closed it cannot be told what came of a command, and the exit status
says just that: what a shell shows of a program that ``SIGPIPE`` has ended.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from contextlib import suppress
from typing import Any

import click

from mailhost.cli.link import REFUSED

READER_GONE = 128 + signal.SIGPIPE


class Outlet(click.Group):
    """See `click.Group`."""

    def invoke(self, ctx: click.Context) -> Any:
        """See `click.Group.invoke`."""
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
        except OSError as problem:
            # A file that has a name was not the output.
            if problem.filename is not None:
                raise
            raise click.exceptions.Exit(_given_up(problem)) from None
        return result


def _given_up(problem: OSError) -> int:
    """Write no more; the exit status."""
    # What has gathered would be tried once more at the end, and told as a fault.
    with suppress(OSError), open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())
    if problem.errno == errno.EPIPE:
        return READER_GONE
    click.echo(f"the output cannot be written: {problem.strerror or problem}", err=True)
    return REFUSED
