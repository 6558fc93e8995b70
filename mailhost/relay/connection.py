"""
One session with a site, from its opening to its end.

:Room: ``relay``
:RFC: 5321 §3.3, §5.1; 6152 §3; 6531 §3.2; 8689 §4.2.1; promises P3, P6.
:Made by: `mailhost.relay.sites`, which gives it jobs and hears how it goes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailhost.content.headers import header_end
from mailhost.errors import ContentDamaged, SpoolProblem
from mailhost.interfaces import IStoredContent, next_block, open_stored
from mailhost.model.address import Mailbox
from mailhost.model.envelope import Envelope
from mailhost.model.outcome import Fate, Outcome
from mailhost.model.parameters import NO_MAIL_PARAMETERS
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
    """
    One session with the site, from its opening to its end.

    Between its opening and its end no step of an ordinary transaction is a coroutine or a
    Deferred: there are several for each message (ADR 0016).

    :ivar opening: nobody has answered yet.
    :ivar deadline_at: when an idle one is given up, on the clock of `Line.deadlines`.
    """

    site: SiteQueue
    opening: bool = field(default=True, init=False)
    deadline_at: float = field(default=0.0, init=False)
    _opened: Opened | None = field(default=None, init=False)
    _carried: int = field(default=0, init=False)
    _idle: bool = field(default=False, init=False)
    # Goodbye is said.
    _parting: bool = field(default=False, init=False)
    _ended: bool = field(default=False, init=False)
    _opening: Deferred[None] | None = field(default=None, init=False)
    # The job that has no outcome yet.
    _current: Job | None = field(default=None, init=False)
    # Of the transaction under way.
    _content: IStoredContent | None = field(default=None, init=False)

    _log = Logger()

    def start(self, job: Job) -> None:
        """Open, carry *job*, and go on as long as there is work."""
        self._current = job
        self._opening = self._wait_for(self._open(job))

    def give_up(self) -> None:
        """Stop opening it; its job stays in the store as it is."""
        if self._opening is not None:
            self._opening.cancel()

    @property
    def spot(self) -> tuple[str, int]:
        """The address and port that it leads to."""
        place = self._open_session.place
        return place.address, place.port

    def give(self, job: Job) -> None:
        """An idle connection gets work."""
        self._rouse()
        self._serve(job)

    def finish(self) -> None:
        """An idle connection says goodbye."""
        if self._idle:
            self._rouse()
            self._end()

    def lost(self) -> None:
        """Its session is gone, whoever ended it; one with a transaction says so by that."""
        self.finish()
        if self._parting:
            self._gone()

    def expire(self) -> None:
        """There was no work for it for so long."""
        self.finish()

    def drop(self) -> None:
        """End it now."""
        if self._opened is not None:
            self._opened.session.drop()

    # ---- its life

    async def _open(self, first: Job) -> None:
        tracer = self.site.line.tracer
        attempts: list[Attempt] | None = [] if tracer.on else None
        opened = await self.site.line.open(
            first.destination,
            first.tried,
            self.lost,
            attempts,
            first.message.parameters.requiretls,
        )
        self.opening = False
        if attempts:
            self._trace_attempts(first, attempts)
        if isinstance(opened, Opened):
            self._opened = opened
            self._serve(first)
            return
        self._current = None
        if opened is None:
            self.site.not_connected()
        self.site.cannot_open(self, first, opened)
        self._gone()

    def _wait_for(self, step: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
        return Deferred.fromCoroutine(step).addErrback(self._failed)

    def _stumbled(self) -> None:
        """An exception that nobody has foreseen."""
        self._failed(Failure())  # type: ignore[no-untyped-call]  # upstream

    def _failed(self, failure: Failure) -> None:
        content, self._content = self._content, None
        if content is not None:
            content.close()
        if not failure.check(CancelledError):  # type: ignore[no-untyped-call]  # upstream
            self._log.failure("A connection has failed", failure)
            self.drop()
            if self._current is not None:
                self._settle_all(self._current, STUMBLED)
        self._gone()

    @property
    def _open_session(self) -> Opened:
        assert self._opened is not None, "it is asked for work when it is open"
        return self._opened

    def _serve(self, job: Job | None) -> None:
        """Carry *job*, and what there is then, until something has to be waited for."""
        try:
            while job is not None:
                self._current = job
                alive = self._carry(job)
                if alive is None:
                    return
                job = self._next(alive)
        except Exception:
            self._stumbled()

    def _next(self, alive: bool) -> Job | None:
        """The job to carry now, behind the one that is done; if there is none, rest or end."""
        self._carried += 1
        if alive and not self._has_carried_enough():
            job = self.site.next_job(self)
            if job is not None:
                return job
            if not self.site.is_closing:
                self._rest()
                return None
        self._end()
        return None

    def _has_carried_enough(self) -> bool:
        site = self.site
        if site.peer_limits.mails is not None and self._carried >= site.peer_limits.mails:
            return True
        if site.destination.is_turned:
            return False
        most = site.terms.max_messages
        return (most is not None and self._carried >= most) or site.must_yield()

    def _rest(self) -> None:
        """Wait for work, for a while."""
        turned = self.site.destination.is_turned
        deadlines = self.site.line.deadlines
        self.deadline_at = deadlines.seconds() + (TURNED_IDLE_SECONDS if turned else IDLE_SECONDS)
        deadlines.watch(self)
        self._idle = True
        self.site.became_idle(self)

    def _rouse(self) -> None:
        self._idle = False
        self.site.line.deadlines.forget(self)
        self.site.no_longer_idle(self)

    def _end(self) -> None:
        self._parting = True
        session = self._open_session.session
        session.quit()
        # Until it is closed the peer counts it, and nobody else may have its slot.
        if session.is_over:
            self._gone()

    def _gone(self) -> None:
        if not self._ended:
            self._ended = True
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
        opened = self._open_session
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
                peer=f"{opened.peer}:{opened.place.port}",
                dialogue=said,
            )
        )

    # ---- one transaction

    def _carry(self, job: Job) -> bool | None:
        """:returns: whether the session can carry another; `None`: it is not known yet."""
        opened = self._open_session
        peer = opened.session.extensions
        job.tried.add((opened.place.address, opened.place.port))
        message = job.message
        if (
            message.parameters is not NO_MAIL_PARAMETERS
            or "LIMITS" in peer
            or not takes(message, peer, self.site.terms.long_lines)
            or job.is_international
        ):
            self._wait_for(self._carry_specially(job))
            return None
        try:
            content = self.site.store.open_content(message)
        except SpoolProblem as problem:
            return self._unopened(job, problem)
        if isinstance(content, Awaitable):
            self._wait_for(self._carry_later(job, content))
            return None
        return self._transact(job, self._envelope(job), content)

    def _envelope(self, job: Job) -> Envelope:
        return job.envelope(self.site.terms.categorizer.masquerade(job.message.reverse_path))

    async def _carry_later(self, job: Job, opening: Awaitable[IStoredContent]) -> None:
        """Its content is on its way."""
        try:
            content = await opening
        except SpoolProblem as problem:
            self._go_on(self._unopened(job, problem))
        else:
            self._go_on(self._transact(job, self._envelope(job), content))

    async def _carry_specially(self, job: Job) -> None:
        """It asks for more than a host that takes any mail, or the host takes less."""
        ready = await self._fit(job)
        if ready is None:
            self._go_on(True)
        else:
            self._go_on(self._transact(*ready))

    def _go_on(self, alive: bool | None) -> None:
        """What had to be waited for is there."""
        if alive is not None:
            self._serve(self._next(alive))

    def _unopened(self, job: Job, problem: SpoolProblem) -> bool | None:
        if isinstance(problem, ContentDamaged):
            self._wait_for(self._settle_damaged(job, problem, True))
            return None
        self._settle_all(job, Outcome(Fate.DELAYED, "4.3.0", str(problem)))
        return True

    async def _settle_damaged(self, job: Job, problem: ContentDamaged, alive: bool) -> None:
        self._settle_all(job, await damaged(self.site.store, job.message, problem))
        self._go_on(alive)

    async def _fit(self, job: Job) -> tuple[Job, Envelope, IStoredContent] | None:
        """
        What of *job* this host gets, and how; `None`: nothing, and that has been seen to.
        """
        opened, message = self._open_session, job.message
        session, host = opened.session, opened.place.host
        international = job.is_international
        spoken = "SMTPUTF8" in session.extensions
        if message.parameters.returns_late and not self._may_be_in_time(session, job):
            return None
        if message.parameters.requiretls and "REQUIRETLS" not in session.extensions:
            self._try_elsewhere(job, without_requiretls(host))
            return None
        if international and not spoken:
            left = await self._without_utf8(job)
            if left is None:
                return None
            job = self._current = left
        job = self._within_limits(session, job)
        store, peer, fit = self.site.store, session.extensions, None
        try:
            if not takes(message, peer, self.site.terms.long_lines):
                fit = await fitted(store, message, peer)
            content = await open_stored(store, message) if fit is None else fit.content
        except Misfit as problem:
            self._try_elsewhere(job, misfit(problem.status, host, str(problem)))
            return None
        except ContentDamaged as problem:
            self._settle_all(job, await damaged(store, message, problem))
            return None
        except SpoolProblem as problem:
            self._settle_all(job, Outcome(Fate.DELAYED, "4.3.0", str(problem)))
            return None
        envelope = self._envelope(job)
        if international:
            envelope = job.international(envelope, spoken)
        if fit is not None:
            ready = envelope.wire_ready and not fit.converted
            envelope = evolve(envelope, body=fit.body, wire_ready=ready)
        if message.parameters.by[1]:
            envelope = job.in_time(envelope, self.site.line.reactor.seconds())
        return job, envelope, content

    def _may_be_in_time(self, session: OutboundProtocol, job: Job) -> bool:
        """Mail that is worth nothing later goes to hosts that know of that (RFC 2852 §4.1.4)."""
        host = self._open_session.place.host
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
        host, sender = self._open_session.place.host, job.message.reverse_path
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

    def _transact(self, job: Job, envelope: Envelope, content: IStoredContent) -> bool | None:
        self._current, self._content = job, content
        self._open_session.session.send(envelope, content, self._transacted)
        return None

    def _transacted(self, result: Transcript | Exception) -> None:
        """The transaction is over."""
        if self._ended:
            return
        try:
            self._go_on(self._settle_result(result))
        except Exception:
            self._stumbled()

    def _settle_result(self, result: Transcript | Exception) -> bool | None:
        job, content = self._current, self._content
        assert job is not None and content is not None, "a transaction was under way"
        self._content = None
        content.close()
        if isinstance(result, Transcript):
            if self.site.line.tracer.on:
                self._trace_transaction(job, result)
            self._settle_transcript(job, result)
            return result.alive
        if isinstance(result, ContentDamaged):
            self._wait_for(self._settle_damaged(job, result, False))
            return None
        if not isinstance(result, SpoolProblem):
            raise result
        # A content that must not be sent (P6) will not become better.
        bare = "bare" in str(result)
        fate, status = (Fate.FAILED, "5.6.0") if bare else (Fate.DELAYED, "4.3.0")
        self._settle_all(job, Outcome(fate, status, str(result)))
        return False

    def _settle_all(self, job: Job, outcome: Outcome) -> None:
        self._settle(job, [outcome] * len(job.recipients))

    def _settle(self, job: Job, outcomes: Sequence[Outcome]) -> None:
        self._current = None
        self.site.settle(job, outcomes)

    def _settle_transcript(self, job: Job, transcript: Transcript) -> None:
        opened = self._open_session
        place = opened.place
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
        transaction = opened.session_id, self._carried + 1
        dsn = "DSN" in opened.session.extensions
        outcomes = transcript_outcomes(transcript, opened.peer, dsn, transaction)
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
