"""
``mailhost ldap``: what the directory of a virtual server says, and whether it is fit for mail.

:Room: ``cli`` (floor 7)
:IIS: LDP-01..08.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from attrs import frozen

from mailhost.config.faults import ConfigurationFaults
from mailhost.config.reader import find_configuration, read_configuration
from mailhost.config.settings import VirtualServerSettings
from mailhost.errors import LookupProblem, SyntaxProblem
from mailhost.model.address import Mailbox
from mailhost.model.directory import (
    DirectoryFinding,
    Expansion,
    Found,
    GroupRef,
    Refused,
    ReportTo,
    Trace,
    Weight,
)
from mailhost.routing.categorizer import make_categorizer
from mailhost.smtp.grammar import parse_mailbox

if TYPE_CHECKING:
    from mailhost.directory.direct import DirectDirectory

#: Of a group so many are told in words; all of them in JSON.
_TOLD = 20
_HEARS = {
    ReportTo.ORIGINATOR: "the sender",
    ReportTo.OWNER: "the owner",
    ReportTo.NOBODY: "nobody",
}


@click.group()
def ldap() -> None:
    """Ask the directory of a virtual server; nothing is changed."""


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """What both commands take."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Answer in JSON."),
        click.option("--server", metavar="NAME", help="The virtual server; needed for several."),
        click.option(
            "--config", "-c", type=click.Path(path_type=Path), help="The configuration to read."
        ),
    ):
        command = option(command)
    return command


@ldap.command()
@_options
def check(config: Path | None, server: str | None, as_json: bool) -> None:
    """
    Test the connection, the base, the schema and the speed of each server.

    Example: mailhost ldap check
    """
    with closing(_directory(_chosen(config, server))) as directory:
        findings = directory.check()
    click.echo(_json(map(_finding, findings)) if as_json else "\n".join(map(_words, findings)))
    if any(one.weight is Weight.FAULT for one in findings):
        raise click.exceptions.Exit(1)


@ldap.command()
@click.argument("address")
@_options
def resolve(address: str, config: Path | None, server: str | None, as_json: bool) -> None:
    """
    Show where mail for ADDRESS goes, and each question that was asked.

    Example: mailhost ldap resolve kim@example.com
    """
    settings = _chosen(config, server)
    try:
        given = parse_mailbox(address)
    except SyntaxProblem as problem:
        raise click.UsageError(f"{address} is not an address: {problem}") from None
    with closing(_directory(settings)) as directory:
        answer = _ask(settings, directory, given)
    click.echo(_json(answer.tree()) if as_json else "\n".join(answer.lines()))
    if not isinstance(answer.trace.result, Found):
        raise click.exceptions.Exit(1)


# ---- whom to ask


def _chosen(config: Path | None, name: str | None) -> VirtualServerSettings:
    try:
        reading = read_configuration(config or find_configuration(Path.cwd()))
    except ConfigurationFaults as wrong:
        for fault in wrong.faults:
            click.echo(str(fault))
        raise click.exceptions.Exit(1) from None
    servers = {one.name: one for one in reading.settings.virtual_servers}
    if name is not None and name not in servers:
        raise click.UsageError(f"there is no virtual server {name!r}")
    asked = [servers[name]] if name is not None else list(servers.values())
    fit = [one for one in asked if one.ldap.server and one.ldap.base is not None]
    if not fit:
        raise click.UsageError("no virtual server has ldap.server and ldap.base")
    if len(fit) > 1:
        raise click.UsageError(f"--server: one of {', '.join(one.name for one in fit)}")
    return fit[0]


def _directory(settings: VirtualServerSettings) -> DirectDirectory:
    # ldap3 is large: the other commands do without it.
    from mailhost.directory.making import make_direct

    try:
        return make_direct(settings.ldap, time.monotonic, (settings.fqdn,))
    except ValueError as wrong:
        raise click.ClickException(f"{settings.name}: ldap: {wrong}") from None


# ---- an address


