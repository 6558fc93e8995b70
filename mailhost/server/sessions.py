"""
Current sessions as operators see them, and how they are ended.

:Room: ``server``
:IIS: SES-01, SES-02.
:Called by: `mailhost.server.virtual_server`.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import evolve

from mailhost.errors import MailhostError
from mailhost.interfaces import IQueueStore
from mailhost.model.view import ServerView, SessionView
from mailhost.net.inbound import InboundProtocol
from mailhost.smtp import replies


def session_view(session: InboundProtocol, worker: int, server: str, now: float) -> SessionView:
    """
    *session* at one moment.

    :param worker: the number of this process.
    :param server: the virtual server's name.
    :param now: seconds since the epoch.
    """
    facts = session.session
    return SessionView(
        _id(session, worker),
        server,
        facts.hello,
        facts.peer,
        facts.peer_port,
        facts.local,
        facts.local_port,
        max(0.0, now - facts.connected_at),
        session.state,
        facts.tls.version if facts.tls is not None else "",
        facts.message_count,
    )


async def counted_view(seen: ServerView, stores: Iterable[IQueueStore]) -> ServerView:
    """*seen*, with what is in *stores*, or with why they cannot be read."""
    try:
        counts = [await store.counts() for store in stores]
    except MailhostError as problem:
        words = f"the queue cannot be read now: {problem}"
        return evolve(seen, messages=None, recipients=None, problem=words)
    messages, recipients = sum(one.messages for one in counts), sum(o.recipients for o in counts)
    return evolve(seen, messages=messages, recipients=recipients)


def end_sessions(
    sessions: Iterable[InboundProtocol], worker: int, ids: frozenset[str]
) -> list[str]:
    """End those of *sessions* that are among *ids*; tells which."""
    found = [(_id(one, worker), one) for one in sessions]
    ended = [(name, one) for name, one in found if name in ids]
    for _, one in ended:
        one.terminate(replies.TERMINATED)
    return [name for name, _ in ended]


def _id(session: InboundProtocol, worker: int) -> str:
    """Unique in the service: each worker counts for itself."""
    return f"{worker}-{session.session.session_id}"
