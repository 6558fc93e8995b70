"""
``mailhost explain``: what would become of a message, and why.

:Room: ``cli`` (floor 7)
:Exit status: 1 where the recipient would be refused, or would fail.
"""

from __future__ import annotations

import click

from mailhost.cli.link import REFUSED, Link, as_json, asks
from mailhost.cli.words import Table, echo_json, escaped

_COLUMNS = {"topic": "ABOUT", "words": "WHAT", "setting": "SETTING"}


@click.command()
@click.option("--from", "sender", default="<>", metavar="ADDRESS", help="By default <>.")
@click.option("--to", required=True, metavar="ADDRESS", help="One recipient.")
@click.option("--client", metavar="IP", help="From where; by default from this machine.")
@click.option("--auth", "login", metavar="USER", help="Who has logged in; by default nobody.")
@click.option("--clear", is_flag=True, help="Without TLS, though it is offered.")
@click.option("--server", metavar="NAME", help="The virtual server; by default the first.")
@as_json
@asks
def explain(
    link: Link,
    sender: str,
    to: str,
    client: str | None,
    login: str | None,
    clear: bool,
    server: str | None,
    in_json: bool,
) -> None:
    """
    Show what would become of a message: every decision, and the setting behind it.

    Nothing is sent. The server asks DNS and the directory as it would for a real message.

    Example: mailhost explain --from a@example.com --to b@example.net --client 192.0.2.7
    """
    asked = {"from": sender, "to": to, "client": client, "login": login, "server": server}
    found = link.get("/v1/explain", **asked, secure="no" if clear else None)
    failed = any(way["fate"] == "failed" for way in found["ways"])
    if in_json:
        echo_json(found)
    else:
        table = Table(_COLUMNS)
        table.echo(found["steps"], whole=True)
        click.echo("")
        click.echo(escaped(f"{'accepted' if found['accepted'] else 'refused'}: {found['reply']}"))
        for way in found["ways"]:
            where = f" to {way['site']}" if way["site"] else ""
            click.echo(escaped(f"{way['recipient']}: {way['fate']}{where}"))
    if failed or not found["accepted"]:
        raise click.exceptions.Exit(REFUSED)