@frozen
class _Answer:
    """
    :ivar local: the address is in a local domain; a virtual server asks for no other.
    :ivar groups: what the groups stand for, or why nobody knows.
    """

    trace: Trace
    local: bool
    groups: tuple[tuple[GroupRef, Expansion | Refused | str], ...]

    def lines(self) -> Iterator[str]:
        trace, result = self.trace, self.trace.result
        if not self.local:
            yield f"{trace.address} is in no local domain: a virtual server does not look it up."
        for step in trace.steps:
            where = f"{step.server} {step.scope} {step.base or 'the root'}"
            yield f"asked {where}: {step.filter}"
            yield f"    found {step.count} in {1000 * step.seconds:.1f} ms"
            yield from (f"    {dn}" for dn in step.found)
        if isinstance(result, Found):
            yield f"{result.kind.value} {result.address}: {result.dn}"
            for one in result.destinations:
                yield f"to {one.address}" + (f" at {one.host}" if one.host is not None else "")
            for group, members in self.groups:
                yield f"to the group {group.address}: {group.dn}"
                yield from _member_lines(members)
        elif result is not None:
            yield f"refused: {result.reply}"
        else:
            yield f"no answer, 451 in a session: {trace.problem}"
        yield f"in {1000 * trace.seconds:.1f} ms"

    def tree(self) -> dict[str, Any]:
        trace, result = self.trace, self.trace.result
        tree: dict[str, Any] = {
            "address": str(trace.address),
            "local": self.local,
            "seconds": trace.seconds,
            "steps": [
                {
                    "server": step.server,
                    "base": step.base,
                    "scope": step.scope,
                    "filter": step.filter,
                    "found": list(step.found),
                    "count": step.count,
                    "seconds": step.seconds,
                }
                for step in trace.steps
            ],
        }
        if isinstance(result, Found):
            tree |= {
                "kind": result.kind.value,
                "dn": result.dn,
                "primary": str(result.address),
                "destinations": [
                    {"address": str(one.address), "host": str(one.host) if one.host else None}
                    for one in result.destinations
                ],
                "groups": [_group_tree(group, members) for group, members in self.groups],
            }
        elif result is not None:
            tree["refused"] = {"status": result.status, "words": result.words}
        else:
            tree["problem"] = trace.problem
        return tree


def _ask(settings: VirtualServerSettings, directory: DirectDirectory, given: Mailbox) -> _Answer:
    categorizer = make_categorizer(settings)
    path = categorizer.stamp(categorizer.qualify(given))
    trace = directory.trace(path)
    found = trace.result.groups if isinstance(trace.result, Found) else ()
    groups = tuple((group, _expanded(directory, group)) for group in found)
    return _Answer(trace, categorizer.domains.is_local(path.domain_key), groups)


def _expanded(directory: DirectDirectory, group: GroupRef) -> Expansion | Refused | str:
    try:
        return directory.expand(group)
    except LookupProblem as problem:
        return f"{problem.status} {problem.words}"


def _member_lines(members: Expansion | Refused | str) -> Iterator[str]:
    if isinstance(members, str):
        yield f"    no answer, delayed: {members}"
        return
    if isinstance(members, Refused):
        yield f"    refused: {members.status} {members.words}"
        return
    for part in members.parts:
        reports = str(part.owner) if part.owner is not None else _HEARS[part.report_to]
        yield f"    {len(part.destinations)} recipients, failures to: {reports}"
        yield from (f"        {one.address}" for one in part.destinations[:_TOLD])
        if len(part.destinations) > _TOLD:
            yield f"        and {len(part.destinations) - _TOLD} more"
        yield from (f"        refused {path}: {why.words}" for path, why in part.refused)
    if members.skipped:
        yield f"    {members.skipped} members without an address, switched off or gone"


def _group_tree(group: GroupRef, members: Expansion | Refused | str) -> dict[str, Any]:
    tree: dict[str, Any] = {"address": str(group.address), "dn": group.dn}
    if isinstance(members, str):
        return {**tree, "problem": members}
    if isinstance(members, Refused):
        return {**tree, "refused": {"status": members.status, "words": members.words}}
    parts = [
        {
            "report_to": part.report_to.value,
            "owner": str(part.owner) if part.owner is not None else None,
            "recipients": [str(one.address) for one in part.destinations],
            "refused": {str(path): why.status for path, why in part.refused},
        }
        for part in members.parts
    ]
    return {**tree, "parts": parts, "skipped": members.skipped}


# ---- findings


def _words(found: DirectoryFinding) -> str:
    where = f"{found.server}: " if found.server else ""
    return f"{found.weight.value:6}  {where}{found.words}"


def _finding(found: DirectoryFinding) -> dict[str, str]:
    return {"weight": found.weight.value, "server": found.server, "words": found.words}


def _json(tree: Any) -> str:
    return json.dumps(tree if isinstance(tree, dict) else list(tree), indent=1)
