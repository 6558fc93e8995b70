"""Tests for `mailhost.intake.pickup`: what becomes of a file."""

from __future__ import annotations

import errno
import os
import re
import socket
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.logger import capturedLogs
from twisted.trial.unittest import SkipTest

from mailhost.config.settings import DomainSettings
from mailhost.delivery.drop import drop_fields
from mailhost.errors import DirectoryProblem, SpoolFull, SpoolProblem
from mailhost.intake import claim, pickup
from mailhost.intake.claim import is_open_for_writing
from mailhost.model.queue import QueuedMessage
from mailhost.routing.categorizer import make_categorizer
from tests.intake.pickup_house import MESSAGE, PickupTestCase, in_work
from tests.support.world import make_settings


class SentTests(PickupTestCase):
    def test_sent(self) -> None:
        """A file is sent and disappears; Date and Message-ID are added (PIC-09)."""
        message = self.send()

        self.assertEqual("ann@example.com", str(message.reverse_path))
        self.assertEqual(["bob@example.net"], self.recipients(message))
        self.assertEqual(("7BIT", ""), (message.body, message.hello))
        self.assertRegex(
            self.content(message),
            rb"\ADate: Sun, 09 Sep 2001 01:46:4\d \+0000\r\n"
            rb"Message-ID: <MAIL[0-9A-Za-z]{13}00000001@mail.example.com>\r\n"
            rb"From: ann@example.com\r\nTo: bob@example.net\r\nSubject: test\r\n\r\nHello\r\n\Z",
        )

    def test_date_and_id_kept(self) -> None:
        """What is there is not added."""
        octets = b"Date: x\r\nMessage-ID: <y@z>\r\n" + MESSAGE.replace(b"\n", b"\r\n")

        self.assertEqual(octets, self.content(self.send(octets)))

    def test_envelope(self) -> None:
        """As System.Net.Mail writes it: the envelope rules, and does not leave."""
        message = self.send(
            b"X-Sender: ann@example.com\r\nX-Receiver: bob@example.net\r\n"
            b"X-Receiver: carl@example.org\r\nMIME-Version: 1.0\r\nFrom: other@example.com\r\n"
            b"To: dora@example.com\r\nDate: 9 Sep 2001 01:46:40 +0000\r\nSubject: test\r\n\r\n"
            b"Hello\r\n"
        )

        self.assertEqual("ann@example.com", str(message.reverse_path))
        self.assertEqual(["bob@example.net", "carl@example.org"], self.recipients(message))
        self.assertNotIn(b"X-Sender", self.content(message))

    def test_cdosys(self) -> None:
        """As CDOSYS writes it: lower case at the top, its own fields, LF nowhere."""
        message = self.send(
            b"x-sender: ann@example.com\r\nx-receiver: bob@example.net\r\n"
            b"Thread-Topic: test\r\nthread-index: AcE=\r\nFrom: <ann@example.com>\r\n"
            b"To: <bob@example.net>\r\nCc: \r\nBcc: \r\nSubject: test\r\n"
            b"Date: Sun, 9 Sep 2001 01:46:40 -0000\r\nMessage-ID: <1@example.com>\r\n"
            b"MIME-Version: 1.0\r\nContent-Class: urn:content-classes:message\r\n\r\nHello\r\n"
        )

        content = self.content(message)
        self.assertTrue(content.startswith(b"Thread-Topic: test\r\n"))
        self.assertNotIn(b"Bcc", content)

    def test_old_sample(self) -> None:
        """The documented sample: unqualified sender, no From (iis-smtp.md §10.2)."""
        message = self.send(
            b"x-sender: Sender\nx-receiver: user1@valid.but.unreachable.host\n"
            b"Subject: Testing.\n\nTesting\n"
        )

        self.assertEqual("Sender@example.com", str(message.reverse_path))
        self.assertEqual(["user1@valid.but.unreachable.host"], self.recipients(message))

    def test_drop_file(self) -> None:
        """A Drop file fed back goes to its recipients, without its Return-Path."""
        first = self.send()
        octets = drop_fields(
            first, [one.forward_path for one in first.recipients.values()]
        ) + bytes(self.world.store.open_content(first).read())

        again = self.send(octets)

        self.assertEqual(first.reverse_path, again.reverse_path)
        self.assertEqual(self.recipients(first), self.recipients(again))
        content = self.content(again)
        self.assertNotIn(b"Return-Path", content)
        self.assertEqual(1, content.count(b"Received: "))

    def test_drop_to_pickup_for_ever(self) -> None:
        """Fed back again and again it ends in Badmail as a loop (A60)."""
        message = self.send()
        for _ in range(self.world.desk.settings.delivery.max_hops):
            message = self.send(bytes(self.world.store.open_content(message).read()))

        self.put(bytes(self.world.store.open_content(message).read()))
        self.settle()

        (bad,) = self.bad()
        self.assertIn("a mail loop", bad["reason"])

    def test_pic_07(self) -> None:
        """A line of one dot neither ends the message nor loses its dot (PIC-07)."""
        message = self.send(MESSAGE + b".\n..a\n.\nend")

        self.assertTrue(self.content(message).endswith(b"Hello\r\n.\r\n..a\r\n.\r\nend\r\n"))

    def test_addresses_completed(self) -> None:
        """Unqualified ones get the default domain, alias domains become it, none comes twice."""
        settings = make_settings(
            home=self.home,
            domains=(DomainSettings(name="alias.example.com", type="alias"),),
        )
        self.world.desk.settings = settings
        self.world.desk.categorizer = make_categorizer(settings)

        message = self.send(
            b"From: ann\nTo: bob@alias.example.com; bob@example.com\nBcc: bob, carl\n\n"
        )

        self.assertEqual("ann@example.com", str(message.reverse_path))
        self.assertEqual(["bob@example.com", "carl@example.com"], self.recipients(message))

    def test_eight_bit(self) -> None:
        """Content over 127 is declared (RFC 6152)."""
        self.assertEqual("8BITMIME", self.send(MESSAGE + "ü\n".encode()).body)

    def test_every_script(self) -> None:
        """Addresses in UTF-8 ask for SMTPUTF8 on their way (RFC 6531); a body does not."""
        octets = MESSAGE.replace(b"To: bob@", "To: Jörg <jörg@".encode()).replace(
            b"example.net", "bücher.example>".encode(), 1
        )

        message = self.send(octets)

        self.assertEqual(["jörg@bücher.example"], self.recipients(message))
        self.assertTrue(message.parameters.smtputf8)
        self.assertFalse(self.send(MESSAGE + "ü\n".encode()).parameters.smtputf8)

    def test_empty_body(self) -> None:
        """A header is a message."""
        message = self.send(b"From: ann@example.com\nTo: bob@example.net")

        self.assertTrue(self.content(message).endswith(b"To: bob@example.net\r\n\r\n"))

    def test_large(self) -> None:
        """Longer than a block: block borders leave no trace, and the store may take its time."""
        self.set_limits(max_message_size=None)
        lines = b"".join(b"%07d\n" % number for number in range(200_000))

        content = self.content(self.send(MESSAGE + lines))

        self.assertTrue(content.endswith(b"Hello\r\n" + lines.replace(b"\n", b"\r\n")))

    def test_too_many_recipients(self) -> None:
        """They are split into messages, as IIS does (MSG-04), all of one Message-ID."""
        self.set_limits(max_recipients=2)
        self.put(b"From: a\nTo: b, c, d, e, f\n\nHello\n")
        self.settle()

        self.assertEqual([2, 2, 1], [len(message.recipients) for message in self.accepted])
        contents = {self.content(message) for message in self.accepted}
        self.assertEqual(1, len(contents))
        self.assertTrue(contents.pop().endswith(b"\r\n\r\nHello\r\n"))

    def test_any_name(self) -> None:
        """A newline, octets that are no text, nothing in common: names do not matter (A71)."""
        for number, name in enumerate(("a\nb", "\udcff\udcfe", "x" * 255, "%s{0}", " ")):
            self.put(name=name)
            self.settle()
            self.assertEqual(number + 1, len(self.accepted), ascii(name))
            self.assertEqual([], self.left())

    def test_many(self) -> None:
        """More files than are looked at, or worked on, at a time."""
        for number in range(2500):
            self.put(name=str(number))
        for _ in range(6):
            self.world.clock.advance(1.0)

        self.assertEqual(2500, len(self.accepted))
        self.assertEqual([], self.left())

    def test_told(self) -> None:
        """One line for each file."""
        with capturedLogs() as events:
            message = self.send()

        told = [event for event in events if "file" in event]
        self.assertEqual(["a.eml"], [event["file"] for event in told])
        self.assertEqual([message.queue_id], told[0]["queue_ids"])


