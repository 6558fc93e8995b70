"""
``mailhost queue``: see what waits, and decide about it.

:Room: ``cli`` (floor 7)
:IIS: had no such tool; its queue was a directory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from mailhost.cli.bulk import Selection, command, selection_of
from mailhost.cli.content import export_content
from mailhost.cli.kinds import SPAN, QueueId
from mailhost.cli.link import Link, as_json, asks
from mailhost.cli.words import Table, echo_json, escaped, span
from mailhost.config.units import parse_next_hop

_COLUMNS = {
    "id": "ID",
    "server": "SERVER",
    "age": "AGE",
    "size": "SIZE",
    "state": "STATE",
    "sender": "SENDER",
    "to": "RECIPIENTS",
    "why": "LAST ANSWER",
}
_RECIPIENT_COLUMNS = {
    "number": "NO",
    "address": "RECIPIENT",
    "state": "STATE",
    "attempts": "ATTEMPTS",
    "host": "HOME SERVER",
    "why": "LAST ANSWER",
}
_ROWS_IN_A_PAGE = 500
_ID = QueueId()


@click.group()
def queue() -> None:
    """
    Show the mail that waits, and hold, release, retry, delete or reroute it.

    Messages are selected by their ids, by the options, or by both: then everything has to hold. In
    addresses and domains * stands for anything. --domain, --recipient, --site and --held select
    recipients: the other recipients of a message are not touched.
    """


def _selects(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command what it takes to select messages."""
    for option in (
        click.option("--held/--not-held", default=None, help="Only what is held, or is not."),
        click.option("--older", type=SPAN, metavar="TIME", help="In the queue for so long."),
        click.option("--server", metavar="NAME", help="In this virtual server's queue."),
        click.option("--recipient", metavar="ADDRESS", help="For this recipient."),
        click.option("--sender", metavar="ADDRESS", help="From this sender; <> for reports."),
        click.option("--site", metavar="SITE", help="Goes to this site, or host of a site, now."),
        click.option("--domain", metavar="DOMAIN", help="For recipients in this domain."),
        click.argument("ids", nargs=-1, type=_ID, metavar="[ID]..."),
    ):
        function = option(function)
    return function


