"""
The client's side of an SMTP session: envelopes in, one reply per recipient out.

:Room: ``smtp`` -- sans-I/O.
:RFC: 5321 §3.1-§3.3, §4.5.3.2 (time-outs); 2920 §3.1 (pipelining); 1870, 3030, 6152, 3207, 4954;
    2033 §4 (LMTP).
:Called by: `mailhost.net.outbound`.

Two loops that do not know each other: commands are written as far as the peer
allows, and `_expected` remembers in order what each reply will belong to.

Rules of this file.  1: no exception leaves `next_event`, whatever the peer
sends.  2: every recipient of a transaction gets exactly one reply, or `None`
where the peer fell silent.  3: after our final dot and before the reply to it
the transaction is in doubt (promise P3), and the event says so.  4: a reply that comes
before its question answers nothing: the session is over.
"""

from __future__ import annotations

from collections import deque

from attrs import define, field

from mailhost.errors import SyntaxProblem
from mailhost.model.address import path_text
from mailhost.model.envelope import Envelope
from mailhost.model.parameters import NO_MAIL_PARAMETERS
from mailhost.model.reply import Reply
from mailhost.model.security import TLSLevel
from mailhost.smtp.client_events import (
    Answered,
    ClientEvent,
    ContentWanted,
    Phase,
    Ready,
    SessionOver,
    TLSWanted,
    TransactionDone,
)
from mailhost.smtp.client_login import ClientLogin, LoggedIn
from mailhost.smtp.content import ContentWriter
from mailhost.smtp.events import Wait
from mailhost.smtp.extensions import mail_words, rcpt_words
from mailhost.smtp.reply_reader import ReplyReader
from mailhost.smtp.sasl.base import Work

# Looked up here, because a member of an enumeration costs several times as much.
_READY, _ENVELOPE, _CLOSED, _NEED_DATA = Phase.READY, Phase.ENVELOPE, Phase.CLOSED, Wait.NEED_DATA
_NO_TRANSACTION = "a reply without its transaction"
#: What a reply belongs to: the command, and the recipient by number.
_MAIL, _DATA, _DOT = ("MAIL", 0), ("DATA", 0), (".", 0)


@define
class _Transaction:
    replies: list[Reply | None]
    #: Commands still to be sent, with what their replies mean, when the peer
    #: takes one at a time.
    waiting: deque[tuple[bytes, tuple[str, int]]]
    #: Octets of the content where it goes in one chunk (RFC 3030), else `None`.
    chunk: int | None = None
    wire_ready: bool = False
    #: BODY=BINARYMIME: what is in the chunk is nobody's business (RFC 3030 §3).
    binary: bool = False
    #: Recipients whose reply is about the content, which is theirs (RFC 2033 §4.2).
    final: set[int] = field(factory=set)

    def settle(self, reply: Reply) -> None:
        """*reply* answers all recipients that have no refusal of their own."""
        self.replies = [
            known if known is not None and known.code >= 400 else reply for known in self.replies
        ]

    def served(self) -> list[int]:
        """Those who were accepted."""
        return [n for n, known in enumerate(self.replies) if known is not None and known.positive]

    @property
    def data_is_next(self) -> bool:
        return len(self.waiting) == 1 and self.waiting[0][1] is _DATA

    @property
    def any_accepted(self) -> bool:
        for reply in self.replies:  # noqa: SIM110  # a generator that is left early costs more
            if reply is not None and reply.code < 400:
                return True
        return False


