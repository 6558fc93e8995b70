"""
The whole configuration: what belongs to no virtual server, and the virtual servers.

:Room: ``config.settings``
"""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from mailhost.config.keys import NotYet, key, keys, section, sections
from mailhost.config.settings.virtual_server import VirtualServerSettings
from mailhost.config.units import (
    NAME_SERVER,
    SHORT_SPAN,
    Kind,
    parse_whole,
    whole,
)


@frozen
class ResolverSettings:
    """How names are looked up."""

    servers: tuple[tuple[str, int], ...] | None = keys(
        NAME_SERVER,
        "system",
        word="system",
        least=1,
        help="Name servers, asked in order; system: those this machine uses.",
    )
    timeout: float = key(SHORT_SPAN, "5s", help="How long a name server may take.")
    cache: int = key(
        whole(1, 10_000_000, unit="entries"), "10000", help="Answers remembered for their TTL."
    )


def _parse_workers(text: str) -> int:
    number = parse_whole(text)
    _check_workers(number)
    return number


def _check_workers(number: int) -> None:
    if number > 1:
        raise ValueError(f"{number} workers are not supported yet")
    if number < 1:
        raise ValueError(f"{number} is too small")


ONE_WORKER = Kind(_parse_workers, "1", "processes", _check_workers)


@frozen
class Settings:
    """The whole configuration."""

    not_yet: ClassVar[NotYet] = NotYet("user", "control", "log", "metrics")

    workers: int = key(ONE_WORKER, "1", help="Processes.")
    resolver: ResolverSettings = section(ResolverSettings, help="How names are looked up.")
    virtual_servers: tuple[VirtualServerSettings, ...] = sections(
        VirtualServerSettings, "virtual_server", least=1, help="The virtual servers."
    )
