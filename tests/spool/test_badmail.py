"""Tests for `mailhost.spool.badmail`."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any
from unittest.mock import patch

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, execute
from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import ContentDamaged, DirectoryProblem
from mailhost.model.address import Mailbox
from mailhost.model.outcome import Fate, Outcome
from mailhost.model.parameters import MailParameters, RecipientParameters
from mailhost.spool.badmail import (
    BATCH_OCTETS,
    CODE_PICKUP,
    CODE_REPORT,
    Badmail,
    BadMessage,
    BadRecipient,
    envelope_json,
    reason_text,
)
from tests.delivery.stored import SlowStored, Stored

NOW = 1016119918.5
QUEUE_ID = "0123456789abcdef01234567"
CONTENT = b"Subject: Delivery Status Notification (Failure)\r\n\r\nbody\r\n"
REFUSED = Outcome(Fate.FAILED, "5.1.1", "550 5.1.1 no such user", "mx.example.net", True)
MESSAGE = BadMessage(
    QUEUE_ID,
    "This message is a delivery status notification that cannot be delivered.",
    None,
    (BadRecipient(Mailbox("nobody", "example.net"), 3, REFUSED),),
    CODE_REPORT,
    hello="mail.example.net",
    accepted_at=NOW - 60,
)
KINDS = ("BAD", "BDP", "BDR")


class BadmailTestCase(SynchronousTestCase):
    """A Badmail directory of its own; what blocks runs at once."""

    def setUp(self) -> None:
        home = mkdtemp()
        self.addCleanup(rmtree, home)
        self.directory = Path(home) / "Badmail"
        self.badmail = Badmail(self.directory, execute)

    def store(
        self, message: BadMessage = MESSAGE, content: bytes | Stored = CONTENT
    ) -> Deferred[str]:
        """Store `CONTENT` unless told otherwise."""
        return self.badmail.store(message, content, NOW)

    def names(self) -> list[str]:
        """All that is in the directory, hidden files too."""
        return sorted(os.listdir(self.directory))

    def assert_triple(self, stem: str, content: bytes = CONTENT) -> None:
        """There is one triple, whole, and nothing beside it."""
        self.assertEqual([f"{stem}.{kind}" for kind in KINDS], self.names())
        self.assertEqual(content, (self.directory / f"{stem}.BAD").read_bytes())
        self.assertEqual(envelope_json(MESSAGE, NOW), (self.directory / f"{stem}.BDP").read_bytes())
        self.assertEqual(reason_text(MESSAGE), (self.directory / f"{stem}.BDR").read_bytes())


class TripleTests(BadmailTestCase):
    def test_three_files(self) -> None:
        """Message, envelope and reason under one name, which is told."""
        stem = self.successResultOf(self.store())

        self.assertRegex(stem, r"\A[0-9a-f]{24}\Z")
        self.assert_triple(stem)

    def test_stored_content(self) -> None:
        """A content out of the queue is written block by block, and closed."""
        content = SlowStored([bytes(BATCH_OCTETS)] * 3 + [CONTENT])
        stored = self.store(content=content)
        for _ in range(3):
            content.give()
        sizes = [(self.directory / name).stat().st_size for name in self.names()]
        self.assertEqual([3 * BATCH_OCTETS], sizes)
        content.give()
        content.give()

        self.assert_triple(self.successResultOf(stored), bytes(3 * BATCH_OCTETS) + CONTENT)
        self.assertTrue(content.closed)

    def test_modes(self) -> None:
        """As in Drop: the directory is the owner's, the group may read the files."""
        before = os.umask(0o077)
        self.addCleanup(os.umask, before)

        self.successResultOf(self.store())

        self.assertEqual(0o700, stat.S_IMODE(self.directory.stat().st_mode))
        modes = {stat.S_IMODE((self.directory / name).stat().st_mode) for name in self.names()}
        self.assertEqual({0o640}, modes)

    def test_again(self) -> None:
        """The same message and recipients replace their triple, others get their own."""
        first = self.successResultOf(self.store())
        again = self.successResultOf(self.store())
        other = evolve(MESSAGE, recipients=(BadRecipient(Mailbox("b", "example.net")),))
        second = self.successResultOf(self.store(other))

        self.assertEqual(first, again)
        self.assertNotEqual(first, second)
        self.assertEqual(6, len(self.names()))

    def test_without_recipients(self) -> None:
        """A Pickup file that names nobody is called by its queue id."""
        message = evolve(MESSAGE, recipients=())

        self.assertEqual(QUEUE_ID, self.successResultOf(self.store(message)))

    @given(st.text(), st.text(), st.text())
    def test_names_from_nowhere(self, queue_id: str, local: str, source: str) -> None:
        """Nothing anybody said decides a name (attacks.md A70)."""
        recipient = BadRecipient(Mailbox(local, "../.."))
        message = evolve(MESSAGE, queue_id=queue_id, recipients=(recipient,), source=source)

        self.successResultOf(self.store(message))

        for name in self.names():
            self.assertRegex(name, r"\A[0-9a-f]{24}\.(BAD|BDP|BDR)\Z")


