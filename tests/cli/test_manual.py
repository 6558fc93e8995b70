"""Tests for the manual pages, the examples in help texts, and completion in shells."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import click
from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from mailhost.cli import main
from mailhost.cli.manual import manual
from tests.support.postfix_tools import PROJECT, installed_program

PAGES = PROJECT / "docs/man"


def commands(
    command: click.Command, *names: str
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Each command that does something, with the words that call it."""
    if not isinstance(command, click.Group):
        yield names, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from commands(below, *names, name)


class ManualTests(SynchronousTestCase):
    def test_up_to_date(self) -> None:
        """mailhost(1) is what the commands say now."""
        self.assertEqual(
            (PAGES / "mailhost.1").read_text("utf-8"),
            manual(),
            "run: python -m mailhost.cli.manual > docs/man/mailhost.1",
        )

    def test_complete(self) -> None:
        """Every command and every option is there."""
        text = manual()
        for names, command in commands(main):
            self.assertIn(f"\n.SS mailhost {' '.join(names)}\n".replace("-", "\\-"), text)
            for one in command.params:
                if isinstance(one, click.Option) and not one.hidden:
                    self.assertIn(one.opts[-1].replace("-", "\\-"), text, names)

    def test_sound(self) -> None:
        """groff has nothing to complain of, and both pages are installed."""
        pages = sorted(PAGES.iterdir())
        for page in pages:
            ended = subprocess.run(
                [installed_program("groff"), "-man", "-Tutf8", "-ww", "-z", str(page)],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            )  # fmt: skip
            self.assertEqual((0, ""), (ended.returncode, ended.stdout))
        setup = ConfigParser()
        setup.read(PROJECT / "setup.cfg")
        named = setup["options.data_files"]["share/man/man1"].split()
        self.assertEqual(pages, sorted(PROJECT / one for one in named))


class ExampleTests(SynchronousTestCase):
    def test_every_command_has_one(self) -> None:
        """Each help text ends with a command line that is understood."""
        for names, command in commands(main):
            shown = CliRunner().invoke(main, [*names, "--help"], terminal_width=200).output
            (line,) = [one.strip() for one in shown.splitlines() if "Example: " in one]
            words = shlex.split(line.removeprefix("Example: ").partition(" < ")[0])
            self.assertEqual(["mailhost", *names], words[: 1 + len(names)])
            with command.make_context(names[-1], words[1 + len(names) :]) as context:
                self.assertIs(command, context.command)


class CompletionTests(SynchronousTestCase):
    """Click's own, as docs/operations.rst says to switch it on."""

    program = Path(sys.executable).with_name("mailhost")

    def complete(self, shell: str, words: str, index: int) -> str:
        told = {
            "_MAILHOST_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(index) if shell != "fish" else words.split()[-1],
        }
        return subprocess.run(
            [str(self.program)], env=os.environ | told, capture_output=True, text=True, check=True
        ).stdout

    def test_words(self) -> None:
        """Commands and options, in the form that each shell wants."""
        self.assertEqual(
            "plain,release\nplain,reroute\nplain,retry\n",
            self.complete("bash", "mailhost queue re", 2),
        )
        self.assertIn("queue\n", self.complete("zsh", "mailhost qu", 1))
        self.assertIn("--sender", self.complete("fish", "mailhost queue list --se", 3))

    def test_in_bash(self) -> None:
        """What the script makes of it when a Tab is pressed."""
        script = (
            f'eval "$(_MAILHOST_COMPLETE=bash_source {shlex.quote(str(self.program))})"\n'
            "COMP_WORDS=(mailhost sta); COMP_CWORD=1\n"
            f"_mailhost_completion {shlex.quote(str(self.program))}\n"
            'echo "${COMPREPLY[*]}"\n'
        )
        ended = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, check=True, timeout=30
        )
        self.assertEqual(("start status\n", ""), (ended.stdout, ended.stderr))
