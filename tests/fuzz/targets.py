"""
Both dialogues under any octets.

One invariant: any octets become an event or a refusal; no other exception, no unbounded
memory; and no content that was taken goes out with a line end that is not CRLF.

A target takes one string of octets.  Its first ones choose how the session is set up and how
decisions fall, the rest is what the peer says, cut into pieces.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, field

from mailhost.model.address import Mailbox
from mailhost.model.envelope import Envelope
from mailhost.model.line_ends import BareLineEnds
from mailhost.model.reply import Reply
from mailhost.model.security import TLSLevel
from mailhost.smtp import replies
from mailhost.smtp.client_dialogue import ClientDialogue
from mailhost.smtp.client_events import (
    ContentWanted,
    Phase,
    Ready,
    SessionOver,
    TLSWanted,
    TransactionDone,
)
from mailhost.smtp.content import ContentReader, ContentWriter, has_bare_ends
from mailhost.smtp.events import (
    ContentAsked,
    ContentBlock,
    ContentEnded,
    Event,
    LoginBegun,
    LoginContinued,
    MailGiven,
    ProxyGiven,
    TLSAsked,
    TransactionOver,
    Wait,
)
from mailhost.smtp.extensions import EXTENSIONS
from mailhost.smtp.rules import Rules
from mailhost.smtp.server_dialogue import ServerDialogue

#: What a client, and a host, could well say.
WORDS = [
    b"EHLO x\r\n", b"HELO x\r\n", b"LHLO x\r\n", b"MAIL FROM:<a@b.example>\r\n",
    b"MAIL FROM:<>", b" SIZE=10", b" BODY=8BITMIME", b" BODY=BINARYMIME", b" REQUIRETLS",
    b" SMTPUTF8", b" RET=HDRS ENVID=a+20b",
    b"RCPT TO:<c@d.example>", b" NOTIFY=NEVER", b" ORCPT=rfc822;x", b"DATA\r\n", b"\r\n.\r\n",
    b".\r\n", b"BDAT 5\r\n", b"BDAT 3 LAST\r\n", b"BDAT 0 LAST\r\n", b"BDAT 99999999999\r\n",
    b"STARTTLS\r\n", b"AUTH PLAIN AGEAYg==\r\n", b"AUTH LOGIN\r\n", b"YQ==\r\n", b"*\r\n",
    b"ETRN b.example\r\n", b"ETRN @b\r\n", b"ATRN\r\n", b"ATRN b.example,c\r\n", b"TURN\r\n",
    b"XCLIENT ADDR=192.0.2.1\r\n", b"VRFY a\r\n", b"EXPN a\r\n", b"RSET\r\n", b"NOOP\r\n",
    b"QUIT\r\n", b"HELP\r\n", b"GET / HTTP/1.1\r\n", b"\r\n", b"\n", b"\r", b"\0", b"\xff",
    b"text", b"..", b"\n.\n", b"\r\n.\n", b"\n.\r\n", b"x" * 1100,
]  # fmt: skip
REPLIES = [
    b"220 x\r\n", b"250 x\r\n", b"250-x\r\n", b"250 PIPELINING\r\n", b"250-STARTTLS\r\n",
    b"250-CHUNKING\r\n", b"250-BINARYMIME\r\n", b"250-SIZE 9\r\n", b"250-DSN\r\n",
    b"250-AUTH PLAIN\r\n",
    b"250-LIMITS RCPTMAX=1\r\n", b"354 x\r\n", b"334 YQ==\r\n", b"235 x\r\n", b"221 x\r\n",
    b"421 x\r\n", b"450 4.1.1 x\r\n", b"550 5.1.1 x\r\n", b"999 x\r\n", b"25", b"\r\n", b"\n",
    b"\0", b"\xff", b"250 " + b"x" * 600 + b"\r\n",
]  # fmt: skip
_MAX_MESSAGE_OCTETS = 4096
_ALL = frozenset(one.keyword for one in EXTENSIONS)
#: What may be held: a command line, or a line of AUTH that has no end yet.
_MOST_HELD_OCTETS = 12288 + 2
_YES_OR_NO = (
    replies.OK,
    replies.OK,
    replies.OK,
    replies.LOCAL_ERROR,
    replies.relaying_denied(Mailbox("a", "b.example")),
    replies.BUSY,
)
_LOGIN = (replies.challenge(b"more"), replies.LOGGED_IN, replies.LOGIN_FAILED)
_CONTENT = (replies.START_CONTENT, replies.START_CONTENT, replies.NO_ROOM)


def pieces(octets: bytes) -> Iterator[bytes]:
    """*octets* cut up; its first octet says how."""
    step = octets[0] % 64 + 1 if octets else 1
    for start in range(1, len(octets), step):
        yield octets[start : start + step]


# ---- the server's side


@define
class _Server:
    dialogue: ServerDialogue
    choices: bytes
    _chosen: int = field(default=0, init=False)
    _content: list[bytes] = field(factory=list, init=False)
    # It was announced as BINARYMIME.
    _binary: bool = field(default=False, init=False)
    taken: list[bytes] = field(factory=list, init=False)

    def choose(self, among: tuple[Reply, ...]) -> Reply:
        self._chosen += 1
        number = self.choices[self._chosen % len(self.choices)] if self.choices else 0
        return among[number % len(among)]

    def meet(self, event: Event) -> None:
        if isinstance(event, ContentBlock):
            self._content.append(event.octets)
        elif isinstance(event, TransactionOver):
            self._content.clear()
        else:
            if isinstance(event, MailGiven):
                self._binary = event.body == "BINARYMIME"
            self.dialogue.answer(self._reply(event))

    def _reply(self, event: Event) -> Reply:
        if isinstance(event, ContentEnded):
            if event.fault is None and not self._binary:
                self.taken.append(b"".join(self._content))
            return event.fault or replies.OK
        if isinstance(event, ContentAsked):
            return self.choose(_CONTENT)
        if isinstance(event, LoginBegun | LoginContinued):
            return self.choose(_LOGIN)
        if isinstance(event, TLSAsked):
            return replies.READY_FOR_TLS
        # XCLIENT is answered by a session of another dialogue; here it is refused.
        return replies.NOT_SUPPORTED if isinstance(event, ProxyGiven) else self.choose(_YES_OR_NO)


def _rules(setup: int) -> Rules:
    return Rules(
        "mail.example.com",
        max_message_octets=_MAX_MESSAGE_OCTETS,
        max_line_octets=998 if setup & 1 else None,
        starttls=bool(setup & 2),
        require_tls=setup & 6 == 6,
        secure_mechanisms=("PLAIN", "LOGIN"),
        clear_mechanisms=("PLAIN", "LOGIN") if setup & 8 else (),
        extensions=_ALL,
        bare_line_ends=BareLineEnds.MEND if setup & 16 else BareLineEnds.REFUSE,
        early_talkers=bool(setup & 32),
        xclient=bool(setup & 64),
        holds=bool(setup & 64),
        lmtp=bool(setup & 128),
        max_errors=1000,
    )


def server(octets: bytes) -> None:
    """A client that says *octets* to our server."""
    if len(octets) < 10:
        return
    subject = ServerDialogue(_rules(octets[0]), "192.0.2.7", trusted=bool(octets[1] & 1))
    end = _Server(subject, octets[2:8])
    for piece in pieces(octets[8:]):
        subject.receive_octets(piece)
        while not isinstance(event := subject.next_event(), Wait):
            end.meet(event)
        assert event is not Wait.PAUSED, "everything was answered"
        assert subject.held_octets <= _MOST_HELD_OCTETS, subject.held_octets
        said = subject.octets_to_send()
        assert not said or (said.endswith(b"\r\n") and not has_bare_ends(said)), said
    for content in end.taken:
        _sent_on(content)


def _sent_on(content: bytes) -> None:
    """What was taken goes out strictly, and comes in again as it was."""
    writer, reader = ContentWriter(), ContentReader(None)
    wire = b"".join(writer.stuff(content[n : n + 7]) for n in range(0, len(content), 7))
    assert not writer.bare, content
    found, rest = reader.feed(wire + writer.end())
    assert (reader.ended, reader.fault, rest) == (True, None, b""), wire
    assert found == (content if content.endswith(b"\r\n") or not content else content + b"\r\n")


# ---- the client's side


def client(octets: bytes) -> None:
    """A host that says *octets* to our client, which has three messages for it."""
    if len(octets) < 3:
        return
    levels = list(TLSLevel)
    subject = ClientDialogue(
        "client.example",
        use_helo=bool(octets[0] & 1),
        tls=levels[octets[1] % len(levels)],
        lmtp=bool(octets[0] & 2),
    )
    told: list[int] = []
    for piece in pieces(octets[2:]):
        subject.receive_octets(piece)
        while not isinstance(event := subject.next_event(), Wait):
            if isinstance(event, TLSWanted):
                subject.secured()
            elif isinstance(event, ContentWanted):
                subject.write_content(b"Subject: x\r\n\r\n.\r\n")
                assert subject.end_content()
            elif isinstance(event, Ready):
                _offer(subject)
            elif isinstance(event, TransactionDone):
                told.append(len(event.replies))
                if subject.phase is not Phase.READY:
                    continue  # the host has said more than that, and the session is over
                if len(told) < 3:
                    _offer(subject)
                else:
                    subject.quit()
            elif isinstance(event, SessionOver):
                told += [len(event.replies)] if event.replies else []
        said = subject.octets_to_send()
        assert not has_bare_ends(said), said
    assert set(told) <= {2}, "each of two recipients has its answer, or none, once"


def _offer(subject: ClientDialogue) -> None:
    paths = (Mailbox("a", "example.com"), Mailbox("b", "example.net"))
    binary = {"BINARYMIME", "CHUNKING"} <= subject.extensions.keys()
    subject.send_envelope(Envelope(paths[0], paths, "BINARYMIME" if binary else "7BIT"), 17)


#: name -> target, and its vocabulary.
TARGETS = {"server": (server, WORDS), "client": (client, REPLIES)}
