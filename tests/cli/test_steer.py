"""The commands that see and steer, on two virtual servers in two workers, and in one process."""

from __future__ import annotations

import json
import os
import pwd
import signal
import smtplib
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from mailhost.cli import main
from mailhost.cli.link import Link
from tests.config.files import file_for
from tests.support.peer_case import PeerCase, content
from tests.support.process import (
    Mailhost,
    project_environment,
    reserve_address,
    split_address,
    takes_connections,
    wait_until,
)


class SteerCase(PeerCase):
    workers = 2

    def setUp(self) -> None:
        super().setUp()
        folder = self.path("server")
        folder.mkdir()
        self.mailhost = Mailhost(self.addCleanup, folder / "mailhost.yaml")
        self.addresses = {"one": reserve_address(), "the other": reserve_address()}
        self.tree: dict[str, Any] = {
            "workers": self.workers,
            "control": str(folder / "c.sock"),
            "virtual_servers": [
                {
                    "name": name,
                    "home": str(folder / name),
                    "fqdn": "mail.example.com",
                    "domain": "example.com",
                    "listen": [address],
                }
                for name, address in self.addresses.items()
            ],
        }
        self.mailhost.write(self.tree)

    def start(self) -> None:
        self.mailhost.launch()
        self.mailhost.process.wait_until(
            lambda: len(self.mailhost.running()) >= 2 * self.workers, "all to be running"
        )

    def run_command(self, *words: str, status: int = 0) -> Result:
        """The command with *words*, which has to end with *status*."""
        arguments = [*words, "--config", str(self.mailhost.configuration)]
        result = CliRunner().invoke(main, arguments)
        self.assertEqual(status, result.exit_code, result.output)
        return result

    def ask(self, *words: str, status: int = 0) -> Any:
        """What it answers in JSON."""
        return json.loads(self.run_command(*words, "--json", status=status).stdout)

    def client(self, name: str = "one") -> smtplib.SMTP:
        client = smtplib.SMTP(*split_address(self.addresses[name]), timeout=10)
        self.addCleanup(client.close)
        return client

    def states(self) -> dict[str, str]:
        return {server["name"]: server["state"] for server in self.ask("status")["servers"]}


