"""
``mailhost badmail``: what could be neither delivered nor returned.

:Room: ``cli`` (floor 7)
:IIS: §10.5, MSG-06.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from attrs import define, field

from mailhost.cli.bulk import BATCH, in_batches, tell_interrupted
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
#: What control takes at once.
_REQUEUED_AT_ONCE = 100
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
@click.argument("ids", nargs=-1, type=_ID, metavar="[ID]...")
@click.option("--to", multiple=True, metavar="ADDRESS", help="To this recipient instead; repeat.")
@click.option("--server", metavar="NAME", help="All of this virtual server.")
@click.option("--older", type=SPAN, metavar="TIME", help="All that is older than this.")
@click.option("--all", "everything", is_flag=True, help="Everything.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@as_json
@asks
def requeue(
    link: Link,
    ids: tuple[str, ...],
    to: tuple[str, ...],
    server: str | None,
    older: float | None,
    everything: bool,
    dry_run: bool,
    in_json: bool,
) -> None:
    """
    Send messages again; files out of Pickup go to Pickup again.

    Example: mailhost badmail requeue --to postmaster@example.com 1d1a944fac80000047c3b1f0
    """
    if bool(ids) == (everything or server is not None or older is not None):
        raise click.UsageError("ids, or --server, --older or --all")
    if dry_run or not ids:
        # All of them before the first is sent again: what fails comes back under a new name.
        listed = _listed(link, server, older)
        chosen = tuple(one for one in listed if not ids or one in set(ids))
    else:
        chosen = ids
    if dry_run or not chosen:
        if in_json:
            echo_json({"messages": len(chosen), "dry_run": dry_run})
        else:
            _tell_selected(len(chosen))
        raise click.exceptions.Exit(0 if chosen else REFUSED)
    _send_again(link, chosen, to, in_json)


def _listed(link: Link, server: str | None, older: float | None) -> list[str]:
    """The names of what is in Badmail, *older* than so many seconds."""
    return [
        str(row["id"])
        for rows in _pages(link, server, None, None)
        for row in rows
        if older is None or row["age_seconds"] > older
    ]


def _send_again(link: Link, ids: Sequence[str], to: Sequence[str], in_json: bool) -> None:
    done: list[dict[str, Any]] = []
    unknown: list[str] = []

    def batches() -> Iterator[dict[str, Any]]:
        for start in range(0, len(ids), _REQUEUED_AT_ONCE):
            chunk = ids[start : start + _REQUEUED_AT_ONCE]
            yield link.post("/v1/badmail/requeue", {"ids": chunk, "to": to})

    def take(found: dict[str, Any]) -> int:
        done.extend(found["done"])
        unknown.extend(found["unknown"])
        return len(found["done"]) + len(found["unknown"])

    def summary() -> str:
        sent = sum("became" in one for one in done)
        return f"sent again: {counted(sent, 'message')}"

    interrupted = in_batches("requeue", len(ids), batches(), take, summary, size=_REQUEUED_AT_ONCE)
    if in_json:
        echo_json({"done": done, "unknown": unknown, "interrupted": interrupted})
    else:
        for one in done:
            words = f"is {one['became']} now" if "became" in one else f"stays: {one['problem']}"
            click.echo(escaped(f"{one['id']} {words}"))
        _tell_unknown(unknown)
        if interrupted:
            tell_interrupted(len(done) + len(unknown), len(ids))
    if interrupted or unknown or any("problem" in one for one in done):
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
    purging = _Purging(link, server, body)
    total = purging.count()
    only_count = dry_run or not total
    if not only_count:
        if not yes:
            click.confirm(f"Throw away {counted(total, 'message')}?", abort=True, err=True)
        purging.run(total)
    if in_json:
        messages = total if only_count else purging.done
        echo_json({"messages": messages, "dry_run": only_count, **purging.rest()})
    else:
        if only_count:
            _tell_selected(total)
        else:
            click.echo(purging.summary())
        _tell_unknown(purging.unknown)
        if purging.interrupted:
            tell_interrupted(purging.done, total)
    if not total or purging.unknown or purging.interrupted:
        raise click.exceptions.Exit(REFUSED)


@define
class _Purging:
    """
    Something that is thrown away.

    :ivar body: what, as control takes it.
    :ivar done: messages, until now.
    :ivar unknown: ids that are not in Badmail, or not by the rest of *body*.
    :ivar missing: workers that did not answer.
    :ivar interrupted: not all of it was done.
    """

    link: Link
    server: str | None
    body: dict[str, Any]
    done: int = 0
    unknown: list[str] = field(factory=list)
    missing: set[int] = field(factory=set)
    interrupted: bool = False

    def count(self) -> int:
        """How many messages it is about."""
        found = self._ask(dry_run=True)
        known = set(found["ids"] or ())
        self.unknown = [one for one in dict.fromkeys(self.body.get("ids", ())) if one not in known]
        return int(found["messages"])

    def run(self, total: int) -> None:
        """Throw *total* messages away, and none that has come meanwhile."""
        self.interrupted = in_batches(
            "purge", total, self._batches(total), self._take, self.summary
        )

    def _batches(self, total: int) -> Iterator[dict[str, Any]]:
        left = total
        while left:
            found = self._ask(limit=min(left, BATCH))
            yield found
            left = min(left - found["messages"], found["left"])

    def _take(self, found: dict[str, Any]) -> int:
        self.done += found["messages"]
        return int(found["messages"])

    def _ask(self, **more: Any) -> dict[str, Any]:
        asked = {**self.body, **more}
        found: dict[str, Any] = self.link.post("/v1/badmail/purge", asked, server=self.server)
        self.missing |= set(found["missing_workers"])
        return found

    def summary(self) -> str:
        """What came of it, for people."""
        return f"thrown away: {counted(self.done, 'message')}"

    def rest(self) -> dict[str, Any]:
        """What else programs are told."""
        return {
            "unknown": self.unknown,
            "missing_workers": sorted(self.missing),
            "interrupted": self.interrupted,
        }


def _tell_selected(count: int) -> None:
    click.echo(f"selected: {counted(count, 'message')}")
    if not count:
        click.echo("nothing is selected", err=True)


def _tell_unknown(ids: Sequence[str]) -> None:
    for one in ids:
        click.echo(f"there is no {one} in Badmail", err=True)
