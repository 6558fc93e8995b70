"""
Many sockets that the reactor sees as one.

:Room: ``net``
:Called by: the reactor, as a reader; transports of Twisted, as their reactor. `mailhost.service`
    makes one for each process.

Twisted's reactors take each readiness of each socket through ``log.callWithLogger``: eight calls
of Python and a copied dict before ``doRead`` is called, six times a message.  What that gives is
the name of the socket in lines of Twisted's old log.  A `Poller` has an epoll of its own.  The
reactor watches that one descriptor, and goes through all of it once a turn; what is ready in it
is called directly.

What happens to a socket is what happens to it in ``twisted.internet.epollreactor``: the rules of
its ``_doReadOrWrite`` and ``_disconnectSelectable`` are kept here one by one.  What is not gone
through is the context of the old log, ``system``: a line of it that is written while octets come
in says ``sockets``.  Faults and the loss of a connection name their socket, and events of
`twisted.logger.Logger`, which all of ours are, have never had that context.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.error import ConnectionDone, ConnectionFdescWentAway
from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IListeningPort,
    IReactorFDSet,
    IReadDescriptor,
)
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.posixbase import PosixReactorBase
from twisted.python import failure, log
from zope.interface import implementer

# As numbers of epoll(7), for systems where `select` has no names for them.
_IN, _OUT, _GONE = 0x01, 0x04, 0x08 | 0x10
_log: Any = log  # upstream has no annotations
_failure: Any = failure.Failure
#: Nearly every connection ends for one of these; each is made once.
_REASONS: dict[type, Any] = {type(why): _failure(why) for why in (CONNECTION_DONE, CONNECTION_LOST)}
_CLOSED = ConnectionFdescWentAway("Filedescriptor went away")


def poller_for(reactor: Any) -> Any:
    """A `Poller` in front of *reactor*, or *reactor* itself where there can be none."""
    # A reactor made up for a test has descriptors by name only.
    if isinstance(reactor, PosixReactorBase) and hasattr(select, "epoll"):
        return Poller(reactor)
    return reactor


@implementer(IReactorFDSet, IReadDescriptor)
@define(eq=False, repr=False)
class Poller:
    """
    The reactor, towards transports; one reader, towards the reactor.

    The ports that it adopts, what they accept and its TCP connections are watched here.  Whatever
    else a reactor can do is done by the one behind it, and so is what epoll does not take.
    """

    _reactor: Any
    _epoll: Any = field(factory=lambda: select.epoll(), init=False)
    # By descriptor: who has it, and what it waits for.
    _watched: dict[int, Any] = field(factory=dict, init=False)
    _wanted: dict[int, int] = field(factory=dict, init=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    # ---- what makes transports: the reactor's own methods, for which the reactor is us

    def adoptStreamPort(self, fd: int, family: int, factory: Any) -> IListeningPort:
        """See `IReactorSocket`."""
        port: IListeningPort = PosixReactorBase.adoptStreamPort(self, fd, family, factory)  # type: ignore[no-untyped-call,arg-type]  # we stand for it
        return port

    def connectTCP(self, *arguments: Any, **options: Any) -> Any:
        """See `IReactorTCP`."""
        return PosixReactorBase.connectTCP(self, *arguments, **options)  # type: ignore[arg-type]  # we stand for it

    # ---- the reactor, towards transports

    def addReader(self, reader: Any) -> None:
        """See `IReactorFDSet`."""
        try:
            self._add(reader, _IN)
        except PermissionError:  # a file on a disk
            self._reactor.addReader(reader)

    def addWriter(self, writer: Any) -> None:
        """See `IReactorFDSet`."""
        try:
            self._add(writer, _OUT)
        except PermissionError:
            self._reactor.addWriter(writer)

    def removeReader(self, reader: Any) -> None:
        """See `IReactorFDSet`."""
        if not self._remove(reader, _IN):
            self._reactor.removeReader(reader)

    def removeWriter(self, writer: Any) -> None:
        """See `IReactorFDSet`."""
        if not self._remove(writer, _OUT):
            self._reactor.removeWriter(writer)

    def getReaders(self) -> list[Any]:
        """See `IReactorFDSet`; those that are watched here."""
        return [self._watched[fd] for fd, wanted in self._wanted.items() if wanted & _IN]

    def getWriters(self) -> list[Any]:
        """See `IReactorFDSet`; those that are watched here."""
        return [self._watched[fd] for fd, wanted in self._wanted.items() if wanted & _OUT]

    def removeAll(self) -> list[Any]:
        """See `IReactorFDSet`; those that are watched here."""
        all_of_them = list(self._watched.values())
        for one in all_of_them:
            self.removeReader(one)
            self.removeWriter(one)
        return all_of_them

    def _add(self, selectable: Any, flag: int) -> None:
        fd = selectable.fileno()
        wanted = self._wanted.get(fd, 0)
        if wanted & flag:
            return
        if wanted:
            self._epoll.modify(fd, wanted | flag)
        else:
            self._epoll.register(fd, flag)
            self._watched[fd] = selectable
            # Every time: somebody may have taken all readers from the reactor.
            self._reactor.addReader(self)
        self._wanted[fd] = wanted | flag

    def _remove(self, selectable: Any, flag: int) -> bool:
        fd = selectable.fileno()
        closed = fd == -1
        if closed:
            fd = next((one for one, who in self._watched.items() if who is selectable), -1)
        wanted = self._wanted.get(fd, 0)
        if not wanted & flag:
            return False
        left = wanted ^ flag
        if left:
            self._wanted[fd] = left
        else:
            del self._wanted[fd], self._watched[fd]
        if not closed:  # else the kernel has forgotten it, and the number may be another's
            if left:
                self._epoll.modify(fd, left)
            else:
                self._epoll.unregister(fd)
        if not self._watched:
            self._reactor.removeReader(self)
        return True

    # ---- a reader, towards the reactor

    def fileno(self) -> int:
        """See `IReadDescriptor`."""
        number: int = self._epoll.fileno()
        return number

    def logPrefix(self) -> str:
        """See `ILoggingContext`."""
        return "sockets"

    def connectionLost(self, reason: failure.Failure) -> None:
        """The reactor ends, and disconnects all that it knows."""
        for one in self.removeAll():
            _log.callWithLogger(one, one.connectionLost, reason)

    def doRead(self) -> None:
        """
        Serve what is ready.

        Nothing is returned and nothing raised: the reactor would take it for the end of them all.
        """
        holder: Callable[[int], Any] = self._watched.get
        for fd, event, selectable in self._ready():
            if holder(fd) is not selectable:
                continue  # an earlier one has ended it, and its number may be another's already
            try:
                if event == _IN and selectable.fileno() == fd:
                    why = selectable.doRead()
                    reading = True
                else:
                    why, reading = self._serve(selectable, fd, event)
            except BaseException as error:
                _log.callWithLogger(selectable, _log.err)
                why, reading = error, False
            if why:
                _log.callWithLogger(selectable, self._disconnect, selectable, why, reading)

    def _ready(self) -> list[tuple[int, int, Any]]:
        """What is ready now: its descriptor, for what, and who has it."""
        watched = self._watched
        try:
            ready = self._epoll.poll(0, len(watched) or 1)
        except InterruptedError:
            return []
        except Exception:
            _log.err()
            return []
        return [(fd, event, watched[fd]) for fd, event in ready if fd in watched]

    def _serve(self, selectable: Any, fd: int, event: int) -> tuple[Any, bool]:
        """
        What is not just a block of octets that has come.

        :returns: why the connection is lost, and whether it is its reading side that says so.
        """
        if event & _GONE and not event & _IN:
            # Nothing is left to be read.  Who was reading has read to the end, or it is the
            # end of one direction only.
            reading = bool(self._wanted[fd] & _IN)
            return (CONNECTION_DONE if reading else CONNECTION_LOST), reading
        if selectable.fileno() == -1:
            return _CLOSED, False
        why, reading = None, False
        if event & _IN:
            why, reading = selectable.doRead(), True
        if not why and event & _OUT:
            why, reading = selectable.doWrite(), False
        return why, reading

    def _disconnect(self, selectable: Any, why: BaseException, reading: bool) -> None:
        self.removeReader(selectable)
        reason = _REASONS.get(type(why)) or _failure(why)
        half = reading and type(why) is ConnectionDone
        if half and IHalfCloseableDescriptor.providedBy(selectable):
            selectable.readConnectionLost(reason)
            return
        self.removeWriter(selectable)
        selectable.connectionLost(reason)
