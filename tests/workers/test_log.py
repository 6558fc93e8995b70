"""The logs of a service with two workers, in files."""

from __future__ import annotations

import base64
import json
import signal
import smtplib
from pathlib import Path
from typing import Any

from lars.iis import IISSource

from tests.support.peer_case import content
from tests.support.process import wait_until
from tests.workers.house import House, HouseCase

PASSWORD = "Yellow-submarine-7"
ENCODED = base64.b64encode(PASSWORD.encode()).decode().rstrip("=")


class LogFileTests(HouseCase):
    def tables(self, path: Path, what: str) -> list[dict[str, Any]]:
        """The lines of *path* whose text has *what*."""
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return [table for table in map(json.loads, lines) if what in table["text"]]

    def test_life_of_a_log(self) -> None:
        """Facts of both workers, a rotation, another level, and no password."""
        log = self.path("mailhost.log")
        users = self.path("users")
        users.touch(0o600)
        access = {"basic": {"enabled": True, "require_tls": False}, "users": str(users)}
        house = self.make_house(
            access=access, protocol_log={"enabled": True, "schedule": "unlimited", "fields": "all"}
        )
        house.top["log"] = {"level": "debug", "format": "json", "file": str(log)}
        house.configure()
        house.mailhost.launch()
        house.process.wait_until(
            lambda: len(self.tables(log, " is running for ")) == 2, "two workers"
        )

        with house.client() as client:
            for _ in range(2):
                client.sendmail("a@example.com", ["b@example.com"], content())
        accepted = wait_until(lambda: self.tables(log, ": from=<a@example.com>")[1:], "a line")[0]
        wait_until(lambda: len(self.tables(log, "delivered to Drop")) == 2, "outcomes")
        outcomes = {one["id"]: one for one in self.tables(log, "delivered to Drop")}
        self.assertEqual("b@example.com", outcomes[accepted["id"]]["paths"])
        self.assertEqual([0], outcomes[accepted["id"]]["recipients"])
        names = ("server", "transaction", "peer")
        self.assertEqual(["one", 2, "127.0.0.1"], [accepted[name] for name in names])
        self.assertIn(accepted["worker"], (0, 1))
        self.assertTrue(accepted["session"])

        self.say_passwords(house)
        old = log.rename(log.with_suffix(".1"))
        house.top["log"]["level"] = "warn"
        house.settings["protocol_log"]["format"] = "ncsa"
        house.top["control"] = str(self.path("elsewhere.sock"))  # worth a warning
        house.configure()
        house.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.tables(log, "control stays as it was"), "a reload")
        house.submit("d@example.com")
        house.wait_for_drop("d@example.com")
        wait_until((house.root.home / "Logs" / "ncsa1.log").exists, "the other format")
        house.process.terminate()

        # What the earlier sessions had still to tell may stand there as well.
        self.assertEqual([], self.tables(log, "d@example.com"))
        self.assertIn("warn", {table["level"] for table in self.tables(log, "")})
        protocol_logs = self.check_protocol_logs(house.root.home / "Logs")
        said = old.read_text() + log.read_text() + house.process.said() + protocol_logs
        for secret in (PASSWORD, ENCODED):
            self.assertNotIn(secret, said)

    def say_passwords(self, house: House) -> None:
        """As a login, and where a client has lost its way."""
        with house.client() as client, self.assertRaises(smtplib.SMTPAuthenticationError):
            client.login("kim", PASSWORD)
        with house.client() as client:
            client.ehlo()
            client.docmd("AUTH", "LOGIN")
            client.docmd("*")
            client.docmd(ENCODED)

    def check_protocol_logs(self, directory: Path) -> str:
        """Both workers have written to one file, which a parser of others can read; its text."""
        w3c = directory / "extend1.log"
        with w3c.open() as opened, IISSource(opened) as source:
            rows = list(source)
        for verb in ("EHLO", "MAIL", "RCPT", "DATA"):
            found = {row.sc_status for row in rows if row.cs_method == verb}
            self.assertEqual({250}, found, verb)
        self.assertEqual({"one"}, {row.s_sitename for row in rows})
        text = w3c.read_text() + (directory / "ncsa1.log").read_text()
        self.assertEqual(1, text.count("#Version"))
        self.assertIn('"RCPT -?TO:<d@example.com>', text)
        return text
