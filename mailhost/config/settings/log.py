"""
The log: how much of it there is, in what form, and where.

:Room: ``config.settings``
:Read by: `mailhost.logs`.
"""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from mailhost.config.keys import key
from mailhost.config.settings.words import words
from mailhost.config.units import PATH


@frozen
class LogSettings:
    """The log of the whole service."""

    level: str = key(
        words("debug", "info", "warn", "error", "critical"),
        "info",
        help="What is less grave than this is not told. info: one line for what comes in, one for "
        "each outcome.",
    )
    format: str = key(
        words("text", "json"),
        "text",
        help="text: for people. json: for programs, a table in each line.",
    )
    file: Path | None = key(
        PATH,
        "null",
        help="Where it is written; made anew when it has been moved away. null: what twistd is "
        "told by --logfile, else standard output.",
    )
