"""
What may stand on the command line: times, sizes, ids.

:Room: ``cli`` (floor 7)
"""

from __future__ import annotations

import re
from typing import Any

import click

from mailhost.cli.words import escaped
from mailhost.config.units import parse_size, parse_span

_ID = re.compile(r"[0-9a-fA-F]{24}")


class _Span(click.ParamType[float]):
    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            return parse_span(str(value))
        except ValueError as wrong:
            self.fail(f"{wrong}; such as 30m, 12h or 2d", param, ctx)


class _Size(click.ParamType[int]):
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return parse_size(str(value)) or 0
        except ValueError as wrong:
            self.fail(f"{wrong}; such as 500K, 20M or 1G", param, ctx)


class QueueId(click.ParamType[str]):
    """
    24 hexadecimal digits.

    :param what: they are called so.
    """

    name = "id"

    def __init__(self, what: str = "a queue id of 24 hexadecimal digits") -> None:
        self._what = what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See `click.ParamType`."""
        if not _ID.fullmatch(value):
            self.fail(f"{escaped(value)} is not {self._what}", param, ctx)
        return str(value).lower()


SPAN = _Span()
SIZE = _Size()
