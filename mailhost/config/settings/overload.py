"""
When it is too much.

:Room: ``config.settings``
"""

from __future__ import annotations

from attrs import frozen

from mailhost.config.keys import key
from mailhost.config.units import TRUTH, Kind, size, span


def _parse_share(text: str) -> int:
    digits = text.strip().removesuffix("%").strip()
    if not digits.isdigit() or not 1 <= int(digits) <= 100:
        raise ValueError(f"{text!r} is no share")
    return int(digits)


_SHARE = Kind(_parse_share, "a share from 1% to 100%")


@frozen
class OverloadSettings:
    """
    What is given up when there is too much of anything: first the patience with silent clients,
    then new clients (421), then new mail (452). Nothing that was accepted is lost.
    """

    enabled: bool = key(TRUTH, "true", help="Whether it is looked after, every two seconds.")
    timeout: int = key(
        span(), "30s", help="So long silent clients are waited for when there is too much."
    )
    sessions: int = key(
        _SHARE, "80%", help="From so much of max_connections on silent clients have to hurry."
    )
    lag: int | None = key(
        span(lifted=True),
        "2s",
        help="The process is so late: clients have to hurry. Twice as late: no new ones. Four "
        "times: no new mail. none: however late.",
    )
    memory: int | None = key(
        size(1 << 20),
        "unlimited",
        help="With 80% of so much memory in the process clients have to hurry, with 90% there are "
        "no new ones, with all of it no new mail. On Linux.",
    )
    disk: int | None = key(
        size(1 << 20),
        "128M",
        help="With less than so much free for the queue clients have to hurry, with less than "
        "three quarters of it there are no new ones, with less than half no new mail.",
    )
