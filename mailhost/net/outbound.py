"""
An outbound session on its socket.

:Room: ``net``
:RFC: 5321 §4.5.3.2 (time-outs), §3.3, §4.1.1.4; 3207; 4954; promise P6.
:Called by: `mailhost.relay.sites`.

A session is opened once and then carries one transaction after another, as
long as there is work for its site.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from attrs import frozen
from OpenSSL import SSL
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhost.errors import MailhostError, SpoolProblem
from mailhost.interfaces import IStoredContent
from mailhost.model.envelope import Envelope
from mailhost.model.reply import Reply
from mailhost.model.security import TLSFacts, TLSLevel
from mailhost.model.tally import Tally
from mailhost.model.values import value
from mailhost.net.certificates import CertificateProblem
from mailhost.net.deadlines import Deadlines
from mailhost.net.prompt import write_promptly
from mailhost.net.scribe import Scribe
from mailhost.net.tls import ClientTLS, check_identity, connection_of, facts_of
from mailhost.net.turning import change_protocol
from mailhost.smtp.client_dialogue import ClientDialogue
from mailhost.smtp.client_events import (
    Answered,
    ContentWanted,
    Phase,
    Ready,
    SessionOver,
    TLSWanted,
    TransactionDone,
)
from mailhost.smtp.client_login import ClientLogin
from mailhost.smtp.sasl.base import Work

#: Replies are short.
_READ_OCTETS = 4096
#: So large a content, and all smaller ones, leaves in one piece with its final dot.
_ONE_PIECE_OCTETS = 131072

# Looked up here, because a member of an enumeration costs several times as much.
_READY, _CONTENT = Phase.READY, Phase.CONTENT

InThread = Callable[[Callable[[], bytes]], "Deferred[bytes]"]


@value
class Transcript:
    """
    What one transaction, or the attempt to open a session, came to.

    :ivar replies: per recipient; `None` where the peer said nothing about it.
    :ivar words: why there are `None`, for people.
    :ivar in_doubt: the peer may have taken the message (promise P3).
    :ivar alive: the session can take another envelope.
    :ivar spoken: the peer's reply that ended the session, if it gave one.
    :ivar ended_in: what we waited for when the session ended.
    :ivar untrusted: it ended because the peer cannot prove who it is, or speaks no TLS that
        we do; a connection that breaks in the handshake says nothing of that.
    """

    replies: tuple[Reply | None, ...]
    words: str
    in_doubt: bool
    alive: bool
    spoken: Reply | None = None
    ended_in: Phase | None = None
    untrusted: bool = False

    @property
    def login_failed(self) -> bool:
        """It ended because we could not log in."""
        return self.ended_in is Phase.LOGIN

    @property
    def login_refused(self) -> bool:
        """The peer does not take our proof, for good (RFC 4954 §6: 535)."""
        return self.login_failed and self.spoken is not None and self.spoken.permanent

    @property
    def tls_failed(self) -> bool:
        """It ended because of TLS: not offered, refused, or no handshake."""
        return self.ended_in in (Phase.STARTTLS, Phase.SECURING)


#: Told what a transaction came to.
Over = Callable[[Transcript | Exception], None]


@frozen
class Protection:
    """
    What has to hold before an envelope is sent.

    :ivar level: how much.
    :ivar ca: file with the authorities we trust; `None`: the system's.
    :ivar login: our part of AUTH, for one session; `None`: there is no login.
    :ivar in_thread: does what would keep the reactor waiting.
    :ivar host: whom we mean to talk to: a name, or an IP address.
    :ivar tls: has the contexts.
    :ivar implicit: TLS begins at once, and not by STARTTLS.
    """

    level: TLSLevel
    host: str
    tls: ClientTLS
    ca: Path | None = None
    login: ClientLogin | None = None
    in_thread: InThread = maybeDeferred
    implicit: bool = False


@implementer(IPushProducer, IHandshakeListener)
class OutboundProtocol(Protocol):
    """
    One session.

    :param hello_name: what we call ourselves.
    :param use_helo: HELO instead of EHLO.
    :param timeout_seconds: the longest patience with a silent peer; where RFC
        5321 §4.5.3.2 asks for more than this, the operator's word counts.
    :param deadlines: where the patience is looked after.
    :param gone: called once when the connection is lost.
    :param protection: `None`: clear text.
    :param scribe: remembers what is said; `None`: nobody wants to know.
    :param lmtp: see `ClientDialogue`.
    :param tally: counts octets; `None`: nobody reads the numbers.
    :ivar ready: fires with `None` when the session can take an envelope, or
        with the `Transcript` of its refusal.
    """

    def __init__(
        self,
        hello_name: str,
        use_helo: bool,
        timeout_seconds: float,
        deadlines: Deadlines,
        gone: Callable[[], None],
        protection: Protection | None = None,
        scribe: Scribe | None = None,
        lmtp: bool = False,
        tally: Tally | None = None,
    ) -> None:
        self.deadline_at = 0.0
        self._scribe = scribe
        self._tally = tally or Tally()
        self.ready: Deferred[Transcript | None] = Deferred()
        level = protection.level if protection is not None else TLSLevel.NONE
        login = protection.login if protection is not None else None
        implicit = protection is not None and protection.implicit
        self._dialogue = ClientDialogue(hello_name, use_helo, level, login, lmtp, implicit)
        self._protection = protection
        self._timeout_seconds = timeout_seconds
        self._deadlines = deadlines
        self._gone = gone
        self._waiting: Over | None = None
        self._asked: Deferred[Reply | None] | None = None
        self._content: IStoredContent | None = None
        self._recipient_count = 0
        # Whole replies after which we have said what there was to say.
        self._heard = 0
        self._full = False
        self._reading = False
        self._lost = False
        self._secured = False
        self._untrusted = False

    # ---- the relay's side

    @property
    def extensions(self) -> dict[str, str]:
        """What the peer offered: keyword -> words."""
        return self._dialogue.extensions

    @property
    def is_over(self) -> bool:
        """Whether the connection is closed, or somebody else's."""
        return self._lost

    @property
    def is_idle(self) -> bool:
        """Whether it could take an envelope now."""
        return not self._lost and self._dialogue.phase is Phase.READY

    @property
    def tls(self) -> TLSFacts | None:
        """What the handshake has agreed on; `None` in clear, and when the connection is gone."""
        if not self._secured or self._lost:
            return None
        return facts_of(connection_of(self.transport))

    def send(self, envelope: Envelope, content: IStoredContent, over: Over) -> None:
        """
        Carry one transaction; allowed when the last one is over.

        :param content: read block by block; when it turns out to be damaged or
            to hold a bare CR or LF the connection is dropped before the final dot.
        :param over: called once, with the transcript or with what is wrong with the content;
            before this returns where the connection is gone.
        """
        if self._scribe is not None:
            self._scribe.begin()
        self._waiting = over
        self._content = content
        self._recipient_count = count = len(envelope.forward_paths)
        if self._lost or self._dialogue.phase is not _READY:
            self._answer(Transcript((None,) * count, "connection lost", False, False))
            return
        self._dialogue.send_envelope(envelope, content.size)
        self._flush()

    def ask(self, command: str) -> Deferred[Reply | None]:
        """
        Say *command*, which has one reply; allowed when no transaction is open.

        :returns: the reply; `None`: the connection is lost.
        """
        asked: Deferred[Reply | None] = Deferred()
        if not self.is_idle:
            asked.callback(None)
            return asked
        self._asked = asked
        self._dialogue.ask(command)
        self._flush()
        return asked

    @property
    def peer(self) -> tuple[str, int]:
        """IP address and port of the server."""
        end: Any = self.transport
        there = end.getPeer()
        return getattr(there, "host", ""), getattr(there, "port", 0)

    def tell_too(self, gone: Callable[[], None]) -> None:
        """*gone* is called as well when the session is lost, or gives the connection back."""
        others = self._gone

        def all_gone() -> None:
            others()
            gone()

        self._gone = all_gone

    def give_way(self, protocol: Protocol) -> None:
        """Leave the connection to *protocol*: the peer is the client now (RFC 2645 §5.3)."""
        transport: Any = self.transport
        transport.unregisterProducer()
        self._lost = True
        self._deadlines.forget(self)
        change_protocol(transport, protocol)

    def quit(self) -> None:
        """Say goodbye and close."""
        if self._lost:
            return
        if self._dialogue.phase is Phase.READY:
            self._dialogue.quit()
            self._flush()
        else:
            self.drop()

    def drop(self) -> None:
        """Close now."""
        transport: Any = self.transport
        transport.abortConnection()

    # ---- Twisted's side

    def connectionMade(self) -> None:
        """The peer's host took the connection."""
        transport: Any = self.transport
        set_no_delay = getattr(transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            set_no_delay(True)
            transport.bufferSize = _READ_OCTETS
        transport.registerProducer(self, True)
        self._flush()
        self._deadlines.watch(self)
        if self._dialogue.implicit:
            self._start_tls()

    def dataReceived(self, data: bytes) -> None:
        """Replies from the peer."""
        self._tally.received_octets += len(data)
        dialogue = self._dialogue
        if self._scribe is not None:
            self._scribe.heard(data, dialogue.phase)
        dialogue.receive_octets(data)
        while (happened := _EVENTS.get(type(event := dialogue.next_event()))) is not None:
            happened(self, event)
            if happened is _OVER:
                return
        if dialogue.heard != self._heard:
            # Part of a reply prolongs nothing: the patience is for a whole one (§4.5.3.2).
            self._flush()

    def handshakeCompleted(self) -> None:
        """TLS is on, with whomever it may be."""
        protection = self._protection
        assert protection is not None, "TLS is started for a reason"
        if protection.level is TLSLevel.VERIFIED:
            wrong = check_identity(connection_of(self.transport), protection.host)
            if wrong is not None:
                self._untrusted = True
                self._end_with(wrong)
                self.drop()
                return
        self._secured = True
        self._dialogue.secured()
        self._flush()

    def _is_ready(self, event: Ready) -> None:
        self.ready.callback(None)

    def _start_tls(self, event: TLSWanted | None = None) -> None:
        protection = self._protection
        assert protection is not None, "TLS is started for a reason"
        verified = protection.level is TLSLevel.VERIFIED
        transport: Any = self.transport
        try:
            creator = protection.tls.creator(protection.host, verified, protection.ca)
        except CertificateProblem as problem:
            self._end_with(str(problem))
            self.drop()
        else:
            transport.startTLS(creator)

    def _work(self, work: Work) -> None:
        protection = self._protection
        assert protection is not None, "a login is part of it"
        protection.in_thread(work.run).addCallbacks(self._worked, self._not_worked)

    def _worked(self, octets: bytes) -> None:
        if not self._lost:
            self._dialogue.worked(octets)
            self._flush()

    def _not_worked(self, failure: Failure) -> None:
        # Words of our own errors are fit to be told; others might tell something of the
        # password.
        known = failure.check(MailhostError)  # type: ignore[no-untyped-call]  # upstream
        words = str(failure.value) if known else "the password cannot be sent"
        self._end_with(f"login: {words}")
        self.drop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        self._lost = True
        self._deadlines.forget(self)
        self._untrusted = isinstance(reason.value, SSL.Error)
        self._end_with(f"connection lost: {failure_words(reason)}")
        self._gone()

    def _end_with(self, words: str) -> None:
        self._dialogue.receive_end(words)
        event = self._dialogue.next_event()
        if isinstance(event, SessionOver):
            self._tell_over(event)

    def pauseProducing(self) -> None:
        """The peer does not take more content now."""
        self._full = True

    def resumeProducing(self) -> None:
        """It takes more."""
        self._full = False
        if self._dialogue.phase is Phase.CONTENT and not self._reading:
            self._send_content()

    def stopProducing(self) -> None:
        """The transport is going away; `connectionLost` follows."""

    def expire(self) -> None:
        """The peer was silent for too long."""
        self._end_with(f"timed out waiting for {self._dialogue.phase.awaited}")
        self.drop()

    # ---- content

    def _send_content(self, event: ContentWanted | None = None) -> None:
        """Blocks as long as they are ready and the peer takes them."""
        content = self._content
        assert content is not None, "content is asked for in a transaction"
        while not self._full and not self._lost:
            try:
                block = content.read()
            except SpoolProblem as problem:
                self._content_failed(problem)
                return
            if not isinstance(block, bytes):
                self._flush()
                self._reading = True
                reading = cast("Deferred[bytes]", block)
                reading.addCallbacks(self._block_read, self._block_failed)
                return
            if not self._send_block(block):
                return

    def _block_read(self, block: bytes) -> None:
        self._reading = False
        if not self._lost and self._send_block(block):
            self._send_content()

    def _block_failed(self, failure: Failure) -> None:
        self._reading = False
        if not self._lost:
            self._content_failed(cast("Exception", failure.value))

    def _send_block(self, block: bytes) -> bool:
        """Send one block, the empty one as the end; `True` when more is wanted."""
        if self._dialogue.phase is not _CONTENT:
            return False
        if block:
            self._dialogue.write_content(block)
            if self._content is None or self._content.size > _ONE_PIECE_OCTETS:
                self._flush()
            return True
        if not self._dialogue.end_content():
            self._content_failed(SpoolProblem("the content has a bare CR or a bare LF"))
            return False
        self._flush()
        return False

    def _content_failed(self, problem: Exception) -> None:
        """A peer that waits for content gets no dot: it must not keep half a message."""
        self._dialogue.receive_end(str(problem))
        event = self._dialogue.next_event()
        if isinstance(event, SessionOver):
            self._answer(problem)
        self.drop()

    # ---- results

    def _done(self, event: TransactionDone) -> None:
        self._answer(Transcript(event.replies, "", False, self._dialogue.phase is _READY))

    def _over(self, event: SessionOver) -> None:
        self._tell_over(event)
        if self._dialogue.phase is Phase.QUITTING:
            self._gone = _nobody  # they have heard that it is over
            self._flush()
            return
        transport: Any = self.transport
        transport.unregisterProducer()
        transport.loseConnection()

    def _tell_over(self, event: SessionOver) -> None:
        replies = event.replies or (None,) * self._recipient_count
        transcript = Transcript(
            replies,
            event.words,
            event.in_doubt,
            False,
            event.reply,
            event.phase,
            self._untrusted,
        )
        if not self.ready.called:
            self.ready.callback(transcript)
        self._answer(transcript)
        self._answer_asked(None)

    def _answered(self, event: Answered) -> None:
        self._answer_asked(event.reply)

    def _answer_asked(self, reply: Reply | None) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.callback(reply)

    def _answer(self, result: Transcript | Exception) -> None:
        over, self._waiting = self._waiting, None
        self._content = None
        if over is not None:
            over(result)

    # ---- octets and time

    def _flush(self) -> None:
        """Send what there is to be said; the peer has its time for the answer from now on."""
        dialogue = self._dialogue
        self._heard = dialogue.heard
        octets = dialogue.octets_to_send()
        if octets:
            if self._scribe is not None:
                self._scribe.said(octets, dialogue.phase)
            self._tally.sent_octets += len(octets)
            write_promptly(self.transport, octets)
        patience: float = dialogue.phase.patience_seconds
        if patience > self._timeout_seconds:
            patience = self._timeout_seconds
        self.deadline_at = self._deadlines.seconds() + patience


def _nobody() -> None:
    """Wants to know."""


_OVER = OutboundProtocol._over
_EVENTS: dict[type, Callable[[OutboundProtocol, Any], None]] = {
    TransactionDone: OutboundProtocol._done,
    ContentWanted: OutboundProtocol._send_content,
    Ready: OutboundProtocol._is_ready,
    Answered: OutboundProtocol._answered,
    TLSWanted: OutboundProtocol._start_tls,
    Work: OutboundProtocol._work,
    SessionOver: _OVER,
}


def failure_words(reason: Failure) -> str:
    """What went wrong; OpenSSL's errors are lists of library, function and reason."""
    if isinstance(reason.value, SSL.Error) and reason.value.args and reason.value.args[0]:
        return "TLS: " + "; ".join(str(one[-1]) for one in reason.value.args[0])
    return reason.getErrorMessage()
