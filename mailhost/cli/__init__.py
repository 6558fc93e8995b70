"""
The ``mailhost`` command.

:Room: ``cli`` (floor 7); never imports the reactor.
:Exit status: 0 done, 1 refused or not found, 2 usage, 3 the server cannot be reached,
    or a worker of it.  141: who was to read it has closed the pipe.
"""

from __future__ import annotations

import click

from mailhost import __version__
from mailhost.cli.badmail import badmail
from mailhost.cli.check import check
from mailhost.cli.explain import explain
from mailhost.cli.ldap import ldap
from mailhost.cli.outlet import Outlet
from mailhost.cli.passwd import passwd
from mailhost.cli.queue import queue
from mailhost.cli.send import send
from mailhost.cli.steer import pause, reload_, sessions, sites, start, status, stop, terminate
from mailhost.cli.tls import tls
from mailhost.cli.token import token
from mailhost.cli.top import top
from mailhost.cli.trace import trace

__all__ = ["main"]


@click.group(cls=Outlet, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mailhost")
def main() -> None:
    """Look after the SMTP virtual servers of mailhost."""


for command in (
    badmail,
    check,
    explain,
    ldap,
    passwd,
    queue,
    send,
    status,
    start,
    stop,
    pause,
    sessions,
    terminate,
    trace,
    sites,
    reload_,
    tls,
    token,
    top,
):
    main.add_command(command)
