"""
An inbound session on its socket.

:Room: ``net``
:RFC: 5321 §3.8 (how a session ends), §4.5.3.2.7 (time-out); 3207; promises P5, P7.
:Called by: the reactor, through `mailhost.net.factory.ESMTPFactory`.

Three things can make the session wait, each for its own reason: a decision
that is not ready (the dialogue says paused), content that the store has not
taken yet, and a peer that does not read our replies.  While any of them holds
no event is taken; the last two, and too much unread input, also stop reading.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntFlag, auto
from functools import partial
from typing import Any

from attrs import evolve
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhost.authentication.exchange import Authentication, Exchange
from mailhost.facts import FactLog
from mailhost.interfaces import IReception, Maybe
from mailhost.later import hear
from mailhost.model.protocol_log import Turn
from mailhost.model.reply import Reply
from mailhost.model.security import TLSFacts
from mailhost.model.session import SessionFacts
from mailhost.model.tally import Tally
from mailhost.net.deadlines import Deadlines
from mailhost.net.prompt import write_promptly
from mailhost.net.server_tls import ServerTLS
from mailhost.net.tls import channel_binding, connection_of, facts_of
from mailhost.net.turning import change_protocol
from mailhost.protocol_log.log import ProtocolLog
from mailhost.smtp import replies
from mailhost.smtp.events import (
    Connected,
    ContentAsked,
    ContentBlock,
    ContentEnded,
    ExpandGiven,
    FaultMade,
    HelloGiven,
    LoginBegun,
    LoginContinued,
    MailGiven,
    ProxyGiven,
    RecipientGiven,
    StartAsked,
    TLSAsked,
    TransactionOver,
    TurnAsked,
    VerifyGiven,
    Wait,
)
from mailhost.smtp.order import State
from mailhost.smtp.recorded_dialogue import RecordedDialogue
from mailhost.smtp.rules import Rules
from mailhost.smtp.server_dialogue import ServerDialogue

#: Input kept while a decision is pending, before reading stops.
_MAX_HELD_OCTETS = 131072
#: A content that comes slower than this runs out of time (attacks.md A35).
_MIN_OCTETS_PER_SECOND = 500
#: What is read at once, and what is to be read of a large content.  Each time so much memory is
#: asked for, and a piece as large as Twisted's makes the C library tidy up when it is given back.
#: Through TLS this changes nothing: its records are small.
_READ_OCTETS = 16384
_LARGE_READ_OCTETS = 262144
#: A handshake has to be done by then (attacks.md A14).
_HANDSHAKE_SECONDS = 30.0
#: After the last reply the peer has so long to take it and go.
_FAREWELL_SECONDS = 15.0
#: Lines of the log about refusals of one session; the rest is counted.
_REFUSALS_TOLD = 20
#: The exchange of a login tells of its end itself.
_TOLD_ELSEWHERE = frozenset({replies.LOGIN_FAILED, replies.LOGIN_NOT_NOW})

# Looked up here, because a member of an enumeration costs several times as much.
_NEED_DATA, _PAUSED, _CLOSED = Wait.NEED_DATA, Wait.PAUSED, State.CLOSED

_facts = FactLog()


class _Hold(IntFlag):
    """Why no event is taken; of integers, because it is looked at many times a message."""

    NOTHING = 0
    STORE_BUSY = auto()
    PEER_NOT_READING = auto()
    INPUT_FULL = auto()


@implementer(IPushProducer, IHandshakeListener)
class InboundProtocol(Protocol):
    """
    One session.

    :param receive: makes the one who decides.
    :param session: what is known of the client.
    :param rules: what the dialogue allows.
    :param timeout_seconds: patience with a silent client.
    :param deadlines: where the patience is looked after.
    :param gone: called once when the connection is lost.
    :param tls: has the certificate; `None` where there is none.
    :param implicit_tls: the handshake comes before the banner (RFC 8314 §3.3).
    :param authentication: decides on AUTH, where *rules* offer it.
    :param protocol_log: is told of each command and its reply; `None`: nobody is.
    :param tally: counts octets; `None`: nobody reads the numbers.
    """

    _log = Logger()

    def __init__(
        self,
        receive: Callable[[SessionFacts], IReception],
        session: SessionFacts,
        rules: Rules,
        timeout_seconds: float,
        deadlines: Deadlines,
        gone: Callable[[InboundProtocol], None],
        tls: ServerTLS | None = None,
        implicit_tls: bool = False,
        authentication: Authentication | None = None,
        protocol_log: ProtocolLog | None = None,
        tally: Tally | None = None,
    ) -> None:
        self.deadline_at = 0.0
        self._deadlines = deadlines
        self._receive = receive
        self._protocol_log = protocol_log
        self._tally = tally or Tally()
        self._begin(session, rules, implicit_tls)
        self._tls = tls
        self._authentication = authentication
        self._exchange: Exchange | None = None
        self._shaking_hands = False
        self._timeout_seconds = timeout_seconds
        self._gone = gone
        self._hold = _Hold.NOTHING
        self._pumping = False
        self._lost = False
        self._refusals = 0
        self._farewell: Reply | None = None
        # Writing has failed: why the content will be refused at its end.
        self._content_fault: Reply | None = None

    def _begin(self, session: SessionFacts, rules: Rules, secure: bool) -> None:
        """A session of the client in *session*."""
        self._reception = self._receive(session)
        self.session: SessionFacts = self._reception.session
        if rules.xclient != self.session.proxy:
            rules = evolve(rules, xclient=self.session.proxy)
        make: Callable[..., ServerDialogue] = ServerDialogue
        if self._protocol_log is not None:
            make = partial(RecordedDialogue, tell=partial(self._record, self._protocol_log))
        self._dialogue = make(
            rules,
            self.session.peer,
            seconds=self._deadlines.clock.seconds,
            trusted=self.session.trusted,
            secure=secure,
            refused=self._tell_refusal,
        )

    def _record(self, log: ProtocolLog, turn: Turn) -> None:
        log.inbound(self._deadlines.clock.seconds(), self.session, turn)

    def _tell_refusal(self, reply: Reply) -> None:
        """What was refused, why, and which setting is behind it."""
        if reply in _TOLD_ELSEWHERE:
            return
        self._refusals += 1
        if self._refusals > _REFUSALS_TOLD:
            return
        words = "{peer}: {reply}"
        words += ": {reason}" if reply.reason else ""
        words += " ({setting})" if reply.setting else ""
        _facts.info(
            words,
            reply=str(reply),
            reason=reply.reason,
            setting=reply.setting,
            **self.session.told,
        )

    def _tell_rest(self) -> None:
        untold = self._refusals - _REFUSALS_TOLD
        if untold > 0:
            _facts.info("{peer}: and {count} more refusals", count=untold, **self.session.told)

    # ---- before the connection is made

    @property
    def begins_with_tls(self) -> bool:
        """The handshake comes before the banner."""
        return self._dialogue.secure and self.session.tls is None

    def assume_tls(self, facts: TLSFacts) -> None:
        """The connection has had its handshake."""
        self.session.tls = facts
        self._dialogue.secure = True
        self._dialogue.change_rules(self._dialogue.rules)

    def hear_early(self, octets: bytes) -> None:
        """Take what a client behind a proxy has said before it can have been greeted."""
        self._dialogue.receive_octets(octets)

    # ---- Twisted's side

    def connectionMade(self) -> None:
        """The client has connected."""
        transport: Any = self.transport
        if not self.session.local:  # a proxy would have said it
            here = transport.getHost()
            self.session.local = getattr(here, "host", "")
            self.session.local_port = getattr(here, "port", 0)
        set_no_delay = getattr(transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            set_no_delay(True)
            transport.bufferSize = _READ_OCTETS
        transport.registerProducer(self, True)
        self._extend_deadline()
        self._deadlines.watch(self)
        if not self.begins_with_tls:
            self._pump()
        elif not self._start_tls():
            self.abort()

    def handshakeCompleted(self) -> None:
        """TLS is on."""
        self._shaking_hands = False
        assert self._tls is not None, "it has given the certificate"
        connection = connection_of(self.transport)
        names = self._tls.client_names(connection)
        self.session.tls = facts_of(connection, names)
        if names:
            self._know_by_certificate(names)
        self._extend_deadline()
        # Where TLS came first nothing has been said yet: octets written before
        # the handshake would wait in the transport, which would tell us to stop
        # reading, and the handshake with it.
        self._pump()

    def _know_by_certificate(self, names: tuple[str, ...]) -> None:
        """ACC-13: the client has proved that it is *names*."""
        account = None
        if self._authentication is not None:
            account = self._authentication.certified(self.session, names)
        self.session.account = account
        self._dialogue.change_rules(self._dialogue.rules.for_certified(account is not None))

    def dataReceived(self, data: bytes) -> None:
        """Octets from the client."""
        self._tally.received_octets += len(data)
        dialogue = self._dialogue
        if dialogue.state is _CLOSED:
            return  # the last reply is on its way out
        dialogue.receive_octets(data)
        if dialogue.in_content:
            if len(data) == _READ_OCTETS:
                transport: Any = self.transport
                transport.bufferSize = _LARGE_READ_OCTETS
            now = self._deadlines.seconds()
            self.deadline_at = min(
                now + self._timeout_seconds,
                self.deadline_at + len(data) / _MIN_OCTETS_PER_SECOND,
            )
        if self._hold or dialogue.paused:
            if dialogue.held_octets > _MAX_HELD_OCTETS:
                self._stop_reading(_Hold.INPUT_FULL)
            return
        self._pump()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, whoever ended it."""
        self._lost = True
        self._deadlines.forget(self)
        self._tell_rest()
        # It knows us: what stays in a cycle waits for the garbage collector (ADR 0015).
        self._dialogue.refused = None
        self._reception.reset()
        self._reception.disconnected()
        self._gone(self)

    def pauseProducing(self) -> None:
        """The client does not read: stop hearing it out (attacks.md A36)."""
        self._stop_reading(_Hold.PEER_NOT_READING)

    def resumeProducing(self) -> None:
        """The client reads again."""
        self._read_again(_Hold.PEER_NOT_READING)

    def stopProducing(self) -> None:
        """The transport is going away; `connectionLost` follows."""

    # ---- ending

    def say_farewell(self, reply: Reply) -> None:
        """End the session with *reply* as soon as it is between two commands."""
        self._farewell = reply
        if not self._dialogue.paused and not self._hold:
            self._pump()

    def terminate(self, reply: Reply) -> None:
        """
        End the session: with *reply* where it can be told, else by cutting it off.

        A decision under way is waited for: it may be about a message that is ours already.
        """
        if self._dialogue.paused:
            self.say_farewell(reply)
        elif self._hold or self._shaking_hands or self._dialogue.in_content:
            self.abort()
        else:
            self.say_farewell(reply)

    @property
    def state(self) -> str:
        """Where the dialogue stands, in one word."""
        return "handshake" if self._shaking_hands else self._dialogue.state.name.lower()

    def abort(self) -> None:
        """End the connection now, in the middle of whatever it is."""
        transport: Any = self.transport
        transport.abortConnection()

    def hurry(self, timeout_seconds: float) -> None:
        """Have so much patience with the client from now on."""
        self._timeout_seconds = timeout_seconds
        if not self._shaking_hands and not self._dialogue.closed:
            latest = self._deadlines.seconds() + timeout_seconds
            self.deadline_at = min(self.deadline_at, latest)

    def expire(self) -> None:
        """The client was silent for too long, or does not go."""
        if self._shaking_hands:
            self._log.info("{peer} did not complete a TLS handshake", **self.session.told)
            self.abort()
        elif self._dialogue.paused or _Hold.STORE_BUSY in self._hold:
            self._extend_deadline()  # it waits for us, not we for it
        elif self._dialogue.closed or self._dialogue.in_content:
            # In content no reply can be given: the peer would take it for the
            # answer to its final dot.
            self.abort()
        else:
            self._log.info("{peer} was silent for too long", **self.session.told)
            self._dialogue.close(replies.TIMED_OUT)
            self._pump()

    def _extend_deadline(self) -> None:
        if self._shaking_hands:
            return
        self.deadline_at = self._deadlines.seconds() + self._timeout_seconds

    # ---- the pump

    def _pump(self) -> None:
        """Take events while there are any, then send what has gathered, once."""
        self._pumping = True
        waiting = self._take_events()
        self._pumping = False
        dialogue = self._dialogue
        if self._farewell and waiting is _NEED_DATA and not dialogue.in_content:
            dialogue.close(self._farewell)
            waiting = self._take_events()
        octets = dialogue.octets_to_send()
        if octets:
            if not dialogue.in_content:
                self.deadline_at = self._deadlines.seconds() + self._timeout_seconds
            self._tally.sent_octets += len(octets)
            write_promptly(self.transport, octets)
        if waiting is _NEED_DATA or waiting is _PAUSED:
            return
        if waiting is Wait.CLOSED:
            self._hang_up()
        elif waiting is Wait.TURNED:
            self._turn_round()

    def _write(self, octets: bytes) -> None:
        self._tally.sent_octets += len(octets)
        write_promptly(self.transport, octets)

    def _take_events(self) -> Wait | None:
        while not self._hold:
            # Another session's may have taken its place (XCLIENT).
            event = self._dialogue.next_event()
            decide = _EVENTS.get(type(event))
            if decide is None:
                return event  # type: ignore[return-value]  # what is no event is a `Wait`
            try:
                decide(self, event)
            except Exception:
                self._log.failure("A decision has failed")
                if self._dialogue.paused:
                    self._dialogue.answer(replies.LOCAL_ERROR)
        return None

    def _turn_round(self) -> None:
        """What was the client is the server now (RFC 2645 §5.3): somebody else takes over."""
        transport: Any = self.transport
        transport.unregisterProducer()
        client = self._reception.turned()
        self.connectionLost()
        change_protocol(transport, client)

    def _hang_up(self) -> None:
        transport: Any = self.transport
        transport.unregisterProducer()
        transport.loseConnection()
        self.deadline_at = self._deadlines.seconds() + _FAREWELL_SECONDS

    def _stop_reading(self, why: _Hold) -> None:
        if not self._hold:
            transport: Any = self.transport
            transport.pauseProducing()
        self._hold |= why

    def _read_again(self, why: _Hold) -> None:
        self._hold &= ~why
        if self._hold or self._lost:
            return
        transport: Any = self.transport
        transport.resumeProducing()
        if not self._pumping:
            self._pump()

    # ---- decisions

    def _ask(self, answer: Maybe[Reply]) -> None:
        if isinstance(answer, Reply):
            self._dialogue.answer(answer)
            return
        hear(answer, self._decided, self._undecided)

    def _undecided(self, failure: Failure) -> None:
        self._log.failure("A decision has failed", failure)
        self._decided(replies.LOCAL_ERROR)

    def _decided(self, reply: Reply) -> None:
        if self._lost:
            return
        self._dialogue.answer(reply)
        if self._hold and _Hold.INPUT_FULL in self._hold:
            self._read_again(_Hold.INPUT_FULL)
        elif not self._pumping:
            self._pump()

    def _on_connected(self, event: Connected) -> None:
        self._ask(self._reception.connected())

    def _on_hello(self, event: HelloGiven) -> None:
        self._ask(self._reception.hello(event.name, event.extended))

    def _on_tls_asked(self, event: TLSAsked) -> None:
        if self._tls is None or self._tls.context_factory() is None:
            self._dialogue.answer(replies.TLS_NOT_NOW)
            return
        self._dialogue.answer(replies.READY_FOR_TLS)
        if self._dialogue.closed:
            return
        self._write(self._dialogue.octets_to_send())
        # RFC 3207 §4.2: what was said in clear is forgotten.
        self.session.hello, self.session.protocol, self.session.account = "", "SMTP", None
        self._start_tls()

    def _start_tls(self) -> bool:
        """Begin the handshake; `False` where there is no certificate for it."""
        factory = self._tls.context_factory() if self._tls is not None else None
        if factory is None:
            return False
        self.deadline_at = self._deadlines.seconds() + _HANDSHAKE_SECONDS
        self._shaking_hands = True
        transport: Any = self.transport
        transport.startTLS(factory)
        return True

    def _on_login_begun(self, event: LoginBegun) -> None:
        if self._exchange is None:
            if self._authentication is None:
                self._dialogue.answer(replies.LOGIN_NOT_NOW)
                return
            self._exchange = self._authentication.exchange(self.session, self._binding)
        self._ask(self._exchange.begin(event.mechanism, event.response))

    def _on_login_continued(self, event: LoginContinued) -> None:
        assert self._exchange is not None, "it has given the challenge"
        self._ask(self._exchange.go_on(event.response))

    def _binding(self, name: str) -> bytes | None:
        if self.session.tls is None:
            return None
        return channel_binding(connection_of(self.transport), name)

    def _on_proxy(self, event: ProxyGiven) -> None:
        """Another client's session takes the place of this one, and is greeted anew."""
        self._write(self._dialogue.octets_to_send())
        self._reception.reset()
        self._reception.disconnected()
        client = self.session.speaking_for(event.client)
        self._log.info("{proxy} speaks for {client}", proxy=self.session.peer, client=client.peer)
        self._exchange = None
        self._begin(client, self._dialogue.rules, self._dialogue.secure)
        self._dialogue.logged_in = client.account is not None

    def _on_mail(self, event: MailGiven) -> None:
        self._ask(
            self._reception.sender(event.reverse_path, event.size, event.body, event.parameters)
        )

    def _on_recipient(self, event: RecipientGiven) -> None:
        self._ask(self._reception.recipient(event.forward_path, event.parameters))

    def _on_verify(self, event: VerifyGiven) -> None:
        self._ask(self._reception.verify(event.path))

    def _on_expand(self, event: ExpandGiven) -> None:
        self._ask(self._reception.expand(event.path))

    def _on_start_asked(self, event: StartAsked) -> None:
        self._ask(self._reception.start_queue(event.option, event.name))

    def _on_turn_asked(self, event: TurnAsked) -> None:
        self._ask(self._reception.turn(event.domains))

    def _on_fault(self, event: FaultMade) -> None:
        self._ask(self._reception.fault(event.reply))

    def _on_content_asked(self, event: ContentAsked) -> None:
        self._ask(self._reception.content())

    def _on_block(self, event: ContentBlock) -> None:
        if self._content_fault is not None:
            return  # the rest is swallowed
        try:
            waiting = self._reception.write(event.octets)
        except Exception:
            self._log.failure("Content could not be written")
            self._content_fault = replies.LOCAL_ERROR
            return
        if waiting is not None:
            self._stop_reading(_Hold.STORE_BUSY)
            hear(waiting, self._stored, self._not_stored)

    def _stored(self, nothing: object) -> None:
        self._read_again(_Hold.STORE_BUSY)

    def _not_stored(self, failure: Failure) -> None:
        self._log.failure("Content could not be written", failure)
        self._content_fault = replies.LOCAL_ERROR
        self._read_again(_Hold.STORE_BUSY)

    def _on_content_ended(self, event: ContentEnded) -> None:
        fault, self._content_fault = event.fault or self._content_fault, None
        self._ask(self._reception.end_of_content(fault, event.wire_ready))

    def _on_over(self, event: TransactionOver) -> None:
        self._content_fault = None
        self._reception.reset()


_EVENTS: dict[type, Callable[[InboundProtocol, Any], None]] = {
    Connected: InboundProtocol._on_connected,
    HelloGiven: InboundProtocol._on_hello,
    TLSAsked: InboundProtocol._on_tls_asked,
    LoginBegun: InboundProtocol._on_login_begun,
    LoginContinued: InboundProtocol._on_login_continued,
    ProxyGiven: InboundProtocol._on_proxy,
    MailGiven: InboundProtocol._on_mail,
    RecipientGiven: InboundProtocol._on_recipient,
    VerifyGiven: InboundProtocol._on_verify,
    ExpandGiven: InboundProtocol._on_expand,
    StartAsked: InboundProtocol._on_start_asked,
    TurnAsked: InboundProtocol._on_turn_asked,
    FaultMade: InboundProtocol._on_fault,
    ContentAsked: InboundProtocol._on_content_asked,
    ContentBlock: InboundProtocol._on_block,
    ContentEnded: InboundProtocol._on_content_ended,
    TransactionOver: InboundProtocol._on_over,
}
