"""
``mailhost send`` and ``mailhost-sendmail``: a program hands over a message.

:Room: ``cli`` (floor 7)
:IIS: §10 (Pickup): programs dropped files there.
:Exit status: `mailhost send` as every command; ``mailhost-sendmail`` as ``sysexits.h`` says.

The message goes to the running server over its local socket, which says at once what became
of it.  Where that cannot be (the server is down, the caller is nobody whom it trusts, the
message is large) it is put into Pickup, whole and under its name at once.
"""

from __future__ import annotations

import http.client
import json
import os
import pwd
import secrets
import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from attrs import frozen

from mailhost.cli.link import NOT_REACHED, REFUSED, LocalConnection
from mailhost.cli.sendmail import (
    NotSendable,
    NotUsable,
    pickup_file,
    read_arguments,
    read_message,
)
from mailhost.cli.words import escaped
from mailhost.config.faults import ConfigurationFaults
from mailhost.config.reader import find_configuration, read_configuration
from mailhost.config.settings import Settings, VirtualServerSettings

_USAGE = 2
#: What takes more than a request's body holds goes through Pickup.
_MOST_OCTETS = 700_000
#: Others read it: the server may be another user, of the directory's group.
_MODE = 0o640


class _Failed(Exception):
    """
    It is not sent.

    :ivar kind: a key of `_STATUS`.
    """

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(words)
        self.kind = kind


#: Ours, and that of ``sysexits.h``: EX_USAGE, EX_DATAERR, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG.
_STATUS = {
    "usage": (_USAGE, 64),
    "data": (REFUSED, 65),
    "temporary": (NOT_REACHED, 75),
    "permission": (NOT_REACHED, 77),
    "configuration": (NOT_REACHED, 78),
}


@frozen
class _Options:
    """
    :ivar config: the configuration; `None`: where the server looks.
    :ivar control: the local socket; `None`: where the configuration says.
    :ivar server: the virtual server; `None`: the first.
    """

    config: Path | None = None
    control: Path | None = None
    server: str | None = None


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option("--config", type=click.Path(path_type=Path), envvar="MAILHOST_CONFIG")
@click.option("--control", type=click.Path(path_type=Path), envvar="MAILHOST_CONTROL")
@click.option("--server", metavar="NAME", envvar="MAILHOST_SERVER", help="By default the first.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[-t] [-i] [-f SENDER] [TO]...")
def send(
    config: Path | None, control: Path | None, server: str | None, words: tuple[str, ...]
) -> None:
    """
    Send the message on standard input, as sendmail does.

    -t takes the recipients from To, Cc and Bcc, -f names the sender (<> for none), -F the name in a
    From field that is missing; without -i a line with nothing but a dot ends the message.

    Example: mailhost send -f me@example.com you@example.net < message.txt
    """
    status = _send(_Options(config, control, server), words, lambda both: both[0], verbose=True)
    raise click.exceptions.Exit(status)


def sendmail() -> None:
    """``mailhost-sendmail``: in the place of ``/usr/sbin/sendmail``."""
    options = _Options(
        _path("MAILHOST_CONFIG"), _path("MAILHOST_CONTROL"), os.environ.get("MAILHOST_SERVER")
    )
    sys.exit(_send(options, sys.argv[1:], lambda both: both[1], verbose=False))


def _path(variable: str) -> Path | None:
    given = os.environ.get(variable)
    return Path(given) if given else None


def _send(
    options: _Options,
    words: tuple[str, ...] | list[str],
    status_of: Callable[[tuple[int, int]], int],
    verbose: bool,
) -> int:
    try:
        told = _hand_over(options, words)
    except _Failed as failed:
        click.echo(escaped(failed), err=True)
        return status_of(_STATUS[failed.kind])
    if verbose:
        click.echo(escaped(told))
    return 0


def _hand_over(options: _Options, words: tuple[str, ...] | list[str]) -> str:
    """What became of it, in words."""
    try:
        invocation = read_arguments(words)
        settings = _settings(options)
        server = _server(settings, options.server)
        message = read_message(sys.stdin.buffer, invocation.dot_ends)
        user = pwd.getpwuid(os.getuid()).pw_name
        text = pickup_file(invocation, message, user, server.domain)
    except NotUsable as wrong:
        raise _Failed("usage", str(wrong)) from None
    except NotSendable as wrong:
        raise _Failed("data", str(wrong)) from None
    except KeyError:
        raise _Failed("data", "you have no name; say -f SENDER") from None
    ids = _over_socket(options.control or settings.control, server.name, text)
    if ids:
        return f"queued as {', '.join(ids)}"
    return f"put into Pickup as {_into_pickup(server.pickup_directory, text)}"


def _settings(options: _Options) -> Settings:
    try:
        return read_configuration(options.config or find_configuration(Path.cwd())).settings
    except ConfigurationFaults as wrong:
        raise _Failed("configuration", "\n".join(map(str, wrong.faults))) from None


def _server(settings: Settings, name: str | None) -> VirtualServerSettings:
    for server in settings.virtual_servers:
        if name in (None, server.name):
            return server
    raise _Failed("usage", f"there is no virtual server {name!r}")


def _over_socket(control: Path, server: str, text: bytes) -> list[str]:
    """
    The queue ids; none where it has to go another way.

    :raises _Failed: the server has refused it for good.
    """
    if len(text) > _MOST_OCTETS:
        return []
    body = json.dumps({"server": server, "base64": b64encode(text).decode("ascii")})
    connection = LocalConnection(control)
    try:
        connection.request("POST", "/v1/submissions", body)
        answer = connection.getresponse()
        table: Any = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError):
        return []
    finally:
        connection.close()
    if answer.status == http.client.UNPROCESSABLE_ENTITY:
        raise _Failed("data", str(table.get("error")))
    return list(table["ids"]) if answer.status == http.client.OK else []


def _into_pickup(pickup: Path, text: bytes) -> str:
    """The name that it has there."""
    name = f"{secrets.token_hex(12)}.eml"
    hidden = pickup / f".{name}"
    try:
        fd = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        try:
            with open(fd, "wb", closefd=True) as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            hidden.rename(pickup / name)
        except BaseException:
            hidden.unlink(missing_ok=True)
            raise
        folder = os.open(pickup, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except PermissionError:
        raise _Failed("permission", f"you may not write to {pickup}") from None
    except OSError as problem:
        raise _Failed("temporary", f"{pickup}: {problem.strerror}") from None
    return name
