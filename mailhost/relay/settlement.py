"""
From outcomes to what is written down, and who is told.

:Room: ``relay``
:RFC: 5321 §4.5.4.1 (retry), §6.1 (who fails is told), §4.5.5 (no report about a
    report); 3461 §5.2 (who wants to hear of what), 3464; promises P2, P4.
:IIS: DEL-01..08, MSG-05, MSG-06, §10.5.
:Called by: `mailhost.relay.manager`.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from attrs import define, field
from twisted.logger import Logger

from mailhost.errors import ContentDamaged, DirectoryProblem
from mailhost.interfaces import IQueueStore, next_block, open_stored
from mailhost.model.outcome import Fate, Outcome
from mailhost.model.queue import QueuedMessage, QueuedRecipient, Result, Submission
from mailhost.model.schedule import RetrySchedule
from mailhost.model.tally import Tally
from mailhost.model.values import value
from mailhost.relay.outcomes import expired, still_in_doubt
from mailhost.relay.terms import Terms
from mailhost.reports.compose import compose_report
from mailhost.reports.values import (
    OriginalMessage,
    ReportedRecipient,
    ReportKind,
    reportable,
)
from mailhost.spool.badmail import CODE_REPORT, Badmail, BadMessage, BadRecipient
from mailhost.traces.events import event
from mailhost.traces.tracer import Tracer

#: An original larger than this is returned as its header only (attacks.md A58).
MAX_RETURNED_OCTETS = 65536

_UNDELIVERED = frozenset({Fate.DELAYED, Fate.FAILED})

Told = tuple[QueuedRecipient, Outcome]


@value
class Verdict:
    """
    What an attempt comes to.

    :ivar results: for the store, one per recipient.
    :ivar failed: recipients whose sender must be told.
    :ivar delayed: recipients whose sender is to hear that it takes longer.
    :ivar succeeded: recipients whose sender has asked to hear that they have it.
    """

    results: tuple[Result, ...]
    failed: tuple[Told, ...]
    delayed: tuple[Told, ...] = ()
    succeeded: tuple[Told, ...] = ()

    @property
    def tells(self) -> bool:
        """Whether somebody is to hear of it."""
        return bool(self.failed or self.delayed or self.succeeded)


def judge(
    message: QueuedMessage,
    recipients: Sequence[QueuedRecipient],
    outcomes: Sequence[Outcome],
    schedule: RetrySchedule,
    now: float,
) -> Verdict:
    """Apply *schedule*: who is tried again and when, who is given up, who is warned about."""
    results: list[Result] = []
    failed: list[Told] = []
    delayed: list[Told] = []
    succeeded: list[Told] = []
    schedule, since = message.schedule(schedule), message.schedule_from
    for recipient, outcome in zip(recipients, outcomes, strict=True):
        if recipient.in_doubt and not outcome.in_doubt and outcome.fate in _UNDELIVERED:
            outcome = still_in_doubt(outcome)
        if not outcome.fate.terminal and now >= schedule.expires_at(since):
            outcome = expired(outcome, message.is_late(now))
        if outcome.fate is Fate.FAILED:
            if recipient.parameters.wants("FAILURE"):
                failed.append((recipient, outcome))
        elif _is_to_tell(message, recipient, outcome):
            succeeded.append((recipient, outcome))
        if outcome.fate.terminal:
            results.append(Result(recipient.number, outcome))
            continue
        warn = not recipient.notified and schedule.delay_due(since, now)
        if warn:
            delayed.append((recipient, outcome))
        due_at = _due_at(message, recipient, schedule, recipient.notified or warn, now)
        results.append(Result(recipient.number, outcome, due_at, warn))
    return Verdict(tuple(results), tuple(failed), tuple(delayed), tuple(succeeded))


def _is_to_tell(message: QueuedMessage, recipient: QueuedRecipient, outcome: Outcome) -> bool:
    if recipient.parameters.notify:
        if is_to_confirm(recipient, outcome):
            return True
        if "NEVER" in recipient.parameters.notify:
            return False
    # RFC 2852 §4.1.3: who traces a mail hears of each host that has it.
    return outcome.fate is Fate.RELAYED and message.parameters.by[1].endswith("T")


def is_to_confirm(recipient: QueuedRecipient, outcome: Outcome) -> bool:
    """
    Whether the sender hears from us that *recipient* has the mail, or has it as far as we know.

    A host that offers DSN has been told of the wish, and will tell itself (RFC 3461 §5.2.2).
    """
    if outcome.fate is Fate.DELAYED or outcome.dsn:
        return False
    return recipient.parameters.wants("SUCCESS")


def _due_at(
    message: QueuedMessage,
    recipient: QueuedRecipient,
    schedule: RetrySchedule,
    notified: bool,
    now: float,
) -> float:
    """The next attempt; never later than a delay report that is still to be made."""
    since = message.schedule_from
    due_at = schedule.next_attempt_at(recipient.attempts + 1, since, now)
    after = schedule.delay_notification_seconds
    if not notified and after is not None:
        due_at = min(due_at, since + after)
    return due_at


@define(eq=False)
class Settlement:
    """
    :ivar store: records.
    :ivar terms: names and the copy's address.
    :ivar badmail: takes what cannot be returned; `None`: such mail stays queued.
    :ivar tracer: is told what went there.
    :ivar tally: counts reports and what went there.
    """

    store: IQueueStore
    terms: Terms
    badmail: Badmail | None = field(default=None)
    tracer: Tracer = field(factory=Tracer)
    tally: Tally = field(factory=Tally)

    _log = Logger()

    async def reports(
        self, message: QueuedMessage, verdict: Verdict, now: float
    ) -> list[Submission]:
        """
        The reports that *verdict* calls for; what cannot be returned is in
        Badmail when this is done.

        :raises DirectoryProblem: Badmail cannot take it now.
        """
        made: list[Submission] = []
        excerpt = await self._excerpt(message)
        if verdict.failed and not reportable(message):
            await self._to_badmail(message, verdict.failed, now)
        elif verdict.failed:
            made += self._compose(ReportKind.FAILURE, message, excerpt, verdict.failed, now)
            self.tally.failure_reports += 1
        if not reportable(message):
            return made
        if verdict.delayed:
            made += self._compose(ReportKind.DELAY, message, excerpt, verdict.delayed, now)
            self.tally.delay_reports += 1
        if verdict.succeeded:
            made += self._compose(ReportKind.SUCCESS, message, excerpt, verdict.succeeded, now)
            self.tally.success_reports += 1
        return made

    def _compose(
        self,
        kind: ReportKind,
        message: QueuedMessage,
        excerpt: bytes,
        told: Sequence[Told],
        now: float,
    ) -> tuple[Submission, ...]:
        original = OriginalMessage.of(message, excerpt)
        schedule = message.schedule(self.terms.outbound)
        until = schedule.expires_at(message.schedule_from)
        return compose_report(
            kind,
            original,
            [
                ReportedRecipient(
                    recipient.forward_path,
                    outcome,
                    until if kind is ReportKind.DELAY else None,
                    parameters=recipient.parameters,
                )
                for recipient, outcome in told
            ],
            fqdn=self.terms.fqdn,
            domain=self.terms.domain,
            now=now,
            boundary_random=secrets.token_bytes(16),
            max_original_octets=MAX_RETURNED_OCTETS,
            copy_to=self.terms.copy_ndr_to if kind is ReportKind.FAILURE else None,
        )

    async def _excerpt(self, message: QueuedMessage) -> bytes:
        """The beginning of the content; empty where it is damaged."""
        try:
            content = await open_stored(self.store, message)
        except ContentDamaged:
            return b""
        blocks: list[bytes] = []
        gathered = 0
        try:
            while gathered <= MAX_RETURNED_OCTETS:
                block = await next_block(content)
                if not block:
                    break
                blocks.append(block)
                gathered += len(block)
        except ContentDamaged:
            return b""
        finally:
            content.close()
        return b"".join(blocks)

    async def _to_badmail(self, message: QueuedMessage, failed: Sequence[Told], now: float) -> None:
        if self.badmail is None:
            raise DirectoryProblem("there is no Badmail directory")
        bad = BadMessage(
            queue_id=message.queue_id,
            reason=failed[0][1].words,
            reverse_path=message.reverse_path,
            recipients=tuple(
                BadRecipient(
                    recipient.forward_path, recipient.attempts + 1, outcome, recipient.parameters
                )
                for recipient, outcome in failed
            ),
            code=CODE_REPORT,
            body=message.body,
            hello=message.hello,
            accepted_at=message.accepted_at,
            parameters=message.parameters,
        )
        try:
            stem = await self.badmail.store(bad, await open_stored(self.store, message), now)
        except ContentDamaged:
            stem = await self.badmail.store(bad, b"", now)
        self.tally.badmail_reports += 1
        if self.tracer.on:
            paths = tuple(recipient.forward_path for recipient, _ in failed)
            words = f"to Badmail as {stem}: {bad.reason}"
            self.tracer.note(event(now, message.queue_id, "badmail", words, paths=paths))
        self._log.warn(
            "{id}: to Badmail as {stem}: {reason}",
            id=message.queue_id,
            stem=stem,
            reason=bad.reason,
        )
