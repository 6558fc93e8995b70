"""
Both dialogues as state machines: whatever is said and decided, in whatever order.

A model beside the dialogue knows from the replies alone where the session stands.  It holds after
every step: nothing is taken out of its place, a transaction that is over leaves nothing behind,
whatever leaves has CRLF at its line ends, and nothing but the beginning of a line is kept.
"""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mailhost.model.address import Mailbox
from mailhost.model.envelope import Envelope
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
from mailhost.smtp.content import has_bare_ends
from mailhost.smtp.events import (
    ContentAsked,
    ContentBlock,
    ContentEnded,
    Event,
    MailGiven,
    RecipientGiven,
    TLSAsked,
    TransactionOver,
    Wait,
)
from mailhost.smtp.order import State
from mailhost.smtp.rules import Rules
from mailhost.smtp.server_dialogue import ServerDialogue
from tests.fuzz.targets import _MOST_HELD_OCTETS, REPLIES, WORDS

COMMANDS = st.sampled_from([word for word in WORDS if word.endswith(b"\r\n")])
RULES = Rules(
    "mail.example.com",
    starttls=True,
    clear_mechanisms=("PLAIN",),
    secure_mechanisms=("PLAIN",),
    extensions=Rules("x").extensions | {"BINARYMIME", "REQUIRETLS", "ETRN", "ATRN", "TURN"},
    early_talkers=True,
    holds=True,
    max_errors=1000,
)


class ServerMachine(RuleBasedStateMachine):
    """A client that says anything, and somebody who decides anything."""

    def __init__(self) -> None:
        super().__init__()
        self.dialogue = ServerDialogue(RULES, "192.0.2.7")
        self.asked: Event | None = None
        self.sender = self.recipients = self.contents = 0
        self.binary = False
        self.go_on()

    def go_on(self) -> None:
        """Up to the next event that wants a reply."""
        while self.asked is None and not isinstance(event := self.dialogue.next_event(), Wait):
            if isinstance(event, TransactionOver):
                self.sender = self.recipients = 0
            elif isinstance(event, ContentBlock):
                assert self.recipients, "content without recipients"
                assert self.binary or not has_bare_ends(event.octets.removesuffix(b"\r"))
            else:
                self.asked = event
        if isinstance(self.asked, MailGiven):
            assert not self.sender, "a second MAIL in a transaction"
        elif isinstance(self.asked, RecipientGiven):
            assert self.sender, "RCPT without MAIL"
        elif isinstance(self.asked, ContentAsked):
            assert self.recipients, "DATA without RCPT"

    @precondition(lambda self: self.asked is None)
    @rule(words=st.lists(COMMANDS, min_size=1, max_size=3))
    def command(self, words: list[bytes]) -> None:
        self.dialogue.receive_octets(b"".join(words))
        self.go_on()

    @precondition(lambda self: self.asked is None)
    @rule(octets=st.one_of(st.binary(max_size=40), st.sampled_from(WORDS)))
    def octets(self, octets: bytes) -> None:
        self.dialogue.receive_octets(octets)
        self.go_on()

    @precondition(lambda self: self.asked is None and self.dialogue.in_content)
    @rule(text=st.sampled_from([b"a line\r\n", b"..\r\n", b"\r\n.\r\n", b".\r\n", b"x\n.\r\n"]))
    def content(self, text: bytes) -> None:
        self.dialogue.receive_octets(text)
        self.go_on()

    @precondition(lambda self: self.asked is not None)
    @rule(yes=st.sampled_from([True, True, True, False]))
    def decide(self, yes: bool) -> None:
        event, self.asked = self.asked, None
        reply = replies.OK if yes else replies.LOCAL_ERROR
        if isinstance(event, ContentAsked) and yes:
            reply = replies.START_CONTENT
        elif isinstance(event, TLSAsked) and yes:
            reply = replies.READY_FOR_TLS
        elif isinstance(event, ContentEnded):
            self.contents += 1
            reply = event.fault or reply
        elif isinstance(event, MailGiven) and yes:
            self.sender, self.binary = 1, event.body == "BINARYMIME"
        elif isinstance(event, RecipientGiven) and yes:
            self.recipients += 1
        self.dialogue.answer(reply)
        self.go_on()

    @invariant()
    def what_leaves(self) -> None:
        said = self.dialogue.octets_to_send()
        assert not said or (said.endswith(b"\r\n") and not has_bare_ends(said)), said

    @invariant()
    def what_is_kept(self) -> None:
        if self.asked is None:
            assert self.dialogue.held_octets <= _MOST_HELD_OCTETS

    @invariant()
    def where_it_stands(self) -> None:
        """A7: only an open transaction has anything."""
        state = self.dialogue.state
        if self.asked is None and state in (State.GREETED, State.CONNECTED, State.CLOSED):
            assert (self.sender, self.recipients) == (0, 0), state
        if state is State.RECIPIENTS:
            assert self.recipients, state


