"""``mailhost badmail`` on two virtual servers in two workers."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from click.testing import Result

from mailhost.cli.link import Link
from mailhost.content.names import file_stem
from mailhost.model.address import Mailbox
from mailhost.spool.badmail import BadMessage, BadRecipient, envelope_json
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
        known = self.rows()[0]["id"]
        mixed = self.run_command("badmail", "purge", known, "0" * 24, "--dry-run", status=1)
        self.assertEqual("selected: 1 message\n", mixed.stdout)
        self.assertIn("there is no 0000", mixed.stderr)
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
            (("requeue",), 2),
            (("requeue", "--all", "0" * 24), 2),
            (("requeue", "--all"), 1),
            (("requeue", "--server", "nobody"), 1),
            (("purge", "0" * 24), 1),
            (("list", "--server", "nobody"), 1),
            (("purge", "--all", "--server", "nobody"), 1),
            (("purge", "--older", "soon"), 2),
            (("purge", "--max-size", "much"), 2),
        ):
            self.run_command("badmail", *words, status=status)


class ManyTests(QueueCase):
    workers = 1

    def make(self, count: int, age_seconds: float) -> None:
        """Triples in Badmail for ``x@example.com``; of each two files are empty."""
        directory = Path(self.tree["virtual_servers"][0]["home"]) / "Badmail"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        written = time.time() - age_seconds
        to = (BadRecipient(Mailbox("x", "example.com")),)
        for number in range(count):
            message = BadMessage(f"{number:024x}", "for the exercise", None, to)
            stem = file_stem(message.queue_id, ["x@example.com"])
            for kind, octets in (
                ("BAD", b"Subject: x\r\n\r\n"),
                ("BDP", envelope_json(message, written)),
                ("BDR", b""),
            ):
                path = directory / f"{stem}.{kind}"
                path.write_bytes(octets)
                os.utime(path, (written, written))

    def run_interrupted(self, *words: str) -> Result:
        """The command, with Ctrl-C while its first batch is done."""
        post = Link.post

        def interrupting(link: Link, path: str, body: Any = None, **query: object) -> Any:
            if not body.get("dry_run"):
                os.kill(os.getpid(), signal.SIGINT)
            return post(link, path, body, **query)

        with patch.object(Link, "post", interrupting):
            return self.run_command("badmail", *words, status=1)

    def test_interrupted(self) -> None:
        """Counted first, done in batches; Ctrl-C ends it after one, and it says how far it got."""
        self.make(1250, 7200)
        self.start()
        stopped = self.run_interrupted("purge", "--older", "1h", "--yes")
        self.assertEqual("thrown away: 1,000 messages\n", stopped.stdout)
        self.assertEqual("interrupted after 1000 of 1250 messages\n", stopped.stderr)

        counted = self.run_command("badmail", "requeue", "--older", "1h", "--dry-run").stdout
        self.assertEqual("selected: 250 messages\n", counted)
        stopped = self.run_interrupted("requeue", "--older", "1h", "--json")
        told = json.loads(stopped.stdout)
        self.assertEqual((100, True), (len(told["done"]), told["interrupted"]))
        stopped = self.run_interrupted("requeue", "--server", "one")
        self.assertEqual(100, len(stopped.stdout.splitlines()))
        self.assertEqual("interrupted after 100 of 150 messages\n", stopped.stderr)

        # What is done when Ctrl-C is heard is done, and nothing is amiss.
        with patch.object(Link, "post", _heard_late(Link.post)):
            rest = self.ask("badmail", "purge", "--all", "--yes")
        self.assertEqual((50, False), (rest["messages"], rest["interrupted"]))

        # The server goes: what had been done is told.
        self.make(1100, 7200)
        post = Link.post

        def ending(link: Link, path: str, body: Any = None, **query: object) -> Any:
            found = post(link, path, body, **query)
            if not body.get("dry_run"):
                self.mailhost.process.terminate()
            return found

        with patch.object(Link, "post", ending):
            told = self.run_command("badmail", "purge", "--all", "--yes", status=3).stderr
        self.assertIn("The server cannot be reached", told)
        self.assertIn("until then: thrown away: 1,000 messages", told)


def _heard_late(post: Any) -> Any:
    def interrupting(link: Link, path: str, body: Any = None, **query: object) -> Any:
        found = post(link, path, body, **query)
        if not body.get("dry_run"):
            os.kill(os.getpid(), signal.SIGINT)
        return found

    return interrupting
