"""
``mailhost passwd``: who may log in.

:Room: ``cli`` (floor 7)
:IIS: ACC-02.

A server that runs sees the change when the next client logs in.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mailhost.authentication.users import change_file, make_user, user_key
from mailhost.errors import AuthenticationProblem, SyntaxProblem
from mailhost.smtp.sasl.base import NT_HASH, PASSWORD


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("user")
@click.option(
    "--sender",
    "-s",
    "senders",
    multiple=True,
    metavar="ADDRESS",
    help="May send as this address only: user@example.com, @example.com or @*.example.com. "
    "May be given several times; without it as anybody.",
)
@click.option(
    "--ntlm",
    is_flag=True,
    help="Keep the hash that NTLM needs, too. It is weak: whoever reads it can log in with it.",
)
@click.option(
    "--cram-md5",
    "cram",
    is_flag=True,
    help="Keep the password itself, which CRAM-MD5 needs. Whoever reads the file reads it.",
)
@click.option("--delete", "-D", is_flag=True, help="Remove the user.")
@click.option("--stdin", "-i", "from_input", is_flag=True, help="The password is the first line.")
def passwd(
    file: Path,
    user: str,
    senders: tuple[str, ...],
    ntlm: bool,
    cram: bool,
    delete: bool,
    from_input: bool,
) -> None:
    """
    Add USER to the users FILE, or give USER a new password.

    Example: mailhost passwd -s kim@example.com /etc/mailhost/users kim@example.com
    """
    try:
        user_key(user)
        if delete:
            _delete(file, user)
            return
        kinds = (NT_HASH,) * ntlm + (PASSWORD,) * cram
        made = make_user(user, _password(from_input), senders or None, kinds)
        known = change_file(file, made, user)
    except (AuthenticationProblem, SyntaxProblem, ValueError) as wrong:
        raise click.ClickException(str(wrong)) from None
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror}") from None
    click.echo(f"{user} has {'a new password' if known else 'been added'}")


def _delete(file: Path, user: str) -> None:
    if not change_file(file, None, user):
        raise click.ClickException(f"{user} is not in {file}")
    click.echo(f"{user} has been removed")


def _password(from_input: bool) -> str:
    if from_input:
        return sys.stdin.readline().rstrip("\r\n")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
