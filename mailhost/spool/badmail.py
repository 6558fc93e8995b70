"""
Badmail: what can neither be delivered nor returned.

:Room: ``spool``
:IIS: §10.5 (the triple), MSG-06 (the directory), PIC-05, PIC-06.
:Called by: `mailhost.relay` (reports that failed) and `mailhost.intake` (bad Pickup files).

Three files of one name, 24 hexadecimal digits made from the queue id and the
recipients, never from anything the network said:

====  ====================================================================
.BAD  the message, as it would have been sent
.BDP  envelope and attempts, JSON, ``"version": 1``
.BDR  the reason in words; **the triple is there when this file is**
====  ====================================================================

All three are written and synced under hidden names, ``.STEM.BAD.part`` and so
on, and only then renamed in the order of the table; before the last one the directory is synced,
because a disk may keep names in another order than ours.  A crash leaves:

===========================  ===========================================
what `Badmail.start` finds   what it does
===========================  ===========================================
``.STEM.BAD.part``           removes all parts: the message is still queued
.BAD, ``.STEM.BDR.part``     renames the rest: all three were synced before
``.STEM.BDR.part`` alone     removes it: the disk has lost names, and the message is still queued
.BAD, .BDP, .BDR             nothing
===========================  ===========================================

Storing again what was stored before a crash makes the same name and replaces
the triple by itself.  Files have mode 0640, a directory made here 0700.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence, Set
from pathlib import Path
from threading import Lock
from typing import Any

from attrs import define, frozen
from twisted.internet.defer import Deferred

from mailhost.content.names import file_stem
from mailhost.content.words import line_octets, path_octets
from mailhost.durable import make_directory
from mailhost.errors import DirectoryProblem
from mailhost.interfaces import IStoredContent, next_block
from mailhost.model.address import Mailbox, path_text
from mailhost.model.outcome import Outcome
from mailhost.model.parameters import (
    NO_MAIL_PARAMETERS,
    NO_RECIPIENT_PARAMETERS,
    MailParameters,
    RecipientParameters,
)
from mailhost.spool.parameters import parameters_tree
from mailhost.spool.purge import Purged, purge
from mailhost.spool.steps import Passed, Step, unwatched

#: ``run(function, *arguments)`` runs it where it may block.
Run = Callable[..., Awaitable[Any]]

#: So many starts of other processes do not sweep away the same file one after the other.
_MAX_SWEEPS = 8
#: IIS's code for "message is a delivery status notification that cannot be delivered".
CODE_REPORT = 0xC00402C7
#: IIS's code for an error in a Pickup file (PIC-05).
CODE_PICKUP = 0xC00402CE

FILE_MODE = 0o640
DIRECTORY_MODE = 0o700
#: So much of a content is gathered in memory before a thread is asked to write.
BATCH_OCTETS = 256 * 1024

_MAX_WORDS_OCTETS = 512
#: In the order in which they get their names.
_KINDS = ("BAD", "BDP", "BDR")
_PART_NAME = re.compile(r"\.([0-9a-f]{24})\.(BAD|BDP|BDR)\.part")


@frozen
class BadRecipient:
    """
    One recipient of bad mail.

    :ivar attempts: how many have failed.
    :ivar outcome: of the last attempt; `None` where there was none.
    :ivar parameters: what the sender asked for.
    """

    forward_path: Mailbox
    attempts: int = 0
    outcome: Outcome | None = None
    parameters: RecipientParameters = NO_RECIPIENT_PARAMETERS


@frozen
class BadMessage:
    """
    What is known of a message that ends in Badmail.

    :ivar queue_id: ours; 24 hexadecimal digits.
    :ivar reason: why, on one line.
    :ivar reverse_path: `None` is the null reverse-path.
    :ivar recipients: those it is about; none where a file named none.
    :ivar code: IIS's error code, if it has one (`CODE_REPORT`, `CODE_PICKUP`).
    :ivar sender_known: false for a Pickup file without a sender.
    :ivar body: ``"7BIT"``, ``"8BITMIME"`` or ``"BINARYMIME"``.
    :ivar hello: what the submitting client called itself.
    :ivar accepted_at: seconds since the epoch; `None` if it never was.
    :ivar source: the name of the Pickup file; only written down.
    :ivar parameters: what the sender asked for the whole message.
    """

    queue_id: str
    reason: str
    reverse_path: Mailbox | None
    recipients: tuple[BadRecipient, ...] = ()
    code: int | None = None
    sender_known: bool = True
    body: str = "7BIT"
    hello: str = ""
    accepted_at: float | None = None
    source: str = ""
    parameters: MailParameters = NO_MAIL_PARAMETERS


@define(eq=False)
class Badmail:
    """
    One Badmail directory.

    :ivar directory: a directory itself, not a symbolic link to one.
    :ivar run: as a rule ``partial(deferToThreadPool, reactor, pool)``.
    :ivar passed: told of each step.
    """

    directory: Path
    run: Run
    passed: Passed = unwatched

    def start(self) -> None:
        """
        Create the directory if it is missing, finish or undo what a crash left; blocks.

        :raises DirectoryProblem: the directory cannot be used now.
        """
        try:
            directory_fd = _open_directory(self.directory)
            try:
                _recover(directory_fd, self.passed)
            finally:
                os.close(directory_fd)
        except OSError as error:
            raise _problem_of(error) from error

    def store(
        self, message: BadMessage, content: bytes | IStoredContent, now: float
    ) -> Deferred[str]:
        """
        Write the triple; fires with its name when it is on stable storage.

        :param content: closed here if it is an `IStoredContent`.
        :raises DirectoryProblem: it cannot be done now; nothing is left of it.
        :raises ContentDamaged: *content* is; nothing is left of it.
        """
        return Deferred.fromCoroutine(self._store(message, content, now))

    def purge(
        self,
        keep_seconds: float | None,
        max_octets: int | None,
        now: float,
        *,
        stems: Set[str] | None = None,
        dry_run: bool = False,
        most: int | None = None,
    ) -> Deferred[Purged]:
        """
        Remove what is too old, then the oldest until the rest is small enough; fires with
        what came of it.

        A triple is removed whole, its reason first, and no other file is touched.

        :param keep_seconds: how long a triple is kept; `None` for ever.
        :param max_octets: of all triples together; `None` for any number.
        :param now: seconds since the epoch.
        :param stems: only these are looked at; `None`: all.
        :param dry_run: they are only counted, all of them.
        :param most: so many are removed now; `None`: all.
        :raises DirectoryProblem: the directory cannot be used now.
        """
        oldest_at = None if keep_seconds is None else now - keep_seconds
        return Deferred.fromCoroutine(self._purge(oldest_at, max_octets, stems, dry_run, most))

    async def _purge(self, *chosen: Any) -> Purged:
        purged: Purged = await self.run(self._purge_now, *chosen)
        return purged

    def _purge_now(
        self,
        oldest_at: float | None,
        max_octets: int | None,
        stems: Set[str] | None,
        dry_run: bool,
        most: int | None,
    ) -> Purged:
        """In a thread."""
        try:
            directory_fd = _open_directory(self.directory)
            try:
                return purge(directory_fd, oldest_at, max_octets, self.passed, stems, dry_run, most)
            finally:
                os.close(directory_fd)
        except OSError as error:
            raise _problem_of(error) from error

    async def _store(self, message: BadMessage, content: bytes | IStoredContent, now: float) -> str:
        paths = [str(recipient.forward_path) for recipient in message.recipients]
        stem = file_stem(message.queue_id, paths)
        triple = _Triple(self.directory, stem, self.passed)
        try:
            blocks = [content] if isinstance(content, bytes) else await self._copy(triple, content)
            await self.run(
                triple.publish, blocks, envelope_json(message, now), reason_text(message)
            )
        except Exception:
            await self.run(triple.abandon)
            raise
        finally:
            if not isinstance(content, bytes):
                content.close()
        return stem

    async def _copy(self, triple: _Triple, content: IStoredContent) -> list[bytes]:
        """Write *content* but for the last blocks, which are returned."""
        blocks: list[bytes] = []
        gathered = 0
        while block := await next_block(content):
            blocks.append(block)
            gathered += len(block)
            if gathered >= BATCH_OCTETS:
                await self.run(triple.write, blocks)
                blocks, gathered = [], 0
        return blocks


# ---- what is written


def envelope_json(message: BadMessage, now: float) -> bytes:
    """The ``.BDP`` file: one JSON object, ASCII; times are seconds since the epoch."""
    sender = path_text(message.reverse_path) if message.sender_known else None
    tree = {
        "version": 1,
        "queue_id": message.queue_id,
        "reverse_path": sender,
        "body": message.body,
        "hello": message.hello,
        "accepted_at": message.accepted_at,
        "stored_at": now,
        "source": message.source,
        "reason": message.reason,
        "code": message.code,
        "parameters": parameters_tree(message.parameters),
        "recipients": [_recipient_tree(recipient) for recipient in message.recipients],
    }
    return json.dumps(tree, indent=1).encode("ascii") + b"\n"


def _recipient_tree(recipient: BadRecipient) -> dict[str, object]:
    tree: dict[str, object] = {
        "forward_path": path_text(recipient.forward_path),
        "attempts": recipient.attempts,
        "parameters": parameters_tree(recipient.parameters),
    }
    outcome = recipient.outcome
    if outcome is not None:
        tree |= {
            "fate": outcome.fate.value,
            "status": outcome.status,
            "words": outcome.words,
            "peer": outcome.peer,
            "spoken": outcome.spoken,
            "in_doubt": outcome.in_doubt,
        }
    return tree


def reason_text(message: BadMessage) -> bytes:
    """The ``.BDR`` file, in IIS's sentences; lines end with CRLF."""
    reason = line_octets(message.reason, _MAX_WORDS_OCTETS)
    lines = [
        b"Unable to deliver this message because the following error was encountered: "
        b'"%b".' % reason,
        b"",
    ]
    if message.code is not None:
        lines += [b"The specific error code was 0x%08X." % message.code, b""]
    sender = path_octets(message.reverse_path) if message.sender_known else b"not named"
    lines += [b"The message sender was %b." % sender, b""]
    if not message.recipients:
        lines.append(b"The message named no recipients.")
    else:
        lines += [b"The message was intended for the following recipients.", b""]
    for recipient in message.recipients:
        lines.append(b"   %b" % path_octets(recipient.forward_path))
        if recipient.outcome is not None:
            lines.append(b"      %b" % line_octets(recipient.outcome.words, _MAX_WORDS_OCTETS))
    return b"".join(line + b"\r\n" for line in lines)


