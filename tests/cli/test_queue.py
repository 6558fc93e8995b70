"""``mailhost queue`` on two virtual servers in two workers, on a large queue, and its bad days."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from email import message_from_bytes
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from mailhost.cli import main
from mailhost.cli.bulk import interruptible
from mailhost.cli.content import EscapingOutput
from mailhost.cli.outlet import READER_GONE
from tests.cli.test_steer import SteerCase
from tests.support.many import make_queue
from tests.support.process import (
    project_environment,
    reserve_address,
    split_address,
    wait_until,
)


def text(subject: str) -> bytes:
    return f"Subject: {subject}\r\nFrom: a@example.com\r\n\r\ntext\r\n".encode()


class QueueCase(SteerCase):
    """Mail for other hosts goes where nobody listens."""

    def setUp(self) -> None:
        super().setUp()
        host, port = split_address(reserve_address())
        self.dead = f"[{host}]:{port}"
        for server in self.tree["virtual_servers"]:
            server["delivery"] = {"smart_host": self.dead}
            server["access"] = {"relay": {"default": "allow"}}
        self.mailhost.write(self.tree)

    def submit(
        self, *to: str, name: str = "one", subject: str = "x", sender: str = "a@b.example"
    ) -> None:
        with self.client(name) as client:
            client.sendmail(sender, to, text(subject))

    def rows(self, *words: str) -> list[dict[str, Any]]:
        listed = self.run_command("queue", "list", *words, "--json").stdout
        return [json.loads(line) for line in listed.splitlines()]

    def wait_for(self, count: int, state: str = "waiting") -> list[dict[str, Any]]:
        """Until *count* messages are in the *state*."""

        def found() -> list[dict[str, Any]]:
            rows = self.rows()
            return rows if [row["state"] for row in rows].count(state) == count else []

        return wait_until(found, f"{count} messages that are {state}")


class WorkersTests(QueueCase):
    def test_life(self) -> None:
        """Listed over all workers and servers, held through a restart, released, deleted."""
        self.start()
        for number in range(6):
            self.submit(f"r{number}@c.example", subject=f"no {number}")
        self.submit("x@d.example", "y@c.example", name="the other", sender="z@b.example")
        rows = self.wait_for(7)

        self.assertEqual(sorted(row["id"] for row in rows), [row["id"] for row in rows])
        self.assertEqual({"one", "the other"}, {row["server"] for row in rows})
        self.assertIn("refused", rows[0]["recipients"][0]["words"])
        self.assertEqual(
            [row["id"] for row in rows[:4]], [row["id"] for row in self.rows("--limit", "4")]
        )
        self.assertEqual(
            [row["id"] for row in rows[4:]],
            [row["id"] for row in self.rows("--after", rows[3]["id"])],
        )
        self.assertEqual(1, len(self.rows("--server", "the other", "--domain", "*.example")))
        self.assertEqual(["z@b.example"], [r["sender"] for r in self.rows("--sender", "z@*")])
        self.assertEqual([], self.rows("--older", "1h"))
        self.assertEqual(7, len(self.rows("--site", f"smart:{self.dead}")))
        self.assertEqual(7, len(self.rows("--site", "127.0.0.2")))
        self.assertEqual([], self.rows("--site", "mx.example.net"))
        shown = self.run_command("queue", "list").stdout.splitlines()
        self.assertEqual("ID", shown[0].split()[0])
        self.assertEqual(8, len(shown))

        selected = self.ask("queue", "hold", "--domain", "c.example", "--dry-run")
        self.assertEqual((7, 7), (selected["messages"], selected["recipients"]))
        held = self.run_command("queue", "hold", "--domain", "c.example").stdout
        self.assertEqual("held: 7 messages, 7 recipients\n", held)
        self.mailhost.process.terminate()
        self.start()

        self.assertEqual(7, len(self.rows("--held")))
        (mixed,) = self.rows("--server", "the other")
        self.assertEqual(
            {"x@d.example": "waiting", "y@c.example": "held"},
            {one["address"]: one["state"] for one in mixed["recipients"]},
        )
        self.assertEqual(1, self.ask("queue", "release", rows[0]["id"])["messages"])
        deleted = self.run_command("queue", "delete", "--all", "--held", "--yes").stdout
        self.assertEqual("deleted: 6 messages, 6 recipients\n", deleted)
        self.assertEqual(2, len(self.rows()))
        self.mailhost.process.wait_for_words(" failed 5.7.1: deleted by an operator", 6)
        self.assertIn("held by root (process", "".join(p.read_text() for p in self.logs()))

    def logs(self) -> list[Path]:
        return sorted(self.mailhost.configuration.parent.glob("*.log"))

    def test_show_and_export(self) -> None:
        """Escaped where a terminal would obey; the content as it is stored."""
        self.start()
        self.submit("x@d.example", subject="\x1b[31mred", name="the other")
        (row,) = self.wait_for(1)

        shown = self.run_command("queue", "show", row["id"]).stdout
        self.assertIn("Subject: \\x1b[31mred", shown)
        self.assertIn("x@d.example", shown)
        self.assertNotIn("\x1b", shown)
        whole = self.ask("queue", "show", row["id"])
        self.assertEqual("a@b.example", whole["sender"])

        result = self.run_command("queue", "export", row["id"])
        stored = result.stdout_bytes
        self.assertEqual(
            (row["size"], "a@example.com"), (len(stored), message_from_bytes(stored)["From"])
        )
        target = self.path("x.eml")
        self.run_command("queue", "export", row["id"], "--envelope", "-o", str(target))
        pickup = target.read_bytes()
        self.assertEqual(b"x-sender: a@b.example\r\nx-receiver: x@d.example\r\n" + stored, pickup)
        self.run_command("queue", "export", row["id"], "-o", str(target), status=1)

    def test_reroute(self) -> None:
        """To a host that takes it, at once with retry."""
        sink = self.start_sink()
        self.start()
        self.submit("x@d.example")
        self.wait_for(1)

        done = self.run_command("queue", "reroute", "--all", "--yes", "--to", sink.next_hop)
        self.assertEqual("rerouted: 1 message, 1 recipient\n", done.stdout)
        self.run_command("queue", "retry", "--all")

        wait_until(sink.taken, "the message in the sink")
        wait_until(lambda: not self.rows(), "an empty queue")


class SingleTests(QueueCase):
    workers = 1

    def test_bad_questions(self) -> None:
        """Unknown ids, empty selections, stopped servers, what is no id: each has its answer."""
        self.start()
        unknown = "0" * 24
        for words, status, told in (
            (("show", unknown), 1, "there is no message 0000"),
            (("export", unknown), 1, "there is no message 0000"),
            (("list", unknown), 1, "there is no message 0000"),
            (("show", "x"), 2, "is not a queue id"),
            (("hold",), 2, "select something"),
            (("hold", "--domain", "a.example"), 1, "nothing is selected"),
            (("hold", unknown), 1, "there is no message 0000"),
            (("hold", "--all", "--server", "nobody"), 1, "no virtual server 'nobody'"),
            (("hold", "--older", "soon"), 2, "is not a time"),
            (("reroute", "--all", "--to", "192.0.2.1"), 2, "without brackets"),
            (("delete", "--all"), 1, "nothing is selected"),
        ):
            result = self.run_command("queue", *words, status=status)
            self.assertIn(told, result.output, words)
        self.run_command("stop", "the other")
        self.assertIn(
            "the other is stopped; its queue is not shown.",
            self.run_command("queue", "list").stderr,
        )

    def test_not_without_asking(self) -> None:
        """To delete is asked for, with the counts; no answer is no."""
        self.start()
        self.submit("x@d.example")
        self.wait_for(1)

        result = self.run_command("queue", "delete", "--all", status=1)

        self.assertIn("Delete 1 message, 1 recipient? [y/N]", result.stderr)
        self.assertEqual(1, len(self.rows()))

    def test_gone_reader(self) -> None:
        """Who reads no more ends it quietly, and what was read is true."""
        self.start()
        self.submit("x@d.example")
        self.submit("y@d.example")
        gone, stays = self.wait_for(2)
        self.run_command("queue", "delete", gone["id"], "--yes")
        script = "from mailhost.cli import main; main()"
        arguments = ["queue", "list", "--json", "--config", str(self.mailhost.configuration)]
        for reads, given in ((1, 0), (0, READER_GONE)):
            process = subprocess.Popen(
                [sys.executable, "-c", script, *arguments],
                env=project_environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            self.addCleanup(process.kill)
            assert process.stdout is not None
            if reads:
                self.assertEqual(stays["id"], json.loads(process.stdout.readline())["id"])
            process.stdout.close()
            _, told = process.communicate(timeout=30)
            self.assertEqual((given, b""), (process.returncode, told))

    def test_full_output(self) -> None:
        """An output without room is told in words; none at all is no fault."""
        self.start()
        words = ["status", "--config", str(self.mailhost.configuration)]
        script = "from mailhost.cli import main; main()"
        for where, given, told in (
            (">/dev/full", 1, "the output cannot be written: No space left on device\n"),
            (">&-", 0, ""),
        ):
            done = subprocess.run(
                ["sh", "-c", f'"$@" {where}', "sh", sys.executable, "-c", script, *words],
                env=project_environment(),
                capture_output=True,
                text=True,
            )
            self.assertEqual((given, told), (done.returncode, done.stderr))

    def test_large_queue(self) -> None:
        """A hundred thousand messages: in seconds, with bounded memory, in pages."""
        home = Path(self.tree["virtual_servers"][0]["home"])
        now = time.time()
        ids = make_queue(home / "Queue", 100_000, now - 7200, now + 7200)
        self.start()
        begun = time.monotonic()
        before = self.resident()

        self.assertEqual(ids[:10], [row["id"] for row in self.rows("--limit", "10")])
        self.assertEqual(
            110,
            sum(
                r["recipient_count"]
                for r in self.rows("--domain", "d7*7.example", "--limit", "110")
            ),
        )
        self.assertEqual([ids[99_999]], [r["id"] for r in self.rows("--sender", "s99999@*")])
        held = self.ask("queue", "hold", "--all")
        self.assertEqual((100_000, 110_000), (held["messages"], held["recipients"]))
        self.assertEqual(100_000, self.ask("queue", "release", "--all", "--dry-run")["messages"])
        released = self.ask("queue", "release", "--all", "--domain", "d1.example")
        self.assertEqual(100, released["messages"])
        deleted = self.ask("queue", "delete", "--all", "--domain", "d2.example", "--yes")
        self.assertEqual(100, deleted["messages"])

        self.assertLess(self.resident() - before, 100 * 1024)
        self.assertLess(time.monotonic() - begun, 60)

    def resident(self) -> int:
        """The server's memory at its largest, KiB."""
        status = Path(f"/proc/{self.mailhost.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if "VmHWM" in line))

    def test_interrupted(self) -> None:
        """Ctrl-C ends it after a batch, and it says how far it got."""
        home = Path(self.tree["virtual_servers"][0]["home"])
        now = time.time()
        make_queue(home / "Queue", 20_000, now - 7200, now + 7200)
        self.start()
        script = (
            "import os, signal, mailhost.cli.bulk as bulk\n"
            "from mailhost.cli import main\n"
            "plain = bulk.Tally.add\n"
            "def add(tally, found):\n"
            "    plain(tally, found)\n"
            # Not while it counts: then it has nothing to say.
            "    heard = signal.getsignal(signal.SIGINT) is not signal.default_int_handler\n"
            "    if heard: os.kill(os.getpid(), signal.SIGINT)\n"
            "bulk.Tally.add = add\n"
            "main()\n"
        )
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                script,
                "queue",
                "hold",
                "--all",
                "--config",
                str(self.mailhost.configuration),
            ],
            env=project_environment(),
            capture_output=True,
            text=True,
        )
        self.assertEqual(
            (1, "held: 1,000 messages, 1,100 recipients\n"),
            (done.returncode, done.stdout),
            done.stderr,
        )
        self.assertEqual("interrupted after 1000 of 20000 messages\n", done.stderr)


class TerminalTests(SteerCase):
    def test_not_running(self) -> None:
        """Exit status 3."""
        for words in (("list",), ("show", "0" * 24), ("hold", "--all"), ("export", "0" * 24)):
            result = CliRunner().invoke(
                main, ["queue", *words, "--control", str(self.path("no.sock"))]
            )
            self.assertEqual(3, result.exit_code, words)

    def test_interrupt_is_asked_for(self) -> None:
        """The first one is only heard; afterwards everything is as before."""
        before = signal.getsignal(signal.SIGINT)
        with interruptible() as interrupted:
            self.assertFalse(interrupted())
            os.kill(os.getpid(), signal.SIGINT)
            self.assertTrue(interrupted())
        self.assertIs(before, signal.getsignal(signal.SIGINT))

    def test_content_on_a_terminal(self) -> None:
        """Nothing in it is obeyed."""
        octets = b"a\x1b]0;x\x07\r\n\xff\r\n"
        with redirect_stdout(io.StringIO()) as shown:
            EscapingOutput().write(octets)
        self.assertEqual("a\\x1b]0;x\\x07\n\\xff\n", shown.getvalue())
