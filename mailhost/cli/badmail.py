"""
``mailhost badmail``: what could be neither delivered nor returned.

:Room: ``cli`` (floor 7)
:IIS: §10.5, MSG-06.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from mailhost.cli.content import export_content
from mailhost.cli.kinds import SIZE, SPAN, QueueId
from mailhost.cli.link import REFUSED, Link, as_json, asks
from mailhost.cli.words import Table, counted, echo_json, escaped, span

_COLUMNS = {
    "id": "ID",
    "server": "SERVER",
    "age": "AGE",
    "size": "SIZE",
    "sender": "SENDER",
    "to": "RECIPIENTS",
    "reason": "REASON",
}
_ROWS_IN_A_PAGE = 500
_ID = QueueId("a name of 24 hexadecimal digits")


@click.group()
def badmail() -> None:
    """Show what could be neither delivered nor returned, and decide about it."""


@badmail.command(name="list")
@click.option("--server", metavar="NAME", help="Of this virtual server.")
@click.option("--limit", type=click.IntRange(1), help="So many at most.")
@click.option("--after", type=_ID, metavar="ID", help="Go on behind this one.")
@as_json
@asks
def list_(
    link: Link, server: str | None, limit: int | None, after: str | None, in_json: bool
) -> None:
    """
    Show what is in Badmail, the oldest first; with --json one object on each line.

    Example: mailhost badmail list --limit 20
    """
    table = Table(_COLUMNS)
    for rows in _pages(link, server, limit, after):
        if in_json:
            for row in rows:
                click.echo(json.dumps(row))
        else:
            table.echo([_row(row) for row in rows])
    if not in_json:
        table.echo([], whole=True)


def _pages(
    link: Link, server: str | None, limit: int | None, after: str | None
) -> Iterator[list[dict[str, Any]]]:
    left = limit
    while left is None or left > 0:
        size = _ROWS_IN_A_PAGE if left is None else min(left, _ROWS_IN_A_PAGE)
        found = link.get("/v1/badmail", server=server, after=after, limit=size)
        yield found["rows"]
        after = found["next"]
        if after is None:
            return
        left = None if left is None else left - len(found["rows"])


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """*row* with what people read more easily."""
    first, more = next(iter(row["recipients"]), ""), row["recipient_count"] - 1
    return {
        **row,
        "age": span(row["age_seconds"]),
        "sender": row["sender"] or "not named",
        "to": f"{first} and {more} more" if more > 0 else first,
    }


@badmail.command()
@click.argument("id", type=_ID)
@as_json
@asks
def show(link: Link, id: str, in_json: bool) -> None:
    """
    Show one message: why it is there, envelope, header.

    Example: mailhost badmail show 1d1a944fac80000047c3b1f0
    """
    found = link.get(f"/v1/badmail/{id}")
    if in_json:
        echo_json(found)
        return
    for title, value in (
        ("ID", found["id"]),
        ("Server", found["server"]),
        ("Reason", found["reason"]),
        ("Since", f"{span(found['age_seconds'])} ago"),
        ("Queue id", found["queue_id"]),
        ("Pickup file", found["source"]),
        ("Sender", found["sender"] or "not named"),
        ("Size", f"{found['size']} octets"),
    ):
        if value:
            click.echo(escaped(f"{title}: {value}"))
    for address in found["recipients"]:
        click.echo(escaped(f"Recipient: {address}"))
    if found["recipient_count"] > len(found["recipients"]):
        click.echo(f"and {found['recipient_count'] - len(found['recipients'])} recipients more")
    click.echo("")
    for line in found["header"]:
        click.echo(escaped(line))


@badmail.command()
@click.argument("id", type=_ID)
@click.option("--output", "-o", type=click.Path(path_type=Path), help="A file; else the output.")
@asks
def export(link: Link, id: str, output: Path | None) -> None:
    """
    Give the message; it stays in Badmail.

    Example: mailhost badmail export -o message.eml 1d1a944fac80000047c3b1f0
    """
    found = link.get(f"/v1/badmail/{id}")
    export_content(link, f"/v1/badmail/{id}/content", found["size"], output)


@badmail.command()
@click.argument("ids", nargs=-1, required=True, type=_ID, metavar="ID...")
@click.option("--to", multiple=True, metavar="ADDRESS", help="To this recipient instead; repeat.")
@as_json
@asks
def requeue(link: Link, ids: tuple[str, ...], to: tuple[str, ...], in_json: bool) -> None:
    """
    Send messages again; files out of Pickup go to Pickup again.

    Example: mailhost badmail requeue --to postmaster@example.com 1d1a944fac80000047c3b1f0
    """
    found = link.post("/v1/badmail/requeue", {"ids": ids, "to": to})
    failed = [one for one in found["done"] if "problem" in one]
    if in_json:
        echo_json(found)
    else:
        for one in found["done"]:
            words = f"is {one['became']} now" if "became" in one else f"stays: {one['problem']}"
            click.echo(escaped(f"{one['id']} {words}"))
        for name in found["unknown"]:
            click.echo(f"there is no {name} in Badmail", err=True)
    if failed or found["unknown"]:
        raise click.exceptions.Exit(REFUSED)


@badmail.command()
@click.argument("ids", nargs=-1, type=_ID, metavar="[ID]...")
@click.option("--server", metavar="NAME", help="Of this virtual server.")
@click.option("--older", type=SPAN, metavar="TIME", help="What is older than this.")
@click.option("--max-size", type=SIZE, metavar="SIZE", help="The oldest, until so much is left.")
@click.option("--all", "everything", is_flag=True, help="Everything.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@asks
def purge(
    link: Link,
    ids: tuple[str, ...],
    server: str | None,
    older: float | None,
    max_size: int | None,
    everything: bool,
    dry_run: bool,
    yes: bool,
    in_json: bool,
) -> None:
    """
    Throw messages away for good, by their names, by age or by size.

    Example: mailhost badmail purge --older 30d
    """
    if not ids and older is None and max_size is None and not everything:
        raise click.UsageError("ids, --older, --max-size or --all is needed")
    body: dict[str, Any] = {"older": older, "max_octets": max_size, "all": everything}
    if ids:
        body["ids"] = ids
    counted_first = link.post("/v1/badmail/purge", {**body, "dry_run": True}, server=server)
    found = {**counted_first, "dry_run": True}
    if not dry_run and found["messages"]:
        if not yes:
            words = f"Throw away {counted(found['messages'], 'message')}?"
            click.confirm(words, abort=True, err=True)
        found = {**link.post("/v1/badmail/purge", body, server=server), "dry_run": False}
    if in_json:
        echo_json(found)
    else:
        title = "selected" if found["dry_run"] else "thrown away"
        click.echo(f"{title}: {counted(found['messages'], 'message')}")
    if not found["messages"]:
        raise click.exceptions.Exit(REFUSED)
