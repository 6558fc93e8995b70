"""Tests for `mailhost.delivery.drop`."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, cast
from unittest.mock import patch

from twisted.internet import reactor
from twisted.internet.defer import Deferred, execute, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from mailhost.content.names import file_stem
from mailhost.delivery.drop import BATCH_OCTETS, DropDelivery
from mailhost.errors import ContentDamaged, DirectoryProblem
from mailhost.interfaces import IDelivery
from mailhost.model.address import Mailbox
from mailhost.model.queue import QueuedMessage
from tests.delivery.stored import SlowStored, Stored

QUEUE_ID = "0123456789abcdef01234567"
ONE = Mailbox("One", "example.com")
TWO = Mailbox("two", "example.com")
CONTENT = b"Received: from x\r\nSubject: hello\r\n\r\nbody\r\n"
EXPECTED = (
    b"x-sender: sender@example.org\r\n"
    b"x-receiver: One@example.com\r\n"
    b"x-receiver: two@example.com\r\n"
    b"Return-Path: <sender@example.org>\r\n"
    b"X-OriginalArrivalTime: 14 Mar 2002 15:31:58.0324 (UTC) FILETIME=[610D9B40:01C1CB6D]\r\n"
) + CONTENT


def queued(sender: Mailbox | None = Mailbox("sender", "example.org")) -> QueuedMessage:  # noqa: B008 -- a frozen value
    """A queued message with `CONTENT`."""
    return QueuedMessage(1, QUEUE_ID, sender, "7BIT", len(CONTENT), 1016119918.324)


class DropTestCase(SynchronousTestCase):
    """A Drop directory of its own; what blocks runs at once."""

    def setUp(self) -> None:
        self.directory = self.make_home() / "Drop"
        self.drop = self.make()
        self.drop.start()

    def make_home(self) -> Path:
        """An empty directory that goes with the test."""
        home = mkdtemp()
        self.addCleanup(rmtree, home)
        return Path(home)

    def make(self, quota_octets: int | None = None) -> DropDelivery:
        """A delivery into the directory, as after a restart."""
        return DropDelivery(self.directory, execute, quota_octets)

    def deliver(
        self,
        *recipients: Mailbox,
        content: Stored | None = None,
        message: QueuedMessage | None = None,
    ) -> Deferred[None]:
        """Deliver `CONTENT` unless told otherwise."""
        return self.drop.deliver(
            message or queued(), recipients or (ONE, TWO), content or Stored([CONTENT])
        )

    def names(self) -> list[str]:
        """All that is in the directory, hidden files too."""
        return sorted(os.listdir(self.directory))

    def only_file(self) -> Path:
        """The one file there."""
        (name,) = self.names()
        return self.directory / name


class ShapeTests(DropTestCase):
    def test_interface(self) -> None:
        """It is an `IDelivery`."""
        self.assertTrue(verifyObject(IDelivery, self.drop))

    def test_octets(self) -> None:
        """One file for all recipients, byte for byte as iis-smtp.md §10.3 has it."""
        self.successResultOf(self.deliver())

        self.assertEqual(EXPECTED, self.only_file().read_bytes())

    def test_null_reverse_path(self) -> None:
        """A report is dropped with an empty sender."""
        self.successResultOf(self.deliver(message=queued(None)))

        octets = self.only_file().read_bytes()
        self.assertTrue(octets.startswith(b"x-sender: <>\r\n"))
        self.assertIn(b"\r\nReturn-Path: <>\r\n", octets)

    def test_name(self) -> None:
        """24 hexadecimal digits and .eml, nothing of an address (attacks.md A70)."""
        self.successResultOf(self.deliver(Mailbox("../../etc/x", "example.com")))

        self.assertRegex(self.only_file().name, r"\A[0-9a-f]{24}\.eml\Z")

    def test_modes(self) -> None:
        """A new directory is the owner's; the file is readable by the group, whatever the umask."""
        before = os.umask(0o077)
        self.addCleanup(os.umask, before)

        self.successResultOf(self.deliver())

        self.assertEqual(0o700, stat.S_IMODE(self.directory.stat().st_mode))
        self.assertEqual(0o640, stat.S_IMODE(self.only_file().stat().st_mode))

    def test_separate_attempts(self) -> None:
        """Recipients delivered in two attempts have two files."""
        self.successResultOf(self.deliver(ONE))
        self.successResultOf(self.deliver(TWO))

        self.assertEqual(2, len(self.names()))

    def test_content_is_closed(self) -> None:
        """Whether it went well or not."""
        good, bad = Stored([CONTENT]), Stored([CONTENT], ContentDamaged("bad"))

        self.successResultOf(self.deliver(content=good))
        self.failureResultOf(self.deliver(content=bad), ContentDamaged)

        self.assertTrue(good.closed and bad.closed)


