"""
A group in the queue makes way for its members: who is added to what.

:Room: ``spool``
:RFC: 5321 §3.9.2 (a list has a return path of its own); 3461 §5.2.7 (who hears of members).
:Called by: every store, so that they agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet

from attrs import evolve, frozen

from mailhost.model.address import Mailbox
from mailhost.model.directory import Destination, EnvelopePart
from mailhost.model.envelope import Handling
from mailhost.model.parameters import NO_RECIPIENT_PARAMETERS, RecipientParameters
from mailhost.model.queue import QueuedMessage, QueuedRecipient
from mailhost.smtp.extensions.dsn import with_original
from mailhost.spool.ids import key_of


@frozen
class GrowthFacts:
    """
    What a store knows of a message with a group.

    :ivar known: addresses in small letters of those who are or were its recipients, and of
        those who have got a copy of it.
    :ivar next_number: the next new recipient's.
    :ivar large: its content is a file.
    """

    known: AbstractSet[str]
    next_number: int
    large: bool = False


@frozen
class Plan:
    """
    What is to be written.

    :ivar added: new recipients of the message itself.
    :ivar copies: new messages, one for each other return path.
    """

    added: tuple[QueuedRecipient, ...]
    copies: tuple[QueuedMessage, ...]


def plan_expansion(
    message: QueuedMessage,
    number: int,
    parts: Sequence[EnvelopePart],
    facts: GrowthFacts,
    new_queue_id: Callable[[], str],
    now: float,
) -> Plan:
    """
    Each destination of *parts* once, by its return path; all are due at *now*.

    What was asked for the group *number* holds for members that keep the return path, but for
    a report of success, which is about the group.  With another return path it is another
    message, and the sender has asked nothing of it.
    """
    known = set(facts.known)
    paths: dict[Mailbox | None, list[Destination]] = {message.reverse_path: []}
    for part in parts:
        comers = paths.setdefault(part.reverse_path(message.reverse_path), [])
        for one in part.destinations:
            address = str(one.address).lower()
            if address not in known:
                known.add(address)
                comers.append(one)
    own = paths.pop(message.reverse_path)
    copies = (
        _copy(message, new_queue_id(), path, found, now) for path, found in paths.items() if found
    )
    asked = inherited(message.recipients[number])
    return Plan(_recipients(own, facts.next_number, now, asked), tuple(copies))


def inherited(group: QueuedRecipient) -> RecipientParameters:
    """What was asked for *group*, as it holds for its members."""
    asked = group.parameters
    if asked is NO_RECIPIENT_PARAMETERS:
        return asked
    return with_original(asked.quiet, group.forward_path)


def _copy(
    message: QueuedMessage,
    queue_id: str,
    reverse_path: Mailbox | None,
    found: Sequence[Destination],
    now: float,
) -> QueuedMessage:
    recipients = {one.number: one for one in _recipients(found, 0, now)}
    return evolve(
        message,
        key=key_of(queue_id),
        queue_id=queue_id,
        reverse_path=reverse_path,
        recipients=recipients,
        parameters=message.parameters.of_list(),
    )


def _recipients(
    found: Sequence[Destination],
    first: int,
    now: float,
    asked: RecipientParameters = NO_RECIPIENT_PARAMETERS,
) -> tuple[QueuedRecipient, ...]:
    recipients = tuple(
        QueuedRecipient(number, one.address, 0, now) for number, one in enumerate(found, first)
    )
    for recipient, one in zip(recipients, found, strict=True):
        recipient.handle(Handling(one.host, parameters=asked))
    return recipients


def apply_growth(message: QueuedMessage, number: int, added: Iterable[QueuedRecipient]) -> None:
    """The group is gone from *message*, its members are there."""
    after = {key: one for key, one in message.recipients.items() if key != number}
    message.recipients = after | {one.number: one for one in added}
