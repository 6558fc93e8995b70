"""
What operators have done to mail in the queue: hold, release, retry, delete, reroute.

:Room: ``relay``
:RFC: 3463 §3.8 (5.7.1: refused by a local decision).
:Called by: `mailhost.control`; promises P2, P3.

What is being sent is left alone: only its outcome says what became of it.  So a message is
changed when it is not in work, and reserved meanwhile so that it does not come into work; or
as far as its recipients wait for a connection.  Everything is on stable storage when it is
said to be done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any

from attrs import define, frozen
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailhost.interfaces import IQueueStore
from mailhost.model.listing import QueueFilter
from mailhost.model.outcome import Fate, Outcome
from mailhost.model.queue import HELD_AT, Postponement, QueuedMessage, QueuedRecipient
from mailhost.model.route import NextHop
from mailhost.relay.active import ActiveMessage, ActiveWindow
from mailhost.relay.dispatch import Dispatcher
from mailhost.relay.due import DueMail
from mailhost.relay.recording import Recorder
from mailhost.relay.settlement import judge
from mailhost.relay.site_table import SiteTable
from mailhost.spool.ids import key_of
from mailhost.traces.events import event

#: Queue ids on one line of the log.
_IDS_ON_A_LINE = 20

_DELETED = Outcome(Fate.FAILED, "5.7.1", "deleted by an operator")

Chosen = tuple[QueuedMessage, list[QueuedRecipient]]


class Action(Enum):
    """What may be done; each value is what is said of it afterwards."""

    HOLD = "held"
    RELEASE = "released"
    RETRY = "to be tried at once"
    DELETE = "deleted"
    REROUTE = "rerouted"


@frozen
class Order:
    """
    :ivar action: what is to be done.
    :ivar who: for the log.
    :ivar host: with `Action.REROUTE`: where the mail is to go; `None`: where its domain says.
    :ivar report: with `Action.DELETE`: the senders are told.
    """

    action: Action
    who: str
    host: NextHop | None = None
    report: bool = False


@frozen
class Done:
    """
    What came of an order.

    :ivar messages: changed, some or all of their recipients.
    :ivar recipients: changed.
    :ivar busy_messages: left alone, some or all of their recipients: they are in work.
    :ivar busy_recipients: left alone.
    """

    messages: int = 0
    recipients: int = 0
    busy_messages: int = 0
    busy_recipients: int = 0


@define(eq=False)
class Steward:
    """
    :ivar store: where the mail is.
    :ivar clock: the reactor.
    :ivar window: what is in work.
    :ivar due: takes nothing into work that is reserved.
    :ivar sites: where mail waits for connections.
    :ivar dispatcher: knows the ways.
    :ivar recorder: tells of outcomes, and makes reports.
    :ivar admit: takes a message into work; the second argument: its operator insists.
    :ivar accept: takes a queued report into work.
    :ivar job_done: told that a job of a message is over.
    """

    store: IQueueStore
    clock: Any
    window: ActiveWindow
    due: DueMail
    sites: SiteTable
    dispatcher: Dispatcher
    recorder: Recorder
    admit: Callable[[QueuedMessage, bool], None]
    accept: Callable[[QueuedMessage], None]
    job_done: Callable[[ActiveMessage], None]

    _log = Logger()

    # ---- choosing

    async def chosen(
        self, messages: Iterable[QueuedMessage], wanted: QueueFilter
    ) -> tuple[Chosen, ...]:
        """Those of *messages* that are *wanted*, each with those of its recipients that are."""
        known: dict[tuple[str, NextHop | None], bool] = {}
        found = []
        for message in messages:
            recipients = wanted.chosen(message)
            if wanted.site:
                recipients = [
                    one for one in recipients if await self._goes_to(one, wanted.site, known)
                ]
            if recipients:
                found.append((message, recipients))
        return tuple(found)

    async def _goes_to(
        self,
        recipient: QueuedRecipient,
        site: str,
        known: dict[tuple[str, NextHop | None], bool],
    ) -> bool:
        """Whether it would go to *site* now: its key, or one of its hosts."""
        path = recipient.forward_path
        if recipient.group:
            return False
        way = path.domain_key, recipient.host
        if way not in known:
            found = (await self.dispatcher.way(path, recipient.host)).destination
            hosts = () if found is None else (text for h in found.hops for text in (str(h), h.host))
            known[way] = found is not None and site.lower() in {found.key.lower(), *hosts}
        return known[way]

    # ---- doing

    async def carry_out(self, order: Order, ids: Sequence[str], wanted: QueueFilter) -> Done:
        """
        Do to the messages *ids*, and their recipients that are *wanted*, what *order* says.

        What has left the queue meanwhile is passed over.

        :raises mailhost.errors.MailhostError: the store cannot; some may be done all the same.
        """
        active: list[ActiveMessage] = []
        idle: list[str] = []
        for name in dict.fromkeys(ids):
            known = self.window.find(key_of(name))
            if known is not None and known.message.queue_id == name:
                active.append(known)
            elif key_of(name) not in self.due.reserved:
                idle.append(name)
        keys = {key_of(name) for name in idle}
        self.due.reserved |= keys
        try:
            chosen = await self.chosen(await self.store.find(idle), wanted)
            await self._change(order, chosen)
        finally:
            self.due.release(keys)
            self.due.wake_at(self.clock.seconds())
        busy: list[Chosen] = []
        changed = list(chosen)
        for one in active:
            changed += await self._try(order, one, wanted, busy)
        if order.action is Action.RETRY:
            for message, _ in chosen:
                self.admit(message, True)
        self._tell(order, changed)
        return Done(
            len(changed),
            sum(len(recipients) for _, recipients in changed),
            len(busy),
            sum(len(recipients) for _, recipients in busy),
        )

    async def _try(
        self, order: Order, active: ActiveMessage, wanted: QueueFilter, busy: list[Chosen]
    ) -> list[Chosen]:
        """As far as *active*, which is in work, can be changed; what cannot goes to *busy*."""
        message = active.message
        found = await self.chosen([message], wanted)
        if not found or self.window.find(message.key) is not active:
            return []
        recipients = found[0][1]
        active.jobs += 1
        taken = self._take(order.action, active, recipients)
        try:
            if taken:
                await self._change(order, [(message, taken)])
        finally:
            if taken:
                # Who is due is sent on his way: released, rerouted, or as before.
                again = [message.recipients.get(one.number) for one in taken]
                now = self.clock.seconds()
                due = [one for one in again if one is not None and one.due_at <= now]
                self.dispatcher.send(active, due)
            self.job_done(active)
        left = [one for one in recipients if one not in taken]
        if left:
            busy.append((message, left))
        return [(message, taken)] if taken else []

    def _take(
        self, action: Action, active: ActiveMessage, recipients: list[QueuedRecipient]
    ) -> list[QueuedRecipient]:
        """Those of *recipients* that are in no attempt now, and will be in none."""
        held = [one for one in recipients if one.held]
        if action in (Action.RETRY, Action.RELEASE):
            return held
        numbers = {one.number for one in recipients if not one.held}
        taken = {one.number for one in self.sites.take_back(active, numbers)}
        return [*held, *(one for one in recipients if one.number in taken)]

    async def _change(self, order: Order, chosen: Sequence[Chosen]) -> None:
        if order.action is Action.DELETE:
            await _all(self._delete(message, them, order.report) for message, them in chosen)
        elif order.action is Action.REROUTE:
            await _all(self._reroute(message, them, order.host) for message, them in chosen)
        elif chosen:
            now = self.clock.seconds()
            parts = [
                Postponement(
                    message,
                    tuple(one.number for one in them),
                    HELD_AT if order.action is Action.HOLD else max(now, _earliest(message)),
                )
                for message, them in chosen
            ]
            await self.store.postpone(parts)

    async def _reroute(
        self, message: QueuedMessage, recipients: list[QueuedRecipient], host: NextHop | None
    ) -> None:
        await self.store.rehome(message, [one.number for one in recipients], host)

    async def _delete(
        self, message: QueuedMessage, recipients: list[QueuedRecipient], report: bool
    ) -> None:
        now, settlement = self.clock.seconds(), self.recorder.settlement
        outcomes = [_DELETED] * len(recipients)
        verdict = judge(message, recipients, outcomes, settlement.terms.outbound, now)
        reports = await settlement.reports(message, verdict, now) if report else []
        made = await self.store.record(message, verdict.results, reports, now)
        self.recorder.tell(message, recipients, verdict)
        for one in made:
            self.recorder.tell_report(one, message)
            self.accept(one)
        if not message.recipients and self.window.find(message.key) is None:
            self.due.added(-1)

    def _tell(self, order: Order, chosen: Sequence[Chosen]) -> None:
        ids = [message.queue_id for message, _ in chosen]
        tracer, now = self.recorder.tracer, self.clock.seconds()
        if tracer.on:
            for message, them in chosen:
                paths = tuple(one.forward_path for one in them)
                kind, who = order.action.value, f"by {order.who}"
                tracer.note(event(now, message.queue_id, kind, who, paths=paths))
        for start in range(0, len(ids), _IDS_ON_A_LINE):
            self._log.info(
                "{what} by {who}: {ids}",
                what=order.action.value,
                who=order.who,
                ids=" ".join(ids[start : start + _IDS_ON_A_LINE]),
            )


def _earliest(message: QueuedMessage) -> float:
    """Not before its sender wants it sent (RFC 4865)."""
    return message.parameters.holduntil


async def _all(work: Iterable[Any]) -> None:
    """All of *work* at once; the first that fails is told when each has come to its end."""
    running = [Deferred.fromCoroutine(one) for one in work]
    failures: list[Failure] = []
    for one in running:
        one.addErrback(failures.append)
    await gatherResults(running)
    for failure in failures:
        failure.raiseException()