class WordsTests(SynchronousTestCase):
    def test_reason(self) -> None:
        """IIS's sentences (iis-smtp.md §10.5)."""
        self.assertEqual(
            b"Unable to deliver this message because the following error was encountered: "
            b'"This message is a delivery status notification that cannot be delivered.".\r\n'
            b"\r\n"
            b"The specific error code was 0xC00402C7.\r\n"
            b"\r\n"
            b"The message sender was <>.\r\n"
            b"\r\n"
            b"The message was intended for the following recipients.\r\n"
            b"\r\n"
            b"   <nobody@example.net>\r\n"
            b"      550 5.1.1 no such user\r\n",
            reason_text(MESSAGE),
        )

    def test_pickup_fault(self) -> None:
        """A file without sender and recipients says so (PIC-05, PIC-06)."""
        message = BadMessage(QUEUE_ID, "error", None, code=CODE_PICKUP, sender_known=False)

        text = reason_text(message)

        self.assertIn(b"0xC00402CE", text)
        self.assertIn(b"The message sender was not named.", text)
        self.assertIn(b"The message named no recipients.", text)

    def test_without_code(self) -> None:
        """Where IIS has no code none is made up."""
        self.assertNotIn(b"code", reason_text(evolve(MESSAGE, code=None)))

    def test_envelope(self) -> None:
        """All that is needed to send it again can be read back."""
        asked = MailParameters(envid="QQ1")
        one = evolve(MESSAGE.recipients[0], parameters=RecipientParameters(("FAILURE",)))
        self.assertEqual(
            {
                "version": 1,
                "queue_id": QUEUE_ID,
                "reverse_path": "<>",
                "body": "7BIT",
                "hello": "mail.example.net",
                "accepted_at": NOW - 60,
                "stored_at": NOW,
                "source": "",
                "reason": MESSAGE.reason,
                "code": 0xC00402C7,
                "parameters": {"envid": "QQ1"},
                "recipients": [
                    {
                        "forward_path": "<nobody@example.net>",
                        "attempts": 3,
                        "parameters": {"notify": ["FAILURE"]},
                        "fate": "failed",
                        "status": "5.1.1",
                        "words": "550 5.1.1 no such user",
                        "peer": "mx.example.net",
                        "spoken": True,
                        "in_doubt": False,
                    }
                ],
            },
            json.loads(envelope_json(evolve(MESSAGE, recipients=(one,), parameters=asked), NOW)),
        )

    def test_unknown_sender(self) -> None:
        """A sender nobody named is another thing than the null reverse-path."""
        tree = json.loads(envelope_json(evolve(MESSAGE, sender_known=False), NOW))

        self.assertIsNone(tree["reverse_path"])

    @given(st.text(), st.text(), st.text())
    def test_hostile_words(self, reason: str, local: str, words: str) -> None:
        """No word adds a line to the reason, and JSON gives all of them back."""
        recipient = BadRecipient(Mailbox(local, "b"), 1, Outcome(Fate.FAILED, "5.0.0", words))
        message = evolve(MESSAGE, reason=reason, recipients=(recipient,))

        lines = reason_text(message).split(b"\r\n")

        self.assertEqual(len(reason_text(MESSAGE).split(b"\r\n")), len(lines))
        for line in lines:
            self.assertTrue(line.decode().isprintable() and len(line) < 700)
        tree = json.loads(envelope_json(message, NOW))
        self.assertEqual(reason, tree["reason"])
        self.assertEqual(words, tree["recipients"][0]["words"])