class BadTests(PickupTestCase):
    def assert_bad(self, octets: bytes, reason: str) -> dict[str, Any]:
        """The file ends in Badmail as it was, for *reason*, and nowhere else."""
        self.put(octets, "b.txt")
        self.settle()
        (bad,) = self.bad()
        self.assertRegex(bad["reason"], reason)
        self.assertEqual(octets, bad["content"])
        self.assertEqual("b.txt", bad["source"])
        self.assertEqual(0xC00402CE, bad["code"])
        self.assertEqual(([], []), (self.left(), self.accepted))
        self.settle()
        self.assertEqual(1, len(self.bad()))
        return bad

    def test_no_sender(self) -> None:
        """PIC-05."""
        bad = self.assert_bad(b"To: bob\n\nHello\n", "no sender")

        self.assertIn("Error in processing file in pickup directory", bad["text"])
        self.assertIn("0xC00402CE", bad["text"])
        self.assertIn("The message sender was not named.", bad["text"])
        self.assertIn("<bob@example.com>", bad["text"])

    def test_no_recipients(self) -> None:
        """PIC-06."""
        bad = self.assert_bad(b"From: ann\n\nHello\n", "no recipients")

        self.assertEqual("<ann@example.com>", bad["reverse_path"])

    def test_malformed(self) -> None:
        """PIC-06: the address is named."""
        self.assert_bad(b"From: ann\nTo: bob at example.net\n\n", "to field.*bob at example")

    def test_nul(self) -> None:
        """Not a message at all."""
        bad = self.assert_bad(MESSAGE + b"\0", "NUL")

        self.assertEqual("<ann@example.com>", bad["reverse_path"])
        self.assert_names_bob(bad)

    def assert_names_bob(self, bad: dict[str, Any]) -> None:
        """The recipient is known all the same."""
        self.assertEqual(["<bob@example.net>"], [r["forward_path"] for r in bad["recipients"]])

    def test_long_line(self) -> None:
        """Over messages.max_line_length, behind the header as well."""
        self.assert_bad(MESSAGE + b"x" * 999, "more than 998 octets")

    def test_long_header(self) -> None:
        """Over 256 KiB, with a blank line or without."""
        for end in (b"\n", b""):
            self.setUp()
            self.assert_bad(b"From: ann\nTo: b\n" + b"X: yyyyyyyy\n" * 30_000 + end, "header")

    def test_empty(self) -> None:
        """An empty file names nobody."""
        self.assert_bad(b"", "no sender")

    def test_too_large(self) -> None:
        """The limit of SMTP holds (PIC-11), counted as there: without envelope fields."""
        self.set_limits(max_message_size=2000)
        head = b"Date: x\nMessage-ID: <y@z>\n" + MESSAGE
        size = len(head) + head.count(b"\n")
        fill = (b"x" * 498 + b"\n") * 3 + b"x" * (2000 - size - 1500 - 2)
        fields = b"x-sender: ann\n" + b"x-receiver: bob@example.net\n" * 20
        self.send(fields + head + fill)

        self.accepted.clear()
        self.assert_bad(fields + head + b"x" + fill, "larger than 2000")

    def test_much_too_large(self) -> None:
        """What is too large to be copied stays; its beginning goes to Badmail (A71: 1 TB)."""
        path = self.put(MESSAGE)
        os.truncate(path, 10**12)
        self.settle()
        self.settle()

        (bad,) = self.bad()
        self.assertIn("1000000000000 octets", bad["reason"])
        self.assertEqual(pickup.BEGINNING_OCTETS, len(bad["content"]))
        self.assertTrue(bad["content"].startswith(MESSAGE))
        self.assert_names_bob(bad)
        self.assertEqual((["a.eml"], []), (self.left(), self.accepted))

    def test_store_over_crash(self) -> None:
        """Killed between Badmail and removal: the same triple again, not another one."""
        with self.refuse("unlink", errno.EIO, in_work):
            self.put(b"no message")
            self.settle()
            self.assertEqual(1, len(self.left()))
        self.crash()
        self.settle()

        self.assertEqual(1, len(self.bad()))
        self.assertEqual([], self.left())


