"""``mailhost badmail`` on two virtual servers in two workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli.test_queue import QueueCase
from tests.support.process import wait_until


class BadmailTests(QueueCase):
    def rows(self, *words: str) -> list[dict[str, Any]]:
        listed = self.run_command("badmail", "list", *words, "--json").stdout
        return [json.loads(line) for line in listed.splitlines()]

    def put(self, server: str, name: str, text: str) -> None:
        """A file into Pickup."""
        pickup = self.mailhost.configuration.parent / server / "Pickup"
        (pickup / f".{name}").write_text(text)
        (pickup / f".{name}").rename(pickup / name)

    def test_life(self) -> None:
        """Listed, shown, mended by new recipients, put into Pickup again, thrown away."""
        self.start()
        self.put("one", "a.txt", "Subject: \x1b[31mred\n\nno sender\n")
        self.put("the other", "b.txt", "Subject: b\n\nno sender\n")
        wait_until(lambda: len(self.rows()) == 2, "two bad files")
        first, second = self.rows()
        self.assertEqual(sorted((first["id"], second["id"])), [first["id"], second["id"]])
        self.assertEqual([first["id"]], [row["id"] for row in self.rows("--limit", "1")])
        self.assertEqual([second["id"]], [row["id"] for row in self.rows("--after", first["id"])])
        (one,) = self.rows("--server", "one")
        (other,) = self.rows("--server", "the other")
        shown = self.run_command("badmail", "show", one["id"]).stdout
        self.assertIn("Pickup file: a.txt", shown)
        self.assertIn("\\x1b[31mred", shown)
        self.assertEqual("one", self.ask("badmail", "show", one["id"])["server"])
        listed = self.run_command("badmail", "list").stdout.splitlines()
        self.assertEqual(("ID", 3), (listed[0].split()[0], len(listed)))
        content = self.run_command("badmail", "export", other["id"]).stdout_bytes
        self.assertEqual(b"Subject: b\n\nno sender\n", content)

        to = ("--to", "x@example.com")
        requeued = self.run_command("badmail", "requeue", *to, one["id"], "0" * 24, status=1)
        self.assertIn(f"{one['id']} is ", requeued.stdout)
        self.assertIn("there is no 0000", requeued.stderr)
        drop = Path(self.tree["virtual_servers"][0]["home"]) / "Drop"
        wait_until(lambda: list(drop.glob("*.eml")), "the message in Drop")
        # It is as bad as it was, and comes back under a name that says where it was last.
        self.run_command("badmail", "requeue", other["id"])
        wait_until(
            lambda: [row["source"] for row in self.rows()] == [f"{other['id']}.eml"], "it again"
        )
        self.mailhost.process.wait_for_words(f"Badmail {one['id']} is ")

        self.run_command("badmail", "purge", status=2)
        self.assertIn(
            "Throw away 1 message?", self.run_command("badmail", "purge", "--all", status=1).stderr
        )
        self.assertEqual(1, self.ask("badmail", "purge", "--all", "--dry-run")["messages"])
        self.run_command("badmail", "purge", "--older", "1h", "--yes", status=1)
        purged = self.run_command("badmail", "purge", "--max-size", "0", "--yes").stdout
        self.assertEqual("thrown away: 1 message\n", purged)
        self.assertEqual([], self.rows())

    def test_bad_questions(self) -> None:
        """Each is told what is wrong with it."""
        self.start()
        for words, status in (
            (("show", "0" * 24), 1),
            (("show", "x"), 2),
            (("requeue", "0" * 24), 1),
            (("requeue", "--to", "a b@x", "0" * 24), 1),
            (("list", "--server", "nobody"), 1),
            (("purge", "--all", "--server", "nobody"), 1),
            (("purge", "--older", "soon"), 2),
            (("purge", "--max-size", "much"), 2),
        ):
            self.run_command("badmail", *words, status=status)
