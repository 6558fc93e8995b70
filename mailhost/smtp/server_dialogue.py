"""
The server's side of an SMTP session: octets in, events out, replies in order.

:Room: ``smtp`` -- sans-I/O.
:RFC: 5321 §2.4, §4.1, §4.3; 2920 §3.2 (a server answers in order); 3030; 3207; 4954;
    promises P5-P7.
:Called by: `mailhost.net.inbound`.

The caller feeds octets, takes events until there is none, and answers those
that want a reply.  While one is unanswered the dialogue says `Wait.PAUSED`, so
replies cannot overtake each other, however long a decision takes.

Rules of this file.  1: no exception leaves it, whatever the peer sends.
2: what it holds is bounded by `Rules.max_command_octets` and by what the
caller feeds while paused.  3: octets behind a DATA are never commands unless
that DATA was refused before any of them came; those that a BDAT has announced
never are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import define, field

from mailhost.model.reply import CLOSING, Reply, without_status
from mailhost.smtp import order, replies
from mailhost.smtp.chunks import ChunkedContent
from mailhost.smtp.commands import (
    ENDING,
    HELP_GIVEN,
    QUIT_ACCEPTED,
    help_given,
    understood,
    unknown,
)
from mailhost.smtp.content import ContentReader
from mailhost.smtp.events import (
    UNANSWERED,
    VERB_OF,
    ChunkGiven,
    Connected,
    ContentAsked,
    ContentBlock,
    ContentEnded,
    Event,
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
from mailhost.smtp.extensions import Offer, offer
from mailhost.smtp.grammar import EncodingProblem, parse_base64
from mailhost.smtp.order import State
from mailhost.smtp.permission import line_limit, refusal, too_long
from mailhost.smtp.rules import Rules

# Looked up here, because a member of an enumeration costs several times as much.
_PAUSED, _NEED_DATA = Wait.PAUSED, Wait.NEED_DATA
_CLOSED, _TURNED = State.CLOSED, State.TURNED
_GREETED, _LOGGING_IN = State.GREETED, State.LOGGING_IN

# As numbers: ``in`` takes octets for a number first, and has made an exception before it looks.
_NUL, _LF, _CR = b"\0\n\r"

_OVER = TransactionOver()
#: Events that the usual command leads to, and nothing else is to be done for them.
_SIMPLE = frozenset({MailGiven, RecipientGiven, ContentAsked})
#: An overlong line is swallowed to its end, up to so many octets.
_MAX_SWALLOWED_OCTETS = 65536
#: Of a refused chunk, where messages may be of any size.
_MAX_SKIPPED_OCTETS = 64 * 1024 * 1024
#: So many commands without a message in between, however good (attacks.md, part 1, §3).
_MAX_IDLE_COMMANDS = 100
_CONTENT_ASKED = ContentAsked()
#: Whoever stands here has not been greeted, and is not by the end of a transaction.
_UNGREETED = {State.CONNECTED, State.REFUSED, State.CLOSED}
_CLEAN = {State.CONNECTED, State.REFUSED, State.GREETED}


@define
class ServerDialogue:
    """
    One session.

    :ivar rules: limits and names.
    :ivar peer: the client's IP address, for the greeting.
    :ivar seconds: since the epoch, now.
    :ivar state: where the session stands.
    :ivar trusted: the client is one of the operator's own: it need not keep in step, and
        its bare line ends are mended where `Rules.bare_line_ends` allows it.
    :ivar secure: TLS is on; the caller sets it where it was on from the start.
    :ivar in_content: the peer is sending content, or waits for the reply to it.
    :ivar logged_in: AUTH has been answered with 235.
    :ivar refused: told of each refusal that is said; a farewell is none.
    """

    rules: Rules
    peer: str = ""
    seconds: Callable[[], float] = field(default=float, kw_only=True)
    state: State = field(default=State.CONNECTED, init=False)
    trusted: bool = field(default=False, kw_only=True)
    secure: bool = field(default=False, kw_only=True)
    refused: Callable[[Reply], None] | None = field(default=None, kw_only=True)
    in_content: bool = field(default=False, init=False)
    logged_in: bool = field(default=False, init=False)
    _buffer: bytes = field(default=b"", init=False)
    _swallowed: int = field(default=0, init=False)
    _too_long: Reply = field(default=replies.LINE_TOO_LONG, init=False)
    _out: list[bytes] = field(factory=list, init=False)
    _ready: deque[Event] = field(factory=lambda: deque((Connected(),)), init=False)
    _asked: Event | None = field(default=None, init=False)
    _reader: ContentReader | None = field(default=None, init=False)
    _chunks: ChunkedContent | None = field(default=None, init=False)
    # Octets of a refused chunk that have not come yet.
    _skipping: int = field(default=0, init=False)
    # The open transaction was begun with SMTPUTF8.
    _utf8: bool = field(default=False, init=False)
    # Recipients that it has.
    _accepted: int = field(default=0, init=False)
    # It was begun with BODY=BINARYMIME.
    _binary: bool = field(default=False, init=False)
    _errors: int = field(default=0, init=False)
    # Commands without a message behind them.
    _idled: int = field(default=0, init=False)
    # It was offered: commands may come in groups.
    _pipelining: bool = field(default=False, init=False)
    _offer: Offer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._offer = offer(self.rules, self.secure)

    # ---- the caller's side

    @property
    def closed(self) -> bool:
        """The last reply has been given."""
        return self.state is State.CLOSED

    @property
    def paused(self) -> bool:
        """An event waits for its reply."""
        return self._asked is not None

    @property
    def held_octets(self) -> int:
        """Octets fed and not yet used."""
        return len(self._buffer)

    def change_rules(self, rules: Rules) -> None:
        """Go by *rules* from now on."""
        self.rules = rules
        self._offer = offer(rules, self.secure)

    def receive_octets(self, octets: bytes) -> None:
        """Take what came from the peer."""
        self._buffer = self._buffer + octets if self._buffer else octets

    def next_event(self) -> Event | Wait:
        """The next thing that happened, or why there is none."""
        if self._asked is not None:
            return _PAUSED
        ready = self._ready
        while not ready:
            if not (self._buffer or self._chunks) and self.state < _CLOSED:
                return _NEED_DATA
            wait = self._read_on()
            if wait is not None:
                return wait
        event = ready.popleft()
        if type(event) not in UNANSWERED:
            self._asked = event
        return event

    def _read_on(self) -> Wait | None:
        """Use some of what has come; why that cannot be, where it cannot."""
        state, chunks = self.state, self._chunks
        if state is _CLOSED:
            self._buffer = b""
            return Wait.CLOSED
        if state is _TURNED:
            return Wait.TURNED
        if chunks is not None and chunks.chunk is not None:
            if not chunks.left:
                self._end_chunk(chunks, chunks.chunk)
                return None
            if self._buffer:
                self._read_chunk(chunks)
                return None
        if not self._buffer:
            return _NEED_DATA
        if self._reader is not None:
            self._read_content(self._reader)
        elif self._skipping:
            self._skip()
        elif not self._read_command():
            return _NEED_DATA
        return None

    def answer(self, reply: Reply) -> None:
        """
        Reply to the event that was handed out last.

        A positive reply to `Connected` or `HelloGiven` only says yes: banner and
        greeting are written here.  A reply that closes (221, 421) ends the
        session; any other refusal of `Connected` leaves nothing to the client but QUIT
        (RFC 5321 §3.1).
        """
        event, self._asked = self._asked, None
        assert event is not None, "no event waits for a reply"
        _ANSWERED[type(event)](self, event, reply)
        if reply.code in CLOSING:
            self._close()

    def close(self, reply: Reply) -> None:
        """End the session from our side; meant for between commands."""
        if self.state is not State.CLOSED:
            self._put(reply)
            self._close()

    def octets_to_send(self) -> bytes:
        """What has to go to the peer; call it once per turn, not per event."""
        out = self._out
        if len(out) == 1:
            return out.pop()
        octets = b"".join(out)
        out.clear()
        return octets

    # ---- answers

    def _say(self, reply: Reply) -> None:
        if reply.code >= 400 and self.refused is not None:
            self.refused(reply)
        self._put(reply)

    def _put(self, reply: Reply) -> None:
        self._out.append(reply.octets if self._offer.with_status else without_status(reply).octets)

    def _break_off(self, reply: Reply) -> None:
        self._say(reply)
        self._close()

    def _out_of_step(self) -> bool:
        """
        The client has said more than it may without waiting (RFC 2920 §3.1; attacks.md A20).

        What it has said was not meant for us, or hides something: nothing of it is read.
        """
        if not self._buffer or self.trusted or self.rules.early_talkers:
            return False
        self._break_off(replies.NOT_IN_STEP)
        return True

    def _answer_connected(self, event: Connected, reply: Reply) -> None:
        if reply.positive:
            if self._out_of_step():
                return
            self._say(replies.banner(self.rules.fqdn, self.rules.banner_words))
        else:
            self._say(reply)
            self.state = State.REFUSED

    def _answer_hello(self, event: HelloGiven, reply: Reply) -> None:
        if not reply.positive:
            self._say(reply)
            return
        if self._out_of_step():
            return
        self._pipelining = event.extended and "PIPELINING" in self.rules.extensions
        keywords: tuple[str, ...] = ()
        if event.extended:
            keywords = self._offer.ehlo_lines(self.seconds())
        self._say(replies.hello(self.rules.fqdn, self.peer, keywords))
        self._end_transaction()  # §4.1.4: EHLO in mid-session is a RSET as well
        self.state = State.GREETED

    def _answer_step(
        self,
        event: ProxyGiven | MailGiven | RecipientGiven | ContentAsked | StartAsked | TurnAsked,
        reply: Reply,
    ) -> None:
        if reply.code < 400:
            self._put(reply)
            self.state = order.after(self.state, VERB_OF[type(event)], reply)
        elif reply.permanent:
            self._refuse(reply)
        else:
            self._say(reply)

    def _answer_mail(self, event: MailGiven, reply: Reply) -> None:
        self._answer_step(event, reply)
        self._accepted, self._utf8 = 0, event.parameters.smtputf8
        self._binary = event.body == "BINARYMIME"

    def _answer_recipient(self, event: RecipientGiven, reply: Reply) -> None:
        self._answer_step(event, reply)
        self._accepted += reply.positive

    def _answer_content(self, event: ContentEnded, reply: Reply) -> None:
        self._say(reply)
        if self.rules.lmtp:
            for _ in range(1, self._accepted):
                self._say(reply)  # RFC 2033 §4.2
        self._idled = 0
        self._end_transaction()

    def _answer_inquiry(self, event: VerifyGiven | ExpandGiven, reply: Reply) -> None:
        # Who asks for one name after the other is looking for addresses.
        (self._say if reply.positive else self._fault)(reply)

    def _answer_fault(self, event: FaultMade, reply: Reply) -> None:
        self._say_fault(reply)

    def _answer_starttls(self, event: TLSAsked, reply: Reply) -> None:
        if reply.code == 220 and self._buffer:
            # RFC 3207 §6: octets in clear that a man in the middle would have
            # executed as if they had come through TLS (attacks.md A10).
            self._break_off(replies.OUT_OF_STEP)
            return
        self._say(reply)
        if reply.code == 220:
            self.secure, self.logged_in, self._pipelining = True, False, False
            self._offer = offer(self.rules, True)
            self.state = order.after(self.state, "STARTTLS", reply)

    def _answer_login(self, event: LoginBegun | LoginContinued, reply: Reply) -> None:
        if self._buffer:
            # Whoever does not wait for the reply may mean what follows as an answer
            # to a challenge or as a command: nothing of it is read.
            self._break_off(replies.AUTH_OUT_OF_STEP)
            return
        self.state = State.LOGGING_IN if reply.code == 334 else State.GREETED
        if reply.permanent:
            self._fault(reply)
            return
        self._say(reply)
        self.logged_in = reply.code == 235

    def _answer_data(self, event: ContentAsked, reply: Reply) -> None:
        if self._chunks is not None:
            self._answer_first_chunk(self._chunks, reply)
            return
        if reply.code == 354:
            if not self._out_of_step():
                self._say(reply)
                self._begin_content()
            return
        self._say(reply)
        if self._buffer:
            # Rule 3: what lies behind this DATA may be a content that its
            # sender did not wait to be asked for.
            self._close()

    def _begin_content(self) -> None:
        self.state, self.in_content = State.CONTENT, True
        mends = self.rules.mends(self.trusted or self.logged_in)
        self._reader = ContentReader(self.rules.max_line_octets, mends)

    def _answer_first_chunk(self, chunks: ChunkedContent, reply: Reply) -> None:
        if reply.code == 354:
            # RFC 3030 §2: it is not said; the octets are on their way already.
            self.state = State.CHUNKS
            return
        self._say(reply)
        assert chunks.chunk is not None, "a chunk has led to the question"
        self._refuse_chunk(chunks.chunk)

    def _end_transaction(self) -> None:
        """The one place where a transaction ends, whatever ended it."""
        state = self.state
        if state not in _CLEAN:
            self._ready.append(_OVER)
        self._reader = self._chunks = None
        self.in_content = False
        if state not in _UNGREETED:
            self.state = _GREETED

    def _close(self) -> None:
        self._end_transaction()
        self.state = State.CLOSED
        self._buffer = b""

    # ---- content

    def _read_content(self, reader: ContentReader) -> None:
        octets, self._buffer = self._buffer, b""
        block, rest = reader.feed(octets)
        if block:
            self._ready.append(ContentBlock(block))
        if reader.ended:
            self._buffer = rest
            self._reader = None
            self._ready.append(ContentEnded(reader.fault, reader.wire_ready))

    def _begin_chunk(self, chunk: ChunkGiven) -> None:
        """A BDAT in its place (RFC 3030 §2)."""
        first = self._chunks is None
        chunks = self._chunks = self._chunks or ChunkedContent(
            self.rules.max_line_octets, self._binary
        )
        chunks.begin(chunk)
        self.in_content = True
        limit = self.rules.max_message_octets
        if limit and chunks.announced > limit:
            # Announced, so it need not be waited for.
            self._fault(replies.MESSAGE_TOO_BIG)
            self._refuse_chunk(chunk)
        elif first:
            self._ready.append(_CONTENT_ASKED)

    def _refuse_chunk(self, chunk: ChunkGiven) -> None:
        """
        Take the octets of *chunk* for nothing (RFC 3030 §4.1).

        A chunk that is larger than a message may be ends the session: nobody
        has to take as much as a liar announces.
        """
        self._end_transaction()
        self._skipping = chunk.size
        if chunk.size > (self.rules.max_message_octets or _MAX_SKIPPED_OCTETS):
            self._close()

    def _skip(self) -> None:
        skipped = min(self._skipping, len(self._buffer))
        self._buffer = self._buffer[skipped:]
        self._skipping -= skipped

    def _read_chunk(self, chunks: ChunkedContent) -> None:
        block, self._buffer = chunks.feed(self._buffer)
        if block:
            self._ready.append(ContentBlock(block))

    def _end_chunk(self, chunks: ChunkedContent, chunk: ChunkGiven) -> None:
        chunks.chunk = None
        self.in_content = False
        if not chunk.last:
            received = replies.chunk_received(chunk.size)
            (self._say if chunk.size else self._idle)(received)
            return
        missing = chunks.end()
        if missing:
            self._ready.append(ContentBlock(missing))
        self._chunks = None
        self._ready.append(ContentEnded(chunks.fault))

    # ---- commands

    def _read_command(self) -> bool:
        """Use one command line; `False` when there is no whole one."""
        buffer = self._buffer
        end = buffer.find(b"\r\n")
        if end < 0:
            self._check_partial_line()
            return bool(self._ready) or self.state is _CLOSED
        line, self._buffer = buffer[:end], buffer[end + 2 :]
        if self._swallowed or (
            end + 2 > self.rules.max_command_octets and end > self._line_limit(line)
        ):
            refused = self._too_long if self._swallowed else too_long(self._line_limit(line))
            self._swallowed = 0
            if self.state is State.LOGGING_IN:
                self.state = State.GREETED
            self._fault(refused)
        elif _LF in line or _CR in line or _NUL in line:
            # The peer and we do not agree on where lines end (§2.3.8).
            self._break_off(replies.BARE_LINE_END)
        elif self.state is _LOGGING_IN:
            self._login_line(line)
        else:
            self._command(line)
        return True

    def _line_limit(self, line: bytes) -> int:
        return line_limit(line, self.state, self.rules, self._offer)

    def _login_line(self, line: bytes) -> None:
        """The answer to a challenge (RFC 4954 §4)."""
        self.state = State.GREETED
        if line == b"*":
            self._fault(replies.LOGIN_CANCELLED)
            return
        try:
            self._ask_alone(LoginContinued(parse_base64(line)), replies.AUTH_OUT_OF_STEP)
        except EncodingProblem:
            self._fault(replies.LOGIN_MALFORMED)

    def _begin_login(self, event: LoginBegun) -> None:
        refused = self.rules.login_refusal(event.mechanism, self.secure)
        if self.logged_in:
            refused = replies.LOGIN_IS_DONE
        if refused is None:
            self._ask_alone(event, replies.AUTH_OUT_OF_STEP)
        else:
            self._fault(refused)

    def _ask_alone(self, event: Event, otherwise: Reply) -> None:
        """Hand *event* out if nothing stands behind it; else the session is over."""
        if self._buffer:
            self._break_off(otherwise)
        else:
            self._ready.append(event)

    def _check_partial_line(self) -> None:
        if _LF in self._buffer or _CR in self._buffer[:-1]:
            self._break_off(replies.BARE_LINE_END)
        elif self._swallowed or (
            len(self._buffer) > self.rules.max_command_octets
            and len(self._buffer) > self._line_limit(self._buffer) + 1
        ):
            if not self._swallowed:
                self._too_long = too_long(self._line_limit(self._buffer))
            self._swallowed += len(self._buffer)
            self._buffer = b"\r" if self._buffer.endswith(b"\r") else b""
            if self._swallowed > _MAX_SWALLOWED_OCTETS:
                self._break_off(self._too_long)

    def _command(self, line: bytes) -> None:
        rules, offered = self.rules, self._offer
        verb, meant = understood(line, offered, rules.lmtp, self._utf8)
        if meant is None:
            (self.close if verb in ENDING else self._fault)(unknown(verb))
            return
        if not verb:
            self._fault(meant)  # type: ignore[arg-type]  # without a verb it is a reply
            return
        if not self._pipelining and self._out_of_step():
            return
        known, binary = self.logged_in, self._binary
        met = refusal(verb, self.state, rules, offered, self.secure, known, binary) or meant
        if type(met) in _SIMPLE:
            self._ready.append(met)  # type: ignore[arg-type]  # one of the three
            return
        if isinstance(met, ChunkGiven):
            self._begin_chunk(met)
        elif isinstance(met, LoginBegun):
            self._begin_login(met)
        elif isinstance(met, (ProxyGiven, TurnAsked)):
            self._ask_alone(met, replies.NOT_IN_STEP)
        elif not isinstance(met, Reply):
            self._ready.append(met)
        elif not met.positive:
            self._fault(met)
            if isinstance(meant, ChunkGiven):
                self._refuse_chunk(meant)  # what it announces follows in any case
            elif verb == "BDAT" or (verb == "DATA" and self._buffer):
                # Nobody knows where the next command begins; rule 3: what lies behind
                # DATA may be a content that did not wait.
                self._close()
        else:
            self._done(verb, met)

    def _done(self, verb: str, reply: Reply) -> None:
        """A command that nobody has to decide: NOOP, RSET, VRFY, HELP, QUIT."""
        if reply is QUIT_ACCEPTED:
            self.close(replies.closing(self.rules.fqdn))
            return
        if reply is HELP_GIVEN:
            reply = help_given(self._offer, self.rules.lmtp)
        self._idle(reply)
        if verb == "RSET" and self.state is not State.CONNECTED:
            self._end_transaction()

    def _idle(self, reply: Reply) -> None:
        """*reply* is the answer to what carries no mail."""
        self._idled += 1
        if self._idled <= _MAX_IDLE_COMMANDS or self.trusted:
            self._say(reply)
        else:
            self._errors += 1
            self._say_fault(reply)

    def _fault(self, reply: Reply) -> None:
        self._errors += 1
        self._refuse(reply)

    def _refuse(self, reply: Reply) -> None:
        if self.rules.tell_faults and not self.trusted:
            self._ready.append(FaultMade(reply))
        else:
            self._say_fault(reply)

    def _say_fault(self, reply: Reply) -> None:
        self._say(reply)
        if self._errors >= self.rules.max_errors and not reply.closes:
            self._break_off(replies.TOO_MANY_ERRORS)


#: Who deals with the reply to an event.
_ANSWERED: dict[type, Callable[[ServerDialogue, Any, Reply], None]] = {
    Connected: ServerDialogue._answer_connected,
    HelloGiven: ServerDialogue._answer_hello,
    TLSAsked: ServerDialogue._answer_starttls,
    LoginBegun: ServerDialogue._answer_login,
    LoginContinued: ServerDialogue._answer_login,
    ProxyGiven: ServerDialogue._answer_step,
    MailGiven: ServerDialogue._answer_mail,
    RecipientGiven: ServerDialogue._answer_recipient,
    ContentAsked: ServerDialogue._answer_data,
    ContentEnded: ServerDialogue._answer_content,
    VerifyGiven: ServerDialogue._answer_inquiry,
    ExpandGiven: ServerDialogue._answer_inquiry,
    FaultMade: ServerDialogue._answer_fault,
    StartAsked: ServerDialogue._answer_step,
    TurnAsked: ServerDialogue._answer_step,
}
