"""
``mailhost trace``: everything that has happened to a message.

:Room: ``cli`` (floor 7)
:Exit status: 1 where nothing is known of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import groupby
from typing import Any

import click

from mailhost.cli.kinds import SPAN
from mailhost.cli.link import REFUSED, Link, as_json, asks
from mailhost.cli.words import Table, echo_json, escaped

_COLUMNS = {
    "when": "TIME",
    "kind": "EVENT",
    "peer": "WITH",
    "paths": "RECIPIENTS",
    "words": "WHAT",
}


@click.command()
@click.argument("what", required=False, default="", metavar="[ID|MESSAGE-ID|ADDRESS]")
@click.option("--since", type=SPAN, metavar="TIME", help="Only what happened in this time: 2h.")
@click.option("--until", type=SPAN, metavar="TIME", help="Only what is older than this.")
@click.option("--limit", type=click.IntRange(1, 1000), default=10, help="So many messages.")
@click.option("--dialogue", is_flag=True, help="What was said in attempts that failed.")
@click.option("--server", metavar="NAME", help="Of this virtual server.")
@as_json
@asks
def trace(
    link: Link,
    what: str,
    since: float | None,
    until: float | None,
    limit: int,
    dialogue: bool,
    server: str | None,
    in_json: bool,
) -> None:
    """
    Show what has happened to the latest messages of an id, a Message-ID, an address, or a time.

    Reports about a message are shown behind it.

    Example: mailhost trace --since 2h b@example.net
    """
    if not what and since is None and until is None:
        raise click.UsageError("an id, a Message-ID, an address, --since or --until is needed")
    asked = {"what": what or None, "since": since, "until": until, "limit": limit}
    found = link.get(
        "/v1/traces", **asked, server=server, dialogues="yes" if dialogue or in_json else None
    )
    if in_json:
        echo_json(found)
    else:
        for number, ((name, id), events) in enumerate(groupby(found["rows"], key=_message)):
            if number:
                click.echo("")
            _tell(name, id, list(events), dialogue)
    if not found["rows"]:
        if not in_json:
            click.echo("nothing is known of it", err=True)
        raise click.exceptions.Exit(REFUSED)


def _message(row: dict[str, Any]) -> tuple[str, str]:
    return row["server"], row["id"]


def _tell(server: str, id: str, events: list[dict[str, Any]], dialogue: bool) -> None:
    sender = next((one["sender"] for one in events if one["sender"]), "")
    came = f" from {sender}" if sender else ""
    click.echo(escaped(f"{id} at {server}{came}"))
    Table(_COLUMNS).echo([_row(one) for one in events])
    for one in events:
        if dialogue and one["dialogue"]:
            click.echo(escaped(f"\n{_clock(one['at'])} {one['peer']}:".lstrip()))
            _lines(one["dialogue"].splitlines())


def _lines(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(f"    {escaped(line)}")


def _row(one: dict[str, Any]) -> dict[str, Any]:
    words = one["words"]
    if one["other"]:
        words = f"{words}; {one['other']}"
    if one["due_at"] is not None:
        words = f"{words}; again at {_clock(one['due_at'])}"
    if one["has_dialogue"]:
        words = f"{words} (dialogue)"
    return {**one, "when": _clock(one["at"]), "words": words}


def _clock(at: float) -> str:
    """Local time, for people."""
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")
