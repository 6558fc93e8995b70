"""
Listening sockets that are bound once and kept, whoever accepts from them.

:Room: ``workers``
:Called by: `mailhost.workers.supervisor` for its workers; `mailhost.service` where the
    process changes its user, and could not bind a low port again.

A kept socket on which nobody accepts must not listen: clients would wait for a
greeting that never comes.  On Linux ``shutdown`` makes a bound socket stop listening in
all processes that have it, and ``listen`` makes it begin again; its port stays ours.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

from attrs import define, field

from mailhost.config.settings import ListenAddress, Settings
from mailhost.server.listening import BACKLOG, bind

#: A virtual server's name, an address and a port.
Place = tuple[str, str, int]


def places(settings: Settings) -> list[Place]:
    """Every address of every virtual server in *settings*."""
    return [
        place_of(one.name, address) for one in settings.virtual_servers for address in one.listen
    ]


def place_of(server: str, address: ListenAddress) -> Place:
    """What *server* does there, TLS or not, is no matter for the socket."""
    return server, address.host, address.port


@define(eq=False)
class KeptSockets:
    """
    Bound by this process; implements `mailhost.server.share.Sockets`.

    :ivar faults: places that could not be bound, and why.
    """

    faults: dict[Place, OSError] = field(factory=dict, init=False)
    _bound: dict[Place, socket.socket] = field(factory=dict, init=False)
    _taken: Counter[Place] = field(factory=Counter, init=False)

    def hold(self, wanted: Iterable[Place]) -> dict[Place, socket.socket]:
        """
        Bind what is not bound yet; each that cannot be bound fails alone.

        :returns: what was bound now.
        """
        made: dict[Place, socket.socket] = {}
        self.faults = {}
        for place in wanted:
            if place in self._bound:
                continue
            try:
                made[place] = self._bound[place] = bind(ListenAddress(*place[1:]))
            except OSError as error:
                self.faults[place] = error
        return made

    def keep_only(self, wanted: Iterable[Place]) -> None:
        """Close all others."""
        for place in set(self._bound) - set(wanted):
            self._bound.pop(place).close()

    def close(self) -> None:
        """Close them all."""
        self.keep_only(())

    @property
    def held(self) -> dict[Place, socket.socket]:
        """What is bound."""
        return dict(self._bound)

    def rest(self, server: str) -> None:
        """Let nobody connect to *server* until somebody takes its sockets again."""
        for place in self._bound:
            if place[0] == server:
                self._rest(place)

    def _rest(self, place: Place) -> None:
        with suppress(OSError):  # it does not listen now
            self._bound[place].shutdown(socket.SHUT_RD)

    # ---- for who accepts in this process

    def take(self, server: str, address: ListenAddress) -> socket.socket:
        """See `mailhost.server.share.Sockets`."""
        place = place_of(server, address)
        if place not in self._bound:
            self._bound[place] = bind(address)
        self._taken[place] += 1
        return listening_copy(self._bound[place])

    def leave(self, server: str, address: ListenAddress) -> None:
        """See `mailhost.server.share.Sockets`."""
        place = place_of(server, address)
        self._taken[place] -= 1
        if place in self._bound and not self._taken[place]:
            self._rest(place)


@define(eq=False)
class InheritedSockets:
    """
    Bound by the supervisor; implements `mailhost.server.share.Sockets`.

    :ivar faults: what the supervisor could not bind: error numbers.
    """

    faults: dict[Place, int] = field(factory=dict, init=False)
    _bound: dict[Place, socket.socket] = field(factory=dict, init=False)

    def add(self, place: Place, descriptor: int) -> None:
        """The supervisor gives *descriptor*, which is ours from now on."""
        earlier = self._bound.pop(place, None)
        if earlier is not None:
            earlier.close()
        self._bound[place] = socket.socket(fileno=descriptor)

    def keep_only(self, wanted: Iterable[Place]) -> None:
        """Close all others."""
        for place in set(self._bound) - set(wanted):
            self._bound.pop(place).close()

    def take(self, server: str, address: ListenAddress) -> socket.socket:
        """See `mailhost.server.share.Sockets`."""
        place = place_of(server, address)
        if place not in self._bound:
            number = self.faults.get(place, errno.EADDRNOTAVAIL)
            raise OSError(number, os.strerror(number))
        return listening_copy(self._bound[place])

    def leave(self, server: str, address: ListenAddress) -> None:
        """The supervisor sees to it when no worker listens any more."""


def listening_copy(bound: socket.socket) -> socket.socket:
    """Another descriptor of *bound*, which listens from now on if it did not."""
    bound.listen(BACKLOG)
    copy = bound.dup()
    copy.setblocking(False)
    return copy
