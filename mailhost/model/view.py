"""
What operators see of the whole service at one moment: plain counts, in frozen values.

:Room: ``model``
:IIS: SES-01..05.
:Made by: `mailhost.service` of its own process, `mailhost.workers` of all of them.
"""

from __future__ import annotations

from attrs import frozen

#: Of several workers' states of one virtual server the first in this order is told.
STATES = ("running", "paused", "stopping", "waiting", "stopped")


@frozen
class ServerView:
    """
    One virtual server.

    :ivar name: unique.
    :ivar state: one of `STATES`; ``waiting`` is stopped until its queue is free.
    :ivar addresses: where it listens, host and port.
    :ivar sessions: inbound sessions now.
    :ivar messages: messages in the queue; `None`: that cannot be known now.
    :ivar recipients: recipients in the queue, likewise.
    :ivar problem: why not; empty: nothing is wrong.
    """

    name: str
    state: str
    addresses: tuple[tuple[str, int], ...] = ()
    sessions: int = 0
    messages: int | None = 0
    recipients: int | None = 0
    problem: str = ""


@frozen
class PoolView:
    """
    Threads of one virtual server in one process.

    :ivar what: they are for.
    :ivar working: of them, now.
    :ivar waiting: pieces of work that none of them has begun.
    :ivar limit: how many of them there may be.
    """

    what: str
    working: int
    waiting: int
    limit: int


@frozen
class SessionView:
    """
    One inbound session (SES-01).

    :ivar id: the worker's number and the session's own; what `terminate` takes.
    :ivar server: the virtual server.
    :ivar hello: what the client called itself; empty before HELO or EHLO.
    :ivar peer: the client's IP address.
    :ivar peer_port: its port.
    :ivar local: our IP address.
    :ivar local_port: our port.
    :ivar connected_seconds: connected for so long.
    :ivar state: where its dialogue stands: a name of `mailhost.smtp.order.State` in small
        letters, or ``handshake``.
    :ivar tls: the protocol's version; empty in clear.
    :ivar messages: accepted so far.
    """

    id: str
    server: str
    hello: str
    peer: str
    peer_port: int
    local: str
    local_port: int
    connected_seconds: float
    state: str
    tls: str
    messages: int


@frozen
class WorkerView:
    """
    One process.

    :ivar number: 0 for the first, and for the only one.
    :ivar pid: its process id.
    :ivar servers: its part of each virtual server.
    """

    number: int
    pid: int
    servers: tuple[ServerView, ...] = ()


@frozen
class ServiceView:
    """
    :ivar servers: each virtual server, all workers together.
    :ivar workers: those that answered.
    :ivar missing: the numbers of those that are down, or did not answer in time.
    """

    servers: tuple[ServerView, ...]
    workers: tuple[WorkerView, ...]
    missing: tuple[int, ...] = ()


def merged(workers: tuple[WorkerView, ...], missing: tuple[int, ...] = ()) -> ServiceView:
    """*workers* as one service; a virtual server runs where any of them runs it."""
    together: dict[str, ServerView] = {}
    for worker in workers:
        for server in worker.servers:
            known = together.get(server.name)
            together[server.name] = server if known is None else _sum(known, server)
    return ServiceView(tuple(together.values()), workers, missing)


def _sum(one: ServerView, other: ServerView) -> ServerView:
    return ServerView(
        one.name,
        min(one.state, other.state, key=STATES.index),
        tuple(dict.fromkeys((*one.addresses, *other.addresses))),
        one.sessions + other.sessions,
        _together(one.messages, other.messages),
        _together(one.recipients, other.recipients),
        "; ".join(dict.fromkeys(filter(None, (one.problem, other.problem)))),
    )


def _together(one: int | None, other: int | None) -> int | None:
    """A part that is not known makes the sum unknown."""
    return None if one is None or other is None else one + other
