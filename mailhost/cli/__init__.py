"""
The ``mailhost`` command.

:Room: ``cli`` (floor 7); never imports the reactor.
:Exit status: 0 done, 1 refused or not found, 2 usage, 3 the server cannot be reached,
    or a worker of it.  141: who was to read it has closed the pipe.
"""

from __future__ import annotations

from pkgutil import resolve_name

import click

from mailhost import __version__
from mailhost.cli.outlet import Outlet

__all__ = ["main"]

#: Where each command is. It is imported when it is called: all of them together are a second of
#: imports, of which ``status`` needs two fifths.
_COMMANDS = {
    "badmail": "badmail:badmail",
    "check": "check:check",
    "explain": "explain:explain",
    "ldap": "ldap:ldap",
    "passwd": "passwd:passwd",
    "pause": "steer:pause",
    "queue": "queue:queue",
    "reload": "steer:reload_",
    "send": "send:send",
    "sessions": "steer:sessions",
    "sites": "steer:sites",
    "start": "steer:start",
    "status": "steer:status",
    "stop": "steer:stop",
    "terminate": "steer:terminate",
    "tls": "tls:tls",
    "token": "token:token",
    "top": "top:top",
    "trace": "trace:trace",
}


class _Commands(Outlet):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = resolve_name(f"{__name__}.{_COMMANDS[cmd_name]}")
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mailhost")
def main() -> None:
    """Look after the SMTP virtual servers of mailhost."""
