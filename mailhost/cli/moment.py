"""
What `mailhost top` shows of one moment, without a screen.

:Room: ``cli`` (floor 7)
:Called by: `mailhost.cli.screen`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from attrs import frozen

from mailhost.cli.words import shortened, span

#: Of the counters those that are shown as rates, with their titles.
RATES = {
    "accepted_messages": "IN/s",
    "relayed_messages": "OUT/s",
    "delivered_messages": "DROP/s",
    "delayed_recipients": "DELAYED/s",
    "failed_recipients": "FAILED/s",
    "sessions": "SESSIONS/s",
}
#: What matters most stands on the left: a terminal of 80 columns shows it up to DROP/s.
SERVER_TITLES = (
    *("SERVER", "STATE", "MESSAGES", "OLDEST", "SESSIONS"),
    *(*RATES.values(), "RECIPIENTS"),
)
SITE_TITLES = ("SITE", "SERVER", "WAITING", "CONNECTIONS", "PER SECOND", "WAITS FOR")
#: A site may have a dozen hosts in its key; `mailhost sites` shows them all.
_SITE_CHARACTERS = 26
SESSION_TITLES = ("ID", "SERVER", "NAME", "SOURCE", "CONNECTED", "STATE", "TLS", "MESSAGES")
#: Rows of sites and sessions that are shown.
MOST_ROWS = 50


class Looks(Protocol):
    """The part of `mailhost.cli.link.Link` that is used here."""

    def look(self, path: str, **query: object) -> Any:
        """:raises mailhost.cli.link.Unreached: there is no answer."""


#: Counters of a process, by virtual server, worker and process id.
Counters = Mapping[tuple[str, int, int], Mapping[str, int]]


@frozen
class Moment:
    """
    :ivar at: when, in seconds of any clock.
    :ivar counters: so far.
    :ivar status: of ``/v1/status``.
    :ivar sites: rows of ``/v1/sites``.
    :ivar sessions: of ``/v1/sessions``: a page, and how many there are.
    :ivar oldest: the age of the oldest message of each virtual server, in seconds.
    """

    at: float
    counters: Counters
    status: Mapping[str, Any]
    sites: Sequence[Mapping[str, Any]]
    sessions: Mapping[str, Any]
    oldest: Mapping[str, float]


def look(link: Looks, at: float) -> Moment:
    """
    What there is now.

    :raises mailhost.cli.link.Unreached: the server does not say.
    """
    status = link.look("/v1/status")
    counters = {
        (row["server"], row["worker"], row["pid"]): row for row in link.look("/v1/counters")["rows"]
    }
    oldest: dict[str, float] = {}
    for server in status["servers"]:
        if server["messages"]:
            for row in link.look("/v1/queue", server=server["name"], limit=1)["rows"]:
                oldest[server["name"]] = row["age_seconds"]
    sites = link.look("/v1/sites")["rows"]
    return Moment(at, counters, status, sites, link.look("/v1/sessions", limit=MOST_ROWS), oldest)


def rates(before: Moment | None, now: Moment) -> dict[str, dict[str, float]]:
    """
    How much each counter has grown in a second, by virtual server.

    A process that was not there before has begun with nothing.
    """
    found: dict[str, dict[str, float]] = {}
    seconds = now.at - before.at if before is not None else 0.0
    for key, row in now.counters.items():
        mine = found.setdefault(key[0], dict.fromkeys(RATES, 0.0))
        if before is None or seconds <= 0:
            continue
        earlier = before.counters.get(key, {})
        for name in RATES:
            mine[name] += max(0, row[name] - earlier.get(name, 0)) / seconds
    return found


def server_rows(before: Moment | None, now: Moment) -> list[tuple[str, ...]]:
    """A row for each virtual server, as `SERVER_TITLES`."""
    growing = rates(before, now)
    rows = []
    for one in now.status["servers"]:
        mine = growing.get(one["name"], {})
        oldest = now.oldest.get(one["name"])
        rows.append(
            (
                one["name"],
                one["state"],
                _count(one["messages"]),
                span(oldest) if oldest is not None else "",
                str(one["sessions"]),
                *(f"{mine.get(name, 0.0):.1f}" for name in RATES),
                _count(one["recipients"]),
            )
        )
    return rows


def _count(number: int | None) -> str:
    return "?" if number is None else str(number)


def site_rows(now: Moment) -> list[tuple[str, ...]]:
    """The sites with the most mail in memory first, as `SITE_TITLES`."""
    busiest = sorted(now.sites, key=lambda one: (-one["waiting_messages"], -one["connections"]))
    return [
        (
            shortened(one["key"], _SITE_CHARACTERS),
            one["server"],
            str(one["waiting_messages"]),
            f"{one['connections']} of {one['window']}",
            f"{one['per_second']:.1f}",
            "; ".join(wait["reason"] for wait in one["waits"]) or one["last_problem"],
        )
        for one in busiest[:MOST_ROWS]
    ]


def session_rows(now: Moment) -> list[tuple[str, ...]]:
    """The longest ones first, as `SESSION_TITLES`."""
    return [
        (
            one["id"],
            one["server"],
            one["hello"],
            f"{one['peer']}:{one['peer_port']}",
            span(one["connected_seconds"]),
            one["state"],
            one["tls"] or "no",
            str(one["messages"]),
        )
        for one in now.sessions["rows"]
    ]


def remarks(now: Moment) -> list[str]:
    """What an operator should know besides: problems, waits, warnings, silent workers."""
    status = now.status
    found = [f"{one['name']}: {one['problem']}" for one in status["servers"] if one["problem"]]
    found += [f"{one['server']}: {one['reason']}" for one in status["waits"]]
    found += [f"{one['server']}: warning: {one['reason']}" for one in status["warnings"]]
    found += [f"Worker {worker} did not answer" for worker in status["missing_workers"]]
    return list(dict.fromkeys(found))