# ---- how it is written; all of it blocks


def _problem_of(error: OSError) -> DirectoryProblem:
    if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.EEXIST):
        return DirectoryProblem("the Badmail directory is a symbolic link or no directory")
    reason = os.strerror(error.errno or 0)
    return DirectoryProblem(f"the Badmail directory cannot be used now: {reason}")


def _open_directory(directory: Path) -> int:
    """A descriptor of *directory*, which is created if it is missing; never a link."""
    if not os.path.lexists(directory):
        make_directory(directory, DIRECTORY_MODE)
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _part(stem: str, kind: str) -> str:
    return f".{stem}.{kind}.part"


def _rename(stem: str, kind: str, directory_fd: int) -> None:
    """Give one synced part its name, unless the start of another process has just done so."""
    try:
        os.rename(
            _part(stem, kind), f"{stem}.{kind}", src_dir_fd=directory_fd, dst_dir_fd=directory_fd
        )
    except FileNotFoundError:
        if not _is_named(stem, {kind}, directory_fd):
            raise


def _unlink(stem: str, kind: str, directory_fd: int) -> None:
    try:
        os.unlink(_part(stem, kind), dir_fd=directory_fd)
    except FileNotFoundError:
        return  # It is gone, which is what was wanted.


def _recover(directory_fd: int, passed: Passed) -> None:
    """See the module's second table."""
    found: dict[str, set[str]] = {}
    for name in os.listdir(directory_fd):
        match = _PART_NAME.fullmatch(name)
        if match is not None:
            found.setdefault(match[1], set()).add(match[2])
    if found:
        passed(Step.PARTS_FOUND)
    for stem, kinds in found.items():
        try:
            _recover_one(stem, kinds, directory_fd)
        except FileNotFoundError:
            continue  # Another process was at work on it, and has finished.
    if found:
        passed(Step.PARTS_SETTLED)
    os.fsync(directory_fd)


