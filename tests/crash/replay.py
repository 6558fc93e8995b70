"""Reads a recorded trace (`recorded`) and plays it on a `disk_model`, stop by stop."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from attrs import define, field, frozen

from tests.crash.disk_model import Directory, Disk, File, Truncate, Write

_LINE = re.compile(rb"(\d+) +(.*)", re.DOTALL)
_RESUMED = re.compile(rb"<\.\.\. \w+ resumed>")
_UNFINISHED = b" <unfinished ...>"
_CALL = re.compile(rb"(\w+)\((.*)\) += (-?\d+)", re.DOTALL)
_STRING = re.compile(rb'"((?:\\x[0-9a-f]{2})*)"')
_FD = re.compile(rb"(\d+)<")
_PATH = re.compile(
    rb'(?:AT_FDCWD|\d+)(?:<(?P<directory>(?:\\x[0-9a-f]{2})*)>)?, "(?P<path>(?:\\x[0-9a-f]{2})*)"'
)
_SYNCS = ("fsync", "fdatasync")
_TALKING = {"sendto": "sent", "recvfrom": "heard"}


@frozen
class Stop:
    """
    A moment worth a power cut.

    :ivar kind: ``"sync"`` (before it has any effect), ``"line"`` (a line of the ledger was
        written just now), ``"sent"`` or ``"heard"`` (over a socket, where that was recorded).
    :ivar line: that line, or those octets.
    """

    kind: str
    line: bytes = b""


@define(eq=False)
class _Open:
    """An open file; *at* is where the next plain write goes, `None` at its end."""

    node: File | Directory
    at: int | None = 0


@define(eq=False)
class Replay:
    """
    :ivar disk: as far as the trace is played.
    :ivar ledger: the ledger's octets so far; it lies on a disk that never fails.
    :ivar processes: of threads, where there are several: each has descriptors of its own.
    """

    trace: bytes
    disk: Disk
    ledger_path: Path
    ledger: bytes = b""
    processes: Mapping[bytes, bytes] = field(factory=dict)
    _open: dict[tuple[bytes, int], _Open] = field(factory=dict)
    _ledger_fd: tuple[bytes, int] | None = None
    #: By thread: a call that has begun; what a sync that has begun will cover.
    _begun: dict[bytes, bytes] = field(factory=dict)
    _covered: dict[bytes, int] = field(factory=dict)

    def stops(self) -> Iterator[Stop]:
        """
        Play on, and stop at each line of the ledger and before each sync.

        A write counts when it has returned, a sync covers what had returned when
        it began, and has done so only when it has returned itself.
        """
        for line in self.trace.splitlines():
            found = _LINE.fullmatch(line)
            if found is None:
                raise AssertionError(f"not a line of a trace: {line[:80]!r}")
            thread, text = found.groups()
            if text.endswith(_UNFINISHED):
                self._begin(thread, text[: -len(_UNFINISHED)])
                continue
            resumed = _RESUMED.match(text)
            if resumed is not None:
                text = self._begun.pop(thread) + text[resumed.end() :]
                if text.startswith(b"close("):
                    continue  # Its number may be another file's by now.
            elif text.startswith(b"f"):
                self._begin_sync(thread, text)
            call = _CALL.match(text)
            if call is not None and int(call[3]) >= 0:
                name = call[1].decode()
                if name in _SYNCS:
                    yield Stop("sync")
                if name in _TALKING:
                    yield Stop(_TALKING[name], _strings(call[2])[: int(call[3])])
                    continue
                written = self._play(thread, name, call[2], int(call[3]))
                if written is not None:
                    yield Stop("line", written)

    def _begin(self, thread: bytes, text: bytes) -> None:
        self._begun[thread] = text
        self._begin_sync(thread, text)
        if text.startswith(b"close("):
            # Another thread may get the number before this one says that it is free.
            self._open.pop(self._first_fd(thread, text), None)

    def _begin_sync(self, thread: bytes, text: bytes) -> None:
        if text.startswith((b"fsync(", b"fdatasync(")):
            opened = self._open.get(self._first_fd(thread, text))
            if opened is not None:
                self._covered[thread] = opened.node.done

    # ---- calls

    def _play(self, thread: bytes, name: str, rest: bytes, result: int) -> bytes | None:
        """:returns: what went into the ledger."""
        if name in ("write", "writev", "pwrite64"):
            return self._write(thread, name, rest, _strings(rest)[:result])
        if name in _SYNCS:
            self._sync(thread, rest)
        elif name == "openat":
            self._opened(_paths(rest)[0], rest, self._descriptor(thread, result))
        elif name == "close":
            self._open.pop(self._first_fd(thread, rest), None)
        elif name == "ftruncate":
            self._truncate(thread, rest)
        elif name == "fallocate":
            pass  # The ballast's room; nobody reads it.
        elif name in ("mkdir", "rename", "link", "unlink"):
            self._name(name, [_plain(one) for one in _STRING.findall(rest)])
        elif name in ("mkdirat", "renameat", "linkat", "unlinkat"):
            self._name(name.removesuffix("at"), _paths(rest))
        else:
            raise AssertionError(f"the model does not know {name}")
        return None

    def _descriptor(self, thread: bytes, number: int) -> tuple[bytes, int]:
        return self.processes.get(thread, b""), number

    def _first_fd(self, thread: bytes, text: bytes) -> tuple[bytes, int]:
        found = _FD.search(text)
        if found is None:
            raise AssertionError(f"no descriptor in {text[:80]!r}")
        return self._descriptor(thread, int(found[1]))

    def _opened(self, path: str, rest: bytes, fd: tuple[bytes, int]) -> None:
        self._open.pop(fd, None)
        if path == str(self.ledger_path):
            self._ledger_fd = fd
            return
        if not self.disk.holds(path):
            return
        node = self.disk.find(path)
        if node is None:
            node = File()
            directory, name = self.disk.parent(path)
            directory.give(name, node)
        elif b"O_TRUNC" in rest and isinstance(node, File):
            node.do(Truncate(0))
        self._open[fd] = _Open(node, None if b"O_APPEND" in rest else 0)

    def _write(self, thread: bytes, name: str, rest: bytes, octets: bytes) -> bytes | None:
        fd = self._first_fd(thread, rest)
        if fd == self._ledger_fd:
            self.ledger += octets
            return octets
        opened = self._open.get(fd)
        if opened is None:
            return None
        assert isinstance(opened.node, File)
        if name == "pwrite64":
            offset = int(rest.rpartition(b",")[2])
        else:
            offset = opened.node.size if opened.at is None else opened.at
            opened.at = None if opened.at is None else offset + len(octets)
        opened.node.do(Write(offset, octets))
        return None

    def _truncate(self, thread: bytes, rest: bytes) -> None:
        opened = self._open.get(self._first_fd(thread, rest))
        if opened is not None:
            assert isinstance(opened.node, File)
            opened.node.do(Truncate(int(rest.rpartition(b",")[2])))

    def _sync(self, thread: bytes, rest: bytes) -> None:
        opened = self._open.get(self._first_fd(thread, rest))
        if opened is not None:
            opened.node.sync(self._covered.pop(thread))

    def _name(self, name: str, paths: list[str]) -> None:
        if not self.disk.holds(paths[-1]):
            return
        directory, last = self.disk.parent(paths[-1])
        if name == "mkdir":
            directory.give(last, Directory())
        elif name == "unlink":
            # A socket was never opened, and is nobody's mail.
            if last in directory.names:
                directory.take(last)
        elif name == "rename":
            self.disk.rename(*paths)
        else:
            source, first = self.disk.parent(paths[0])
            directory.give(last, source.names[first])


def _strings(rest: bytes) -> bytes:
    return b"".join(bytes.fromhex(one.decode().replace("\\x", "")) for one in _STRING.findall(rest))


def _paths(rest: bytes) -> list[str]:
    """Each path of a call, behind the directory that it starts from."""
    return [
        str(PurePosixPath(_plain(one["directory"] or b""), _plain(one["path"])))
        for one in _PATH.finditer(rest)
    ]


def _plain(text: bytes) -> str:
    return bytes.fromhex(text.decode().replace("\\x", "")).decode()