class ClientMachine(RuleBasedStateMachine):
    """A host that says anything, and an application with mail."""

    def __init__(self) -> None:
        super().__init__()
        self.dialogue = ClientDialogue("client.example")
        self.offered = self.answered = 0
        self.wanted = False
        self.may_offer = False

    def go_on(self) -> None:
        while not isinstance(event := self.dialogue.next_event(), Wait):
            if isinstance(event, TLSWanted):
                self.dialogue.secured()
            elif isinstance(event, ContentWanted):
                assert self.offered > self.answered, "content without an envelope"
                self.wanted = True
            elif isinstance(event, Ready):
                self.may_offer = True
            elif isinstance(event, TransactionDone):
                assert len(event.replies) == 2, event
                self.answered += 1
                self.wanted, self.may_offer = False, True
            elif isinstance(event, SessionOver):
                self.answered += bool(event.replies)
                self.wanted = self.may_offer = False

    @rule(words=st.lists(st.sampled_from(REPLIES), min_size=1, max_size=4))
    def reply(self, words: list[bytes]) -> None:
        self.dialogue.receive_octets(b"".join(words))
        self.go_on()

    @rule(codes=st.lists(st.sampled_from([220, 250, 250, 250, 354, 450, 550]), max_size=5))
    def plausible(self, codes: list[int]) -> None:
        for code in codes:
            self.dialogue.receive_octets(b"%d x\r\n" % code)
            self.go_on()

    @rule(octets=st.binary(max_size=20))
    def octets(self, octets: bytes) -> None:
        self.dialogue.receive_octets(octets)
        self.go_on()

    @precondition(lambda self: self.may_offer and self.dialogue.phase is Phase.READY)
    @rule()
    def offer(self) -> None:
        paths = (Mailbox("a", "example.com"), Mailbox("b", "example.net"))
        self.dialogue.send_envelope(Envelope(paths[0], paths), 6)
        self.offered += 1
        self.may_offer = False

    @precondition(lambda self: self.wanted and self.dialogue.phase is Phase.CONTENT)
    @rule(blocks=st.sampled_from([[b"a\r\n.\r\n"], [b"a\r", b"\n", b".\r\n"]]))
    def send(self, blocks: list[bytes]) -> None:
        for block in blocks:
            self.dialogue.write_content(block)
        assert self.dialogue.end_content()
        self.wanted = False

    @rule()
    def hang_up(self) -> None:
        self.dialogue.receive_end("gone")
        self.go_on()

    @invariant()
    def one_answer_each(self) -> None:
        assert self.answered <= self.offered
        if self.dialogue.phase in (Phase.READY, Phase.CLOSED):
            assert self.answered == self.offered

    @invariant()
    def what_leaves(self) -> None:
        said = self.dialogue.octets_to_send()
        assert not has_bare_ends(said), said


BOUNDED = settings(max_examples=60, stateful_step_count=40, deadline=None)
ServerMachine.TestCase.settings = BOUNDED
ClientMachine.TestCase.settings = BOUNDED
TestServer = ServerMachine.TestCase
TestClient = ClientMachine.TestCase