def _recover_one(stem: str, kinds: set[str], directory_fd: int) -> None:
    if "BAD" in kinds:
        _remove_unlocked(stem, directory_fd)
    elif "BDR" in kinds and _is_named(stem, {"BAD", "BDP"} - kinds, directory_fd):
        _rename_all(stem, sorted(kinds), directory_fd)
    else:
        for kind in kinds:
            _unlink(stem, kind, directory_fd)


def _is_named(stem: str, kinds: Set[str], directory_fd: int) -> bool:
    """Whether there are files of all *kinds* under their names."""
    for kind in kinds:
        try:
            os.stat(f"{stem}.{kind}", dir_fd=directory_fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
    return True


def _rename_all(
    stem: str, kinds: Sequence[str], directory_fd: int, passed: Callable[[], None] = lambda: None
) -> None:
    """
    Give *kinds*, the reason last, their names.

    The others' names are durable before the reason has its own: with it the triple is there.
    """
    for kind in kinds:
        if kind == _KINDS[-1]:
            os.fsync(directory_fd)
        _rename(stem, kind, directory_fd)
        passed()


def _remove_unlocked(stem: str, directory_fd: int) -> None:
    """Remove the parts, unless another process is writing them."""
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(_part(stem, "BAD"), flags, dir_fd=directory_fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        for kind in reversed(_KINDS):
            _unlink(stem, kind, directory_fd)
    finally:
        os.close(fd)


class _Triple:
    """
    Three files in the making; any thread, `abandon` may overtake the others.
    """

    def __init__(self, directory: Path, stem: str, passed: Passed) -> None:
        self._directory = directory
        self._passed = passed
        self._stem = stem
        self._directory_fd = -1
        self._fd = -1
        self._naming = False
        self._over = False
        self._lock = Lock()

    def write(self, blocks: Iterable[bytes]) -> None:
        """Append *blocks* to the message."""
        with self._lock:
            try:
                self._write(blocks)
            except OSError as error:
                raise _problem_of(error) from error

    def publish(self, blocks: Iterable[bytes], envelope: bytes, reason: bytes) -> None:
        """Append *blocks* to the message, write the others, name all three."""
        with self._lock:
            try:
                self._write(blocks)
                self._passed(Step.BAD_WRITTEN)
                _settle(self._fd)
                self._passed(Step.BAD_SYNCED)
                for kind, octets in (("BDP", envelope), ("BDR", reason)):
                    self._write_whole(kind, octets)
                self._passed(Step.PARTS_SYNCED)
                self._name()
            except OSError as error:
                raise _problem_of(error) from error
            self._close()

    def _name(self) -> None:
        def passed() -> None:
            self._naming = True
            self._passed(Step.BAD_NAMED)

        _rename_all(self._stem, _KINDS, self._directory_fd, passed)
        self._passed(Step.TRIPLE_NAMED)
        os.fsync(self._directory_fd)
        self._passed(Step.TRIPLE_STORED)

    def abandon(self) -> None:
        """
        Remove what is not published.

        Once the first file has its name nothing is removed: `Badmail.start`
        completes the triple, or storing it again does.
        """
        with self._lock:
            if self._over:
                return
            try:
                if self._fd >= 0 and not self._naming:
                    # The message last: it tells `_recover` that the rest is void.
                    for kind in reversed(_KINDS):
                        _unlink(self._stem, kind, self._directory_fd)
            except OSError as error:
                raise _problem_of(error) from error
            finally:
                self._close()

    def _write(self, blocks: Iterable[bytes]) -> None:
        if self._over:
            raise DirectoryProblem("storing in Badmail was abandoned")
        if self._fd < 0:
            self._open()
        for block in blocks:
            _write_all(self._fd, block)

    def _open(self) -> None:
        self._directory_fd = _open_directory(self._directory)
        self._fd = self._create_locked()
        for kind in _KINDS[1:]:
            # Of an attempt that failed between two names.
            _unlink(self._stem, kind, self._directory_fd)

    def _create_locked(self) -> int:
        for _ in range(_MAX_SWEEPS):
            try:
                fd = self._create("BAD")
            except FileExistsError:
                # Left by an attempt that could not clean up; another process's goes on.
                _remove_unlocked(self._stem, self._directory_fd)
                continue
            try:
                # The start of another worker may have swept it away before it was locked.
                fcntl.flock(fd, fcntl.LOCK_EX)
                if os.fstat(fd).st_nlink:
                    return fd
            except BaseException:
                # Its lock would keep every later attempt out.
                os.close(fd)
                raise
            os.close(fd)
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def _write_whole(self, kind: str, octets: bytes) -> None:
        fd = self._create(kind)
        try:
            _write_all(fd, octets)
            _settle(fd)
        finally:
            os.close(fd)

    def _create(self, kind: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(_part(self._stem, kind), flags, 0o600, dir_fd=self._directory_fd)

    def _close(self) -> None:
        self._over = True
        fds = (self._fd, self._directory_fd)
        self._fd = self._directory_fd = -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)


def _write_all(fd: int, octets: bytes) -> None:
    view = memoryview(octets)
    while view:
        view = view[os.write(fd, view) :]


def _settle(fd: int) -> None:
    os.fchmod(fd, FILE_MODE)
    os.fsync(fd)