class WorkersTests(SteerCase):
    def test_lifecycle(self) -> None:
        """Stopped, started, paused: all workers, and only the one that was named."""
        self.start()
        self.assertEqual({"one": "running", "the other": "running"}, self.states())
        self.assertEqual(self.workers, len(self.ask("status")["workers"]))
        shown = self.run_command("status").stdout.splitlines()
        self.assertEqual("SERVER", shown[0].split()[0])
        self.assertIn(self.addresses["one"], shown[1])
        checked = CliRunner().invoke(main, ["check", "-c", str(self.mailhost.configuration)])
        self.assertNotIn("taken already", checked.output)  # it is the server's own
        session = self.client()
        self.assertEqual(250, session.ehlo()[0])

        self.assertEqual("the other is stopped\n", self.run_command("stop", "the other").stdout)
        self.assertFalse(takes_connections(self.addresses["the other"]))
        self.assertEqual({"one": "running", "the other": "stopped"}, self.states())
        self.assertEqual("running", self.ask("start", "the other")["state"])
        self.client("the other")

        self.assertEqual("one is paused\n", self.run_command("pause", "one").stdout)
        self.assertFalse(takes_connections(self.addresses["one"]))
        self.assertEqual(250, session.noop()[0])
        self.run_command("start", "one")
        self.assertTrue(takes_connections(self.addresses["one"]))
        self.mailhost.process.wait_for_words("POST /v1/servers/one/pause")

    def test_sessions(self) -> None:
        """Each with its name, shown so that a terminal obeys nothing; ended by its id."""
        self.start()
        clients = [self.client() for _ in range(6)] + [self.client("the other")]
        for number, client in enumerate(clients):
            self.assertEqual(250, client.ehlo(f"client{number}.example")[0])
        clients[0].sendmail("a@example.com", ["b@example.com"], content())

        found = self.ask("sessions")
        self.assertEqual(7, found["total"])
        self.assertEqual(7, len({row["id"] for row in found["rows"]}))
        one = {row["hello"]: row for row in self.ask("sessions", "one")["rows"]}
        self.assertEqual({f"client{number}.example" for number in range(6)}, set(one))
        self.assertEqual(
            (1, "greeted"), (one["client0.example"]["messages"], one["client0.example"]["state"])
        )

        page = self.ask("sessions", "--limit", "4")
        rest = self.ask("sessions", "--after", page["next"])
        rows = [row["id"] for row in page["rows"] + rest["rows"]]
        self.assertEqual([row["id"] for row in found["rows"]], rows)

        name = one["client1.example"]["id"]
        self.assertIn(name, self.run_command("sessions").stdout)
        ended = self.run_command("terminate", name, "9-9", status=1)
        self.assertEqual(f"ended: {name}\n", ended.stdout)
        self.assertEqual("there is no session 9-9\n", ended.stderr)
        self.assertEqual(421, clients[1].getreply()[0])
        self.assertEqual(250, clients[2].noop()[0])
        wait_until(lambda: self.ask("sessions")["total"] == 6, "one session less")

    def test_reload(self) -> None:
        """A faulty file changes nothing and says why; the control socket is still found."""
        self.start()
        good = self.mailhost.configuration.read_text()
        self.mailhost.configuration.write_text(good.replace("workers: ", "wrokers: "))

        refused = self.run_command("reload", status=1)

        self.assertIn("mailhost.yaml:1: wrokers: unknown key", refused.stderr)
        self.assertEqual({"one": "running", "the other": "running"}, self.states())
        self.tree["virtual_servers"].pop()
        self.mailhost.write(self.tree)
        self.assertEqual("The configuration is reloaded.\n", self.run_command("reload").stdout)
        self.assertEqual({"one": "running"}, self.states())

    def test_worker_that_hangs(self) -> None:
        """What is shown or done is not all: that is said, and is the exit status."""
        self.start()
        worker = self.ask("status")["workers"][1]
        os.kill(worker["pid"], signal.SIGSTOP)
        self.addCleanup(os.kill, worker["pid"], signal.SIGCONT)

        # At the same time: each waits for the worker.
        asked = {
            words: self.begin(*words.split())
            for words in (
                "status",
                "sessions one",
                "sites",
                "queue list --json",
                "queue hold --all",
                f"queue show {'0' * 24}",
                "terminate 1-1",
                "badmail list",
                "trace a@example.com",
            )
        }
        done = {words: process.communicate(timeout=60) for words, process in asked.items()}

        found = {words: (asked[words].returncode, told) for words, (_, told) in done.items()}
        missing = "Worker 1 did not answer; its part is missing.\n"
        silent = "as far as is known: worker 1 does not answer\n"
        unknown = f"there is no message {'0' * 24} in the queue"
        self.assertEqual(
            {
                **dict.fromkeys(("status", "sessions one", "sites"), (3, missing)),
                "queue list --json": (3, missing),
                "queue hold --all": (3, f"nothing is selected\n{missing}"),
                f"queue show {'0' * 24}": (3, f"{unknown}, {silent}"),
                "terminate 1-1": (3, f"there is no such session, {silent}"),
                # The first worker alone has Badmail, and reads what all have traced.
                "badmail list": (0, ""),
                "trace a@example.com": (1, "nothing is known of it\n"),
            },
            found,
        )
        self.assertIn(self.addresses["one"], done["status"][0])
        self.assertIn("SITE", done["sites"][0])

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """The command with *words*, as a process."""
        script = "from mailhost.cli import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", script, *words, "--config", str(self.mailhost.configuration)],
            env=project_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.kill)
        return process


class SingleTests(SteerCase):
    workers = 1

    def test_one_process(self) -> None:
        """The same without workers, and a socket that goes with the process."""
        self.start()
        self.client().ehlo("here.example")
        self.assertEqual(1, self.ask("sessions")["total"])
        self.assertEqual([], self.ask("sites")["rows"])
        self.assertIn("SITE", self.run_command("sites").stdout)
        self.run_command("stop", "one")
        self.assertEqual({"one": "stopped", "the other": "running"}, self.states())
        self.run_command("pause", "one", status=1)
        self.run_command("start", "one")
        self.run_command("start", "nobody", status=1)
        self.run_command("sessions", "nobody", status=1)
        self.run_command("sessions", "--limit", "x", status=2)

        self.mailhost.process.terminate()

        self.assertFalse(Path(self.tree["control"]).exists())
        self.assertIn("cannot be reached", self.run_command("status", status=3).stderr)

    def test_address_taken(self) -> None:
        """A virtual server that cannot start says why."""
        self.start()
        self.run_command("stop", "one")
        self.tree["virtual_servers"][0]["listen"] = ["192.0.2.77:2525"]
        self.mailhost.write(self.tree)
        self.run_command("reload")

        self.assertIn("192.0.2.77:2525", self.run_command("start", "one", status=1).stderr)

    def test_other_user(self) -> None:
        """The mode of the socket keeps others away."""
        if os.geteuid() != 0:
            raise SkipTest("only root can be somebody else")
        self.start()
        nobody = pwd.getpwnam("nobody").pw_uid
        script = (
            f"import os, socket; os.setuid({nobody}); s = socket.socket(socket.AF_UNIX)\n"
            f"print(s.connect_ex({self.tree['control']!r}))"
        )
        Path(self.directory).chmod(0o755)
        Path(self.tree["control"]).parent.chmod(0o755)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        self.assertEqual("13\n", done.stdout, done.stderr)