class OddTests(PickupTestCase):
    def assert_left(self, name: str, words: str) -> None:
        """It stays, unread, and is named once."""
        with capturedLogs() as events:
            self.settle()
            self.settle()

        told = [event for event in events if event.get("file") == name]
        self.assertEqual(1, len(told), told)
        self.assertIn(words, told[0]["reason"])
        self.assertIn(name, self.left())
        self.assertEqual(([], []), (self.accepted, self.bad()))

    def test_links(self) -> None:
        """Not even to a good message, and no dangling one."""
        elsewhere = self.home / "elsewhere"
        elsewhere.write_bytes(MESSAGE)
        (self.directory / "soft").symlink_to(elsewhere)
        self.assert_left("soft", "symbolic link")
        (self.directory / "dangling").symlink_to(self.home / "nothing")
        self.assert_left("dangling", "symbolic link")

    def test_hard_link(self) -> None:
        """Its other name may be one that only we can read; alone again it is a file."""
        elsewhere = self.home / "elsewhere"
        elsewhere.write_bytes(MESSAGE)
        os.link(elsewhere, self.directory / "hard")
        self.assert_left("hard", "several names")

        elsewhere.unlink()
        self.settle()
        self.assertEqual(1, len(self.accepted))

    def test_fifo(self) -> None:
        """Opening it would wait for ever."""
        os.mkfifo(self.directory / "fifo")

        self.assert_left("fifo", "FIFO")

    def test_directory(self) -> None:
        """A directory is no message, nor is what is in it."""
        (self.directory / "sub").mkdir()
        (self.directory / "sub" / "a.eml").write_bytes(MESSAGE)

        self.assert_left("sub", "directory")

    def test_socket(self) -> None:
        """Nor is a socket."""
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(os.path.relpath(self.directory / "sock"))
        self.assert_left("sock", "socket")

    def test_unreadable(self) -> None:
        """What we may not read stays until we may."""
        self.put(name="closed")
        with self.refuse("open", errno.EACCES, lambda name: name == "closed"):
            self.assert_left("closed", "Permission denied")
        os.chmod(self.directory / "closed", 0o644)
        self.settle()

        self.assertEqual(1, len(self.accepted))

    def test_dot(self) -> None:
        """Names with a dot in front are programs' own; renamed they are sent."""
        path = self.put(name=".a.tmp")
        self.settle()
        self.assertEqual([".a.tmp"], self.left())

        path.rename(self.directory / "a")
        self.settle()
        self.assertEqual(1, len(self.accepted))

    def test_too_many_to_remember(self) -> None:
        """Beyond what can be remembered odd things are not named, and files still sent."""
        self.patch(pickup.Sightings, "may_leave", property(lambda one: len(one._left) < 3))
        for number in range(6):
            os.mkfifo(self.directory / f"fifo{number}")
        with capturedLogs() as events:
            self.settle()
        self.put()
        self.settle()

        self.assertEqual(3, len([event for event in events if "file" in event]))
        self.assertEqual(1, len(self.accepted))

    def test_replaced(self) -> None:
        """A name that was left alone is looked at afresh when it is another file's."""
        os.mkfifo(self.directory / "a.eml")
        self.assert_left("a.eml", "FIFO")
        (self.directory / "a.eml").unlink()
        self.put()
        self.settle()

        self.assertEqual(1, len(self.accepted))