class BlockTests(DropTestCase):
    def test_slow_blocks(self) -> None:
        """Blocks that come later are waited for; the file appears with the last."""
        content = SlowStored([CONTENT[:5], CONTENT[5:]])
        delivered = self.deliver(content=content)

        content.give()
        content.give()
        self.assertNoResult(delivered)
        self.assertEqual([], [name for name in self.names() if name.endswith(".eml")])
        content.give()

        self.successResultOf(delivered)
        self.assertEqual(EXPECTED, self.only_file().read_bytes())

    def test_memory(self) -> None:
        """Of a large message a few blocks are in memory, the rest is in a hidden file."""
        block = bytes(64 * 1024)
        content = SlowStored([block] * 64)
        delivered = self.deliver(content=content)

        for _ in range(33):
            content.give()

        part = self.only_file()
        self.assertRegex(part.name, r"\A\.[0-9a-f]{24}\.part\Z")
        self.assertGreater(part.stat().st_size, 33 * len(block) - BATCH_OCTETS)
        for _ in range(32):
            content.give()
        self.successResultOf(delivered)
        self.assertEqual(
            64 * len(block), self.only_file().stat().st_size - len(EXPECTED) + len(CONTENT)
        )

    def test_damaged(self) -> None:
        """A damaged content leaves nothing, however much was written (`ContentDamaged`)."""
        for blocks in (1, 8):
            content = Stored([bytes(BATCH_OCTETS)] * blocks, ContentDamaged("another digest"))

            self.failureResultOf(self.deliver(content=content), ContentDamaged)

            self.assertEqual([], self.names())

    def test_cancelled(self) -> None:
        """An attempt that is given up leaves nothing."""
        content = SlowStored([bytes(BATCH_OCTETS)] * 3)
        delivered = self.deliver(content=content)
        content.give()
        self.assertEqual(1, len(self.names()))

        delivered.cancel()

        self.failureResultOf(delivered)
        self.assertEqual([], self.names())


