"""
Stands where a module has its ``os``: every call that touches a disk is counted, and something
happens at one of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NoReturn
from unittest.mock import patch

from attrs import define, field

#: What may fail, block, or be the last thing that a process does.
TOUCHING = frozenset(
    (
        "open",
        "read",
        "pread",
        "write",
        "writev",
        "fsync",
        "fdatasync",
        "fchmod",
        "rename",
        "unlink",
        "mkdir",
        "makedirs",
        "stat",
        "fstat",
        "lstat",
        "listdir",
        "scandir",
    )
)


class Killed(BaseException):
    """The process is no more; nobody catches it, as nobody catches a kill."""


@define(eq=False)
class Calls:
    """
    :ivar at: the number of the call before which something happens, from 1; 0 for none.
    :ivar act: what; raises, as a rule.
    :ivar span: so many calls one after the other.
    :ivar also: the number of one more call; 0 for none.
    :ivar names: those that there were.
    :ivar dead: the process was killed: it makes no more calls.
    """

    at: int = 0
    act: Callable[[Calls], object] = lambda calls: None
    span: int = 1
    also: int = 0
    names: list[str] = field(factory=list)
    dead: bool = False
    _fds: set[int] = field(factory=set)

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        if name == "close":
            return self._close
        return self._watched(name, found) if name in TOUCHING else found

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*given: Any, **named: Any) -> Any:
            self.check()
            self.names.append(name)
            number = len(self.names)
            if self.at <= number < self.at + self.span or number == self.also:
                self.act(self)
            done = call(*given, **named)
            if name == "open":
                self._fds.add(done)
            return done

        return watched

    def _close(self, fd: int) -> None:
        self.check()
        self._fds.discard(fd)
        os.close(fd)

    def check(self) -> None:
        """A process that is dead does nothing."""
        if self.dead:
            raise Killed

    def die(self) -> NoReturn:
        """The system takes back what the process had."""
        self.dead = True
        for fd in self._fds:
            with suppress(OSError):
                os.close(fd)
        raise Killed

    @staticmethod
    def failing(number: int) -> Callable[[Calls], None]:
        """An act: the call says *number* and does nothing."""

        def act(calls: Calls) -> None:
            raise OSError(number, os.strerror(number))

        return act


@contextmanager
def watched(calls: Calls, *modules: Any) -> Iterator[None]:
    """*modules* make their calls by way of *calls*."""
    with ExitStack() as patches:
        for module in modules:
            patches.enter_context(patch.object(module, "os", calls))
        yield