class StableTests(PickupTestCase):
    def test_growing(self) -> None:
        """Half-written files are never taken: one that changes every second waits."""
        path = self.put(MESSAGE)
        for _ in range(10):
            with path.open("ab") as file:
                file.write(b"more\n")
            self.world.clock.advance(1.0)
        self.assertEqual([], self.accepted)

        self.settle()
        self.assertEqual(1, len(self.accepted))
        self.assertTrue(self.content(self.accepted[0]).endswith(b"more\r\n" * 10))

    def test_same_size(self) -> None:
        """Written over in place: the time tells."""
        path = self.put(MESSAGE)
        for number in range(5):
            os.utime(path, ns=(number, number))
            self.world.clock.advance(1.0)
        self.assertEqual([], self.accepted)

    def test_open(self) -> None:
        """A half-written file that a program holds open waits, however long (PIC-10)."""
        path = self.put(MESSAGE[:30])
        with path.open("ab", buffering=0) as file:
            self.need_leases(file.fileno())
            for _ in range(20):
                self.world.clock.advance(1.0)
            self.assertEqual(([], []), (self.accepted, self.bad()))
            file.write(MESSAGE[30:])
        self.settle()

        self.assertTrue(self.content(self.accepted[0]).endswith(b"Hello\r\n"))

    def need_leases(self, writer: int) -> None:
        """Where the file system has none there is nothing to test."""
        fd = os.open(f"/proc/self/fd/{writer}", os.O_RDONLY)
        try:
            if not is_open_for_writing(fd):
                raise SkipTest("this file system cannot tell who writes")
        finally:
            os.close(fd)

    def test_changed_while_read(self) -> None:
        """What changes under our eyes is not sent as it was."""
        real, path = os.pread, self.put()
        left = 1

        def growing(*arguments: Any) -> bytes:
            nonlocal left
            if left:
                left -= 1
                (work,) = (self.directory / ".work").iterdir()
                with work.open("ab") as file:
                    file.write(b"more\n")
            return real(*arguments)

        self.patch(os, "pread", growing)
        self.settle()
        self.assertEqual((0, []), (left, self.accepted))
        self.assertFalse(path.exists())

        self.world.clock.advance(5.0)
        self.assertTrue(self.content(self.accepted[0]).endswith(b"more\r\n"))
        self.assertEqual([], self.left())

    def test_gone(self) -> None:
        """A file that its owner takes back is none of our business."""
        path = self.put()
        self.world.clock.advance(1.0)
        path.unlink()
        self.settle()

        self.assertEqual(([], []), (self.accepted, self.bad()))

    def test_exchanged_while_claimed(self) -> None:
        """A link that takes the file's name at the last instant is claimed, never read."""
        real = os.rename
        secret = self.home / "secret"
        secret.write_bytes(MESSAGE)

        def exchanging(source: Any, *arguments: Any, **options: Any) -> None:
            if source == "a.eml":
                (self.directory / "a.eml").unlink()
                (self.directory / "a.eml").symlink_to(secret)
            real(source, *arguments, **options)

        self.patch(os, "rename", exchanging)
        self.put()
        self.settle()
        self.settle()

        self.assertEqual(([], []), (self.accepted, self.bad()))
        self.assertEqual(1, len(self.left()))


