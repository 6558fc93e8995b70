"""``etc/mailhost.service`` under a real systemd: started, read anew, killed, stopped."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.support.manager import Manager
from tests.support.postfix_tools import PROJECT
from tests.support.process import takes_connections, wait_until
from tests.workers.house import HouseCase

UNIT = "mailhost.service"
#: Users and directories that are made when it is installed. The interpreter of a test may lie in
#: a home, and its files in /tmp.
_LEFT_OUT = ("User=", "Group=", "StateD", "LogsD", "Configuration", "Wants=", "After=")
_LEFT_OUT += ("WorkingDirectory=", "ProtectHome=", "PrivateTmp=", "[Install]", "WantedBy=")


class ManagedTests(HouseCase):
    def unit(self, configuration: Path) -> str:
        """The unit that comes along, for *configuration*."""
        text = (PROJECT / "etc" / UNIT).read_text("utf-8")
        text = text.replace("/opt/mailhost/bin/", f"{Path(sys.executable).parent}/")
        text = text.replace("/etc/mailhost/mailhost.yaml", str(configuration))
        kept = [line for line in text.splitlines() if not line.startswith(_LEFT_OUT)]
        kept.insert(kept.index("[Unit]") + 1, "DefaultDependencies=no")
        self.log = log = self.path("service.log")
        service = kept.index("[Service]") + 1
        kept[service:service] = [
            f"WorkingDirectory={configuration.parent}",
            f"ReadWritePaths={self.directory}",
            f"Environment=PYTHONPATH={PROJECT} PYTHONDONTWRITEBYTECODE=1",
            f"StandardOutput=append:{log}",
            f"StandardError=append:{log}",
        ]
        return "\n".join(kept)

    def test_life(self) -> None:
        """Ready when it listens; a reload says what is wrong; killed, it comes back; it ends."""
        house = self.make_house()
        configuration = house.mailhost.configuration
        folder = self.path("manager")
        folder.mkdir()
        manager = Manager(folder)
        manager.add(UNIT, self.unit(configuration))
        manager.start(self.addCleanup)

        started = manager.run("start", UNIT)
        self.addCleanup(manager.run, "stop", UNIT)
        self.assertEqual(0, started.returncode, started.stdout)
        self.assertTrue(takes_connections(house.address))
        self.assertEqual("one running", manager.show(UNIT, "StatusText"))
        self.assertEqual("yes", manager.show(UNIT, "NoNewPrivileges"))
        reloaded = manager.run("reload", UNIT)
        self.assertEqual(0, reloaded.returncode, reloaded.stdout)
        text = configuration.read_text("utf-8")
        configuration.write_text(f"{text}\nnonsense: true\n", "utf-8")
        self.assertNotEqual(0, manager.run("reload", UNIT).returncode)
        self.assertIn("nonsense: unknown key", self.log.read_text("utf-8"))
        self.assertIn("the one before is in force", manager.show(UNIT, "StatusText"))
        configuration.write_text(text, "utf-8")

        os.kill(int(manager.show(UNIT, "MainPID")), signal.SIGKILL)
        wait_until(
            lambda: (
                manager.show(UNIT, "NRestarts") == "1"
                and manager.show(UNIT, "ActiveState") == "active"
            ),
            "the service again",
        )
        self.assertTrue(takes_connections(house.address))
        self.assertEqual(0, manager.run("stop", UNIT).returncode)
        self.assertEqual("success", manager.show(UNIT, "Result"))
        self.assertFalse(takes_connections(house.address))
