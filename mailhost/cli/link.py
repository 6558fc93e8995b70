"""
The commands' way to a running server: requests over its local socket.

:Room: ``cli`` (floor 7); plain blocking HTTP, no reactor.
:Exit status: 1 refused or not found, 3 the server cannot be reached, or a worker of it.

An answer that is not whole says which workers are missing from it.  The link remembers them, and
whoever runs a command names them at its end: no command has to think of it.
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, urlencode

import click
from attrs import field, frozen

from mailhost.cli.words import escaped
from mailhost.config.faults import ConfigurationFaults
from mailhost.config.reader import find_configuration, read_control

REFUSED, NOT_REACHED = 1, 3
#: Stopping a virtual server takes two graces of twenty seconds.
_PATIENCE_SECONDS = 60.0


class LocalConnection(http.client.HTTPConnection):
    """HTTP over the local socket *path*."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_PATIENCE_SECONDS)
        self._path = path

    def connect(self) -> None:
        """See `http.client.HTTPConnection`."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))


class Unreached(Exception):
    """The server does not answer, or not with what was asked for; the words say why."""


@frozen
class Link:
    """
    :ivar path: of the server's local socket.
    :ivar missing: workers whose part was missing from an answer.
    """

    path: Path
    missing: set[int] = field(factory=set, init=False, eq=False)

    def get(self, path: str, **query: object) -> Any:
        """
        What the server shows.

        :raises click.exceptions.Exit: it does not; the reason has been told.
        """
        return self._request("GET", _asked(path, query))

    def post(self, path: str, body: Mapping[str, Any] | None = None, **query: object) -> Any:
        """
        Have something done.

        :raises click.exceptions.Exit: it is not; the reason has been told.
        """
        return self._request("POST", _asked(path, query), json.dumps(body or {}))

    def addresses(self) -> frozenset[tuple[str, int]]:
        """Where the server listens, as its status says; nothing where none answers."""
        try:
            told = self.look("/v1/status")
        except Unreached:
            return frozenset()
        return frozenset(
            (host, port) for server in told.get("servers", ()) for host, port in server["addresses"]
        )

    def look(self, path: str, **query: object) -> Any:
        """
        What the server shows, for who goes on where it does not.

        :raises Unreached: it does not.
        """
        status, table = self._ask("GET", _asked(path, query), None)
        if status != http.client.OK:
            raise Unreached(str(table.get("error", "refused")))
        return table

    def _request(self, method: str, path: str, body: str | None = None) -> Any:
        try:
            status, table = self._ask(method, path, body)
        except Unreached as problem:
            click.echo(str(problem), err=True)
            raise click.exceptions.Exit(NOT_REACHED) from None
        if status != http.client.OK:
            _refused(table)
        self.missing.update(table.get("missing_workers", ()))
        return table

    def tell_missing(self) -> None:
        """
        Name the workers that did not answer.

        :raises click.exceptions.Exit: there are some: what was told or done is not all.
        """
        for worker in sorted(self.missing):
            click.echo(f"Worker {worker} did not answer; its part is missing.", err=True)
        if self.missing:
            raise click.exceptions.Exit(NOT_REACHED)

    def _ask(self, method: str, path: str, body: str | None) -> tuple[int, Any]:
        """:raises Unreached: there is no answer."""
        connection = LocalConnection(self.path)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except OSError as problem:
            words = _words(problem)
        except (http.client.HTTPException, ValueError):
            words = "what listens there is no mailhost, or has just ended"
        finally:
            connection.close()
        raise Unreached(f"The server cannot be reached at {escaped(self.path)}: {words}")


def _refused(table: Mapping[str, Any]) -> NoReturn:
    click.echo(escaped(table.get("error", "refused")), err=True)
    for fault in table.get("faults", ()):
        click.echo(escaped(fault), err=True)
    raise click.exceptions.Exit(NOT_REACHED if table.get("missing_workers") else REFUSED)


def _words(problem: OSError) -> str:
    if isinstance(problem, FileNotFoundError | ConnectionRefusedError):
        return "it is not running, or has another 'control' in its configuration"
    if isinstance(problem, PermissionError):
        return "only root and the user that the server is may do this"
    if isinstance(problem, TimeoutError):
        return f"no answer in {_PATIENCE_SECONDS:g} s"
    return problem.strerror or str(problem)


def _asked(path: str, query: Mapping[str, object]) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def part(name: str) -> str:
    """*name* as a part of a path."""
    return quote(name, safe="")


def asks(command: Callable[..., None]) -> Callable[..., None]:
    """Give *command* a `Link`, as its first argument, and the options that say to whom."""

    @click.option(
        "--control",
        type=click.Path(path_type=Path, readable=False),  # what is wrong is told by who opens it
        envvar="MAILHOST_CONTROL",
        help="The server's local socket; else the one its configuration names.",
    )
    @click.option(
        "--config",
        "-c",
        type=click.Path(path_type=Path, readable=False),  # what is wrong is told by who opens it
        help="The server's configuration; else etc/mailhost.yaml or .ini here, or in "
        "/etc/mailhost.",
    )
    @functools.wraps(command)
    def linked(config: Path | None, control: Path | None, **options: Any) -> None:
        link = Link(control or _control(config))
        try:
            command(link, **options)
        except click.exceptions.Exit:
            link.tell_missing()
            raise
        link.tell_missing()

    return linked


def _control(config: Path | None) -> Path:
    """Where the server of the configuration *config* listens."""
    try:
        return read_control(config or find_configuration(Path.cwd()))
    except ConfigurationFaults as wrong:
        for fault in wrong.faults:
            click.echo(str(fault), err=True)
        raise click.exceptions.Exit(NOT_REACHED) from None


def as_json(command: Callable[..., None]) -> Callable[..., None]:
    """Give *command* the option ``--json``."""
    option = click.option("--json", "in_json", is_flag=True, help="Answer in JSON, for programs.")
    return option(command)