class RemovalTests(PickupTestCase):
    def test_pic_08(self) -> None:
        """A file that cannot be renamed is never sent; Badmail once, also after restarts."""
        for number in (errno.EPERM, errno.EACCES, errno.EROFS, errno.EBUSY):
            self.setUp()
            with self.refuse("rename", number, lambda name: name == "a.eml"):
                self.put()
                for _ in range(3):
                    self.settle()
                    self.settle()
                    self.crash()

                (bad,) = self.bad()
                self.assertIn("cannot be removed", bad["reason"])
                self.assertIn(os.strerror(number), bad["reason"])
                self.assertEqual(MESSAGE, bad["content"])
                self.assertEqual("<ann@example.com>", bad["reverse_path"])
                self.assertEqual((["a.eml"], []), (self.left(), self.accepted))

    def test_pic_08_once_per_run(self) -> None:
        """Nor is it read again as long as it stays the same."""
        with self.refuse("rename", errno.EPERM, lambda name: name == "a.eml"):
            self.put()
            with capturedLogs() as events:
                for _ in range(5):
                    self.settle()
        told = [event for event in events if event.get("file") == "a.eml"]
        self.assertEqual(1, len(told))

        os.utime(self.directory / "a.eml")
        self.settle()
        self.assertEqual(1, len(self.accepted))

    def test_pic_08_read_only_directory(self) -> None:
        """The same where not even .work can be made."""
        self.successResultOf(self.pickup.stop())
        (self.directory / ".work").rmdir()
        with self.refuse("mkdir", errno.EROFS, lambda name: name == ".work"):
            self.pickup.start()
            self.put()
            self.settle()

        self.assertEqual(1, len(self.bad()))
        self.assertEqual((["a.eml"], []), (self.left(), self.accepted))

    def test_pic_08_too_many(self) -> None:
        """Those that cannot be remembered are not touched: no loop."""
        self.patch(pickup.Sightings, "may_leave", property(lambda one: len(one._left) < 2))
        with self.refuse("rename", errno.EPERM, lambda name: name.startswith("f")):
            for number in range(5):
                self.put(name=f"f{number}")
            for _ in range(4):
                self.settle()

        self.assertEqual(2, len(self.bad()))
        self.assertEqual(5, len(self.left()))

    def test_read_only_file(self) -> None:
        """A file's own mode is no obstacle: it is the directory's that counts."""
        self.put().chmod(0o400)
        self.settle()

        self.assertEqual((1, []), (len(self.accepted), self.left()))

    def test_removal_fails_once(self) -> None:
        """Queued, but not removed: it is not queued again, only the removal is tried again."""
        with self.refuse("unlink", errno.EIO, in_work):
            self.put()
            self.settle()
            self.assertEqual(1, len(self.accepted))
            self.assertEqual(1, len(self.left()))
        self.world.clock.advance(61.0)

        self.assertEqual(1, len(self.accepted))
        self.assertEqual(([], []), (self.left(), self.bad()))

    def test_killed_before_removal(self) -> None:
        """Killed between commit and removal: sent twice, never lost, gone at last."""
        with self.refuse("unlink", errno.EIO, in_work):
            self.put()
            self.settle()
        self.crash()

        self.assertEqual(2, len(self.accepted))
        self.assertEqual([], self.left())

    def test_pic_08_in_work(self) -> None:
        """If it can never be removed there, no restart sends it again."""
        with (
            self.refuse("unlink", errno.EROFS, in_work),
            self.refuse("rename", errno.EROFS, in_work),
        ):
            self.put()
            self.settle()
            self.assertEqual(1, len(self.accepted))
            for _ in range(3):
                self.crash()
                self.settle()

        self.assertEqual(1, len(self.accepted))
        self.assertEqual(1, len(self.bad()))
        self.crash()
        self.assertEqual([], self.left())


