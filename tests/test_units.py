"""The units for systemd in ``etc/``: right, tight, and not too tight to work."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.peers.test_logins import SECRET, LoginCase
from tests.support.peer_case import SENDER
from tests.support.postfix_tools import PROJECT, installed_program
from tests.support.process import Process, mailhost_command, project_environment

UNIT = PROJECT / "etc/mailhost.service"
#: What `systemd-analyze security` may find at most, in tenths; 10 is the worst.
MOST_EXPOSURE = 15


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [installed_program("systemd-analyze"), "--no-pager", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )


def call_sets() -> dict[str, list[str]]:
    """What systemd calls by a name with @, as it tells it."""
    found: dict[str, list[str]] = {}
    members: list[str] = []
    for line in analyze("syscall-filter").stdout.splitlines():
        if line.startswith("@"):
            members = found.setdefault(line.strip(), [])
        elif line.startswith("    ") and not line.lstrip().startswith("#"):
            members.append(line.strip())
    return found


def calls_of(name: str, sets: dict[str, list[str]]) -> set[str]:
    """The system calls that *name* stands for."""
    if not name.startswith("@"):
        return {name}
    return {call for one in sets[name] for call in calls_of(one, sets)}


class UnitTests(LoginCase):
    def installed(self) -> Path:
        """The unit, as if what it runs were installed where it says."""
        text = UNIT.read_text("utf-8")
        self.assertIn("/opt/mailhost/bin/", text)
        copy = self.directory / "mailhost.service"
        copy.write_text(text.replace("/opt/mailhost/bin/", f"{Path(sys.executable).parent}/"))
        return copy

    def test_right(self) -> None:
        """systemd has nothing to complain of."""
        ended = analyze("verify", "--man=no", str(self.installed()))
        self.assertEqual((0, ""), (ended.returncode, ended.stdout))

    def test_tight(self) -> None:
        """Nor has its list of what a service need not be allowed."""
        threshold = f"--threshold={MOST_EXPOSURE}"
        ended = analyze("security", "--offline=true", threshold, str(self.installed()))
        self.assertEqual(0, ended.returncode, ended.stdout)

    def allowed(self) -> set[str]:
        """The system calls that the unit allows."""
        sets = call_sets()
        found = calls_of("@default", sets)
        for line in re.findall(r"^SystemCallFilter=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE):
            for name in line.removeprefix("~").split():
                calls = calls_of(name, sets)
                found = found - calls if line.startswith("~") else found | calls
        return found

    def test_not_too_tight(self) -> None:
        """TLS, a login, a message, Pickup, a reload: each system call of it is allowed."""
        server = self.make_server(
            access={
                **self.tls_settings(),
                "users": str(self.users),
                "basic": {"enabled": True},
            }
        )
        told = self.path("calls")
        strace = [installed_program("strace"), "-f", "-qq", "-c", "-o", str(told)]
        command = [*strace, *mailhost_command(server.mailhost.configuration)]
        process = Process(command, server.mailhost.configuration.with_name("traced.log"))
        process.start(self.addCleanup, server.mailhost.configuration.parent, project_environment())
        server.mailhost.process = process
        process.wait_for_words(" is running for ")
        client = self.session(server)
        client.login("lee@example.com", SECRET)
        client.sendmail(SENDER, ["one@example.com"], "Subject: x\r\n\r\n" + "y\r\n" * 70_000)
        server.wait_for_drop("one@example.com")
        (server.root.home / "Pickup/two").write_text("To: two@example.com\nFrom: a@b.c\n\nx\n")
        server.wait_for_drop("two@example.com")
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for number, words in ((signal.SIGHUP, "is reloaded"), (signal.SIGTERM, "Shut Down")):
            subprocess.run(["kill", f"-{int(number)}", child], check=True)
            process.wait_for_words(words)
        process.wait()

        rows = [line.split() for line in told.read_text().splitlines()]
        used = {row[-1] for row in rows if len(row) >= 5 and re.fullmatch(r"[0-9.]+", row[0])}
        self.assertGreater(len(used), 40)
        self.assertIn("fdatasync", used)
        self.assertEqual(set(), used - self.allowed() - {"total"})