class CrashTests(DropTestCase):
    def test_again_after_a_crash(self) -> None:
        """The attempt after the restart finds the file there, and does not double it."""
        self.successResultOf(self.deliver())
        self.drop = self.make()
        self.drop.start()

        self.successResultOf(self.deliver(TWO, ONE, content=Stored([CONTENT])))
        self.successResultOf(self.deliver())

        names = self.names()
        self.assertEqual(EXPECTED, (self.directory / f"{self.stem()}.eml").read_bytes())
        # The first of the two named the recipients in another order.
        self.assertEqual(2, len(names))

    def test_same_order(self) -> None:
        """With the recipients in the order of the envelope there is one file for ever."""
        for _ in range(3):
            self.successResultOf(self.deliver())

        self.assertEqual([f"{self.stem()}.eml"], self.names())

    def test_never_overwrites(self) -> None:
        """A file that is there under our name and is another stays as it is."""
        other = self.directory / f"{self.stem()}.eml"
        for octets in (b"", EXPECTED[:-1] + b"X"):
            other.write_bytes(octets)

            self.successResultOf(self.deliver())

            self.assertEqual(octets, other.read_bytes())
            self.assertEqual(2, len(self.names()))
            (ours,) = set(self.names()) - {other.name}
            self.assertEqual(EXPECTED, (self.directory / ours).read_bytes())

    def test_a_link_under_our_name(self) -> None:
        """It is neither followed nor replaced."""
        target = self.directory.parent / "target"
        target.write_bytes(EXPECTED)
        link = self.directory / f"{self.stem()}.eml"
        link.symlink_to(target)

        self.successResultOf(self.deliver())

        self.assertTrue(link.is_symlink())
        self.assertEqual(2, len(self.names()))

    def test_part_files_are_cleared_away(self) -> None:
        """At start, and only those that look like ours."""
        ours = self.directory / f".{self.stem()}.part"
        ours.write_bytes(b"half")
        others = [".hidden.part", "0" * 24 + ".part", ".part", "x.eml"]
        for name in others:
            (self.directory / name).write_bytes(b"")

        self.assertEqual(1, self.make().start())

        self.assertEqual(sorted(others), self.names())

    def test_part_file_of_another_process(self) -> None:
        """One that is being written is left alone."""
        content = SlowStored([bytes(BATCH_OCTETS), CONTENT])
        delivered = self.deliver(content=content)
        content.give()

        self.assertEqual(0, self.make().start())

        content.give()
        content.give()
        self.successResultOf(delivered)

    def test_swept_before_it_is_locked(self) -> None:
        """Another process that starts between our file and our lock on it delays nothing."""
        lock, other = fcntl.flock, self.make()
        swept: list[int] = []

        def late(fd: int, operation: int) -> None:
            if not swept:
                swept.append(0)
                swept[0] = other.start()
            lock(fd, operation)

        self.patch(fcntl, "flock", late)
        self.successResultOf(self.deliver())

        self.assertEqual([1], swept)
        self.assertEqual(EXPECTED, self.only_file().read_bytes())

    def test_left_over_without_restart(self) -> None:
        """A part file that could not be removed does not stand in the way."""
        (self.directory / f".{self.stem()}.part").write_bytes(b"half")

        self.successResultOf(self.deliver())

        self.assertEqual(EXPECTED, self.only_file().read_bytes())

    def test_two_attempts_at_once(self) -> None:
        """The second is put off, the first is not disturbed."""
        content = SlowStored([bytes(BATCH_OCTETS)])
        first = self.deliver(content=content)
        content.give()

        self.failureResultOf(self.deliver(), DirectoryProblem)

        content.give()
        self.successResultOf(first)
        self.assertEqual(1, len(self.names()))

    def test_every_crash(self) -> None:
        """Killed at whatever call: nothing half done shows, and one whole file comes of it."""
        for call in ("open", "write", "fsync", "fchmod", "rename", "close"):
            for nth in range(4):
                self.setUp()
                killed = self.kill_at(call, nth)
                self.assertTrue(killed or nth, call)
                shown = [name for name in self.names() if name.endswith(".eml")]
                for name in shown:
                    self.assertEqual(EXPECTED, (self.directory / name).read_bytes())

                self.make().start()
                self.assertEqual(shown, self.names(), (call, nth))
                self.successResultOf(self.deliver())

                self.assertEqual(EXPECTED, self.only_file().read_bytes(), (call, nth))

    def kill_at(self, call: str, nth: int) -> bool:
        """
        Deliver in a process that is killed before its *nth* use of *call*, from 0.

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
                    self.deliver()
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        return os.WIFSIGNALED(status)

    def stem(self) -> str:
        """The name of the delivery to both."""
        return file_stem(QUEUE_ID, [str(ONE), str(TWO)])


def failing(number: int) -> Callable[..., Any]:
    """A system call that fails."""

    def fail(*arguments: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


class DirectoryTests(DropTestCase):
    def assert_delayed(self, words: str) -> None:
        """Delivery fails for now, and says why without naming a path (attacks.md A72)."""
        content = Stored([CONTENT])

        failure = self.failureResultOf(self.deliver(content=content), DirectoryProblem)

        self.assertIn(words, str(failure.value))
        self.assertNotIn(str(self.directory.parent), str(failure.value))
        self.assertTrue(content.closed)

    def test_missing(self) -> None:
        """A directory that has gone is not made again behind the operator's back."""
        self.directory.rmdir()

        self.assert_delayed("No such file")

    def test_start_is_made_up_for(self) -> None:
        """Trouble at the start is over with the trouble, and not with the next start."""
        self.directory.rmdir()
        with patch.object(os, "makedirs", failing(errno.EIO)):
            self.assertRaises(DirectoryProblem, self.drop.start)
            self.assert_delayed("Input/output")

        self.successResultOf(self.deliver())

        self.assertEqual(EXPECTED, self.only_file().read_bytes())
        self.directory.rename(self.directory.parent / "away")
        self.assert_delayed("No such file")

    def test_comes_back(self) -> None:
        """Nothing has to be restarted once it is there again."""
        self.directory.rmdir()
        self.assert_delayed("No such file")
        self.directory.mkdir()

        self.successResultOf(self.deliver())

        self.assertEqual(1, len(self.names()))

    def test_replaced_by_a_link(self) -> None:
        """A symbolic link in its place is not followed."""
        elsewhere = self.directory.parent / "elsewhere"
        self.directory.rename(elsewhere)
        self.directory.symlink_to(elsewhere)

        self.assert_delayed("symbolic link")

        self.assertEqual([], self.names())
        self.assertRaises(DirectoryProblem, self.make().start)

    def test_replaced_by_a_file(self) -> None:
        """Nor is a file written into."""
        self.directory.rmdir()
        self.directory.write_bytes(b"")

        self.assert_delayed("no directory")
        self.assertRaises(DirectoryProblem, self.make().start)

    def test_replaced_while_writing(self) -> None:
        """The file goes where it was begun."""
        content = SlowStored([bytes(BATCH_OCTETS)])
        delivered = self.deliver(content=content)
        content.give()
        moved = self.directory.parent / "moved"
        self.directory.rename(moved)
        self.directory.mkdir()
        content.give()

        self.successResultOf(delivered)

        self.assertEqual([], self.names())
        self.assertEqual(1, len(os.listdir(moved)))

    def test_not_writable(self) -> None:
        """Refused by the system: put off."""
        with patch.object(os, "open", failing(errno.EACCES)):
            self.assert_delayed("Permission denied")

    def test_full(self) -> None:
        """Whichever call finds the disk full or broken, nothing is left of the file."""
        for call in ("write", "fsync", "fchmod", "rename"):
            for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                with patch.object(os, call, failing(number)):
                    self.assert_delayed(os.strerror(number))
                self.assertEqual([], self.names(), call)

    def test_short_writes(self) -> None:
        """What the system did not take at once is written after it."""
        write = os.write
        with patch.object(os, "write", lambda fd, octets: write(fd, octets[:7])):
            self.successResultOf(self.deliver())

        self.assertEqual(EXPECTED, self.only_file().read_bytes())

    def test_directory_sync_fails(self) -> None:
        """
        The file has its name but may not keep it: put off, and given it anew the next time.

        A sync that is only tried again may find nothing to do.
        """
        fsync = os.fsync

        def fail_on_directories(fd: int) -> None:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            fsync(fd)

        with patch.object(os, "fsync", fail_on_directories):
            self.assert_delayed("Input/output")
        before = self.only_file().stat().st_ino
        self.successResultOf(self.deliver())

        self.assertEqual(EXPECTED, self.only_file().read_bytes())
        self.assertNotEqual(before, self.only_file().stat().st_ino)

    def test_synced_before_named(self) -> None:
        """Content and mode, then name, then directory: the order in which power cuts may come."""
        calls: list[str] = []

        def noting(name: str) -> Callable[..., Any]:
            done = getattr(os, name)

            def note(*arguments: Any, **options: Any) -> Any:
                kind = ""
                if name == "fsync":
                    kind = " dir" if stat.S_ISDIR(os.fstat(arguments[0]).st_mode) else " file"
                calls.append(name + kind)
                return done(*arguments, **options)

            return note

        with ExitStack() as stack:
            for name in ("write", "fchmod", "fsync", "rename"):
                stack.enter_context(patch.object(os, name, noting(name)))
            self.successResultOf(self.deliver())

        self.assertEqual(["fchmod", "fsync file", "rename", "fsync dir"], calls[-4:])
        self.assertEqual({"write"}, set(calls[:-4]))

    def test_new_parents(self) -> None:
        """A home that is missing is made with the directory."""
        self.directory = self.make_home() / "a" / "b" / "Drop"
        self.drop = self.make()

        self.drop.start()
        self.successResultOf(self.deliver())

        self.assertEqual(1, len(self.names()))