class TroubleTests(PickupTestCase):
    def test_queue_fails(self) -> None:
        """The file waits in .work, and goes when the queue takes it; never to Badmail."""
        real = self.world.store.commit
        for problem in (SpoolFull("full"), SpoolProblem("failed")):
            self.world.store.commit = lambda *arguments, problem=problem: fail(problem)
            self.put()
            self.settle()
            self.assertEqual(1, len(self.left()))
            self.assertEqual(([], []), (self.accepted, self.bad()))

            self.world.store.commit = real
            self.world.clock.advance(5.0)
            self.world.clock.advance(1.0)
            self.assertEqual((1, [], []), (len(self.accepted), self.bad(), self.left()))
            self.accepted.clear()

    def test_queue_full(self) -> None:
        """While the store says that it is full nothing is even claimed; it is told once."""
        self.world.store.max_octets = -1
        with capturedLogs() as events:
            self.put()
            self.settle()
            self.settle()
        self.assertEqual(["a.eml"], self.left())
        self.assertEqual(1, len([event for event in events if event.get("kind") == "queue"]))

        self.world.store.max_octets = 10**6
        self.settle()
        self.assertEqual((1, []), (len(self.accepted), self.left()))

    def test_one_too_large_for_the_disk(self) -> None:
        """A message for which there is no room does not keep others from being sent."""
        self.set_limits(max_message_size=None)
        self.world.store.max_octets = 2000
        self.put(MESSAGE + b"x\n" * 2000, "large")
        self.settle()
        self.put(name="small")
        self.settle()

        self.assertEqual(1, len(self.accepted))
        self.assertEqual(1, len(self.left()))
        self.world.store.max_octets = 10**6
        self.world.clock.advance(5.0)
        self.assertEqual(2, len(self.accepted))

    def test_split_goes_on(self) -> None:
        """Of a split message only what is missing is queued again."""
        self.set_limits(max_recipients=1)
        real, left = self.world.store.commit, 2

        def failing(*arguments: Any) -> Deferred[QueuedMessage]:
            nonlocal left
            left -= 1
            return fail(SpoolProblem("failed")) if left < 0 else real(*arguments)

        self.world.store.commit = failing
        self.put(b"From: a\nTo: b, c, d, e\n\n")
        self.settle()
        self.assertEqual(2, len(self.accepted))
        self.world.store.commit = real
        self.world.clock.advance(5.0)

        self.assertEqual(
            [[f"{who}@example.com"] for who in "bcde"],
            [self.recipients(message) for message in self.accepted],
        )
        self.assertEqual(1, len({self.content(message) for message in self.accepted}))

    def test_badmail_fails(self) -> None:
        """A bad file waits until Badmail can be used."""
        self.badmail.directory.write_bytes(b"")
        self.put(b"no message")
        self.settle()
        self.assertEqual(1, len(self.left()))

        self.badmail.directory.unlink()
        self.world.clock.advance(5.0)
        self.world.clock.advance(1.0)
        self.assertEqual((1, []), (len(self.bad()), self.left()))

    def test_many_wait(self) -> None:
        """When too many wait in .work no more are claimed."""
        self.patch(pickup, "MAX_WAITING", 3)
        self.badmail.directory.write_bytes(b"")
        for number in range(30):
            self.put(b"no message", str(number))
        self.settle()

        claimed = [name for name in self.left() if name.startswith(".work")]
        self.assertEqual(3, len(claimed))
        self.badmail.directory.unlink()
        for _ in range(8):
            self.world.clock.advance(1.0)
        self.assertEqual((30, []), (len(self.bad()), self.left()))

    def test_reading_fails(self) -> None:
        """A disk that cannot be read now is no fault of the message."""
        real = os.pread
        self.patch(os, "pread", lambda *arguments: self.raise_error(errno.EIO))
        self.put()
        self.settle()
        self.assertEqual(([], []), (self.accepted, self.bad()))

        self.patch(os, "pread", real)
        self.world.clock.advance(60.0)
        self.assertEqual((1, []), (len(self.accepted), self.left()))

    def raise_error(self, number: int) -> bytes:
        raise OSError(number, os.strerror(number))

    def test_program_error(self) -> None:
        """Whatever else goes wrong with one file, it waits, and others are sent."""
        real = self.world.store.commit
        self.world.store.commit = lambda *arguments: 1 / 0
        self.put()
        self.settle()
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

        self.world.store.commit = real
        self.put(name="other")
        self.settle()
        self.assertEqual(1, len(self.accepted))
        self.world.clock.advance(60.0)
        self.assertEqual((2, []), (len(self.accepted), self.left()))


