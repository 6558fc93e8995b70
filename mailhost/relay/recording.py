"""
Outcomes to the store, and reports of them.

:Room: ``relay``
:Called by: `mailhost.relay.manager`; promises P1-P4: what follows from an outcome follows when
    it is written down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailhost.errors import MailhostError
from mailhost.facts import WANTED, FactLog
from mailhost.interfaces import IQueueStore
from mailhost.later import hear
from mailhost.model.outcome import Fate, Outcome
from mailhost.model.queue import QueuedMessage, QueuedRecipient, Result, Submission
from mailhost.model.schedule import RetrySchedule
from mailhost.model.tally import Tally
from mailhost.relay.active import ActiveMessage
from mailhost.relay.settlement import Settlement, Verdict, judge
from mailhost.traces.events import event
from mailhost.traces.tracer import Tracer

#: A store that could not record an outcome is asked again after so long.
RECORD_AGAIN_SECONDS = 5.0

#: Addresses on one line of the log.
_PATHS_ON_A_LINE = 20
#: Lines of the log about outcomes and reports of one attempt at one message: with the line of its
#: acceptance, and one for all the rest, they are six.
LINES_OF_A_MESSAGE = 4

_Said = Sequence[tuple[Outcome, Sequence[QueuedRecipient]]]

_facts = FactLog()


@define(eq=False)
class Recorder:
    """
    :ivar store: where outcomes are written down.
    :ivar clock: the reactor.
    :ivar settlement: makes reports.
    :ivar follow: runs a coroutine that `stop` of the relay waits for.
    :ivar accept: takes a queued report into work.
    :ivar done: told that a job of a message has its outcomes on stable storage.
    :ivar tracer: is told as the log is.
    :ivar tally: counts outcomes once they are on stable storage.
    :ivar under_way: records that have not come to their end.
    """

    store: IQueueStore
    clock: Any
    settlement: Settlement
    follow: Callable[[Coroutine[Any, Any, None]], None]
    accept: Callable[[QueuedMessage], None]
    done: Callable[[ActiveMessage], None]
    tracer: Tracer = field(factory=Tracer)
    tally: Tally = field(factory=Tally)
    under_way: set[Awaitable[Any]] = field(factory=set, init=False)
    _again: set[IDelayedCall] = field(factory=set, init=False)
    _stopping: bool = field(default=False, init=False)

    _log = Logger()

    def stop(self) -> None:
        """What could not be recorded yet stays as it was before the attempt."""
        self._stopping = True
        for later in self._again:
            if later.active():
                later.cancel()

    def settle(
        self,
        active: ActiveMessage,
        recipients: Sequence[QueuedRecipient],
        outcomes: Sequence[Outcome],
        schedule: RetrySchedule,
    ) -> None:
        """*outcomes* are what became of *recipients* of *active*, in order: one of its jobs."""
        now = self.clock.seconds()
        verdict = judge(active.message, recipients, outcomes, schedule, now)
        self.tell(active.message, recipients, verdict, active)
        if verdict.tells:
            self.follow(self._report(active, verdict, schedule, now))
        else:
            self._record(active, verdict.results, (), now)

    def tell(
        self,
        message: QueuedMessage,
        recipients: Sequence[QueuedRecipient],
        verdict: Verdict,
        active: ActiveMessage | None = None,
    ) -> None:
        """
        One line for all recipients of whom the same is to be said.

        :param active: *message* in work, where it is; it has a few lines only, and
            `tell_rest` tells what does not fit.
        """
        if not (WANTED.info or self.tracer.on):
            return
        said = _together(recipients, verdict.results)
        if self.tracer.on:
            self._trace(message, said, verdict)
        if not WANTED.info:
            return
        for outcome, told in said:
            if active is not None:
                active.told += 1
                if active.told > LINES_OF_A_MESSAGE:
                    untold = active.untold = active.untold or Counter()
                    untold[outcome.fate.value] += len(told)
                    continue
            first = told[:_PATHS_ON_A_LINE]
            _facts.info(
                "{id}: to={paths} {fate} {status}{doubt}: {words}",
                id=message.queue_id,
                recipients=[one.number for one in first],
                attempts=[one.attempts + 1 for one in first],
                paths=_paths(told),
                fate=outcome.fate.value,
                status=outcome.status,
                doubt=" (in doubt)" if outcome.in_doubt else "",
                peer=outcome.peer,
                words=outcome.words,
                **_session_of(outcome),
            )

    def tell_rest(self, active: ActiveMessage) -> None:
        """What had no line of its own, when the attempt is over."""
        untold, active.untold = active.untold, None
        if untold:
            _facts.info(
                "{id}: and {rest}; mailhost trace {id} tells of each",
                id=active.message.queue_id,
                rest=", ".join(f"{count} more {what}" for what, count in untold.items()),
            )

    def _trace(
        self,
        message: QueuedMessage,
        said: _Said,
        verdict: Verdict,
    ) -> None:
        now = self.clock.seconds()
        due = min((r.due_at for r in verdict.results if not r.outcome.fate.terminal), default=None)
        for outcome, told in said:
            doubt = " (in doubt)" if outcome.in_doubt else ""
            self.tracer.note(
                event(
                    now,
                    message.queue_id,
                    outcome.fate.value,
                    f"{outcome.status}{doubt} {outcome.words}",
                    paths=tuple(one.forward_path for one in told),
                    peer=outcome.peer or "",
                    due_at=None if outcome.fate.terminal else due,
                )
            )

    def tell_report(
        self, report: QueuedMessage, about: QueuedMessage, active: ActiveMessage | None = None
    ) -> None:
        """*report* is in the queue; :param active: see `tell`."""
        if active is not None:
            active.told += 1
        if active is None or active.told <= LINES_OF_A_MESSAGE:
            _facts.info("{report}: report about {id}", report=report.queue_id, id=about.queue_id)
        else:
            active.untold = active.untold or Counter()
            active.untold["reports"] += 1
        if self.tracer.on:
            now = self.clock.seconds()
            paths = tuple(one.forward_path for one in report.recipients.values())
            self.tracer.note(
                event(
                    now,
                    report.queue_id,
                    "report",
                    f"a report about {about.queue_id}",
                    paths=paths,
                    other=about.queue_id,
                )
            )

    async def _report(
        self, active: ActiveMessage, verdict: Verdict, schedule: RetrySchedule, now: float
    ) -> None:
        try:
            reports: Sequence[Submission] = await self.settlement.reports(
                active.message, verdict, now
            )
            results = verdict.results
        except MailhostError as problem:
            # Who cannot be told now is told later: the failure is not recorded.
            self.tally.report_problems += 1
            self._log.error(
                "{id}: nobody can be told now: {problem}",
                id=active.message.queue_id,
                problem=str(problem),
            )
            reports = ()
            results = _postponed(verdict.results, problem, now + schedule.intervals[-1])
        self._record(active, results, reports, now)

    def _record(
        self,
        active: ActiveMessage,
        results: Sequence[Result],
        reports: Sequence[Submission],
        now: float,
    ) -> None:
        """Durable before anything follows; asked again until the store can."""
        if self._again:
            self._again = {later for later in self._again if later.active()}
        recorded = self.store.record(active.message, results, reports, now)
        self.under_way.add(recorded)
        hear(
            recorded,
            partial(self._recorded, recorded, active, results, now),
            partial(self._not_recorded, recorded, active, results, reports, now),
        )

    def _recorded(
        self,
        recorded: Awaitable[Any],
        active: ActiveMessage,
        results: Sequence[Result],
        now: float,
        made: list[QueuedMessage],
    ) -> None:
        self.under_way.discard(recorded)
        self._count(active.message, results, now)
        for report in made:
            self.tell_report(report, active.message, active)
            self.accept(report)
        self.done(active)

    def _count(self, message: QueuedMessage, results: Sequence[Result], now: float) -> None:
        tally = self.tally
        fates = [result.outcome.fate for result in results]
        if relayed := fates.count(Fate.RELAYED):
            tally.relayed_messages += 1
            tally.relayed_octets += message.size
            tally.relayed_recipients += relayed
        if delivered := fates.count(Fate.DELIVERED):
            tally.delivered_messages += 1
            tally.delivered_recipients += delivered
        if relayed or delivered:
            tally.age_seconds.add(now - message.accepted_at)
        if relayed + delivered < len(fates):
            tally.failed_recipients += fates.count(Fate.FAILED)
            tally.delayed_recipients += fates.count(Fate.DELAYED)

    def _not_recorded(
        self,
        recorded: Awaitable[Any],
        active: ActiveMessage,
        results: Sequence[Result],
        reports: Sequence[Submission],
        now: float,
        failure: Failure,
    ) -> None:
        self.under_way.discard(recorded)
        self._log.error(
            "{id}: outcomes cannot be recorded now: {problem}",
            id=active.message.queue_id,
            problem=failure.getErrorMessage(),
        )
        if self._stopping:
            return  # the store has the message as it was before the attempt
        self._again.add(
            self.clock.callLater(RECORD_AGAIN_SECONDS, self._record, active, results, reports, now)
        )


def _together(recipients: Sequence[QueuedRecipient], results: Sequence[Result]) -> _Said:
    """Those of whom the same is to be said."""
    if len(results) == 1:  # most messages have one
        return ((results[0].outcome, recipients),)
    said: dict[Outcome, list[QueuedRecipient]] = {}
    for recipient, result in zip(recipients, results, strict=True):
        said.setdefault(result.outcome, []).append(recipient)
    return tuple(said.items())


def _postponed(
    results: Sequence[Result], problem: MailhostError, due_at: float
) -> tuple[Result, ...]:
    """*results* with every failure turned into a delay: its report could not be made."""
    return tuple(
        Result(
            r.number,
            Outcome(
                Fate.DELAYED,
                "4.3.0",
                f"{r.outcome.words}; not reported: {problem}",
                in_doubt=r.outcome.in_doubt,
            ),
            due_at,
        )
        if r.outcome.fate is Fate.FAILED
        else Result(r.number, r.outcome, r.due_at)
        for r in results
    )


def _session_of(outcome: Outcome) -> dict[str, Any]:
    """Where *outcome* was heard, as facts for the log."""
    if outcome.transaction is None:
        return {}
    session, transaction = outcome.transaction
    return {"session": session, "transaction": transaction}


def _paths(recipients: Sequence[QueuedRecipient]) -> str:
    """The addresses, as many as fit on a line that people read."""
    first = ",".join(str(one.forward_path) for one in recipients[:_PATHS_ON_A_LINE])
    more = len(recipients) - _PATHS_ON_A_LINE
    return f"{first} and {more} more" if more > 0 else first
