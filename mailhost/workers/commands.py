"""
What a supervisor and its workers say to each other.

:Room: ``workers``
:Called by: `mailhost.workers.supervisor`, `mailhost.workers.child`.

AMP over a pair of UNIX sockets, which nobody else can reach.  The supervisor's
orders are pickled: a worker does what its supervisor says anyway.  What a worker
says is plain, because a worker reads what the network sends.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from typing import Any

from attrs import asdict, field, frozen
from twisted.internet.defer import Deferred
from twisted.protocols import amp

from mailhost.config.settings import Settings
from mailhost.errors import MailhostError
from mailhost.model.view import STATES, ServerView
from mailhost.workers.sockets import Place

#: Whoever says ETRN or ATRN waits so long for what other workers have.
ASK_HELD_SECONDS = 2.0
#: AMP's own limit for one value is 65535 octets.
_PIECE_OCTETS = 60_000


class LongOctets(amp.Argument):
    """Octets of any length, in pieces."""

    def toBox(self, name: bytes, strings: Any, objects: Any, proto: Any) -> None:
        """See `amp.Argument`."""
        octets: bytes = objects[name.decode("ascii")]
        for number, start in enumerate(range(0, max(len(octets), 1), _PIECE_OCTETS)):
            strings[b"%s-%d" % (name, number)] = octets[start : start + _PIECE_OCTETS]

    def fromBox(self, name: bytes, strings: Any, objects: Any, proto: Any) -> None:
        """See `amp.Argument`."""
        pieces: list[bytes] = []
        while (key := b"%s-%d" % (name, len(pieces))) in strings:
            pieces.append(strings.pop(key))
        objects[name.decode("ascii")] = b"".join(pieces)


# Upstream has no annotations for them.
_kind: Any = amp
_long: Any = LongOctets


class CannotSteer(MailhostError):
    """A virtual server cannot do as asked; the words say why."""


# ---- to a worker


class TakeSocket(amp.Command):
    """A listening socket; it is the worker's too from now on."""

    arguments = [
        (b"server", _kind.Unicode()),
        (b"host", _kind.Unicode()),
        (b"port", _kind.Integer()),
        (b"descriptor", _kind.Descriptor()),
    ]


class Obey(amp.Command):
    """Go by these `Orders`, from the start or from now on."""

    arguments = [(b"orders", _long())]


class Steer(amp.Command):
    """Start, pause or stop one virtual server."""

    arguments = [(b"server", _kind.Unicode()), (b"action", _kind.Unicode())]
    errors = {CannotSteer: b"CANNOT_STEER"}


class Report(amp.Command):
    """What is there now: `encode_views`."""

    response = [(b"views", _long())]


class Question(amp.Command):
    """One of `mailhost.control.answers.QUESTIONS`; arguments and answer are JSON."""

    arguments = [(b"question", _kind.Unicode()), (b"arguments", _long())]
    response = [(b"answer", _long())]
    errors = {CannotSteer: b"CANNOT_STEER"}


class TakeLent(amp.Command):
    """
    Send what waits over a connection whose octets pass through a descriptor.

    JSON: the virtual server, the domains, and who has asked: an IP address and a port.  The
    answer comes when nothing more is sent: whether the connection is between two transactions.
    """

    arguments = [(b"tour", _long()), (b"descriptor", _kind.Descriptor())]
    response = [(b"in_order", _kind.Boolean())]


class Finish(amp.Command):
    """Stop in order."""


# ---- to the supervisor


class Borrow(amp.Command):
    """Answered when one more of *key* may be used."""

    arguments = [(b"key", _kind.Unicode())]


class BorrowNow(amp.Command):
    """Whether one more of *key* may be used."""

    arguments = [(b"key", _kind.Unicode())]
    response = [(b"lent", _kind.Boolean())]


class GiveBack(amp.Command):
    """One of *key* is not used any more."""

    arguments = [(b"key", _kind.Unicode())]
    requiresAnswer = False


class AskHeld(amp.Command):
    """
    All other workers are asked whether mail waits for some domains.

    JSON: the arguments of the question ``held`` (`mailhost.control.answers`), and what each says;
    null: it has not said in time.
    """

    arguments = [(b"asked", _long())]
    response = [(b"found", _long())]


class Lend(amp.Command):
    """
    Worker *number* is to have a connection that was turned round, for a while.

    JSON and answer are those of `TakeLent`.
    """

    arguments = [
        (b"number", _kind.Integer()),
        (b"tour", _long()),
        (b"descriptor", _kind.Descriptor()),
    ]
    response = [(b"in_order", _kind.Boolean())]


class States(amp.Command):
    """The state of each virtual server in this worker: a JSON table."""

    arguments = [(b"states", _long())]
    requiresAnswer = False


def ask(link: amp.AMP, command: type[amp.Command], **arguments: object) -> Deferred[Any]:
    """The answer to *command* on *link*; fails when there will be none."""
    asked = link.callRemote(command, **arguments)  # type: ignore[no-untyped-call]  # upstream
    assert isinstance(asked, Deferred)
    return asked


def tell(link: amp.AMP, command: type[amp.Command], **arguments: object) -> None:
    """Send *command*, which has no answer, on *link*."""
    link.callRemote(command, **arguments)  # type: ignore[no-untyped-call]  # upstream


# ---- what is in them


@frozen
class Orders:
    """
    :ivar settings: the configuration.
    :ivar faults: addresses that the supervisor could not bind, with the error's number.
    :ivar resting: virtual servers that are ``paused`` or ``stopped`` by an operator.
    """

    settings: Settings
    faults: Mapping[Place, int] = field(factory=dict)
    resting: Mapping[str, str] = field(factory=dict)

    def encode(self) -> bytes:
        """For `Obey`."""
        return pickle.dumps(self)

    @staticmethod
    def decode(octets: bytes) -> Orders:
        """From the supervisor, and nobody else."""
        orders = pickle.loads(octets)
        assert isinstance(orders, Orders)
        return orders


def encode_views(views: tuple[ServerView, ...]) -> bytes:
    """For `Report`."""
    return json.dumps([asdict(view) for view in views]).encode("ascii")


def decode_views(octets: bytes) -> tuple[ServerView, ...]:
    """:raises ValueError: *octets* are not what `encode_views` makes."""
    try:
        return tuple(_view(table) for table in json.loads(octets))
    except (TypeError, KeyError, AttributeError) as wrong:
        raise ValueError("not a worker's report") from wrong


def _view(table: dict[str, Any]) -> ServerView:
    addresses = tuple((str(host), int(port)) for host, port in table.pop("addresses"))
    if table["state"] not in STATES:
        raise KeyError(table["state"])
    return ServerView(addresses=addresses, **table)


def encode_states(states: Mapping[str, str]) -> bytes:
    """For `States`."""
    return json.dumps(dict(states)).encode("ascii")


def decode_states(octets: bytes) -> dict[str, str]:
    """:raises ValueError: *octets* are not what `encode_states` makes."""
    return {str(name): str(state) for name, state in json.loads(octets).items()}