def failing(number: int) -> Callable[..., Any]:
    """A system call that fails."""

    def fail(*arguments: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


class DirectoryTests(BadmailTestCase):
    def assert_refused(self, words: str) -> None:
        """Storing fails for now, and says why."""
        failure = self.failureResultOf(self.store(), DirectoryProblem)

        self.assertIn(words, str(failure.value))

    def test_missing(self) -> None:
        """It is made, with what is missing above it, at start and whenever it is needed."""
        self.badmail = Badmail(self.directory / "a" / "b", execute)
        self.badmail.start()
        (self.directory / "a" / "b").rmdir()
        self.successResultOf(self.store())

        self.assertEqual(3, len(os.listdir(self.directory / "a" / "b")))

    def test_link(self) -> None:
        """A symbolic link in its place is not followed (attacks.md A72)."""
        elsewhere = self.directory.parent / "elsewhere"
        elsewhere.mkdir()
        self.directory.symlink_to(elsewhere)

        self.assert_refused("symbolic link")

        self.assertRaises(DirectoryProblem, self.badmail.start)
        self.assertEqual([], self.names())

    def test_file(self) -> None:
        """Nor is a file a directory."""
        self.directory.write_bytes(b"")

        self.assert_refused("no directory")
        self.assertRaises(DirectoryProblem, self.badmail.start)

    def test_not_writable(self) -> None:
        """Refused by the system: said so, and nothing is lost."""
        with patch.object(os, "open", failing(errno.EACCES)):
            self.assert_refused("Permission denied")

    def test_full(self) -> None:
        """Whichever call finds the disk full, nothing is left."""
        for call in ("write", "fchmod", "rename"):
            with patch.object(os, call, failing(errno.ENOSPC)):
                self.badmail.start()
                self.assert_refused("No space left")
            self.assertEqual([], self.names(), call)

    def test_fails_between_two_names(self) -> None:
        """Then the parts stay, and the next attempt or the next start completes the triple."""
        for again in (True, False):
            rename, left = os.rename, 1

            def second_fails(
                *names: str, rename: Callable[..., None] = rename, **options: int
            ) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                rename(*names, **options)

            with patch.object(os, "rename", second_fails):
                self.assert_refused("Input/output")
            self.assertEqual(3, len(self.names()))
            if again:
                stem = self.successResultOf(self.store())
            else:
                self.badmail.start()
            self.assert_triple(stem)
            rmtree(self.directory)

    def test_cannot_be_locked(self) -> None:
        """What was created and not locked keeps no later attempt out."""
        with patch.object(fcntl, "flock", failing(errno.ENOLCK)):
            self.assert_refused("No locks")

        self.assert_triple(self.successResultOf(self.store()))

    def test_damaged(self) -> None:
        """A damaged content leaves nothing, however much was written."""
        for blocks in (1, 8):
            content = Stored([bytes(BATCH_OCTETS)] * blocks, ContentDamaged("another digest"))
            self.badmail.start()

            self.failureResultOf(self.store(content=content), ContentDamaged)

            self.assertEqual([], self.names())
            self.assertTrue(content.closed)

    def test_cancelled(self) -> None:
        """An attempt that is given up leaves nothing."""
        content = SlowStored([bytes(BATCH_OCTETS)] * 3)
        stored = self.store(content=content)
        content.give()
        self.assertEqual(1, len(self.names()))

        stored.cancel()

        self.failureResultOf(stored)
        self.assertEqual([], self.names())


class CrashTests(BadmailTestCase):
    def test_every_crash(self) -> None:
        """Killed at whatever call: after the start a whole triple or none, then one."""
        outcomes = set()
        for call in ("open", "write", "fsync", "fchmod", "rename", "close"):
            for nth in range(6):
                self.setUp()
                self.directory.mkdir()
                killed = self.kill_at(call, nth)
                self.assertTrue(killed or nth, call)
                if any(name.endswith(".BDR") for name in self.names()):
                    self.assertEqual(3, len(self.names()), (call, nth))

                self.badmail.start()
                outcomes.add(len(self.names()))
                if self.names():
                    self.assert_triple(self.names()[0][:24])
                stem = self.successResultOf(self.store())

                self.assert_triple(stem)
        self.assertEqual({0, 3}, outcomes)

    def kill_at(self, call: str, nth: int) -> bool:
        """
        Store in a process that is killed before its *nth* use of *call*, from 0.

        :returns: whether it came to that.
        """
        done = getattr(os, call)
        left = nth

        def dying(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return done(*arguments, **options)

        child = os.fork()
        if child == 0:
            try:
                with patch.object(os, call, dying):
                    self.store()
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        return os.WIFSIGNALED(status)

    def test_swept_before_it_is_locked(self) -> None:
        """Another process that starts between our file and our lock on it undoes nothing."""
        lock, starts = fcntl.flock, [Badmail(self.directory, execute).start]

        def late(fd: int, operation: int) -> None:
            if starts:
                starts.pop()()
            lock(fd, operation)

        self.patch(fcntl, "flock", late)

        self.assert_triple(self.successResultOf(self.store()))

    def test_names_that_a_disk_has_lost(self) -> None:
        """Without message and envelope a reason is nothing; the message is still queued."""
        self.directory.mkdir()
        parts = {kind: self.directory / f".{QUEUE_ID}.{kind}.part" for kind in ("BDP", "BDR")}
        for kinds in (("BDR",), ("BDP", "BDR")):
            for kind in kinds:
                parts[kind].write_bytes(b"")

            self.badmail.start()

            self.assertEqual([], self.names())

    def test_named_by_another_process(self) -> None:
        """A start while a triple is being named names the rest; its writer has it all the same."""
        rename = os.rename

        def late(*names: str, **options: int) -> None:
            if names[1].endswith(".BDR"):
                with patch.object(os, "rename", rename):
                    Badmail(self.directory, execute).start()
            rename(*names, **options)

        with patch.object(os, "rename", late):
            stem = self.successResultOf(self.store())

        self.assert_triple(stem)

    def test_synced_before_the_reason(self) -> None:
        """The names of message and envelope are durable before that of the reason."""
        calls: list[str] = []
        rename, fsync = os.rename, os.fsync

        def noting_rename(*names: str, **options: int) -> None:
            calls.append(names[1][-3:])
            rename(*names, **options)

        def noting_fsync(fd: int) -> None:
            calls.append("directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
            fsync(fd)

        with patch.object(os, "rename", noting_rename), patch.object(os, "fsync", noting_fsync):
            self.successResultOf(self.store())

        self.assertEqual([*["file"] * 3, "BAD", "BDP", "directory", "BDR", "directory"], calls[-8:])

    def test_left_by_itself(self) -> None:
        """An envelope alone cannot be completed; it goes.  What is not ours stays."""
        self.directory.mkdir()
        (self.directory / f".{QUEUE_ID}.BDP.part").write_bytes(b"{}")
        (self.directory / "notes.txt").write_bytes(b"")

        self.badmail.start()

        self.assertEqual(["notes.txt"], self.names())

    def test_another_process_at_work(self) -> None:
        """A triple that is being written is left alone."""
        content = SlowStored([bytes(BATCH_OCTETS)])
        stored = self.store(content=content)
        content.give()

        Badmail(self.directory, execute).start()

        content.give()
        self.successResultOf(stored)
        self.assertEqual(3, len(self.names()))