class QuotaTests(DropTestCase):
    """DOM-02."""

    def deliver_to(self, name: str) -> Deferred[None]:
        """A delivery of its own file."""
        return self.deliver(Mailbox(name, "example.com"))

    def size(self) -> int:
        """Of the file for a recipient with a name of one letter."""
        self.successResultOf(self.deliver_to("x"))
        size = self.only_file().stat().st_size
        self.only_file().unlink()
        return size

    def test_used_up(self) -> None:
        """Exactly the quota fits; what would be more waits, until room is made."""
        size = self.size()
        self.drop = self.make(3 * size)
        for name in "abc":
            self.successResultOf(self.deliver_to(name))

        failure = self.failureResultOf(self.deliver_to("d"), DirectoryProblem)

        self.assertIn(
            f"quota of {3 * size} octets is used up: {3 * size} are there", str(failure.value)
        )
        self.assertEqual(3, len(self.names()))
        (self.directory / self.names()[0]).unlink()
        self.successResultOf(self.deliver_to("d"))
        self.failureResultOf(self.deliver_to("e"), DirectoryProblem)

    def test_what_was_there(self) -> None:
        """Files from before the start count, those in the making and directories do not."""
        size = self.size()
        (self.directory / "old.eml").write_bytes(bytes(size + 1))
        (self.directory / f".{'0' * 24}.part").write_bytes(bytes(10 * size))
        (self.directory / "folder").mkdir()
        self.drop = self.make(2 * size)

        self.failureResultOf(self.deliver_to("a"), DirectoryProblem)
        (self.directory / "old.eml").write_bytes(bytes(size))
        self.successResultOf(self.deliver_to("a"))

    def test_two_at_once(self) -> None:
        """Room is taken when a file is begun, and given back if it comes to nothing."""
        self.drop = self.make(2 * BATCH_OCTETS)
        first = SlowStored([bytes(BATCH_OCTETS)], ContentDamaged("bad"))
        begun = self.deliver(Mailbox("a", "example.com"), content=first)
        first.give()
        large = partial(Stored, [bytes(BATCH_OCTETS)])
        second = self.deliver(Mailbox("b", "example.com"), content=large())
        self.failureResultOf(second, DirectoryProblem)

        begun.cancel()
        self.failureResultOf(begun)

        self.successResultOf(self.deliver(Mailbox("b", "example.com"), content=large()))

    def test_again_after_a_crash(self) -> None:
        """What is there already needs no more room."""
        size = self.size()
        self.drop = self.make(size)
        self.successResultOf(self.deliver_to("a"))
        self.drop = self.make(size)

        self.successResultOf(self.deliver_to("a"))

        self.assertEqual(1, len(self.names()))

    def test_filled_by_others(self) -> None:
        """What other processes bring is noticed after a while."""
        size = self.size()
        self.drop = self.make(1000 * size)
        self.successResultOf(self.deliver_to("a"))
        (self.directory / "other").write_bytes(bytes(1000 * size))

        for n in range(255):
            self.successResultOf(self.deliver(Mailbox(f"r{n}", "example.com")))

        self.failureResultOf(self.deliver_to("b"), DirectoryProblem)


