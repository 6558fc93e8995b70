"""
The manual page mailhost(1), written from the commands themselves.

:Room: ``cli`` (floor 7)
:Called by: whoever changes a command::

    python -m mailhost.cli.manual > docs/man/mailhost.1
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from textwrap import dedent

import click

from mailhost import __version__
from mailhost.cli import main

#: What many commands have is told once.
_COMMON = ("config", "control", "in_json", "as_json")
_END = """\
.SH EXIT STATUS
.TP
.B 0
It is done.
.TP
.B 1
It is refused, or not found.
.TP
.B 2
The command cannot be understood.
.TP
.B 3
The server cannot be reached, or a worker of it does not answer. What the others have told or done
is shown; the missing ones are named on standard error, and in \\fBmissing_workers\\fR of an answer
in JSON.
.TP
.B 141
Who was to read the output has closed the pipe; what came of the command was not told.
.SH ENVIRONMENT
.TP
.B MAILHOST_CONTROL
The server's local socket, as \\fB\\-\\-control\\fR.
.TP
.B NO_COLOR
No colours, whatever the terminal can do.
.SH FILES
.TP
.I /etc/mailhost/mailhost.yaml
The configuration, where there is no
.I etc/mailhost.yaml
or
.I etc/mailhost.ini
below the current directory.
.TP
.I mailroot/control.sock
The local socket below the server's directory; the configuration's
.B control
says where.
.SH SEE ALSO
.BR mailhost\\-sendmail (1),
.BR twistd (1);
.I docs/operations.rst
and
.I docs/settings.rst
"""


def manual() -> str:
    """The page, for man(7)."""
    commands = list(_commands(main, "mailhost"))
    parts = [
        f'.TH MAILHOST 1 "" "mailhost {__version__}" "mailhost"\n',
        ".SH NAME\nmailhost \\- look after the SMTP virtual servers of mailhost\n",
        ".SH SYNOPSIS\n.B mailhost\n.I COMMAND\n.RI [ OPTIONS ]\\ [ ARGUMENTS ]\n",
        ".SH DESCRIPTION\n",
        _escaped(
            "The service itself is twistd mailhost. This command asks it over its local socket, "
            "and so has to be run by root or by the user that the service is; check, ldap, passwd, "
            "token and tls need no service that runs."
        ),
        "\n.SH COMMON OPTIONS\nMost commands have these.\n",
        "".join(_common([command for _, command in commands])),
        ".SH COMMANDS\n",
        *("".join(_entry(name, command)) for name, command in commands),
        _END,
    ]
    return "".join(parts)


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield name, command
        return
    context = click.Context(command)
    for below in sorted(command.list_commands(context)):
        found = command.get_command(context, below)
        assert found is not None
        yield from _commands(found, f"{name} {below}")


def _common(commands: list[click.Command]) -> Iterator[str]:
    """Each of `_COMMON`, as the first command that has it tells it."""
    told: set[str] = set()
    for command in commands:
        for option, names, words in _options(command):
            long = names.split("--")[-1].split()[0]
            if option.name in _COMMON and words and long not in told:
                told.add(long)
                yield _item(names, words)
    yield _item("-h, --help", "Show what the command does, and exit.")


def _entry(name: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f".SS {_escaped(name)}\n.B {_escaped(name)}\n{_escaped(usage)}\n"
    for paragraph in re.split(r"\n\s*\n", dedent(command.help or "").replace("\b", "").strip()):
        words = " ".join(paragraph.split())
        if words.startswith("Example: "):
            yield f".PP\nExample:\n.PP\n.nf\n.RS\n{_escaped(words[9:])}\n.RE\n.fi\n"
        else:
            yield f".PP\n{_escaped(words)}\n"
    for option, names, words in _options(command):
        if option.name not in _COMMON:
            yield _item(names, words)


def _options(command: click.Command) -> Iterator[tuple[click.Option, str, str]]:
    context = click.Context(command)
    for one in command.params:
        record = one.get_help_record(context) if isinstance(one, click.Option) else None
        if isinstance(one, click.Option) and record is not None:
            yield one, *record


def _item(names: str, words: str) -> str:
    return f".TP\n.B {_escaped(names)}\n{_escaped(words)}\n"


def _escaped(words: str) -> str:
    """*words* as text: no request, no hyphen that is not one."""
    text = words.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(aq")
    return f"\\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    sys.stdout.buffer.write(manual().encode())
