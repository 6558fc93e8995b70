"""``mailhost trace`` on two virtual servers in two workers."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner

from mailhost.cli import main
from tests.cli.test_queue import QueueCase, text
from tests.support.process import wait_until


class TraceTests(QueueCase):
    def rows(self, *words: str, status: int = 0) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.ask("trace", *words, status=status)["rows"]
        return rows

    def kinds(self, what: str) -> set[str]:
        """Of the events that are known by now, which may be none yet."""
        words = ["trace", what, "--json", "--config", str(self.mailhost.configuration)]
        return {row["kind"] for row in json.loads(CliRunner().invoke(main, words).stdout)["rows"]}

    def test_life(self) -> None:
        """Of whichever worker: by address, by id, by Message-ID, by time; across a restart."""
        self.start()
        for number in range(4):
            self.submit(f"r{number}@c.example", sender="x@b.example")
        with self.client("the other") as client:
            content = b"Message-ID: <one@b.example>\r\n" + text("y")
            client.sendmail("y@b.example", ["u@c.example", "v@example.com"], content)
        wait_until(
            lambda: self.kinds("y@b.example") >= {"delayed", "delivered"},
            "the whole story",
        )

        rows = self.rows("y@b.example")
        self.assertEqual("accepted", rows[0]["kind"])
        self.assertEqual("<one@b.example>", rows[0]["other"])
        self.assertEqual({"the other"}, {row["server"] for row in rows})
        (attempt,) = [row for row in rows if row["kind"] == "attempt"]
        self.assertIn("refused", attempt["words"])
        self.mailhost.process.terminate()
        self.start()
        for what in (rows[0]["id"], "<one@b.example>", "v@example.com"):
            self.assertLessEqual(len(rows), len(self.rows(what)), what)
        self.assertEqual(4, len({row["id"] for row in self.rows("x@b.example")}))
        self.assertEqual(1, len({row["id"] for row in self.rows("x@b.example", "--limit", "1")}))
        self.assertEqual(5, len({row["id"] for row in self.rows("--since", "1h")}))
        self.assertEqual([], self.rows("--until", "1h", status=1))
        self.assertEqual([], self.rows("y@b.example", "--server", "one", status=1))
        shown = self.run_command("trace", "y@b.example").stdout
        for words in (f"{rows[0]['id']} at the other from y@b.example", "again at ", "delivered"):
            self.assertIn(words, shown)

    def test_dialogue(self) -> None:
        """Of an attempt that failed, without the content."""
        sink = self.start_sink("-r", "RCPT")
        for server in self.tree["virtual_servers"]:
            server["delivery"] = {"smart_host": sink.next_hop}
        self.mailhost.write(self.tree)
        self.start()
        self.submit("r@c.example")
        wait_until(lambda: "delayed" in self.kinds("r@c.example"), "a delay")

        shown = self.run_command("trace", "r@c.example", "--dialogue").stdout

        self.assertIn("(dialogue)", shown)
        self.assertIn("    C: RCPT TO:<r@c.example>", shown)
        self.assertNotIn("Subject", shown)

    def test_bad_questions(self) -> None:
        """Each is told what is wrong with it; switched off nothing is known."""
        for server in self.tree["virtual_servers"]:
            server["trace"] = {"enabled": False}
        self.mailhost.write(self.tree)
        self.start()
        self.submit("r@c.example")
        for words, status in (
            ((), 2),
            (("--since", "soon"), 2),
            (("x@y.example", "--limit", "0"), 2),
            (("x@y.example", "--server", "nobody"), 1),
            (("0" * 24,), 1),
            (("--since", "1h"), 1),
        ):
            self.run_command("trace", *words, status=status)
        self.assertIn(
            "nothing is known of it", self.run_command("trace", "é@\x1b", status=1).stderr
        )
