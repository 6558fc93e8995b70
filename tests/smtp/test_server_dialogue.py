"""Tests for `mailhost.smtp.server_dialogue`; most dialogues are files in tests/dialogues."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.model.reply import Reply
from mailhost.smtp import replies
from mailhost.smtp.events import (
    ContentAsked,
    ContentEnded,
    Event,
    MailGiven,
    RecipientGiven,
    TLSAsked,
    Wait,
)
from mailhost.smtp.order import NEXT, State, after, refusal
from mailhost.smtp.rules import Rules
from mailhost.smtp.server_dialogue import ServerDialogue

RULES = Rules("mail.example.com", early_talkers=True)
TLS = evolve(RULES, starttls=True)
LINES = [
    b"EHLO x", b"HELO x", b"MAIL FROM:<a@b.example>", b"RCPT TO:<c@d.example>", b"DATA", b".",
    b"RSET", b"NOOP", b"QUIT", b"text", b"..", b"MAIL FROM:<>", b"VRFY x", b"\xff", b"BDAT 5",
]  # fmt: skip


def dialogue() -> ServerDialogue:
    return ServerDialogue(evolve(RULES, max_errors=1000), "192.0.2.7")


def yes(event: Event) -> Reply:
    """The reply of somebody who agrees to everything."""
    if isinstance(event, ContentAsked):
        return replies.START_CONTENT
    if isinstance(event, ContentEnded) and event.fault is not None:
        return event.fault
    return replies.OK


def play(subject: ServerDialogue, octets: bytes, answer: object = yes) -> list[Event]:
    """Feed *octets* and answer what asks."""
    events = []
    subject.receive_octets(octets)
    while not isinstance(event := subject.next_event(), Wait):
        events.append(event)
        if subject.paused:
            subject.answer(answer(event))  # type: ignore[operator]  # a function of an event
    return events


class OrderTests(SynchronousTestCase):
    def test_every_verb_in_every_state(self) -> None:
        """What is not in the table is refused with 503; what is moves only on a good reply."""
        verbs = {verb for row in NEXT.values() for verb in row}
        for state in (State.CONNECTED, State.GREETED, State.SENDER, State.RECIPIENTS):
            for verb in verbs:
                refused = refusal(state, verb)
                if refused is None:
                    self.assertEqual(state, after(state, verb, replies.LOCAL_ERROR))
                    self.assertIs(NEXT[state].get(verb, state), after(state, verb, replies.OK))
                else:
                    self.assertEqual(503, refused.code)


class PauseTests(SynchronousTestCase):
    def test_nothing_happens_while_a_decision_is_pending(self) -> None:
        """P5: the next command waits for the reply to the one before."""
        subject = dialogue()
        play(subject, b"EHLO x\r\n")
        subject.octets_to_send()
        subject.receive_octets(b"MAIL FROM:<a@b.example>\r\nNOOP\r\n")

        first = subject.next_event()

        self.assertIsInstance(first, MailGiven)
        self.assertIs(Wait.PAUSED, subject.next_event())
        self.assertEqual(b"", subject.octets_to_send())
        subject.answer(replies.sender_ok(None))
        self.assertIs(Wait.NEED_DATA, subject.next_event())
        self.assertEqual(b"250 2.1.0 <>....Sender OK\r\n250 2.0.0 OK\r\n", subject.octets_to_send())

    def test_refused_content_with_octets_behind_it(self) -> None:
        """P6: a content that did not wait for 354 is not read as commands."""
        subject = dialogue()
        play(subject, b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n")

        def no_content(event: Event) -> Reply:
            return replies.NO_ROOM if isinstance(event, ContentAsked) else replies.OK

        events = play(subject, b"DATA\r\nRCPT TO:<victim@b.example>\r\n", no_content)

        self.assertFalse(any(isinstance(event, RecipientGiven) for event in events))
        self.assertTrue(subject.closed)

    def test_content_behind_a_data_out_of_order(self) -> None:
        """P6: nor when it was the order of commands that refused DATA."""
        for before in (b"", b"MAIL FROM:<>\r\n"):
            subject = dialogue()
            play(subject, b"EHLO x\r\n" + before)

            events = play(subject, b"DATA\r\nRSET\r\nMAIL FROM:<evil@b.example>\r\n")

            self.assertFalse(any(isinstance(event, MailGiven) for event in events))
            self.assertTrue(subject.closed)


class AnyInputTests(SynchronousTestCase):
    @settings(max_examples=300)
    @given(st.lists(st.binary(max_size=30), max_size=20))
    def test_any_octets(self, parts: list[bytes]) -> None:
        """Any octets become events or refusals; what is kept is bounded."""
        subject = dialogue()
        for part in parts:
            play(subject, part)
            self.assertLessEqual(subject.held_octets, subject.rules.max_command_octets)

    @settings(max_examples=300)
    @given(st.lists(st.sampled_from(LINES), max_size=30), st.integers(1, 50))
    def test_segments_do_not_matter(self, lines: list[bytes], step: int) -> None:
        """The same octets mean the same, however they are cut."""
        octets = b"".join(line + b"\r\n" for line in lines)
        once, cut = dialogue(), dialogue()
        play(once, octets)
        play(cut, b"")
        for start in range(0, len(octets), step):
            play(cut, octets[start : start + step])

        at_once, in_pieces = once.octets_to_send(), cut.octets_to_send()
        if once.closed and not cut.closed:
            # A refused DATA with octets behind it ends the session that sent them at once.
            self.assertTrue(in_pieces.startswith(at_once))
            return
        self.assertEqual(once.closed, cut.closed)
        if not once.closed:
            self.assertEqual(at_once, in_pieces)

    def test_endless_line(self) -> None:
        """A megabyte without a line end costs no megabyte, and ends the session."""
        subject = dialogue()
        for _ in range(1024):
            play(subject, b"x" * 1024)
            self.assertLessEqual(subject.held_octets, subject.rules.max_command_octets)

        self.assertTrue(subject.closed)
        self.assertIn(b"500 5.5.2 Line too long", subject.octets_to_send())


class TLSTests(SynchronousTestCase):
    def said(self, rules: Rules, octets: bytes) -> list[bytes]:
        """The replies to *octets*, the banner left out; STARTTLS is agreed to."""
        subject = ServerDialogue(rules, "192.0.2.7")
        play(subject, octets, ready)
        return subject.octets_to_send().splitlines()[1:]

    def test_offered(self) -> None:
        """EHLO lists STARTTLS where there is a certificate, and not once TLS is on."""
        subject = ServerDialogue(TLS)
        play(subject, b"EHLO x\r\n", ready)
        self.assertIn(b"250-STARTTLS\r\n", subject.octets_to_send())

        play(subject, b"STARTTLS\r\n", ready)
        self.assertTrue(subject.secure)
        subject.octets_to_send()
        play(subject, b"EHLO x\r\n", ready)
        self.assertNotIn(b"STARTTLS", subject.octets_to_send())

    def test_behind_the_command(self) -> None:
        """A10: whatever stands behind STARTTLS in clear ends the session."""
        for behind in (b"NOOP\r\n", b"Q", b"\r\n"):
            last = self.said(TLS, b"EHLO x\r\nSTARTTLS\r\n" + behind)[-1]
            self.assertTrue(last.startswith(b"554 5.5.0"), last)

    def test_out_of_place(self) -> None:
        """A13: before EHLO, with an argument, in a transaction, twice, without a certificate."""
        hello, mail = b"EHLO x\r\n", b"MAIL FROM:<a@example.org>\r\n"
        for rules, octets, code in (
            (TLS, b"STARTTLS\r\n", b"503"),
            (TLS, hello + b"STARTTLS now\r\n", b"501"),
            (TLS, hello + mail + b"STARTTLS\r\n", b"503"),
            (RULES, hello + b"STARTTLS\r\n", b"502"),
        ):
            self.assertEqual(code, self.said(rules, octets)[-1][:3], octets)
        subject = ServerDialogue(TLS, secure=True)
        play(subject, hello + b"STARTTLS\r\n", ready)
        self.assertEqual(b"503", subject.octets_to_send().splitlines()[-1][:3])

    def test_required(self) -> None:
        """RFC 3207 §4: 530 to what is not EHLO, NOOP, STARTTLS or QUIT, order or not."""
        rules = evolve(TLS, require_tls=True)
        for line in (b"MAIL FROM:<a@example.org>", b"RCPT TO:<b@example.com>", b"DATA", b"VRFY b"):
            said = self.said(rules, b"EHLO x\r\n" + line + b"\r\n")
            self.assertTrue(said[-1].startswith(b"530 5.7.0"), said)
        for line in (b"NOOP", b"EHLO y", b"RSET", b"QUIT"):
            said = self.said(rules, b"EHLO x\r\n" + line + b"\r\n")
            self.assertTrue(said[-1].startswith(b"2"), said)

    def test_help_lists_what_is_on(self) -> None:
        """STARTTLS is among the commands only where it is offered."""
        self.assertIn(b"STARTTLS", self.said(TLS, b"HELP\r\n")[-1])
        self.assertNotIn(b"STARTTLS", self.said(RULES, b"HELP\r\n")[-1])


def ready(event: Event) -> Reply:
    return replies.READY_FOR_TLS if isinstance(event, TLSAsked) else yes(event)


class InStepTests(SynchronousTestCase):
    """RFC 2920 §3.1: who does not wait where he must is not heard (attacks.md A20)."""

    GROUPS = (
        (b"", b"EHLO x\r\n"),
        (b"", b"EHLO x\r\nMAIL FROM:<a@b.example>\r\n"),
        (b"HELO x\r\n", b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"),
        (
            b"EHLO x\r\n",
            b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\ntext\r\n.\r\n",
        ),
    )

    def heard(self, first: bytes, group: bytes, **changes: object) -> tuple[list[Event], bytes]:
        """*group* after the answers to *first*; the first of `GROUPS` comes before the banner."""
        trusted = bool(changes.pop("trusted", False))
        subject = ServerDialogue(Rules("mail.example.com", **changes), trusted=trusted)  # type: ignore[arg-type]  # what a test varies
        early = group == self.GROUPS[0][1]
        events = [] if early else play(subject, first)
        events += play(subject, group)
        return events, subject.octets_to_send()

    def test_refused(self) -> None:
        for first, group in self.GROUPS:
            events, said = self.heard(first, group)

            self.assertEqual(b"554 5.5.0", said.splitlines()[-1][:9], group)
            self.assertFalse([one for one in events if isinstance(one, ContentEnded)])

    def test_heard_where_allowed(self) -> None:
        for changes in ({"trusted": True}, {"early_talkers": True}):
            for first, group in self.GROUPS:
                _, said = self.heard(first, group, **changes)

                self.assertNotIn(b"554", said)

    def test_what_pipelining_allows(self) -> None:
        """MAIL, RCPT and DATA may come together; so may anything behind the final dot."""
        group = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
        subject = ServerDialogue(Rules("mail.example.com"))
        play(subject, b"")
        play(subject, b"EHLO x\r\n")

        play(subject, group)
        play(subject, b"text\r\n.\r\n" + group)

        self.assertNotIn(b"554", subject.octets_to_send())
        self.assertIs(State.CONTENT, subject.state)
