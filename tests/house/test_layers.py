"""The floor plan: who may import whom (docs/architecture.rst)."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

PACKAGE = Path(__file__).parents[2] / "mailhost"

#: The longest matching prefix says where a module lives.
FLOORS = {
    "mailhost": 7,  # the names for embedding, and nothing else
    "mailhost.errors": 0,
    "mailhost.model": 0,
    "mailhost.interfaces": 1,
    "mailhost.secrets": 1,
    "mailhost.background": 1,
    "mailhost.facts": 1,
    "mailhost.later": 1,
    "mailhost.durable": 1,
    "mailhost.config.settings": 1,
    "mailhost.content": 1,
    "mailhost.smtp": 1,
    "mailhost.policy": 2,
    "mailhost.routing": 2,
    "mailhost.reports": 2,
    "mailhost.authentication": 2,
    "mailhost.directory": 2,
    "mailhost.spool": 2,
    "mailhost.delivery": 2,
    "mailhost.traces": 2,
    "mailhost.protocol_log": 2,
    "mailhost.intake": 3,
    "mailhost.net": 4,
    "mailhost.relay": 5,
    "mailhost.server": 6,
    "mailhost.control": 6,
    "mailhost.console": 6,
    "mailhost.config": 7,
    "mailhost.logs": 7,
    "mailhost.service": 7,
    "mailhost.systemd": 7,
    "mailhost.workers": 7,
    "mailhost.tap": 7,
    "mailhost.cli": 7,
}
#: The classes of the settings, and what they are made of, are one room; reading
#: files into them is another.
SETTINGS = {f"mailhost.config.{name}" for name in ("keys", "units", "checks", "faults", "settings")}
#: The main programs: twistd's door, and that of a worker.
MAIN_PROGRAMS = {PACKAGE / "tap.py", PACKAGE / "workers" / "child.py"}
#: Floor 7 is one floor whose rooms know each other: the command line, the reader, the service.
OPEN_FLOORS = {7}
NO_TWISTED = (
    "mailhost.errors",
    "mailhost.model",
    "mailhost.interfaces",
    "mailhost.secrets",
    "mailhost.config.settings",
    "mailhost.content",
    "mailhost.smtp",
    "mailhost.policy",
    "mailhost.routing",
    "mailhost.reports",
)


def room_of(module: str) -> str:
    if module in SETTINGS:
        return "mailhost.config.settings"
    return max((room for room in FLOORS if f"{module}.".startswith(f"{room}.")), key=len)


def module_of(path: Path) -> str:
    dotted = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return dotted.removesuffix(".__init__")


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            base = node.module or ""
            found.add(base)
            found |= {f"{base}.{alias.name}" for alias in node.names if base == "mailhost"}
    return found


@cache
def modules() -> dict[str, set[str]]:
    """What each module of ours imports."""
    return {module_of(path): imports_of(path) for path in sorted(PACKAGE.rglob("*.py"))}


class LayerTests(SynchronousTestCase):
    def test_imports_go_down(self) -> None:
        """No module imports from its own floor's other rooms, or from above."""
        faults = []
        for module, imports in modules().items():
            here = room_of(module)
            for name in imports:
                if not name.startswith("mailhost.") or module == "mailhost":
                    continue
                there = room_of(name)
                open_floor = FLOORS[here] == FLOORS[there] and FLOORS[here] in OPEN_FLOORS
                if there == here or open_floor or FLOORS[there] < FLOORS[here]:
                    continue
                faults.append(f"{module} -> {name}")

        self.assertEqual([], faults)

    def test_pure_rooms_never_see_twisted(self) -> None:
        """The lower rooms work with no reactor, and with no Twisted, installed."""
        faults = [
            f"{module} -> {name}"
            for module, imports in modules().items()
            if room_of(module) in NO_TWISTED
            for name in imports
            if name.split(".")[0] == "twisted"
        ]

        self.assertEqual([], faults)

    def test_nobody_takes_the_global_reactor(self) -> None:
        """It is an argument everywhere but in the main programs."""
        faults = [
            str(path)
            for path in PACKAGE.rglob("*.py")
            if path not in MAIN_PROGRAMS and "internet import reactor" in path.read_text("utf-8")
        ]

        self.assertEqual([], faults)

    def test_nobody_takes_the_reactors_threads(self) -> None:
        """Each pool is for one sort of work, and bounded: nobody waits behind somebody else."""
        names = {"getThreadPool", "callInThread", "deferToThread", "gethostbyname"}
        faults = [
            f"{path}: {name}"
            for path in PACKAGE.rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if (name := getattr(node, "id", getattr(node, "attr", ""))) in names
        ]

        self.assertEqual([], faults)

    def test_time_is_an_argument(self) -> None:
        """Only a command that ends at once, and the log for its stamps, ask what time it is."""
        faults = [
            str(path)
            for path in PACKAGE.rglob("*.py")
            if path not in {PACKAGE / name for name in ("cli/check.py", "logs.py", "facts.py")}
            and (
                "time.time(" in path.read_text("utf-8")
                or "datetime.now(" in path.read_text("utf-8")
            )
        ]

        self.assertEqual([], faults)

    def test_every_module_has_a_card(self) -> None:
        """Each module says in its first lines what it is, and in which room."""
        faults = [
            str(path)
            for path in PACKAGE.rglob("*.py")
            if not (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").strip()
        ]

        self.assertEqual([], faults)
