"""
A service manager, systemd, that knows only the units of a test.

It is a user's instance, run as root in a mount namespace, with a control group of its own: what
the machine has of units is not looked at, and nothing of the machine is changed.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from functools import partial
from pathlib import Path

from attrs import define, field
from twisted.trial.unittest import SkipTest

from tests.support.postfix_tools import installed_program
from tests.support.process import Clean, Process, wait_until

_SYSTEMD = "/lib/systemd/systemd"
#: What ProtectKernelTunables= and others put over what is hidden; a booted machine has it in /run.
_HIDING = (
    "cd /run/systemd/inaccessible && touch reg && mkfifo fifo && mknod chr c 0 0 && mknod blk b 0 0"
    " && chmod 0 reg fifo chr blk dir && cd /"
)
_BEGIN = (
    "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system /run/systemd/inaccessible/dir"
    f" && {_HIDING} && exec {_SYSTEMD} --user --unit=nothing.target"
)


@define(eq=False)
class Manager:
    """
    :ivar directory: for its files; its units are in ``units``.
    """

    directory: Path
    process: Process = field(init=False)

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "XDG_RUNTIME_DIR": str(self.directory / "run"),
            "XDG_CONFIG_DIRS": str(self.directory),
            "SYSTEMD_UNIT_PATH": str(self.directory / "units"),
        }

    def add(self, name: str, text: str) -> None:
        """A unit, before the start."""
        units = self.directory / "units"
        units.mkdir(exist_ok=True)
        (units / name).write_text(text)

    def start(self, clean: Clean) -> None:
        """:raises SkipTest: it does not run here."""
        if os.geteuid() != 0 or not Path(_SYSTEMD).exists():
            raise SkipTest("root and the package systemd are needed")
        if Path("/run/systemd/system").exists():
            raise SkipTest("this machine has a service manager; a second one is not started")
        (self.directory / "run").mkdir(mode=0o700)
        self.add("nothing.target", "[Unit]\nDefaultDependencies=no\n")
        group = self._group(clean)
        move = f"echo $$ > {shlex.quote(str(group / 'cgroup.procs'))}"
        namespace = f"exec unshare --mount --propagation private sh -ec {shlex.quote(_BEGIN)}"
        command = ["sh", "-ec", f"{move}; {namespace}"]
        self.process = Process(command, self.directory / "manager.log")
        self.process.start(clean, environment=self._environment)
        try:
            self.process.wait_until(self._answers, "an answer of systemd", 20)
        except AssertionError as problem:
            raise SkipTest(f"systemd does not run here: {problem}") from None

    def _group(self, clean: Clean) -> Path:
        """A control group of the hierarchy that systemd keeps."""
        for root, mark in (("/sys/fs/cgroup/systemd", "name=systemd:"), ("/sys/fs/cgroup", "0::")):
            lines = Path("/proc/self/cgroup").read_text().splitlines()
            own = [line.partition(mark)[2] for line in lines if mark in line]
            if own and Path(root, "cgroup.procs").exists():
                group = Path(root, own[0].lstrip("/"), f"mailhost-test-{os.getpid()}")
                try:
                    group.mkdir()
                except OSError as problem:
                    raise SkipTest(f"no control group can be made: {problem}") from None
                clean(partial(_remove, group))
                return group
        raise SkipTest("there are no control groups")

    def _answers(self) -> bool:
        return self.run("list-units").returncode == 0

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """``systemctl`` with *words*."""
        return subprocess.run(
            [installed_program("systemctl"), "--user", "--no-pager", *words],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=90,
        )

    def show(self, unit: str, name: str) -> str:
        """A property of *unit*."""
        return self.run("show", "--value", "-p", name, unit).stdout.strip()


def _remove(group: Path) -> None:
    """Remove *group*, when whatever ran in it has ended."""

    def gone() -> bool:
        for folder, _, _ in os.walk(group, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                return False
        return True

    wait_until(gone, f"an empty control group {group}")
