"""
What the relay tells about itself: why something waits, how each site is doing.

:Room: ``relay`` -- frozen values.
:Made by: `mailhost.relay.manager`, when asked; nothing here is kept up to date by itself.
"""

from __future__ import annotations

from datetime import UTC, datetime

from attrs import frozen


@frozen
class Wait:
    """
    Why something does not go on.

    :ivar reason: in words, with the number that says why.
    :ivar setting: the key that would change it, as in ``docs/settings.rst``, from the
        virtual server's table on or from the top; empty where no setting is behind it.
    :ivar until: seconds since the epoch; `None`: until something else ends.
    """

    reason: str
    setting: str = ""
    until: float | None = None


@frozen
class SiteView:
    """
    How one site is doing.

    :ivar key: its name: the sorted names of its hosts, or ``smart:`` and smart hosts.
    :ivar hosts: its hosts, in the order to try; empty when it is only remembered.
    :ivar connections: open and being opened.
    :ivar window: connections that it is trusted with now.
    :ivar waiting_messages: in memory; more may be due later.
    :ivar waiting_jobs: transactions they need.
    :ivar postponed: messages sent back to the store for want of room here, or because it
        is suspended, since it was first heard of.
    :ivar per_second: transactions that came to an end lately.
    :ivar suspended_until: seconds since the epoch; `None`: it is not.
    :ivar last_problem: the last connection's trouble, in words; empty: none known.
    :ivar waits: what its mail waits for.
    """

    key: str
    hosts: tuple[str, ...]
    connections: int
    window: int
    waiting_messages: int
    waiting_jobs: int
    postponed: int
    per_second: float
    suspended_until: float | None
    last_problem: str
    waits: tuple[Wait, ...]


@frozen
class Pressure:
    """
    How far output lags behind.

    :ivar active: messages in memory.
    :ivar max_active: more are not taken into memory.
    :ivar recipients: of these messages.
    :ivar octets: of these messages' contents, wherever they are.
    :ivar backlog: mail is due that has no room in memory.
    :ivar queued: messages in the queue in all, about; `None`: not counted yet.
    :ivar wait: why new mail should be put off; `None`: it should not.
    """

    active: int
    max_active: int
    recipients: int
    octets: int
    backlog: bool
    queued: int | None
    wait: Wait | None


def clock_words(at: float) -> str:
    """An instant for people: ``2001-09-09 01:46:40 UTC``."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