class UnreadableTests(SynchronousTestCase):
    def test_queue_that_cannot_be_read(self) -> None:
        """The rest is shown; what is not known is no number, and it says why."""
        server = {
            "name": "one",
            "state": "running",
            "addresses": [["192.0.2.1", 25]],
            "sessions": 3,
        }
        lost = {"messages": None, "recipients": None, "problem": "the queue cannot be read: \x1b"}
        found = {"servers": [{**server, **lost}], "waits": [], "warnings": []}
        self.patch(Link, "get", lambda link, path: {**found, "missing_workers": []})

        result = CliRunner().invoke(main, ["status", "--control", "x"])

        self.assertEqual(0, result.exit_code, result.output)
        self.assertIn("192.0.2.1:25", result.output)
        self.assertEqual(2, result.output.count("?"))
        self.assertIn("one: the queue cannot be read: \\x1b", result.output)


MISSING = "Worker 0 did not answer; its part is missing.\n"


class SilentTests(SynchronousTestCase):
    """Commands to a server whose worker 0 does not answer."""

    def run_command(self, *words: str, answer: dict[str, Any], status: int = 200) -> Result:
        answered = status, {**answer, "missing_workers": [0]}
        self.patch(Link, "_ask", lambda link, method, path, body: answered)
        return CliRunner().invoke(main, [*words, "--control", "x"])

    def test_no_worker_answers(self) -> None:
        """No table without rows, but words, and not the status of something that is done."""
        nothing: dict[str, Any] = {"servers": [], "waits": [], "warnings": []}
        result = self.run_command("status", answer=nothing)
        in_json = self.run_command("status", "--json", answer=nothing)

        words = f"No worker answers; what the virtual servers do is not known.\n{MISSING}"
        self.assertEqual((3, "", words), (result.exit_code, result.stdout, result.stderr))
        told = json.loads(in_json.stdout)
        self.assertEqual((3, [0]), (in_json.exit_code, told["missing_workers"]))

    def test_listings_and_changes(self) -> None:
        """Whatever else came of it; who is missing is named once, behind it."""
        listing = {"rows": [], "total": 0, "next": None, "stopped": []}
        changed = {**listing, "messages": 1, "recipients": 1, "busy_messages": 0, "ids": None}
        for words, answer, told in (
            ("sessions", listing, ""),
            ("sites --json", listing, ""),
            ("queue list", listing, ""),
            ("queue list --json", listing, ""),
            ("badmail list", listing, ""),
            ("trace x", listing, "nothing is known of it\n"),
            ("queue hold --all", changed, ""),
            ("queue delete --all --dry-run", {**changed, "messages": 0}, "nothing is selected\n"),
            ("badmail purge --all --dry-run", {"messages": 1, "ids": None, "left": 0}, ""),
            ("terminate 1-1", {"ended": ["1-1"], "unknown": []}, ""),
            ("stop one", {"server": {"state": "stopped"}}, ""),
            ("stop one", {"server": None}, ""),
        ):
            result = self.run_command(*words.split(), answer=answer)
            self.assertEqual((3, told + MISSING), (result.exit_code, result.stderr), words)
        self.assertEqual("one is not known\n", result.stdout)

    def test_refusal(self) -> None:
        """What is not known to be there is not refused: 3, and not 1."""
        words = {"error": "it is not there, as far as is known"}
        result = self.run_command("queue", "show", "0" * 24, answer=words, status=503)
        self.assertEqual((3, f"{words['error']}\n"), (result.exit_code, result.stderr))


class UnreachedTests(PeerCase):
    def run_on(self, text: str, *words: str) -> Result:
        path = file_for(self, text, "mailhost.yaml")
        return CliRunner().invoke(main, [*words, "--config", str(path)])

    def test_not_running(self) -> None:
        """Exit status 3, and where it was looked for."""
        gone = self.path("gone.sock")
        for words in (("status",), ("stop", "x"), ("sessions",), ("terminate", "1"), ("reload",)):
            result = self.run_on(f"control: {gone}\n", *words)
            self.assertEqual(3, result.exit_code, words)
            self.assertIn(str(gone), result.stderr)
        result = CliRunner().invoke(main, ["status", "--control", str(gone)])
        self.assertEqual(3, result.exit_code)

    def test_no_configuration(self) -> None:
        """Nobody knows where to look."""
        for text in ("", "control: [a]\n"):
            self.assertEqual(3, self.run_on(text, "status").exit_code, text)

    def test_no_reactor(self) -> None:
        """A command that asks the server does not load what the server is made of."""
        script = (
            "import sys, mailhost.cli; "
            "print([n for n in sys.modules if n.startswith('twisted.internet.reactor')])"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=project_environment(),
            capture_output=True,
            text=True,
        )
        self.assertEqual("[]\n", done.stdout, done.stderr)
