"""
One session with a site, from its opening to its end.

:Room: ``relay``
:RFC: 5321 §3.3, §5.1; 6152 §3; 6531 §3.2; 8689 §4.2.1; promises P3, P6.
:Made by: `mailhost.relay.sites`, which gives it jobs and hears how it goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailhost.content.headers import header_end
from mailhost.errors import ContentDamaged, SpoolProblem
from mailhost.interfaces import IStoredContent, next_block, open_stored
from mailhost.model.address import Mailbox
from mailhost.model.envelope import Envelope
from mailhost.model.outcome import Fate, Outcome
from mailhost.model.queue import QueuedRecipient
from mailhost.net.outbound import OutboundProtocol, Transcript
from mailhost.relay.fitting import Misfit, fitted, takes
from mailhost.relay.job import Job
from mailhost.relay.line import Attempt, Opened
from mailhost.relay.outcomes import (
    LATE,
    STUMBLED,
    damaged,
    misfit,
    transcript_outcomes,
    without_requiretls,
    worth_another_host,
)
from mailhost.smtp.extensions.limits import read_limits
from mailhost.traces.events import event

if TYPE_CHECKING:
    from mailhost.relay.sites import SiteQueue

#: So long a session without work is kept for the next message to its site.
IDLE_SECONDS = 5.0
#: The same, where the other side waits for the end of what it has asked for.
TURNED_IDLE_SECONDS = 1.0


@define(eq=False)
class Connection:
    """One session with the site, from its opening to its end."""

    site: SiteQueue
    opening: bool = field(default=True, init=False)
    _opened: Opened | None = field(default=None, init=False)
    _carried: int = field(default=0, init=False)
    _job: Deferred[Job | None] | None = field(default=None, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _living: Deferred[None] | None = field(default=None, init=False)
    # The job that has no outcome yet.
    _current: Job | None = field(default=None, init=False)

    _log = Logger()

    def start(self, job: Job) -> None:
        """Open, carry *job*, and go on as long as there is work."""
        self._living = Deferred.fromCoroutine(self._live(job))
        self._living.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):  # type: ignore[no-untyped-call]  # upstream
            return
        self._log.failure("A connection has failed", failure)
        self.drop()
        if self._current is not None:
            self._settle_all(self._current, STUMBLED)

    def give_up(self) -> None:
        """Stop opening it; its job stays in the store as it is."""
        if self._living is not None:
            self._living.cancel()

    @property
    def spot(self) -> tuple[str, int]:
        """The address and port that it leads to."""
        assert self._opened is not None, "it is asked for work when it is open"
        return self._opened.place.address, self._opened.place.port

    def give(self, job: Job) -> None:
        """An idle connection gets work."""
        self._wake(job)

    def finish(self) -> None:
        """An idle connection says goodbye."""
        self._wake(None)

    def drop(self) -> None:
        """End it now."""
        if self._opened is not None:
            self._opened.session.drop()

    # ---- its life

    async def _live(self, first: Job) -> None:
        self._current = first
        try:
            tracer = self.site.line.tracer
            attempts: list[Attempt] | None = [] if tracer.on else None
            opened = await self.site.line.open(
                first.destination,
                first.tried,
                self._gone,
                attempts,
                first.message.parameters.requiretls,
            )
            self.opening = False
            if attempts:
                self._trace_attempts(first, attempts)
            if not isinstance(opened, Opened):
                self._current = None
                if opened is None:
                    self.site.not_connected()
                self.site.cannot_open(self, first, opened)
                return
            self._opened = opened
            await self._serve(opened.session, first)
        finally:
            self.opening = False
            self.site.ended(self)

    def _trace_attempts(self, job: Job, attempts: Sequence[Attempt]) -> None:
        """Addresses that came to nothing, for the one message that was to open the way."""
        line = self.site.line
        now, paths = line.reactor.seconds(), _paths(job)
        for one in attempts:
            line.tracer.note(
                event(
                    now,
                    job.message.queue_id,
                    "attempt",
                    one.words,
                    paths=paths,
                    peer=one.peer,
                    dialogue=one.dialogue,
                )
            )

    def _trace_transaction(self, job: Job, transcript: Transcript) -> None:
        """
        What was said is kept where not everybody was taken.

        A transaction in clear that everybody was taken in has nothing that the outcomes do not
        tell.
        """
        assert self._opened is not None
        opened = self._opened
        good = transcript.alive and all(r is not None and r.positive for r in transcript.replies)
        if good and opened.session.tls is None:
            return
        said = "" if good or opened.scribe is None else opened.scribe.text()
        tls = opened.session.tls
        how = "in clear" if tls is None else f"{tls.version} {tls.cipher}"
        line = self.site.line
        line.tracer.note(
            event(
                line.reactor.seconds(),
                job.message.queue_id,
                "attempt",
                how if good or not transcript.words else f"{how}; {transcript.words}",
                paths=_paths(job),
                peer=f"{opened.place.host} [{opened.place.address}]:{opened.place.port}",
                dialogue=said,
            )
        )

    async def _serve(self, session: OutboundProtocol, first: Job) -> None:
        job: Job | None = first
        while job is not None:
            alive = await self._carry(session, job)
            self._carried += 1
            turned = self.site.destination.is_turned
            most = None if turned else self.site.terms.max_messages
            limit = _fewest(most, self.site.peer_limits.mails)
            if not alive or (limit is not None and self._carried >= limit):
                break
            if not turned and self.site.must_yield():
                break
            job = self.site.next_job(self) or await self._wait_for_job()
        session.quit()

    def _wait_for_job(self) -> Deferred[Job | None]:
        self._job = Deferred()
        if self.site.stopping or self.site.slots.is_wanted():
            job, self._job = self._job, None
            job.callback(None)
            return job
        seconds = TURNED_IDLE_SECONDS if self.site.destination.is_turned else IDLE_SECONDS
        self._timer = self.site.line.reactor.callLater(seconds, self._wake, None)
        self.site.became_idle(self)
        return self._job

    def _gone(self) -> None:
        """The peer has closed the connection."""
        self._wake(None)

    def _wake(self, job: Job | None) -> None:
        waiting, self._job = self._job, None
        if waiting is None:
            return
        if self._timer is not None:
            timer, self._timer = self._timer, None
            if timer.active():
                timer.cancel()
        if self in self.site.idle:
            self.site.idle.remove(self)
        waiting.callback(job)

    # ---- one transaction

    async def _carry(self, session: OutboundProtocol, job: Job) -> bool:
        """:returns: whether the session can carry another."""
        message = job.message
        assert self._opened is not None
        place = self._opened.place
        job.tried.add((place.address, place.port))
        self._current = job
        international = job.is_international
        spoken = "SMTPUTF8" in session.extensions
        if message.parameters.returns_late and not self._may_be_in_time(session, job):
            return True
        if message.parameters.requiretls and "REQUIRETLS" not in session.extensions:
            self._try_elsewhere(job, without_requiretls(place.host))
            return True
        if international and not spoken:
            left = await self._without_utf8(job)
            if left is None:
                return True
            job = self._current = left
        job = self._within_limits(session, job)
        store, peer, fit = self.site.store, session.extensions, None
        try:
            if not takes(message, peer, self.site.terms.long_lines):
                fit = await fitted(store, message, peer)
            content = await open_stored(store, message) if fit is None else fit.content
        except Misfit as problem:
            self._try_elsewhere(job, misfit(problem.status, place.host, str(problem)))
            return True
        except ContentDamaged as problem:
            self._settle_all(job, await damaged(self.site.store, message, problem))
            return True
        except SpoolProblem as problem:
            self._settle_all(job, Outcome(Fate.DELAYED, "4.3.0", str(problem)))
            return True
        sender = self.site.terms.categorizer.masquerade(message.reverse_path)
        envelope = job.international(sender, spoken) if international else job.envelope(sender)
        if fit is not None:
            ready = envelope.wire_ready and not fit.converted
            envelope = evolve(envelope, body=fit.body, wire_ready=ready)
        if message.parameters.by[1]:
            envelope = job.in_time(envelope, self.site.line.reactor.seconds())
        return await self._transact(session, job, envelope, content)

    def _may_be_in_time(self, session: OutboundProtocol, job: Job) -> bool:
        """Mail that is worth nothing later goes to hosts that know of that (RFC 2852 §4.1.4)."""
        assert self._opened is not None
        host = self._opened.place.host
        words = session.extensions.get("DELIVERBY")
        if words is None:
            outcome = Outcome(Fate.FAILED, "5.3.3", f"{host} does not offer DELIVERBY", peer=host)
            self._settle_all(job, outcome)
            return False
        left = job.message.accepted_at + job.message.parameters.by[0]
        left -= self.site.line.reactor.seconds()
        if words.isdigit() and int(words) > left:
            self._settle_all(job, LATE)
            return False
        return True

    def _within_limits(self, session: OutboundProtocol, job: Job) -> Job:
        """As many recipients as the host takes in one transaction (RFC 9422); the rest waits."""
        words = session.extensions.get("LIMITS")
        if not words:
            return job
        limits = self.site.peer_limits = read_limits(words)
        fitting = limits.first_of(job.recipients)
        if len(fitting) == len(job.recipients):
            return job
        rest = Job(job.message, job.recipients[len(fitting) :], job.destination, so_far=None)
        job.recipients = fitting
        self.site.split(job, rest)
        self.site.try_again(rest)
        return job

    async def _without_utf8(self, job: Job) -> Job | None:
        """
        What of *job* can go to a host without SMTPUTF8; the rest fails (RFC 6531 §3.2).

        A domain has a form in ASCII, a local part and a header have none.
        """
        assert self._opened is not None
        host, sender = self._opened.place.host, job.message.reverse_path
        speakable = [one for one in job.recipients if one.forward_path.in_ascii.is_ascii]
        status, what = "5.6.7", "an address"
        if sender is not None and not sender.in_ascii.is_ascii:
            speakable = []
        elif speakable and not await self._header_is_ascii(job):
            # RFC 3463 X.6.9, from RFC 6531 §4.2.
            status, what, speakable = "5.6.9", "the header", []
        if len(speakable) == len(job.recipients):
            return job
        words = f"{host} does not offer SMTPUTF8, and {what} needs it"
        return self._refuse_part(job, speakable, Outcome(Fate.FAILED, status, words, peer=host))

    async def _header_is_ascii(self, job: Job) -> bool:
        if not job.message.parameters.smtputf8:
            return True
        try:
            content = await open_stored(self.site.store, job.message)
        except SpoolProblem:
            return True  # it is opened again, and what is wrong is told then
        header = b""
        try:
            while header_end(header) < 0 and header.isascii():
                block = await next_block(content)
                if not block:
                    break
                header += block
        except SpoolProblem:
            return True
        finally:
            content.close()
        end = header_end(header)
        return (header[:end] if end >= 0 else header).isascii()

    def _refuse_part(self, job: Job, left: list[QueuedRecipient], outcome: Outcome) -> Job | None:
        """All recipients of *job* but those *left* have *outcome*; the job that is left."""
        if not left:
            self._settle_all(job, outcome)
            return None
        rest = Job(job.message, left, job.destination, job.tried)
        self.site.split(job, rest)
        job.recipients = [one for one in job.recipients if one not in left]
        self._settle_all(job, outcome)
        return rest

    def _try_elsewhere(self, job: Job, outcome: Outcome) -> None:
        """This host cannot have *job*; another of the site perhaps can."""
        outcomes = [outcome] * len(job.recipients)
        self._current = None
        self.site.try_elsewhere(evolve(job, so_far=outcomes, session_lost=False))

    async def _transact(
        self, session: OutboundProtocol, job: Job, envelope: Envelope, content: IStoredContent
    ) -> bool:
        assert self._opened is not None
        message = job.message
        try:
            transcript = await session.send(envelope, content)
        except ContentDamaged as problem:
            self._settle_all(job, await damaged(self.site.store, message, problem))
            return False
        except SpoolProblem as problem:
            # A content that must not be sent (P6) will not become better.
            fate = Fate.DELAYED if "bare" not in str(problem) else Fate.FAILED
            status = "4.3.0" if fate is Fate.DELAYED else "5.6.0"
            self._settle_all(job, Outcome(fate, status, str(problem)))
            return False
        finally:
            content.close()
        if self.site.line.tracer.on:
            self._trace_transaction(job, transcript)
        self._settle_transcript(job, transcript, "DSN" in session.extensions)
        return transcript.alive

    def _settle_all(self, job: Job, outcome: Outcome) -> None:
        self._settle(job, [outcome] * len(job.recipients))

    def _settle(self, job: Job, outcomes: Sequence[Outcome]) -> None:
        self._current = None
        self.site.settle(job, outcomes)

    def _settle_transcript(self, job: Job, transcript: Transcript, dsn: bool) -> None:
        assert self._opened is not None
        place = self._opened.place
        lost = _is_lost(transcript)
        if not lost:
            self.site.succeeded()
        elif self._carried and not transcript.in_doubt and _says_nothing(transcript):
            # A kept session that the peer has closed meanwhile says nothing
            # about this message; a fresh one will.
            job.tried.discard((place.address, place.port))
            self._current = None
            self.site.try_again(job)
            return
        transaction = self._opened.session_id, self._carried + 1
        peer = f"{place.host} [{place.address}]"
        outcomes = transcript_outcomes(transcript, peer, dsn, transaction)
        if not worth_another_host(outcomes):
            self._settle(job, outcomes)
            if lost:
                self.site.failed(next(o for o in outcomes if o.fate is Fate.DELAYED))
            return
        parted = list(zip(job.recipients, outcomes, strict=True))
        final = [(r, o) for r, o in parted if o.fate is not Fate.DELAYED]
        again = [(r, o) for r, o in parted if o.fate is Fate.DELAYED]
        rest = Job(
            job.message,
            [r for r, _ in again],
            job.destination,
            set(job.tried),
            [o for _, o in again],
            lost,
        )
        if final:
            self.site.split(job, rest)
            job.recipients = [r for r, _ in final]
            self._settle(job, [o for _, o in final])
        self._current = None
        self.site.try_elsewhere(rest)


def _fewest(one: int | None, other: int | None) -> int | None:
    given = [limit for limit in (one, other) if limit is not None]
    return min(given, default=None)


def _paths(job: Job) -> tuple[Mailbox, ...]:
    return tuple(recipient.forward_path for recipient in job.recipients)


def _is_lost(transcript: Transcript) -> bool:
    """The session broke, or 421: that is about the host, not about the message."""
    if transcript.alive:
        return False
    return any(reply is None or reply.code == 421 for reply in transcript.replies)


def _says_nothing(transcript: Transcript) -> bool:
    """Only that the session is over: no reply at all, or 421 to whatever was asked."""
    return all(reply is None or reply.code == 421 for reply in transcript.replies)
