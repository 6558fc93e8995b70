"""
FUTURERELEASE: mail that is to be sent later.

:RFC: 4865 §3 (keyword), §4 (the parameters HOLDFOR and HOLDUNTIL).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from mailhost.errors import SyntaxProblem
from mailhost.smtp.extensions.base import Extension
from mailhost.smtp.rules import Rules

_INTERVAL = re.compile(r"[1-9][0-9]{0,8}")
# RFC 3339 §5.6, as 4865 §4 takes it: no fractions of a second.
_DATE_TIME = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d)", re.IGNORECASE | re.ASCII
)


def _parse_interval(value: str | None) -> int:
    if value is None or not _INTERVAL.fullmatch(value):
        raise SyntaxProblem("HOLDFOR takes 1 to 9 digits")
    return int(value)


def _parse_date_time(value: str | None) -> float:
    if value is None or not _DATE_TIME.fullmatch(value):
        raise SyntaxProblem("HOLDUNTIL takes a date and a time of RFC 3339")
    try:
        return datetime.fromisoformat(value.upper()).timestamp()
    except (ValueError, OverflowError):
        raise SyntaxProblem("HOLDUNTIL names no instant") from None


def _usable(rules: Rules) -> bool:
    return bool(rules.max_hold_seconds)


def timed_words(rules: Rules, now: float) -> str:
    """The longest interval, and the last instant (§3)."""
    most = rules.max_hold_seconds
    last = datetime.fromtimestamp(int(now) + most, UTC)
    return f"{most} {last:%Y-%m-%dT%H:%M:%SZ}"


FUTURERELEASE = Extension(
    "FUTURERELEASE",
    mail_parameters={"HOLDFOR": _parse_interval, "HOLDUNTIL": _parse_date_time},
    usable=_usable,
    timed_words=timed_words,
)
