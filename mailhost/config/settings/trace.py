"""
Traces: what has happened to each message, for `mailhost trace`.

:Room: ``config.settings``
:Read by: `mailhost.server`.
"""

from __future__ import annotations

from attrs import frozen

from mailhost.config.keys import key
from mailhost.config.units import TRUTH, Kind, parse_size, span

_LEAST_OCTETS = 1 << 20


def _parse_bound(text: str) -> int:
    found = parse_size(text)
    if found is None:
        raise ValueError(f"{text!r} is no bound")
    return found


def _check_bound(value: int) -> None:
    if value < _LEAST_OCTETS:
        raise ValueError(f"{value} is too small")


_BOUND = Kind(
    _parse_bound, "octets, at least 1M, also with K, M or G (1024-based)", "octets", _check_bound
)


@frozen
class TraceSettings:
    """What has happened to each message, kept for a while."""

    enabled: bool = key(TRUTH, "true", help="Whether it is noted down.")
    keep: int = key(span(), "14d", help="For so long.")
    max_size: int = key(
        _BOUND, "256M", help="In each worker; when there is more the oldest is forgotten."
    )
