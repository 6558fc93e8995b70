"""
What one process answers about the mail in its queues, and what it does to it.

:Room: ``control``
:Called by: `mailhost.control.answers`.

A virtual server has its own queue, and perhaps adopted ones; each has a relay, and so a
store and a steward.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from attrs import asdict, frozen

from mailhost.config.units import parse_next_hop
from mailhost.control.badmail import header_lines
from mailhost.control.steered import Parts, chosen_parts
from mailhost.interfaces import Maybe
from mailhost.model.listing import LastOutcome, QueueFilter, QueuePage, sender_text
from mailhost.model.queue import QueuedMessage, QueuedRecipient
from mailhost.relay.manager import RelayManager
from mailhost.relay.steward import Action, Done, Order
from mailhost.spool.ids import key_of

#: Recipients of one message that a listing names; `queue_message` names more.
LISTED_RECIPIENTS = 20
SHOWN_RECIPIENTS = 10_000
#: A header is shown as far as this.
_HEADER_OCTETS = 16_384
#: What stands in a cursor behind a key all of whose messages were looked at.
_ALL_STORES = "f" * 8
#: The most urgent first: what a message is when its recipients are not all the same.
STATES = ("active", "due", "waiting", "held")


@frozen
class RecipientRow:
    """
    A recipient of a message in the queue.

    :ivar number: within its message.
    :ivar state: one of `STATES`.
    :ivar due_at: the next attempt, seconds since the epoch; null: it is held.
    :ivar status: of the last attempt, as words; empty: there was none.
    :ivar in_doubt: the last host may have it.
    :ivar host: where an operator, or the directory, sends it; null: where its domain says.
    :ivar group: the name (DN) of the group that is to be expanded; empty: it is none.
    """

    number: int
    address: str
    state: str
    attempts: int
    due_at: float | None
    due_in_seconds: float | None
    status: str
    words: str
    in_doubt: bool
    host: str | None
    group: str


@frozen
class QueueRow:
    """
    A message in the queue.

    :ivar size: octets.
    :ivar accepted_at: seconds since the epoch.
    :ivar recipients: the first of them; ``recipient_count`` says how many there are.
    """

    id: str
    recipient_count: int
    server: str
    sender: str
    size: int
    accepted_at: float
    age_seconds: float
    state: str
    recipients: tuple[RecipientRow, ...]


@frozen(kw_only=True)
class QueueMessage(QueueRow):
    """
    A message, with all that is known of it.

    :ivar body: ``7BIT``, ``8BITMIME`` or ``BINARYMIME``.
    :ivar hello: what its client called itself.
    :ivar header: lines.
    """

    worker: int
    body: str
    hello: str
    header: tuple[str, ...]


def _relays(parts: Parts, server: str | None) -> Iterator[tuple[str, RelayManager]]:
    for part in chosen_parts(parts, server):
        for relay in part.relays:
            yield part.name, relay


def _filter(relay: RelayManager, wanted: Mapping[str, Any]) -> QueueFilter:
    """*wanted* as `mailhost.control.queue` has checked it."""
    given = dict(wanted)
    older = given.pop("older", None)
    ids = given.pop("ids", None)
    return QueueFilter(
        ids=None if ids is None else frozenset(ids),
        accepted_before=None if older is None else relay.steward.clock.seconds() - older,
        **given,
    )


# ---- seeing


async def _page(
    parts: Parts, server: str | None, wanted: Mapping[str, Any], after: str, limit: int, brief: bool
) -> dict[str, Any]:
    """
    The next *limit* messages behind the id *after* in each queue.

    :param brief: only who they are.
    """
    rows: list[Any] = []
    reached: list[str] = []
    behind = _key_behind(after)
    for name, relay in _relays(parts, server):
        chosen = _filter(relay, wanted)
        # Who goes to which site only the relay knows, and only of whole messages.
        if brief and not chosen.site:
            selected = await relay.store.select(chosen, behind, limit)
            counts = selected.counts.items()
            found: list[dict[str, Any]] = [
                {"id": id, "recipient_count": count} for id, count in counts
            ]
            end = selected.reached
        else:
            page = await relay.store.look_through(chosen, behind, limit)
            listed = await relay.steward.chosen(page.messages, chosen)
            found = [_row(name, relay, page, *one, brief=brief) for one in listed]
            end = page.reached
        rows += [row for row in found if row["id"] > after]
        if end is not None:
            reached.append(f"{end:016x}{_ALL_STORES}")
    stopped = [part.name for part in chosen_parts(parts, server) if not part.relays]
    return {"rows": rows, "reached": min(reached, default=None), "stopped": stopped}


def _key_behind(after: str) -> int:
    """The highest key of which no message stands behind the id *after*."""
    if not after:
        return 0
    key = key_of(after)
    return key if after.endswith(_ALL_STORES) else key - 1


def _row(
    name: str,
    relay: RelayManager,
    page: QueuePage,
    message: QueuedMessage,
    recipients: Sequence[QueuedRecipient],
    most: int = LISTED_RECIPIENTS,
    brief: bool = False,
) -> dict[str, Any]:
    who: dict[str, Any] = {"id": message.queue_id, "recipient_count": len(recipients)}
    if brief:
        return who
    now = relay.steward.clock.seconds()
    active = message.key in relay.steward.window
    states = {_state(one, active, now) for one in recipients}
    row = QueueRow(
        **who,
        server=name,
        sender=sender_text(message.reverse_path),
        size=message.size,
        accepted_at=message.accepted_at,
        age_seconds=max(0.0, now - message.accepted_at),
        state=min(states, key=STATES.index),
        recipients=tuple(
            _recipient(one, _state(one, active, now), page.last.get((message.key, one.number)), now)
            for one in recipients[:most]
        ),
    )
    return asdict(row)


def _recipient(
    recipient: QueuedRecipient, state: str, last: LastOutcome | None, now: float
) -> RecipientRow:
    last = last or LastOutcome()
    return RecipientRow(
        number=recipient.number,
        address=str(recipient.forward_path),
        state=state,
        attempts=recipient.attempts,
        due_at=None if recipient.held else recipient.due_at,
        due_in_seconds=None if recipient.held else max(0.0, recipient.due_at - now),
        status=last.status,
        words=last.words,
        in_doubt=recipient.in_doubt,
        host=None if recipient.host is None else str(recipient.host),
        group=recipient.group,
    )


def _state(recipient: QueuedRecipient, active: bool, now: float) -> str:
    if recipient.held:
        return "held"
    if recipient.due_at > now:
        return "waiting"
    return "active" if active else "due"


async def _message(parts: Parts, id: str) -> dict[str, Any] | None:
    """All about the message *id*; `None`: it is not here."""
    for name, relay in _relays(parts, None):
        page = await relay.store.look_through(QueueFilter(ids=frozenset({id})), 0, 1)
        for message in page.messages:
            everyone = list(message.recipients.values())
            start = await relay.store.content_part(message, 0, _HEADER_OCTETS)
            return {
                **_row(name, relay, page, message, everyone, SHOWN_RECIPIENTS),
                "body": message.body,
                "hello": message.hello,
                "header": header_lines(start),
            }
    return None


async def _content(parts: Parts, id: str, start: int, size: int) -> str | None:
    """A part of the content of the message *id* in base 64; `None`: it is not here."""
    for _, relay in _relays(parts, None):
        for message in await relay.store.find([id]):
            octets = await relay.store.content_part(message, start, size)
            return b64encode(octets).decode("ascii")
    return None


# ---- changing


async def _change(
    parts: Parts,
    server: str | None,
    wanted: Mapping[str, Any],
    ids: list[str],
    action: str,
    who: str,
    host: str | None,
    report: bool,
) -> dict[str, int]:
    """Do *action* to those of the messages *ids* that are here, and *wanted*."""
    hop = None if host is None else parse_next_hop(host)
    order = Order(Action[action.upper()], who, hop, report)
    total = asdict(Done())
    for _, relay in list(_relays(parts, server)):
        done = await relay.steward.carry_out(order, ids, _filter(relay, wanted))
        total = {name: count + getattr(done, name) for name, count in total.items()}
    return total


#: What may be asked.
QUESTIONS: Mapping[str, Callable[..., Maybe[Any]]] = {
    "queue_page": _page,
    "queue_message": _message,
    "queue_content": _content,
    "queue_change": _change,
}
