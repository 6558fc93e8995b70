"""
Groups make way for their members, a few groups at a time.

:Room: ``relay``
:RFC: 5321 §3.9; 3461 §5.2.7, 3464 §2.3.3 (expanded); promises P2, P4, P7.
:IIS: §6, point 5.
:Called by: `mailhost.relay.manager`.

A group is expanded whole, nested ones included, so that what comes of it is never a group
again: no loop can run for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from attrs import define, evolve, field
from twisted.logger import Logger

from mailhost.errors import ContentDamaged, LookupProblem, MailhostError
from mailhost.interfaces import IAddressResolver, IQueueStore
from mailhost.model.directory import EnvelopePart, Expansion, GroupRef
from mailhost.model.outcome import Fate, Outcome
from mailhost.model.parameters import NO_RECIPIENT_PARAMETERS, RecipientParameters
from mailhost.model.queue import Expanded, QueuedMessage, QueuedRecipient, Submission
from mailhost.model.tally import Tally
from mailhost.relay.active import ActiveMessage
from mailhost.relay.outcomes import STUMBLED, damaged
from mailhost.relay.settlement import Settlement, Verdict, is_to_confirm
from mailhost.spool.expanding import inherited
from mailhost.traces.events import event
from mailhost.traces.tracer import Tracer

#: Groups being expanded at once; the members of so many are in memory.
AT_ONCE = 2

_SWITCHED_OFF = Outcome(Fate.DELAYED, "4.3.5", "LDAP routing is off: nobody knows the members")


class Ways(Protocol):
    """Where a group goes on; the manager."""

    def settle(
        self,
        active: ActiveMessage,
        recipients: Sequence[QueuedRecipient],
        outcomes: Sequence[Outcome],
    ) -> None:
        """It has not become its members.  This ends one job."""

    def expanded(self, active: ActiveMessage, result: Expanded) -> None:
        """It has.  This ends one job."""


@define(eq=False)
class GroupQueue:
    """
    :ivar store: where members take the place of their group.
    :ivar directory: knows the members; `None`: there is none now, and groups are delayed.
    :ivar settlement: makes reports about members that cannot be reached.
    :ivar clock: the reactor.
    :ivar ways: where a group goes on.
    :ivar follow: runs a coroutine that `stop` of the relay waits for.
    :ivar tracer: is told of groups that have made way.
    :ivar tally: counts them.
    """

    store: IQueueStore
    directory: IAddressResolver | None
    settlement: Settlement
    clock: Any
    ways: Ways
    follow: Callable[[Coroutine[Any, Any, None]], None]
    tracer: Tracer = field(factory=Tracer)
    tally: Tally = field(factory=Tally)
    _waiting: deque[tuple[ActiveMessage, list[QueuedRecipient]]] = field(factory=deque, init=False)
    _busy: int = field(default=0, init=False)
    _stopping: bool = field(default=False, init=False)

    _log = Logger()

    def add(self, active: ActiveMessage, groups: list[QueuedRecipient]) -> None:
        """Expand *groups* of *active*, one after the other."""
        active.jobs += len(groups)
        self._waiting.append((active, groups))
        self._expand_next()

    def stop(self) -> None:
        """Begin nothing more; the store has what waits."""
        self._stopping = True
        self._waiting.clear()

    def _expand_next(self) -> None:
        while self._waiting and self._busy < AT_ONCE:
            active, groups = self._waiting.popleft()
            self._busy += 1
            self.follow(self._expand(active, groups))

    async def _expand(self, active: ActiveMessage, groups: list[QueuedRecipient]) -> None:
        for group in groups:
            if self._stopping:
                return
            result = await self._result(active.message, group)
            if isinstance(result, Expanded):
                self.ways.expanded(active, result)
            elif not self._stopping or result.fate.terminal:
                self.ways.settle(active, [group], [result])
        self._busy -= 1
        self._expand_next()

    async def _result(self, message: QueuedMessage, group: QueuedRecipient) -> Expanded | Outcome:
        try:
            return await self._asked(message, group)
        except LookupProblem as problem:
            # Which server it was is for the log; the outcome's words may reach the sender.
            self._log.warn(
                "{id}: {group} is not expanded now: {problem}",
                id=message.queue_id,
                group=str(group.forward_path),
                problem=problem.words,
            )
            return Outcome(Fate.DELAYED, problem.status, "the directory cannot be asked now")
        except ContentDamaged as problem:
            return await damaged(self.store, message, problem)
        except MailhostError as problem:
            return Outcome(Fate.DELAYED, "4.3.0", str(problem))
        except Exception:
            self._log.failure("Expanding {group} has stumbled", group=str(group.forward_path))
            return STUMBLED

    async def _asked(self, message: QueuedMessage, group: QueuedRecipient) -> Expanded | Outcome:
        directory = self.directory
        if directory is None:
            return _SWITCHED_OFF
        try:
            answer = await directory.expand(GroupRef(group.group, group.forward_path))
        except LookupProblem:
            if self.directory is directory:
                raise
            return await self._asked(message, group)  # another one has taken its place
        if not isinstance(answer, Expansion):
            return Outcome(Fate.FAILED, answer.status, answer.words)
        now = self.clock.seconds()
        reports = await self._reports(message, group, answer.parts, now)
        result = await self.store.expand(message, group.number, answer.parts, reports, now)
        self._tell(message, group, answer, result)
        return result

    async def _reports(
        self,
        message: QueuedMessage,
        group: QueuedRecipient,
        parts: Sequence[EnvelopePart],
        now: float,
    ) -> list[Submission]:
        """
        About the group, to the sender who has asked for it; about members that cannot be
        reached, to whom the rule of their group says.
        """
        made: list[Submission] = []
        outcome = _group_outcome(message, parts)
        if is_to_confirm(group, outcome):
            confirmed = Verdict((), (), (), ((group, outcome),))
            made += await self.settlement.reports(message, confirmed, now)
        for part in parts:
            told, asked = _whom_to_tell(message, group, part)
            failed = tuple(
                (
                    QueuedRecipient(-1, path, parameters=asked),
                    Outcome(Fate.FAILED, refused.status, refused.words),
                )
                for path, refused in part.refused
                if asked.wants("FAILURE")
            )
            if failed:
                made += await self.settlement.reports(told, Verdict((), failed), now)
        return made

    def _trace(self, message: QueuedMessage, group: QueuedRecipient, result: Expanded) -> None:
        now, path = self.clock.seconds(), group.forward_path
        words = f"2.0.0 {len(result.added)} members here, {len(result.made)} other messages"
        kind = Fate.EXPANDED.value
        self.tracer.note(event(now, message.queue_id, kind, words, paths=(path,)))
        for one in result.made:
            paths = tuple(each.forward_path for each in one.recipients.values())
            self.tracer.note(
                event(
                    now,
                    one.queue_id,
                    "accepted",
                    f"made of the group {path}",
                    paths=paths,
                    other=message.queue_id,
                )
            )

    def _tell(
        self,
        message: QueuedMessage,
        group: QueuedRecipient,
        answer: Expansion,
        result: Expanded,
    ) -> None:
        self.tally.expanded_recipients += 1
        if self.tracer.on:
            self._trace(message, group, result)
        self._log.info(
            "{id}: to={group} {fate} 2.0.0: {count} members here, other messages: {made}; "
            "refused {refused}, skipped {skipped}",
            id=message.queue_id,
            group=str(group.forward_path),
            fate=Fate.EXPANDED.value,
            count=len(result.added),
            made=",".join(one.queue_id for one in result.made) or "none",
            refused=len(answer.refused),
            skipped=answer.skipped,
        )


def _group_outcome(message: QueuedMessage, parts: Sequence[EnvelopePart]) -> Outcome:
    """
    What the sender is told of the group itself.

    A list that sends in its own name has the mail with that (RFC 3461 §5.2.7.1); of members
    who get it in the sender's name more may be heard (§5.2.7.3).
    """
    path = message.reverse_path
    if any(part.destinations and part.reverse_path(path) == path for part in parts):
        return Outcome(Fate.EXPANDED, "2.0.0", "sent on to the members")
    return Outcome(Fate.DELIVERED, "2.0.0", "given to the list")


def _whom_to_tell(
    message: QueuedMessage, group: QueuedRecipient, part: EnvelopePart
) -> tuple[QueuedMessage, RecipientParameters]:
    """Whose mail it is for the members of *part*, and what he wants to hear."""
    path = part.reverse_path(message.reverse_path)
    if path == message.reverse_path:
        return message, inherited(group)
    asked = message.parameters.of_list()
    return evolve(message, reverse_path=path, parameters=asked), NO_RECIPIENT_PARAMETERS
