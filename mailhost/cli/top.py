"""
``mailhost top``: what happens now, again and again.

:Room: ``cli`` (floor 7)
"""

from __future__ import annotations

import click

from mailhost.cli.link import NOT_REACHED, Link, Unreached, asks
from mailhost.cli.words import escaped


@click.command()
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 3600),
    default=2.0,
    metavar="SECONDS",
    help="So often it is asked; by default every 2 seconds.",
)
@asks
def top(link: Link, interval: float) -> None:
    """
    Show sessions, rates, sites and the ages of queues, live, until q is pressed.

    Space stands still, r asks at once. Needs the extra top: pip install 'mailhost[top]'.

    Example: mailhost top --interval 5
    """
    try:
        from mailhost.cli.screen import Screen
    except ImportError:
        raise click.UsageError("this needs the extra top: pip install 'mailhost[top]'") from None
    try:
        link.look("/v1/status")  # what cannot be reached is told before the screen is taken
    except Unreached as problem:
        click.echo(escaped(problem), err=True)
        raise click.exceptions.Exit(NOT_REACHED) from None
    Screen(link, interval).run()
