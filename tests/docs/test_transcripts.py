"""What ``docs/steering.rst`` shows is what the commands say, on the service that it describes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from attrs import define, field, frozen
from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from mailhost.cli import main
from tests.support.peer_case import PeerCase
from tests.support.process import PATIENCE_SECONDS, Mailhost, reserve_address, wait_until

PAGE = Path(__file__).parents[2] / "docs" / "steering.rst"
_BLOCK = re.compile(r"\.\. code-block:: (\w+)\n\n((?: {4}[^\n]*\n|\n)+)")
_ID = re.compile(r"\b[0-9a-f]{24}\b")
#: What is another one each time, and what it looks like.
_VARIABLE = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"),
    (r"\d+[smh](?: \d+[smh])?(?= )", r"\d+[smh](?: \d+[smh])?"),
    (r"(?<=process )\d+", r"\d+"),
    (r"(?<=worker )\d+", r"\d+"),
    (r"(?<=by )\w+(?= \(process)", r"\w+"),
    (r"\.\.\.", ".*"),
)
#: Commands that only look: what they show may come a moment later.
_LOOKING = re.compile(r"mailhost (?:status|trace|explain|queue (?:list|show))\b")


@frozen
class Step:
    """A command, what it says, and its exit status."""

    command: str
    lines: tuple[str, ...]
    status: int


def steps() -> Iterator[Step]:
    """All commands of the page, in their order."""
    for kind, block in _BLOCK.findall(PAGE.read_text("utf-8")):
        if kind != "console":
            continue
        lines = [line[4:] for line in block.rstrip("\n").split("\n")]
        starts = [at for at, line in enumerate(lines) if line.startswith("$ ")]
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
            said, status = lines[start + 1 : end], 0
            if said and said[-1].startswith("exit "):
                status = int(said.pop().split()[1])
            yield Step(lines[start][2:], tuple(said), status)


@define
class Names:
    """What the page's names are called here: of ids, those that were met; of addresses, all."""

    known: dict[str, str] = field(factory=dict)

    def here(self, text: str) -> str:
        for name, value in self.known.items():
            text = text.replace(name, value)
        return text

    def matches(self, expected: str, said: str) -> bool:
        """Whether *said* is what the page says; an id is a new one where it stands first."""
        pattern, groups = self._pattern(" ".join(expected.split()))
        found = re.fullmatch(pattern, " ".join(said.split()))
        if found is not None:
            self.known |= {name: found[group] for name, group in groups.items()}
        return found is not None

    def _pattern(self, text: str) -> tuple[str, dict[str, str]]:
        groups: dict[str, str] = {}
        parts = [(r"[0-9a-f]{24}", "")] + list(_VARIABLE)
        any_of = re.compile("|".join(f"({pattern})" for pattern, _ in parts))
        pattern, at = "", 0
        for found in any_of.finditer(text):
            pattern += re.escape(self.here(text[at : found.start()]))
            kind = (found.lastindex or 1) - 1
            if kind:
                pattern += parts[kind][1]
            elif found[0] in self.known:
                pattern += self.known[found[0]]
            else:
                group = groups.setdefault(found[0], f"id{len(groups)}")
                pattern += f"(?P<{group}>[0-9a-f]{{24}})"
            at = found.end()
        return pattern + re.escape(self.here(text[at:])), groups


class NamesTests(SynchronousTestCase):
    def test_what_varies(self) -> None:
        """Times and ids may be others; nothing else may."""
        names = Names({"127.0.0.1:2525": "127.0.0.2:1"})
        one, other, third = "1" * 24, "2" * 24, "3" * 24
        self.assertTrue(
            names.matches(f"{one}  127.0.0.1:2525  3s x...", f"{other} 127.0.0.2:1 1m 5s xyz")
        )
        self.assertEqual(other, names.here(one))
        self.assertFalse(names.matches(f"{one} x", f"{third} x"))
        self.assertFalse(names.matches("held: 1 message", "held: 2 message"))
        self.assertFalse(names.matches("a.b", "acb"))

    def test_page(self) -> None:
        """There is something to run."""
        self.assertGreater(len(list(steps())), 15)


class TranscriptTests(PeerCase):
    def setUp(self) -> None:
        super().setUp()
        self.names = Names()
        folder = self.path("server")
        folder.mkdir()
        (folder / "hello.txt").write_text("Subject: Hello\n\nGood morning.\n")
        ((_, text),) = [one for one in _BLOCK.findall(PAGE.read_text("utf-8")) if one[0] == "yaml"]
        tree: dict[str, Any] = yaml.safe_load(text)
        tree["control"] = str(folder / "c.sock")
        for server in tree["virtual_servers"]:
            server["home"] = str(folder / server["name"])
            here = reserve_address()
            self.names.known[server["listen"][0]] = here
            server["listen"] = [here]
        self.folder, self.tree = folder, tree
        self.mailhost = Mailhost(self.addCleanup, folder / "mailhost.yaml")
        self.mailhost.write(tree)

    def test_every_command(self) -> None:
        """One after the other, on two virtual servers in two workers."""
        self.mailhost.launch()
        self.mailhost.process.wait_until(
            lambda: len(self.mailhost.running()) == 4, "all to be running", 2 * PATIENCE_SECONDS
        )
        for step in steps():
            said: list[str] = []
            if _LOOKING.match(step.command):
                wait_until(lambda s=step, o=said: self.run_step(s, o), step.command, told=said.pop)
            else:
                self.assertTrue(self.run_step(step, said), said)

    def run_step(self, step: Step, said: list[str]) -> bool:
        """Whether the command says what the page says; what it said is added to *said*."""
        _, *words = shlex.split(self.names.here(step.command))
        text = None
        if "<" in words:
            text = (self.folder / words[words.index("<") + 1]).read_text()
            del words[words.index("<") :]
        done = CliRunner().invoke(
            main, words, input=text, env={"MAILHOST_CONTROL": self.tree["control"]}
        )
        said.append(f"{step.command}\n{done.output}(exit {done.exit_code})")
        lines = done.output.rstrip("\n").split("\n")
        expected = [*step.lines]
        return (
            done.exit_code == step.status
            and len(lines) == len(expected)
            and all(map(self.names.matches, expected, lines))
        )
