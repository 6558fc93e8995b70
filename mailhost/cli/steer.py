"""
``mailhost status``, ``start``, ``stop``, ``pause``, ``sessions``, ``terminate``, ``reload``.

:Room: ``cli`` (floor 7)
:IIS: SES-01..05.
"""

from __future__ import annotations

from typing import Any

import click

from mailhost.cli.link import REFUSED, Link, as_json, asks, part
from mailhost.cli.words import echo_json, echo_table, escaped, span

_SERVER_COLUMNS = {
    "name": "SERVER",
    "state": "STATE",
    "listens": "ADDRESSES",
    "sessions": "SESSIONS",
    "messages": "MESSAGES",
    "recipients": "RECIPIENTS",
}
_SESSION_COLUMNS = {
    "id": "ID",
    "server": "SERVER",
    "hello": "NAME",
    "source": "SOURCE",
    "connected": "CONNECTED",
    "state": "STATE",
    "tls": "TLS",
    "messages": "MESSAGES",
}
_SITE_COLUMNS = {
    "server": "SERVER",
    "key": "SITE",
    "connections": "CONNECTIONS",
    "waiting_messages": "WAITING",
    "why": "WAITS FOR",
}
_DONE = {"start": "running", "stop": "stopped", "pause": "paused"}


@click.command()
@as_json
@asks
def status(link: Link, in_json: bool) -> None:
    """
    Show each virtual server: its state, addresses, sessions and queue.

    Example: mailhost status --json
    """
    found = link.get("/v1/status")
    if in_json:
        echo_json(found)
    elif found["servers"]:
        _tell_status(found)
    else:
        # There is at least one virtual server, but whoever serves it says nothing.
        click.echo("No worker answers; what the virtual servers do is not known.", err=True)


def _tell_status(found: dict[str, Any]) -> None:
    rows = [{**one, "listens": _addresses(one["addresses"])} for one in found["servers"]]
    for row in rows:
        row["messages"] = "?" if row["messages"] is None else row["messages"]
        row["recipients"] = "?" if row["recipients"] is None else row["recipients"]
    echo_table(_SERVER_COLUMNS, rows)
    for one in found["servers"]:
        if one["problem"]:
            click.echo(escaped(f"{one['name']}: {one['problem']}"))
    for wait in found["waits"]:
        click.echo(escaped(f"{wait['server']}: {_wait(wait)}"))
    told = (f"{one['server']}: warning: {_wait(one)}" for one in found["warnings"])
    for line in dict.fromkeys(told):
        click.echo(escaped(line))


def _addresses(addresses: list[tuple[str, int]]) -> str:
    shown = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses)
    return " ".join(shown) or "none"


def _wait(wait: dict[str, Any]) -> str:
    return f"{wait['reason']} ({wait['setting']})" if wait["setting"] else str(wait["reason"])


@click.command()
@click.argument("name")
@as_json
@asks
def start(link: Link, name: str, in_json: bool) -> None:
    """
    Start the virtual server NAME, or let it take sessions again.

    Example: mailhost start default
    """
    _steer(link, name, "start", in_json)


@click.command()
@click.argument("name")
@as_json
@asks
def stop(link: Link, name: str, in_json: bool) -> None:
    """
    Stop the virtual server NAME; its queue stays on disk.

    Example: mailhost stop default
    """
    _steer(link, name, "stop", in_json)


@click.command()
@click.argument("name")
@as_json
@asks
def pause(link: Link, name: str, in_json: bool) -> None:
    """
    Let the virtual server NAME take no new sessions; the rest goes on.

    Example: mailhost pause default
    """
    _steer(link, name, "pause", in_json)


def _steer(link: Link, name: str, action: str, in_json: bool) -> None:
    server = link.post(f"/v1/servers/{part(name)}/{action}")["server"]
    gone = "not known" if link.missing else "not there any more"
    if in_json:
        echo_json(server)
    else:
        click.echo(escaped(f"{name} is {server['state'] if server else gone}"))
    if server is None or server["state"] != _DONE[action]:
        raise click.exceptions.Exit(REFUSED)


@click.command()
@click.argument("name", required=False)
@click.option("--limit", type=click.IntRange(1, 10_000), default=1000, help="So many at most.")
@click.option("--after", metavar="ID", help="Go on behind this session.")
@as_json
@asks
def sessions(link: Link, name: str | None, limit: int, after: str | None, in_json: bool) -> None:
    """
    Show the current sessions, of all virtual servers or of NAME.

    Example: mailhost sessions default
    """
    found = link.get("/v1/sessions", server=name, limit=limit, after=after)
    if in_json:
        echo_json(found)
        return
    echo_table(_SESSION_COLUMNS, [_session(row) for row in found["rows"]])
    if found["next"] is not None:
        click.echo(f"{found['total']} in all; go on with --after {found['next']}", err=True)


def _session(row: dict[str, Any]) -> dict[str, Any]:
    """*row* with what people read more easily."""
    return {
        **row,
        "source": _addresses([(row["peer"], row["peer_port"])]),
        "connected": span(row["connected_seconds"]),
    }


@click.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@as_json
@asks
def terminate(link: Link, ids: tuple[str, ...], in_json: bool) -> None:
    """
    End sessions by the ids that `mailhost sessions` shows.

    Example: mailhost terminate 0-17
    """
    found = link.post("/v1/sessions/terminate", {"ids": ids})
    if in_json:
        echo_json(found)
    else:
        click.echo(f"ended: {', '.join(map(escaped, found['ended']))}")
        for one in found["unknown"]:
            click.echo(f"there is no session {escaped(one)}", err=True)
    if found["unknown"]:
        raise click.exceptions.Exit(REFUSED)


@click.command()
@click.argument("name", required=False)
@as_json
@asks
def sites(link: Link, name: str | None, in_json: bool) -> None:
    """
    Show where mail goes, how each site is doing, and what its mail waits for.

    Example: mailhost sites default
    """
    found = link.get("/v1/sites", server=name)
    if in_json:
        echo_json(found)
        return
    echo_table(_SITE_COLUMNS, [_site(row) for row in found["rows"]])


def _site(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "why": "; ".join(map(_wait, row["waits"])) or "nothing"}


@click.command(name="reload")
@as_json
@asks
def reload_(link: Link, in_json: bool) -> None:
    """
    Read the configuration anew; a faulty one changes nothing.

    Example: mailhost reload
    """
    found = link.post("/v1/reload")
    if in_json:
        echo_json(found)
    else:
        click.echo("The configuration is reloaded.")