@define
class ClientDialogue:
    """
    One session.

    :ivar hello_name: what we call ourselves.
    :ivar use_helo: say HELO and use no extension (IIS DOM-11).
    :ivar tls: what must hold before an envelope is sent.
    :ivar lmtp: the peer speaks LMTP: LHLO, and a reply for each recipient after the content.
    :ivar login: log in before the first envelope; `None`: do not.
    :ivar implicit: the handshake comes before the greeting (RFC 8314 §3.3).
    :ivar secure: TLS is on.
    :ivar extensions: keyword -> words, from the EHLO answer, keywords in upper case.
    :ivar heard: whole replies so far.
    """

    hello_name: str
    use_helo: bool = False
    tls: TLSLevel = TLSLevel.NONE
    login: ClientLogin | None = None
    lmtp: bool = False
    implicit: bool = False
    secure: bool = field(default=False, init=False)
    phase: Phase = field(default=Phase.BANNER, init=False)
    extensions: dict[str, str] = field(factory=dict, init=False)
    heard: int = field(default=0, init=False)
    _reader: ReplyReader = field(factory=ReplyReader, init=False)
    _expected: deque[tuple[str, int]] = field(factory=lambda: deque([("banner", 0)]), init=False)
    _ready: deque[ClientEvent] = field(factory=deque, init=False)
    _out: list[bytes] = field(factory=list, init=False)
    _transaction: _Transaction | None = field(default=None, init=False)
    _writer: ContentWriter = field(factory=ContentWriter, init=False)
    _reset_first: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        if self.implicit:
            self.phase = Phase.SECURING

    # ---- the caller's side

    def receive_octets(self, octets: bytes) -> None:
        """Take what came from the peer."""
        self._reader.feed(octets)

    def secured(self) -> None:
        """The handshake is done: what was learned in clear is forgotten (RFC 3207 §4.2)."""
        assert self.phase is Phase.SECURING, f"no handshake while {self.phase.name}"
        self.secure = True
        if self.implicit:
            self.phase = Phase.BANNER
            return
        self.extensions.clear()
        self._say_hello("LHLO" if self.lmtp else "EHLO")

    def begin_again(self) -> None:
        """The peer has greeted an earlier session on this connection (RFC 5321 §4.1.4)."""
        assert self.phase is Phase.BANNER, f"it has begun: {self.phase.name}"
        self._expected.clear()
        self._say_hello("LHLO" if self.lmtp else "HELO" if self.use_helo else "EHLO")

    def worked(self, octets: bytes) -> None:
        """`Work` has given *octets*."""
        if self.login is not None and self.phase is Phase.LOGIN:
            self._follow_login(self.login.worked(octets))

    def receive_end(self, words: str) -> None:
        """The connection is gone, because of *words*."""
        self._finish(words, None)

    def next_event(self) -> ClientEvent | Wait:
        """The next thing that happened, or why there is none."""
        ready = self._ready
        while not ready:
            if self.phase is _CLOSED:
                return Wait.CLOSED
            try:
                reply = self._reader.take()
            except SyntaxProblem as problem:
                self._finish(str(problem), None)
                return ready.popleft()
            if reply is None:
                return _NEED_DATA
            self._heard(reply)
            ready = self._ready
        return ready.popleft()

    def octets_to_send(self) -> bytes:
        """What has to go to the peer."""
        out = self._out
        if len(out) == 1:
            return out.pop()
        octets = b"".join(out)
        out.clear()
        return octets

    def send_envelope(self, envelope: Envelope, size: int) -> None:
        """
        Open a transaction; allowed after `Ready`, and after `TransactionDone` while the session
        has not ended with it.

        What was asked for is sent on as far as the peer offers it; whether the mail may go
        there without the rest is for the caller to know.

        :param size: octets of the content, for SIZE where the peer wants it.
        """
        assert self.phase is _READY, f"no envelope while {self.phase.name}"
        extensions, paths = self.extensions, envelope.forward_paths
        texts = [self._mail(envelope, size), *[f"RCPT TO:<{path}>" for path in paths]]
        labels = [_MAIL, *[("RCPT", number) for number in range(len(paths))]]
        for number, handling in envelope.special.items():
            texts[number + 1] += rcpt_words(handling.parameters, extensions)
        # BDAT goes with the content, when it is known that somebody is to get it.
        chunk = size if "CHUNKING" in extensions else None
        binary = envelope.body == "BINARYMIME"
        assert chunk is not None or not binary, "binary content goes to hosts with CHUNKING only"
        if chunk is None:
            texts.append("DATA")
            labels.append(_DATA)
        if self._reset_first:
            self._reset_first = False
            texts.insert(0, "RSET")
            labels.insert(0, ("RSET", 0))
        transaction = self._transaction = _Transaction(
            [None] * len(paths), deque(), chunk, envelope.wire_ready, binary
        )
        self.phase = _ENVELOPE
        coding = "utf-8" if envelope.parameters.smtputf8 else "ascii"
        if "PIPELINING" in extensions:
            self._out.append("\r\n".join([*texts, ""]).encode(coding))
            self._expected.extend(labels)
            return
        lines = [f"{text}\r\n".encode(coding) for text in texts]
        transaction.waiting.extend(zip(lines, labels, strict=True))
        self._send_next(transaction)

    def _mail(self, envelope: Envelope, size: int) -> str:
        mail = f"MAIL FROM:{path_text(envelope.reverse_path)}"
        if "SIZE" in self.extensions:
            mail += f" SIZE={size}"
        if envelope.body in self.extensions:  # 8BITMIME and BINARYMIME are keywords as well
            mail += f" BODY={envelope.body}"
        if envelope.parameters is not NO_MAIL_PARAMETERS:
            mail += mail_words(envelope.parameters, self.extensions)
        return mail

    def write_content(self, block: bytes) -> None:
        """Send some content; allowed after `ContentWanted`."""
        transaction = self._open
        if transaction.chunk is None:
            self._out.append(self._writer.stuff(block))
        else:
            transaction.chunk -= len(block)
            self._out.append(block if transaction.binary else self._writer.pass_on(block))

    def end_content(self) -> bool:
        """
        Send the final dot, or see the chunk complete.

        :returns: `False` when the content has a bare CR or LF, or is not as long
            as was announced: nothing was sent, and the connection must be dropped,
            since nothing else can get a peer out of content (promise P6).
        """
        transaction = self._open
        end = self._writer.end()
        if self._writer.bare:
            return False
        if transaction.chunk is None:
            self._out.append(end)
        elif transaction.chunk != 0:
            return False
        if self.lmtp:
            self._expected += [(".", number) for number in transaction.served()]
        else:
            self._expected.append(_DOT)
        self.phase = Phase.DOT
        return True

    def ask(self, command: str) -> None:
        """Say *command*, such as ETRN, which has one reply; allowed between transactions."""
        assert self.phase is Phase.READY, f"nothing is asked while {self.phase.name}"
        self._out.append(f"{command}\r\n".encode("ascii"))
        self._expected.append(("ask", 0))
        self.phase = Phase.ASKING

    def quit(self) -> None:
        """Say goodbye; allowed while no transaction is open."""
        self._out.append(b"QUIT\r\n")
        self._expected.append(("QUIT", 0))
        self.phase = Phase.QUITTING

    # ---- replies

    def _heard(self, reply: Reply) -> None:
        self.heard += 1
        expected, code = self._expected, reply.code
        if not expected:
            self._finish(f"unasked reply: {reply}", reply)
            return
        label, number = expected.popleft()
        last = not expected
        if code == 421 and label not in ("QUIT", "."):
            self._refused_for_good(reply)
        elif 300 <= code < 400 and label not in _CHALLENGED:
            self._finish(f"no answer to {_NAMES.get(label, label)}: {reply}", reply)
        else:
            _HEARD[label](self, reply, number)
        if last and not self._reader.empty:
            self._out_of_step(reply)

    def _out_of_step(self, reply: Reply) -> None:
        """
        The peer has said more than it was asked.

        Whatever we ask next would seem to be answered already, content included.
        """
        self._out.clear()
        self._ready = deque(
            event for event in self._ready if isinstance(event, TransactionDone | SessionOver)
        )
        self._finish(f"octets behind the reply: {reply}", reply)

    def _refused_for_good(self, reply: Reply) -> None:
        """421: the peer closes; who has no answer yet has this one (RFC 5321 §3.8)."""
        if self._transaction is not None:
            self._transaction.settle(reply)
        self._finish(f"the peer closes: {reply}", reply)

    def _heard_banner(self, reply: Reply, number: int) -> None:
        if reply.code != 220:
            self._part(f"not greeted: {reply}", reply)
            return
        self._say_hello("LHLO" if self.lmtp else "HELO" if self.use_helo else "EHLO")

    def _say_hello(self, verb: str) -> None:
        self.phase = Phase.HELLO
        self._out.append(f"{verb} {self.hello_name}\r\n".encode("ascii"))
        self._expected.append((verb, 0))

    def _heard_ehlo(self, reply: Reply, number: int) -> None:
        if reply.permanent and not self.lmtp:
            self._say_hello("HELO")  # §3.2: an old server
        elif not reply.positive:
            self._part(f"hello refused: {reply}", reply)
        else:
            for line in reply.words[1:]:
                keyword, _, words = line.partition(" ")
                self.extensions[keyword.upper()] = words
            self._after_hello()

    def _heard_helo(self, reply: Reply, number: int) -> None:
        if reply.positive:
            self._after_hello()
        else:
            self._part(f"hello refused: {reply}", reply)

    def _after_hello(self) -> None:
        if self.secure or self.tls is TLSLevel.NONE:
            self._log_in()
        elif "STARTTLS" in self.extensions:
            self.phase = Phase.STARTTLS
            self._out.append(b"STARTTLS\r\n")
            self._expected.append(("STARTTLS", 0))
        elif self.tls.is_required:
            self.phase = Phase.STARTTLS
            self._part("TLS is required, and STARTTLS is not offered", None)
        else:
            self._log_in()

    def _heard_starttls(self, reply: Reply, number: int) -> None:
        if reply.code == 220 and not self._reader.empty:
            # Replies in clear that would pass for replies through TLS (A12).
            self._finish("octets behind the reply to STARTTLS", reply)
        elif reply.code == 220:
            self.phase = Phase.SECURING
            self._ready.append(TLSWanted())
        elif self.tls.is_required:
            self._part(f"TLS is required, and STARTTLS was refused: {reply}", reply)
        else:
            self._log_in()

    def _log_in(self) -> None:
        if self.login is None:
            self._become_ready()
            return
        self.phase = Phase.MECHANISMS
        if not self.secure and self.tls is not TLSLevel.NONE:
            self._part("TLS is not on, and nobody logs in over clear text", None)
            return
        try:
            step = self.login.begin(self.extensions.get("AUTH", ""))
        except SyntaxProblem as problem:
            self._part(f"login: {problem}", None)
        else:
            self.phase = Phase.LOGIN
            self._follow_login(step)

    def _follow_login(self, step: bytes | Work | LoggedIn) -> None:
        if isinstance(step, bytes):
            self._out.append(step)
            self._expected.append(("AUTH", 0))
        elif isinstance(step, LoggedIn):
            self._become_ready()
        else:
            self._ready.append(step)

    def _heard_auth(self, reply: Reply, number: int) -> None:
        assert self.login is not None, "AUTH was sent for it"
        try:
            step = self.login.hear(reply)
        except SyntaxProblem as problem:
            self._part(f"login: {problem}", reply)
        else:
            self._follow_login(step)

    def _become_ready(self) -> None:
        self.phase = Phase.READY
        self._ready.append(Ready())

    def _heard_rset(self, reply: Reply, number: int) -> None:
        if reply.positive:
            self._send_next(self._open)
        else:
            self._finish(f"RSET refused: {reply}", reply)

    def _heard_mail(self, reply: Reply, number: int) -> None:
        transaction = self._transaction
        assert transaction is not None, _NO_TRANSACTION
        if reply.code >= 400:
            transaction.replies = [reply] * len(transaction.replies)
            self._give_up_envelope()
        else:
            self._send_next(transaction)

    def _heard_rcpt(self, reply: Reply, number: int) -> None:
        transaction = self._transaction
        assert transaction is not None, _NO_TRANSACTION
        if reply.code == 552 and reply.status in (None, "5.5.3"):
            # §4.5.3.1.10: it once meant what 452 means, too many recipients.
            words = ("552 is taken for 452:", *reply.words)
            reply = Reply(452, "4.5.3", " ".join(words))
        # A refused MAIL makes every RCPT a 503; the first answer is the reason.
        if transaction.replies[number] is None:
            transaction.replies[number] = reply
        if transaction.waiting:
            if transaction.data_is_next and not transaction.any_accepted:
                self._give_up_envelope()
            else:
                self._send_next(transaction)
        elif transaction.chunk is not None and not self._expected:
            self._begin_chunk(transaction, transaction.chunk)

    def _begin_chunk(self, transaction: _Transaction, size: int) -> None:
        """RFC 3030 §2: the content follows its announcement at once."""
        if not transaction.any_accepted:
            self._give_up_envelope()
            return
        self._out.append(b"BDAT %d LAST\r\n" % size)
        self._want_content()

    def _want_content(self) -> None:
        self.phase = Phase.CONTENT
        self._writer = ContentWriter(self._open.wire_ready)
        self._ready.append(ContentWanted())

    def _heard_data(self, reply: Reply, number: int) -> None:
        transaction = self._transaction
        assert transaction is not None, _NO_TRANSACTION
        if reply.code < 300:
            # Nothing was sent yet that could have been taken.
            self._finish(f"no answer to DATA: {reply}", reply)
        elif reply.code >= 400:
            transaction.settle(reply)
            self._reset_first = True
            self._done()
        elif transaction.any_accepted:
            self._want_content()
        elif self.lmtp:
            # RFC 2033 §4.2: content for nobody would have no reply.
            self._finish(f"content is asked for, and nobody was accepted: {reply}", reply)
        else:
            # RFC 2920 §3.1: nobody is to get it, but the peer waits for content.
            self._out.append(b".\r\n")
            self._expected.append(("nothing", 0))

    def _heard_nothing(self, reply: Reply, number: int) -> None:
        self._done()

    def _heard_dot(self, reply: Reply, number: int) -> None:
        transaction = self._transaction
        assert transaction is not None, _NO_TRANSACTION
        if self.lmtp:
            transaction.replies[number] = reply
            transaction.final.add(number)
        else:
            transaction.settle(reply)
        if reply.code == 421 and self._expected:
            self._finish(f"the peer closes: {reply}", reply)
        elif not self._expected:
            self._done()
        if reply.code == 421:
            self._finish(f"the peer closes: {reply}", reply)

    def _heard_ask(self, reply: Reply, number: int) -> None:
        self.phase = Phase.READY
        self._ready.append(Answered(reply))

    def _heard_quit(self, reply: Reply, number: int) -> None:
        self._finish("goodbye was said", reply)

    # ---- steps

    @property
    def _open(self) -> _Transaction:
        assert self._transaction is not None, _NO_TRANSACTION
        return self._transaction

    def _send_next(self, transaction: _Transaction) -> None:
        """Where the peer takes one command at a time, it takes the next now, if there is one."""
        if transaction.waiting:
            octets, label = transaction.waiting.popleft()
            self._out.append(octets)
            self._expected.append(label)
            if label is _DATA:
                self.phase = Phase.DATA

    def _give_up_envelope(self) -> None:
        """Nobody was accepted; commands that are on their way are still answered."""
        self._open.waiting.clear()
        self._reset_first = True
        if not self._expected:
            self._done()

    def _done(self) -> None:
        replies = tuple([reply for reply in self._open.replies if reply is not None])
        self._transaction = None
        self.phase = _READY
        self._ready.append(TransactionDone(replies))

    def _part(self, words: str, reply: Reply | None) -> None:
        """
        There will be no transaction, and nothing is wrong with the session: goodbye is said.

        RFC 5321 §4.1.1.10: nobody closes before he has sent QUIT, and has its answer.
        """
        phase = self.phase
        self.quit()
        self._ready.append(SessionOver(words, reply, (), False, phase))

    def _finish(self, words: str, reply: Reply | None) -> None:
        if self.phase is Phase.CLOSED:
            return
        replies: tuple[Reply | None, ...] = ()
        if self._transaction is not None:
            # A 250 to RCPT promises nothing yet.
            final = self._transaction.final
            replies = tuple(
                None if known is None or (known.positive and n not in final) else known
                for n, known in enumerate(self._transaction.replies)
            )
        in_doubt = self.phase is Phase.DOT and self._transaction is not None
        phase = self.phase
        self.phase = Phase.CLOSED
        self._transaction = None
        self._ready.append(SessionOver(words, reply, replies, in_doubt, phase))


#: What is answered by 3xx.
_CHALLENGED = ("DATA", "AUTH")
_NAMES = {"banner": "the connection", ".": "the final dot"}
_HEARD = {
    "banner": ClientDialogue._heard_banner,
    "EHLO": ClientDialogue._heard_ehlo,
    "LHLO": ClientDialogue._heard_ehlo,
    "HELO": ClientDialogue._heard_helo,
    "STARTTLS": ClientDialogue._heard_starttls,
    "AUTH": ClientDialogue._heard_auth,
    "RSET": ClientDialogue._heard_rset,
    "MAIL": ClientDialogue._heard_mail,
    "RCPT": ClientDialogue._heard_rcpt,
    "DATA": ClientDialogue._heard_data,
    "nothing": ClientDialogue._heard_nothing,
    ".": ClientDialogue._heard_dot,
    "ask": ClientDialogue._heard_ask,
    "QUIT": ClientDialogue._heard_quit,
}
