"""
``mailhost tls``: what a peer sees of a virtual server's TLS, or of another host's.

:Room: ``cli`` (floor 7)
:IIS: ACC-10.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from mailhost.cli.peer_view import PeerView, Spot, ViewProblem, certificate_facts, look
from mailhost.cli.words import echo_json, escaped
from mailhost.config.faults import ConfigurationFaults
from mailhost.config.reader import find_configuration, read_configuration
from mailhost.config.settings import ListenAddress
from mailhost.net.tls import is_address


@click.command()
@click.argument("what", metavar="NAME|HOST:PORT")
@click.option("--config", "-c", type=click.Path(path_type=Path), help="The configuration to read.")
@click.option("--server-name", "-n", metavar="NAME", help="The name to ask for (SNI).")
@click.option("--implicit", is_flag=True, help="HOST:PORT begins with TLS, as on port 465.")
@click.option(
    "--ca", type=click.Path(path_type=Path), help="The authorities to believe; else the system's."
)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def tls(
    what: str,
    config: Path | None,
    server_name: str | None,
    implicit: bool,
    ca: Path | None,
    as_json: bool,
) -> None:
    """
    Show what a peer sees of the TLS of the virtual server NAME, or of HOST:PORT.

    Exit status 1: at some address there is none, or nobody who verifies would believe it.

    Example: mailhost tls mail.example.net:25
    """
    spots = list(_spots(what, config, server_name, implicit, ca))
    seen = [(spot, _view(spot)) for spot in spots]
    if as_json:
        echo_json([_facts(spot, view) for spot, view in seen])
    else:
        for spot, view in seen:
            for line in _lines(spot, view):
                click.echo(line)
    if any(isinstance(view, ViewProblem) or view.doubts for _, view in seen):
        raise click.exceptions.Exit(1)


def _spots(
    what: str, config: Path | None, server_name: str | None, implicit: bool, ca: Path | None
) -> Iterator[Spot]:
    host, colon, port = what.rpartition(":")
    if colon and port.isdecimal() and 0 < int(port) < 65536:
        name = host.strip("[]")
        asked = server_name or ("" if is_address(name) else name)
        yield Spot(name, int(port), implicit or int(port) == 465, asked, ca)
        return
    try:
        reading = read_configuration(config or find_configuration(Path.cwd()))
    except ConfigurationFaults as wrong:
        raise click.ClickException("\n".join(map(str, wrong.faults))) from None
    for server in reading.settings.virtual_servers:
        if server.name.lower() == what.lower():
            for address in server.listen:
                name = server_name or server.fqdn
                yield Spot(_reachable(address), address.port, address.implicit_tls, name, ca)
            return
    known = ", ".join(server.name for server in reading.settings.virtual_servers)
    raise click.ClickException(f"{what} is neither HOST:PORT nor a virtual server: {known}")


def _reachable(address: ListenAddress) -> str:
    if not address.is_wildcard:
        return address.host
    return "::1" if address.is_ipv6 else "127.0.0.1"


def _view(spot: Spot) -> PeerView | ViewProblem:
    try:
        return look(spot)
    except ViewProblem as problem:
        return problem


def _facts(spot: Spot, view: PeerView | ViewProblem) -> dict[str, Any]:
    told: dict[str, Any] = {"address": str(spot), "server_name": spot.server_name}
    if isinstance(view, ViewProblem):
        return told | {"problem": str(view)}
    return told | {
        "versions": list(view.versions),
        "cipher": view.cipher,
        "doubts": list(view.doubts),
        "chain": [certificate_facts(one) for one in view.chain],
    }


def _lines(spot: Spot, view: PeerView | ViewProblem) -> Iterator[str]:
    how = "TLS from the beginning" if spot.implicit else "STARTTLS"
    yield f"{spot}, {how}, asked for {escaped(spot.server_name) or 'no name'}"
    if isinstance(view, ViewProblem):
        yield f"  no TLS: {escaped(view)}"
        return
    yield f"  versions: {', '.join(view.versions)}; cipher: {view.cipher}"
    for place, one in enumerate(view.chain):
        facts = certificate_facts(one)
        yield f"  {place}: {escaped(facts['subject'])}"
        if facts["names"]:
            yield f"     for {escaped(', '.join(facts['names']))}"
        yield (
            f"     from {one.not_valid_before_utc:%Y-%m-%d} to {one.not_valid_after_utc:%Y-%m-%d}, "
            f"issued by {escaped(facts['issuer'])}"
        )
    believed = "; ".join(view.doubts)
    yield f"  {f'not believed: {believed}' if believed else 'believed'}"