class ThreadTests(TestCase):
    """With real threads."""

    def test_many_at_once(self) -> Deferred[None]:
        """Sixty deliveries in four threads make sixty whole files."""
        home = mkdtemp()
        self.addCleanup(rmtree, home)
        directory = Path(home) / "Drop"
        pool = ThreadPool(4, 4)
        pool.start()
        self.addCleanup(pool.stop)
        drop = DropDelivery(directory, partial(deferToThreadPool, cast(Any, reactor), pool), 10**9)
        drop.start()
        body = os.urandom(300_000)

        async def all_of_them() -> None:
            waiting = [
                drop.deliver(queued(), [Mailbox(f"r{n}", "example.com")], Stored([CONTENT, body]))
                for n in range(60)
            ]
            for delivered in waiting:
                await delivered
            files = list(directory.iterdir())
            self.assertEqual(60, len(files))
            self.assertEqual(60, sum(f.read_bytes().endswith(CONTENT + body) for f in files))

        return Deferred.fromCoroutine(all_of_them())


class RunTests(SynchronousTestCase):
    def test_nothing_blocks_here(self) -> None:
        """Until *run* has run something, the directory is not touched (promise P9)."""
        asked: list[Callable[[], object]] = []

        def run(function: Callable[..., object], *arguments: object) -> Deferred[bool]:
            asked.append(partial(function, *arguments))
            return Deferred()

        drop = DropDelivery(Path("/nonexistent/Drop"), run)

        delivered = drop.deliver(queued(), [ONE], Stored([CONTENT]))

        self.assertNoResult(delivered)
        self.assertEqual(1, len(asked))

    def test_few_turns(self) -> None:
        """A message of ordinary size costs one turn in a thread."""
        turns: list[str] = []

        def run(function: Callable[..., object], *arguments: object) -> Deferred[bool]:
            turns.append(function.__name__)
            return succeed(True)

        drop = DropDelivery(Path("/nonexistent/Drop"), run)

        self.successResultOf(drop.deliver(queued(), [ONE], Stored([CONTENT] * 100)))

        self.assertEqual(["publish"], turns)
