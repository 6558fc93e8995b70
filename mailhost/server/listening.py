"""
Listening sockets.

:Room: ``server``
:IIS: GEN-03, GEN-04.
"""

from __future__ import annotations

import socket
from typing import Any, cast

from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import ServerFactory

from mailhost.config.settings import ListenAddress
from mailhost.net.factory import ESMTPFactory

#: Connections the kernel keeps until we take them (attacks.md A37).
BACKLOG = 511
#: For so many sessions that a process has it takes one connection more at once.
_SESSIONS_FOR_ONE_MORE = 16


def bind(address: ListenAddress) -> socket.socket:
    """
    A socket that listens on *address*; nobody accepts from it yet.

    A socket for IPv6 takes no IPv4, whatever the system's default, so that
    ``0.0.0.0:25`` and ``[::]:25`` can stand side by side.

    :raises OSError: the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((address.host, address.port))
        bound.listen(BACKLOG)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def accept_from(poller: Any, bound: socket.socket, factory: ServerFactory) -> IListeningPort:
    """Let *poller*, or a reactor, take connections from *bound*, which it owns from now on."""
    with bound:
        port: IListeningPort = poller.adoptStreamPort(bound.fileno(), bound.family, factory)
    return port


def accept_in_turns(poller: Any, bound: socket.socket, factory: ESMTPFactory) -> IListeningPort:
    """
    The same where other processes take connections from the same queue.

    Twisted takes up to a hundred at once: of a client that opens twenty and keeps them, whoever
    wakes up first would have them all.  With one in a turn of the reactor the others have theirs
    in between.  Who has many sessions has long turns, and takes a few: not more than makes little
    difference.
    """
    port: Any = accept_from(poller, bound, factory)
    read = port.doRead

    def read_in_turn() -> None:
        # Each read sets it anew.
        port.numberAccepts = 1 + len(factory.sessions) // _SESSIONS_FOR_ONE_MORE
        read()

    port.doRead = read_in_turn
    return cast("IListeningPort", port)