class DirectoryTests(PickupTestCase):
    def test_made(self) -> None:
        """Missing directories are made, closed to others."""
        self.assertEqual(0o700, self.directory.stat().st_mode & 0o777)
        self.assertEqual(0o700, (self.directory / ".work").stat().st_mode & 0o777)

    def test_removed(self) -> None:
        """Removed under our feet it is made again."""
        (self.directory / ".work").rmdir()
        self.directory.rmdir()
        self.settle()

        self.send()

    def test_work_removed(self) -> None:
        """So is .work alone."""
        (self.directory / ".work").rmdir()
        self.put()
        self.settle()
        self.settle()
        self.settle()

        self.assertEqual((1, []), (len(self.accepted), self.left()))

    def test_link(self) -> None:
        """A symbolic link in its place is not followed (A72); told once, and tried again."""
        self.successResultOf(self.pickup.stop())
        (self.directory / ".work").rmdir()
        self.directory.rmdir()
        elsewhere = self.home / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "a").write_bytes(MESSAGE)
        self.directory.symlink_to(elsewhere)
        with capturedLogs() as events:
            self.pickup.start()
            self.settle()
        self.assertEqual(1, len([event for event in events if event.get("kind") == "directory"]))
        self.assertEqual(["a"], os.listdir(elsewhere))

        self.directory.unlink()
        self.settle()
        self.send()

    def test_work_is_not_ours(self) -> None:
        """A .work that others may write to, or a link, is not used: nothing is claimed."""
        self.successResultOf(self.pickup.stop())
        work = self.directory / ".work"
        work.chmod(0o777)
        with capturedLogs() as events:
            self.pickup.start()
            self.put()
            self.settle()
        self.assertIn("alone", [e["words"] for e in events if e.get("kind") == "directory"][0])
        self.assertEqual(["a.eml"], self.left())

        work.rmdir()
        (self.home / "elsewhere").mkdir()
        work.symlink_to(self.home / "elsewhere")
        self.settle()
        self.assertEqual([], os.listdir(self.home / "elsewhere"))

    def test_exchanged(self) -> None:
        """Another directory in its place is noticed."""
        self.directory.rename(self.home / "old")
        self.directory.mkdir()
        self.settle()

        self.send()

    def test_foreign_names_in_work(self) -> None:
        """What others have put into .work stays there."""
        self.successResultOf(self.pickup.stop())
        (self.directory / ".work" / "notes").write_bytes(MESSAGE)
        self.pickup.start()
        self.settle()

        self.assertEqual([".work/notes"], self.left())

    def test_idempotent(self) -> None:
        """Starting and stopping twice is once, and after a stop nothing is taken."""
        self.pickup.start()
        self.send()
        for _ in range(2):
            self.successResultOf(self.pickup.stop())
        self.assertEqual([], self.world.clock.getDelayedCalls())
        self.put()
        self.settle()
        self.assertEqual(1, len(self.accepted))

        self.pickup.start()
        self.settle()
        self.assertEqual(2, len(self.accepted))

    def test_stop_waits(self) -> None:
        """A file in work is finished first, and no other is begun."""
        real = self.world.store.commit
        commits: list[tuple[Deferred[QueuedMessage], tuple[Any, ...]]] = []

        def slow(*arguments: Any) -> Deferred[QueuedMessage]:
            commits.append((Deferred(), arguments))
            return commits[-1][0]

        self.world.store.commit = slow
        for number in range(20):
            self.put(name=str(number))
        self.settle()
        self.assertEqual(pickup.MAX_IN_WORK, len(commits))
        stopped = self.pickup.stop()
        self.assertNoResult(stopped)
        for committed, arguments in commits:
            real(*arguments).chainDeferred(committed)

        self.successResultOf(stopped)
        self.assertEqual(pickup.MAX_IN_WORK, len(self.accepted))
        self.assertEqual(20 - pickup.MAX_IN_WORK, len(self.left()))

    def test_look(self) -> None:
        """A look that is asked for does not wait for its time."""
        self.successResultOf(self.pickup.look())
        self.put()
        self.successResultOf(self.pickup.look())
        self.assertEqual([], self.accepted)
        self.world.clock.advance(1.0)

        self.assertEqual(1, len(self.accepted))


class ClaimTests(PickupTestCase):
    def test_names(self) -> None:
        """A claimed file is called by its identity, which a rename does not change."""
        path: Path = self.put()
        digest = claim._identity(path.stat()).digest
        path.rename(self.home / "b")

        self.assertRegex(digest, re.compile(r"\A[0-9a-f]{24}\Z"))
        self.assertEqual(digest, claim._identity((self.home / "b").stat()).digest)

    def test_look_is_bounded(self) -> None:
        """Each look goes on where the last one stopped, whatever the number of files (A71)."""
        directory = claim.PickupDirectory(self.directory)
        directory.open()
        self.addCleanup(directory.close)
        for number in range(25):
            self.put(name=str(number))
        sizes, names = [], []
        while True:
            look = directory.look((), (), 10)
            sizes.append(len(look.seen))
            names += [seen.name for seen in look.seen]
            if look.passed:
                break

        self.assertEqual([10, 10, 5], sizes)
        self.assertEqual(25, len(set(names)))

    def test_problem(self) -> None:
        """A directory that cannot be opened is temporary trouble."""
        blocked = self.home / "file"
        blocked.write_bytes(b"")

        self.assertRaises(DirectoryProblem, claim.PickupDirectory(blocked).open)
