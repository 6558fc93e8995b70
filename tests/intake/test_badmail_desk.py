"""Tests for `mailhost.intake.badmail_desk`, and by it for `mailhost.spool.bad_triples`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.defer import Deferred, execute, fail
from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import DirectoryProblem, SpoolProblem
from mailhost.intake.badmail_desk import BadmailDesk
from mailhost.model.address import Mailbox
from mailhost.model.outcome import Fate, Outcome
from mailhost.model.parameters import MailParameters, RecipientParameters
from mailhost.spool.bad_triples import BadTriple
from mailhost.spool.badmail import CODE_PICKUP, CODE_REPORT, Badmail, BadMessage, BadRecipient
from mailhost.spool.memory import MemoryQueue
from mailhost.spool.purge import Purged
from tests.support.world import START, World

BOB, SENDER = Mailbox("bob", "example.net"), Mailbox("alice", "example.org")
CONTENT = b"Subject: x\r\n\r\ntext\r\n"


class BadmailDeskTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = Path(folder.name)
        (self.home / "Pickup").mkdir()
        self.world = World()
        self.badmail = Badmail(self.home / "Badmail", execute)
        self.badmail.start()
        self.desk = BadmailDesk(self.world.desk, self.badmail, self.home / "Pickup", execute)

    def store(self, number: int = 1, content: bytes = CONTENT, **given: Any) -> str:
        recipients = (BadRecipient(BOB, 3, Outcome(Fate.FAILED, "5.1.1", "550 nobody")),)
        facts = {"reverse_path": None, "recipients": recipients, "code": CODE_REPORT, **given}
        message = BadMessage(f"{number:024x}", "550 nobody", **facts)
        stem: str = self.successResultOf(self.badmail.store(message, content, START))
        return stem

    def ask(self, coroutine: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def triple(self, stem: str) -> BadTriple:
        found: BadTriple = self.ask(self.desk.find(stem))
        return found

    def names(self, folder: str) -> list[str]:
        return sorted(path.name for path in (self.home / folder).iterdir())

    def test_pages(self) -> None:
        """By name; files of others, and triples without a reason, are none."""
        stems = sorted(self.store(number) for number in range(1, 6))
        (self.home / "Badmail" / f"{stems[1]}.BDR").unlink()
        (self.home / "Badmail" / "notes.BDR").write_text("mine")

        first, total = self.ask(self.desk.page("", 2))
        rest, _ = self.ask(self.desk.page(first[-1].stem, 9))

        self.assertEqual([stems[0], *stems[2:]], [one.stem for one in (*first, *rest)])
        self.assertEqual(4, total)
        one = first[0]
        self.assertEqual((None, True, (BOB,)), (one.reverse_path, one.sender_known, one.recipients))
        self.assertEqual(("550 nobody", len(CONTENT), ""), (one.reason, one.size, one.fault))
        self.assertEqual(b"Subject", self.ask(self.desk.content(one.stem, 0, 7)))

    def test_nothing_trusted(self) -> None:
        """An envelope that somebody has changed is told, and not sent."""
        stem = self.store()
        path = self.home / "Badmail" / f"{stem}.BDP"
        good = json.loads(path.read_bytes())
        for text in (
            "",
            "[]",
            "[" * 100_000,
            json.dumps({**good, "recipients": [{"forward_path": "<a b@x>"}]}),
            json.dumps({**good, "recipients": 5}),
            json.dumps({**good, "reverse_path": "a@example.com"}),
            json.dumps({**good, "body": "8BIT"}),
        ):
            path.write_text(text)
            triple = self.triple(stem)
            self.assertIn("is not what this program writes", triple.fault, text[:50])
            asked = Deferred.fromCoroutine(self.desk.requeue(triple, (), "olga"))
            self.failureResultOf(asked, DirectoryProblem)
        self.assertEqual([], self.world.accepted)
        self.assertIsNone(self.triple("../../etc/passwd"))
        self.assertIsNone(self.triple("0" * 24))

    def test_requeue(self) -> None:
        """The same content and envelope, with a new id; then it is in Badmail no more."""
        for content in (CONTENT, CONTENT + b"x" * 600_000):
            triple = self.triple(self.store(content=content, reverse_path=SENDER, body="8BITMIME"))

            became = self.ask(self.desk.requeue(triple, (), "olga"))

            message = self.world.accepted[-1]
            self.assertEqual((became, SENDER), (message.queue_id, message.reverse_path))
            self.assertEqual("8BITMIME", message.body)
            self.assertEqual([BOB], [one.forward_path for one in message.recipients.values()])
            self.assertEqual(content, self.world.contents()[-1])
            self.assertEqual([], self.names("Badmail"))

    def test_requeue_with_what_was_asked_for(self) -> None:
        """Who wanted to hear of it still does."""
        asked, mine = MailParameters(envid="id"), RecipientParameters(("SUCCESS",))
        recipients = (BadRecipient(BOB, 3, None, mine),)
        triple = self.triple(self.store(recipients=recipients, parameters=asked))

        self.ask(self.desk.requeue(triple, (), "olga"))

        (message,) = self.world.accepted
        self.assertEqual((asked, mine), (message.parameters, message.recipients[0].parameters))

    def test_requeue_to_others(self) -> None:
        """For whom it could not be sent to; an address without a domain gets ours."""
        triple = self.triple(self.store())

        self.ask(self.desk.requeue(triple, [Mailbox("postmaster", ""), BOB], "olga"))

        paths = [str(one.forward_path) for one in self.world.accepted[0].recipients.values()]
        self.assertEqual(["postmaster@example.com", "bob@example.net"], paths)

    def test_requeue_fails(self) -> None:
        """It stays in Badmail."""
        triple = self.triple(self.store())
        self.patch(MemoryQueue, "commit", lambda *given: fail(SpoolProblem("no disk")))

        asked = Deferred.fromCoroutine(self.desk.requeue(triple, (), "olga"))

        self.failureResultOf(asked, SpoolProblem)
        self.assertEqual(3, len(self.names("Badmail")))

    def test_pickup_file(self) -> None:
        """It goes to Pickup as it was; with recipients of its own it goes into the queue."""
        facts = {"code": CODE_PICKUP, "source": "x.txt", "recipients": (), "sender_known": False}
        triple = self.triple(self.store(**facts))

        name = self.ask(self.desk.requeue(triple, (), "olga"))

        self.assertEqual([name], self.names("Pickup"))
        self.assertEqual(CONTENT, (self.home / "Pickup" / name).read_bytes())
        self.assertEqual([], self.names("Badmail"))
        triple = self.triple(self.store(**facts))
        os.rename(self.home / "Pickup", self.home / "away")
        asked = Deferred.fromCoroutine(self.desk.requeue(triple, (), "olga"))
        self.failureResultOf(asked, DirectoryProblem)
        self.ask(self.desk.requeue(triple, [BOB], "olga"))
        self.assertEqual(1, len(self.world.accepted))

    def test_purge(self) -> None:
        """By name, by age, by size; a dry run only counts."""
        stems = [self.store(number) for number in range(1, 6)]
        for age, stem in enumerate(stems):
            for kind in ("BAD", "BDP", "BDR"):
                os.utime(self.home / "Badmail" / f"{stem}.{kind}", (START - age, START - age))

        def purge(chosen: list[str] | None, older: float | None, **more: Any) -> Purged:
            purged: Purged = self.ask(
                self.desk.purge(chosen, older, None, "olga", more.pop("dry_run", False), **more)
            )
            return purged

        self.assertEqual(5, purge(None, None, dry_run=True).count)
        self.assertEqual(set(stems[:2]), set(purge(stems[:2], None, dry_run=True).stems))
        self.assertEqual(Purged(1, 1), purge(stems[:2], None, most=1))
        self.assertEqual(Purged(1), purge(stems[:2], None, most=1))
        self.assertEqual(Purged(1), purge(None, 3.5))
        self.assertEqual(Purged(0), purge(stems[:2], None))
        self.assertEqual(
            sorted(stems[2:4]), [name[:24] for name in self.names("Badmail") if "BDR" in name]
        )
        self.assertEqual(Purged(2), purge(None, None))

    def test_directory_gone(self) -> None:
        """A Badmail that cannot be read is told."""
        os.rename(self.home / "Badmail", self.home / "away")
        (self.home / "Badmail").write_text("no directory")
        for asked in (
            self.desk.page("", 1),
            self.desk.find("0" * 24),
            self.desk.purge(None, None, None, "olga", False),
        ):
            self.failureResultOf(Deferred.fromCoroutine(asked), DirectoryProblem)
