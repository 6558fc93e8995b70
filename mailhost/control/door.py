"""
The local socket: made so that nobody else can use it, and gone when the service stops.

:Room: ``control``
:Called by: `mailhost.tap` makes it; `mailhost.service` and `mailhost.workers.supervisor` open it
    once they are the user they are to be.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Any, Protocol

from attrs import define, field
from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

_BACKLOG = 16
_MODE = 0o600


#: So much of a request's body is kept; what is behind is not.
MOST_BODY_OCTETS = 1 << 20


class BoundedRequest(Request):
    """Keeps no more of a body than is looked at, whoever sends it."""

    _octets = 0

    def handleContentChunk(self, data: bytes) -> None:
        """See `Request`."""
        self._octets += len(data)
        if self._octets <= MOST_BODY_OCTETS + len(data):
            super().handleContentChunk(data)  # type: ignore[no-untyped-call]  # upstream


class QuietSite(Site):
    """Keeps no log of requests: what is done is logged by whoever does it."""

    noisy = False
    displayTracebacks = False
    requestFactory = BoundedRequest

    def log(self, request: object) -> None:
        """See `Site`."""


class _Port(unix.Port):
    """A port that removes nothing."""

    def connectionLost(self, reason: Failure) -> None:
        """Upstream removes whatever has the socket's name by now."""
        tcp.Port.connectionLost(self, reason)  # type: ignore[no-untyped-call]  # upstream


#: A status, the type of the content, and the content.
Page = tuple[int, str, bytes]


def send_later(request: Any, answering: Deferred[Page]) -> Deferred[None]:
    """Answer *request* once it is known with what, to whoever is there still."""
    gone: list[bool] = []
    request.notifyFinish().addBoth(lambda result: gone.append(True))

    def send(page: Page) -> None:
        if gone:
            return
        status, kind, octets = page
        request.setResponseCode(status)
        request.setHeader("content-type", kind)
        request.write(octets)
        request.finish()

    return answering.addCallback(send)


class Opening(Protocol):
    """Where requests come in."""

    def open(self) -> None:
        """See `Door.open`."""

    def close(self) -> Deferred[Any]:
        """See `Door.close`."""


@define(eq=False)
class Door:
    """
    :ivar path: of the socket.
    :ivar root: answers the requests.
    :ivar reactor: listens.
    """

    path: Path
    root: Resource
    reactor: Any
    _port: _Port | None = field(default=None, init=False)
    # Device and inode of our socket: another one of that name is not ours to remove.
    _ours: tuple[int, int] | None = field(default=None, init=False)

    _log = Logger()

    def open(self) -> None:
        """Listen.  Mail goes on without it: what prevents it is told in the log."""
        factory = QuietSite(self.root, reactor=self.reactor)  # type: ignore[no-untyped-call]  # upstream
        port = _Port(os.fsencode(self.path), factory, _BACKLOG, _MODE, self.reactor)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._remove_dead()
            # The mode is given before it listens: there is no moment with another.
            port.startListening()  # type: ignore[no-untyped-call]  # upstream
        except (OSError, CannotListenError) as problem:
            self._log.error(
                "The control socket {path} cannot be made, so that the mailhost command will not "
                "find this server: {problem}",
                path=str(self.path),
                problem=_words(problem),
            )
            return
        found = self.path.lstat()
        self._port, self._ours = port, (found.st_dev, found.st_ino)

    def close(self) -> Deferred[None]:
        """Listen no more; fires when it is done."""
        port, self._port = self._port, None
        if port is None:
            return succeed(None)
        self._remove()
        return maybeDeferred(port.stopListening).addCallback(lambda result: None)

    def _remove_dead(self) -> None:
        """
        Remove a socket that a dead process has left.

        :raises OSError: something else is there, or somebody listens.
        """
        try:
            if not stat.S_ISSOCK(self.path.lstat().st_mode):
                raise OSError(errno.EEXIST, "something else has this name")
        except FileNotFoundError:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(os.fspath(self.path))
            except ConnectionRefusedError:
                self.path.unlink(missing_ok=True)
                return
        raise OSError(errno.EADDRINUSE, "another server listens on it")

    def _remove(self) -> None:
        try:
            found = self.path.lstat()
            if (found.st_dev, found.st_ino) == self._ours:
                self.path.unlink()
        except OSError as problem:
            self._log.warn("{path} stays: {problem}", path=str(self.path), problem=str(problem))


@define(eq=False)
class TCPDoor:
    """What listens, or does not, on a TCP address; see `Door` for `close`."""

    _listening: IListeningPort | None = field(default=None, init=False)

    @property
    def address(self) -> tuple[str, int] | None:
        """Where it listens; `None`: nowhere."""
        if self._listening is None:
            return None
        at: Any = self._listening.getHost()
        return at.host, at.port

    def close(self) -> Deferred[None]:
        """Listen no more; fires when it is done."""
        listening, self._listening = self._listening, None
        if listening is None:
            return succeed(None)
        return maybeDeferred(listening.stopListening).addCallback(lambda result: None)


@define(eq=False)
class Doors:
    """Several that are opened and closed together."""

    each: tuple[Opening, ...]

    def open(self) -> None:
        """See `Door.open`."""
        for one in self.each:
            one.open()

    def close(self) -> Deferred[Any]:
        """See `Door.close`; fires when all are closed."""
        return DeferredList([one.close() for one in self.each])


def _words(problem: Exception) -> str:
    cause = problem.socketError if isinstance(problem, CannotListenError) else problem
    return getattr(cause, "strerror", None) or str(cause)
