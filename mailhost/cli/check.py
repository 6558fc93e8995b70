"""
``mailhost check``: is the configuration right, and will it work on this machine.

:Room: ``cli`` (floor 7)
:IIS: GEN-04 (two servers on one address), ACC-30 (open relay).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import click

from mailhost.cli.probes import probe_machine
from mailhost.config.faults import ConfigurationFaults
from mailhost.config.reader import Reading, find_configuration, read_configuration
from mailhost.config.settings import VirtualServerSettings


@click.command()
@click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    help="The configuration to read; else etc/mailhost.yaml or .ini here, or in /etc/mailhost.",
)
def check(config: Path | None) -> None:
    """
    Report every fault of the configuration, and what will not work on this machine.

    Example: mailhost check -c /etc/mailhost/mailhost.yaml
    """
    try:
        reading = read_configuration(config or find_configuration(Path.cwd()))
    except ConfigurationFaults as wrong:
        for fault in wrong.faults:
            click.echo(str(fault))
        raise click.exceptions.Exit(1) from None
    for line in report(reading):
        click.echo(line)


def report(reading: Reading) -> Iterator[str]:
    """A line for each virtual server, then one for each warning."""
    for server in reading.settings.virtual_servers:
        yield summary(server)
    findings = (*reading.findings, *probe_machine(reading.settings, time.time()))
    for fault in sorted(map(reading.fault, findings), key=lambda fault: fault.line):
        yield f"{fault.file}:{fault.line}: {fault.key}: warning: {fault.words}"


def summary(server: VirtualServerSettings) -> str:
    """*server* on one line."""
    aliases = sum(domain.type == "alias" for domain in server.domains)
    remotes = len(server.domains) - aliases
    relay = server.access.relay
    listed = len(relay.networks) + len(relay.domains)
    closed = "everybody" if relay.allow else "nobody"
    return (
        f"{server.name}: listens on {', '.join(map(str, server.listen))}; domain {server.domain} "
        f"(alias domains: {aliases}, remote domains: {remotes}); home {server.home}; "
        f"relays for {closed}{f' except {listed} listed' if listed else ''}"
    )