def _changes(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command what everything has that changes messages."""
    options: tuple[Callable[[Any], Any], ...] = (
        as_json,
        click.option("--dry-run", is_flag=True, help="Only count what is selected."),
        click.option("--all", "everything", is_flag=True, help="The whole queue."),
        _selects,
        asks,
    )
    for option in options:
        function = option(function)
    return function


def _selection(given: dict[str, Any], everything: bool = True) -> Selection:
    """:raises click.UsageError: nothing is selected by what was given."""
    held = given.pop("held")
    given["held"] = None if held is None else "yes" if held else "no"
    selection = selection_of(given.pop("ids"), given.pop("server"), **given)
    selects = selection.ids or selection.wanted or selection.server
    if not everything and not selects:
        raise click.UsageError("select something by ids or options; --all for the whole queue")
    return selection


# ---- seeing


@queue.command(name="list")
@click.option("--limit", type=click.IntRange(1), help="So many messages at most.")
@click.option("--after", type=_ID, metavar="ID", help="Go on behind this message.")
@_selects
@as_json
@asks
def list_(link: Link, limit: int | None, after: str | None, in_json: bool, **given: Any) -> None:
    """
    Show what waits, the oldest first; with --json one object on each line.

    Example: mailhost queue list --domain example.net --older 2h
    """
    shown = 0
    table = Table(_COLUMNS)
    for found in _pages(link, _selection(given), after, limit):
        rows = found["rows"]
        if in_json:
            for row in rows:
                click.echo(json.dumps(row))
        else:
            table.echo([_row(row) for row in rows])
        shown += len(rows)
    if not in_json:
        table.echo([], whole=True)
        _warn(found)
        if limit is not None and found["next"] is not None and shown >= limit:
            click.echo(f"go on with --after {found['next']}", err=True)


def _pages(
    link: Link, selection: Selection, after: str | None, limit: int | None
) -> Iterator[dict[str, Any]]:
    """Pages until the end or *limit* rows; at least one."""
    wanted = dict(selection.wanted)
    known = iter(selection.ids)
    if selection.ids:
        # Few, and shown in the order of a listing.
        yield _by_id(link, sorted(set(known)), selection)
        return
    left = limit
    while True:
        size = _ROWS_IN_A_PAGE if left is None else min(left, _ROWS_IN_A_PAGE)
        asked = {"server": selection.server, "after": after, "limit": size, **wanted}
        found = link.get("/v1/queue", **asked)
        yield found
        after = found["next"]
        left = None if left is None else left - len(found["rows"])
        if after is None or left == 0:
            return


def _by_id(link: Link, ids: list[str], selection: Selection) -> dict[str, Any]:
    if selection.wanted or selection.server:
        raise click.UsageError("ids or options, not both")
    rows = [link.get(f"/v1/queue/{one}") for one in ids]
    return {"rows": rows, "next": None, "stopped": []}


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """*row* with what people read more easily."""
    recipients = row["recipients"]
    first = recipients[0]["address"] if recipients else ""
    more = row["recipient_count"] - 1
    return {
        **row,
        "age": span(row["age_seconds"]),
        "state": _state(row["state"], recipients),
        "to": f"{first} and {more} more" if more > 0 else first,
        "why": next((why for why in map(_why, recipients) if why), ""),
    }


def _state(state: str, recipients: list[dict[str, Any]]) -> str:
    waits = [one["due_in_seconds"] for one in recipients if one["state"] == "waiting"]
    return f"{state} {span(min(waits))}" if state == "waiting" and waits else state


def _why(recipient: dict[str, Any]) -> str:
    words = f"{recipient['status']} {recipient['words']}".strip()
    return f"{words} (in doubt)" if recipient["in_doubt"] else words


def _warn(found: dict[str, Any]) -> None:
    for name in found["stopped"]:
        click.echo(escaped(f"{name} is stopped; its queue is not shown."), err=True)


@queue.command()
@click.argument("id", type=_ID)
@as_json
@asks
def show(link: Link, id: str, in_json: bool) -> None:
    """
    Show one message: envelope, recipients, header.

    Example: mailhost queue show 34414817ec600000e83b1095
    """
    found = link.get(f"/v1/queue/{id}")
    if in_json:
        echo_json(found)
        return
    for title, value in (
        ("ID", found["id"]),
        ("Server", f"{found['server']}, worker {found['worker']}"),
        ("Sender", found["sender"]),
        ("Accepted", f"{span(found['age_seconds'])} ago from {found['hello'] or 'Pickup, or us'}"),
        ("Size", f"{found['size']} octets, {found['body']}"),
    ):
        click.echo(escaped(f"{title}: {value}"))
    click.echo("")
    rows = [
        {**one, "state": _state(one["state"], [one]), "why": _why(one), "host": one["host"] or ""}
        for one in found["recipients"]
    ]
    Table(_RECIPIENT_COLUMNS).echo(rows, whole=True)
    if found["recipient_count"] > len(rows):
        click.echo(f"and {found['recipient_count'] - len(rows)} recipients more")
    click.echo("")
    for line in found["header"]:
        click.echo(escaped(line))


@queue.command()
@click.argument("id", type=_ID)
@click.option("--output", "-o", type=click.Path(path_type=Path), help="A file; else the output.")
@click.option("--envelope", is_flag=True, help="With x-sender and x-receiver, as Pickup takes it.")
@asks
def export(link: Link, id: str, output: Path | None, envelope: bool) -> None:
    """
    Give the content of one message, as it is stored; it stays in the queue.

    Example: mailhost queue export -o message.eml 34414817ec600000e83b1095
    """
    found = link.get(f"/v1/queue/{id}")
    export_content(
        link, f"/v1/queue/{id}/content", found["size"], output, _fields(found) if envelope else b""
    )


def _fields(found: dict[str, Any]) -> bytes:
    """What Pickup wants in front of a message."""
    if found["recipient_count"] > len(found["recipients"]):
        raise click.ClickException("too many recipients for an envelope in a file")
    lines = [f"x-sender: {found['sender']}"]
    lines += [f"x-receiver: {one['address']}" for one in found["recipients"]]
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8")


# ---- changing


@queue.command()
@_changes
def hold(link: Link, everything: bool, dry_run: bool, in_json: bool, **given: Any) -> None:
    """
    Send it no more until it is released; restarts change nothing about it.

    Example: mailhost queue hold --sender '*@example.org'
    """
    command(link, "hold", _selection(given, everything), in_json=in_json, dry_run=dry_run)


@queue.command()
@_changes
def release(link: Link, everything: bool, dry_run: bool, in_json: bool, **given: Any) -> None:
    """
    Send what was held; it is due at once.

    Example: mailhost queue release --all
    """
    given["held"] = True
    command(link, "release", _selection(given, everything), in_json=in_json, dry_run=dry_run)


@queue.command()
@_changes
def retry(link: Link, everything: bool, dry_run: bool, in_json: bool, **given: Any) -> None:
    """
    Try it now, at a site that is suspended too; what is held stays so.

    Example: mailhost queue retry --site mx.example.net
    """
    given["held"] = False
    command(link, "retry", _selection(given, everything), in_json=in_json, dry_run=dry_run)


@queue.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--report", is_flag=True, help="Tell the senders that it was not delivered.")
@_changes
def delete(
    link: Link,
    yes: bool,
    report: bool,
    everything: bool,
    dry_run: bool,
    in_json: bool,
    **given: Any,
) -> None:
    """
    Remove it for good; the log has each recipient as failed.

    Example: mailhost queue delete --recipient 'old@example.net' --report
    """
    command(
        link,
        "delete",
        _selection(given, everything),
        in_json=in_json,
        dry_run=dry_run,
        ask="" if yes else "Delete",
        orders={"report": report},
    )


@queue.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--to", "host", required=True, metavar="HOST", help="A host, [address]:port or none.")
@_changes
def reroute(
    link: Link, yes: bool, host: str, everything: bool, dry_run: bool, in_json: bool, **given: Any
) -> None:
    """
    Send it to another host from the next attempt on; `--to none`: where its domain says.

    Example: mailhost queue reroute --domain example.net --to '[192.0.2.20]:2525'
    """
    try:
        hop = None if host == "none" else str(parse_next_hop(host))
    except ValueError as wrong:
        raise click.UsageError(f"--to: {wrong}") from None
    selection = _selection(given, everything)
    orders = {"host": hop}
    ask = "" if yes else f"Send to {host if hop is not None else 'where its domain says'}:"
    command(link, "reroute", selection, in_json=in_json, dry_run=dry_run, ask=ask, orders=orders)
