"""
``mailhost token``: programs that may speak with the control interface.

:Room: ``cli`` (floor 7)

A server that runs sees the change at the next request.
"""

from __future__ import annotations

from pathlib import Path

import click

from mailhost.authentication.access_tokens import add_token, remove_tokens
from mailhost.errors import AuthenticationProblem, SyntaxProblem


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("name")
@click.option("--delete", "-D", is_flag=True, help="Take all tokens of NAME back.")
def token(file: Path, name: str, delete: bool) -> None:
    """
    Make a token for NAME, show it once, and keep its hash in the tokens FILE.

    What NAME may do is said in the configuration: remote_control, and operators of virtual servers.

    \b
    Example: mailhost token /etc/mailhost/tokens monitoring
    """
    try:
        if not delete:
            click.echo(add_token(file, name))
            return
        count = remove_tokens(file, name)
    except (AuthenticationProblem, SyntaxProblem) as wrong:
        raise click.ClickException(str(wrong)) from None
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror}") from None
    if not count:
        raise click.ClickException(f"{name} has no token in {file}")
    click.echo(f"{name} has no token any more")
