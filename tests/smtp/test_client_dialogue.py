"""Tests for `mailhost.smtp.client_dialogue`."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.model.address import Mailbox
from mailhost.model.envelope import Envelope
from mailhost.model.reply import Reply
from mailhost.model.security import TLSLevel
from mailhost.smtp.client_dialogue import ClientDialogue
from mailhost.smtp.client_events import (
    ClientEvent,
    ContentWanted,
    Phase,
    Ready,
    SessionOver,
    TLSWanted,
    TransactionDone,
)
from mailhost.smtp.events import Wait

A, B = Mailbox("a", "example.com"), Mailbox("b", "example.net")
PIPELINING = b"250-x\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 8BITMIME\r\n"


def hear(dialogue: ClientDialogue, *pieces: bytes) -> list[ClientEvent]:
    """Feed *pieces* and collect the events."""
    events: list[ClientEvent] = []
    for piece in pieces:
        dialogue.receive_octets(piece)
        while not isinstance(event := dialogue.next_event(), Wait):
            events.append(event)
    return events


def octets_of(pieces: Iterable[bytes]) -> list[bytes]:
    return [bytes([octet]) for piece in pieces for octet in piece]


def ready(ehlo: bytes = PIPELINING) -> ClientDialogue:
    """A session that can take an envelope."""
    dialogue = ClientDialogue("client.example")
    hear(dialogue, b"220 x\r\n", ehlo)
    dialogue.octets_to_send()
    return dialogue


WITH_TLS = b"250-x\r\n250-STARTTLS\r\n250 SIZE 1000\r\n"


class TLSTests(SynchronousTestCase):
    def opened(self, level: TLSLevel, *pieces: bytes) -> tuple[ClientDialogue, list[ClientEvent]]:
        dialogue = ClientDialogue("client.example", tls=level)
        return dialogue, hear(dialogue, b"220 x\r\n", *pieces)

    def test_handshake(self) -> None:
        """RFC 3207 §4.2: EHLO again after it, and what was offered in clear is forgotten."""
        dialogue, events = self.opened(TLSLevel.OPPORTUNISTIC, WITH_TLS, b"220 go\r\n")
        self.assertEqual([TLSWanted()], events)
        dialogue.octets_to_send()

        dialogue.secured()

        self.assertEqual(b"EHLO client.example\r\n", dialogue.octets_to_send())
        self.assertEqual([Ready()], hear(dialogue, b"250-x\r\n250 STARTTLS\r\n"))
        self.assertEqual({"STARTTLS"}, set(dialogue.extensions))

    def test_implicit(self) -> None:
        """RFC 8314 §3.3: the greeting comes behind the handshake, and STARTTLS is not wanted."""
        dialogue = ClientDialogue("client.example", tls=TLSLevel.VERIFIED, implicit=True)
        dialogue.secured()
        self.assertEqual([], hear(dialogue, b"220 x\r\n"))
        self.assertEqual(b"EHLO client.example\r\n", dialogue.octets_to_send())
        self.assertEqual([Ready()], hear(dialogue, WITH_TLS))
        self.assertEqual(b"", dialogue.octets_to_send())

    def test_implicit_without_handshake(self) -> None:
        """A connection that is lost meanwhile ended in the handshake."""
        dialogue = ClientDialogue("client.example", tls=TLSLevel.VERIFIED, implicit=True)
        dialogue.receive_end("lost")
        event = dialogue.next_event()
        assert isinstance(event, SessionOver)
        self.assertIs(Phase.SECURING, event.phase)

    def test_forged_replies(self) -> None:
        """A12: octets in clear behind the 220 end the session, in one segment or a piece of one."""
        for behind in (b"250 x\r\n", b"2"):
            _, events = self.opened(TLSLevel.OPPORTUNISTIC, WITH_TLS, b"220 go\r\n" + behind)
            (over,) = events
            assert isinstance(over, SessionOver)
            self.assertEqual(Phase.STARTTLS, over.phase)

    def test_refused(self) -> None:
        """Opportunistic goes on in clear; required does not."""
        _, events = self.opened(TLSLevel.OPPORTUNISTIC, WITH_TLS, b"454 no\r\n")
        self.assertEqual([Ready()], events)

        _, events = self.opened(TLSLevel.REQUIRED, WITH_TLS, b"454 no\r\n")
        (over,) = events
        assert isinstance(over, SessionOver)
        self.assertIn("STARTTLS was refused: 454", over.words)

    def test_not_offered(self) -> None:
        """Required: nothing is sent, with HELO neither; none: STARTTLS is not asked for."""
        for hello in ((b"250 x\r\n",), (b"500 what\r\n", b"250 x\r\n")):
            dialogue, events = self.opened(TLSLevel.VERIFIED, *hello)
            (over,) = events
            assert isinstance(over, SessionOver)
            self.assertIn("not offered", over.words)

        dialogue, events = self.opened(TLSLevel.NONE, WITH_TLS)
        self.assertEqual([Ready()], events)
        self.assertNotIn(b"STARTTLS", dialogue.octets_to_send())


WITH_CHUNKS = b"250-x\r\n250-PIPELINING\r\n250-SIZE\r\n250 CHUNKING\r\n"
CONTENT = b"Subject: x\r\n\r\n.\r\n..\r\n"


class ChunkTests(SynchronousTestCase):
    def begin(self, *replies: bytes) -> tuple[ClientDialogue, list[ClientEvent]]:
        """An envelope for two recipients, and the answers to it."""
        dialogue = ready(WITH_CHUNKS)
        dialogue.send_envelope(
            Envelope(
                A,
                (
                    A,
                    B,
                ),
                "7BIT",
            ),
            len(CONTENT),
        )
        self.assertNotIn(b"DATA", dialogue.octets_to_send())
        return dialogue, hear(dialogue, *replies)

    def test_content_as_it_is(self) -> None:
        """RFC 3030 §2: announced with its size, no dot is added, nobody waits for a 354."""
        dialogue, events = self.begin(b"250 a\r\n550 b\r\n250 c\r\n")
        self.assertEqual([ContentWanted()], events)
        for start in range(0, len(CONTENT), 7):
            dialogue.write_content(CONTENT[start : start + 7])
        self.assertTrue(dialogue.end_content())
        expected = b"BDAT %d LAST\r\n%b" % (len(CONTENT), CONTENT)
        self.assertEqual(expected, dialogue.octets_to_send())

        (done,) = hear(dialogue, b"250 2.0.0 thanks\r\n")

        assert isinstance(done, TransactionDone)
        self.assertEqual([550, 250], [reply.code for reply in done.replies])

    def test_nobody_accepted(self) -> None:
        """No chunk is announced where nobody is to get it."""
        dialogue, events = self.begin(b"250 a\r\n550 b\r\n451 c\r\n")

        (done,) = events
        assert isinstance(done, TransactionDone)
        self.assertEqual([550, 451], [reply.code for reply in done.replies])
        self.assertEqual(b"", dialogue.octets_to_send())
        dialogue.send_envelope(Envelope(A, (B,), "7BIT"), 5)
        self.assertTrue(dialogue.octets_to_send().startswith(b"RSET\r\nMAIL "))

    def test_not_as_announced(self) -> None:
        """A content that is too short or not of lines is never completed (P6)."""
        for content in (CONTENT[:-2], CONTENT[:-1] + b"x", CONTENT + b"x"):
            dialogue, _ = self.begin(b"250 a\r\n250 b\r\n250 c\r\n")
            dialogue.write_content(content)
            self.assertFalse(dialogue.end_content(), content)

    def test_in_doubt(self) -> None:
        """P3: lost after the chunk and before its reply."""
        dialogue, _ = self.begin(b"250 a\r\n250 b\r\n250 c\r\n")
        dialogue.write_content(CONTENT)
        dialogue.end_content()
        dialogue.receive_end("gone")
        over = dialogue.next_event()
        assert isinstance(over, SessionOver)
        self.assertTrue(over.in_doubt)


class OpeningTests(SynchronousTestCase):
    def test_greeting_and_ehlo(self) -> None:
        """After 220 comes EHLO; its answer lists what the peer offers."""
        dialogue = ClientDialogue("client.example")

        events = hear(dialogue, *octets_of([b"220-a\r\n220 b\r\n", PIPELINING]))

        self.assertEqual([Ready()], events)
        self.assertEqual(b"EHLO client.example\r\n", dialogue.octets_to_send())
        self.assertEqual({"PIPELINING", "SIZE", "8BITMIME"}, set(dialogue.extensions))

    def test_helo_for_an_old_server(self) -> None:
        """A peer that knows no EHLO gets HELO (RFC 5321 §3.2)."""
        dialogue = ClientDialogue("client.example")

        events = hear(dialogue, b"220 x\r\n", b"502 what\r\n", b"250 x\r\n")

        self.assertEqual([Ready()], events)
        self.assertTrue(dialogue.octets_to_send().endswith(b"HELO client.example\r\n"))

    def test_helo_where_the_operator_says_so(self) -> None:
        """IIS DOM-11."""
        dialogue = ClientDialogue("client.example", use_helo=True)

        hear(dialogue, b"220 x\r\n")

        self.assertEqual(b"HELO client.example\r\n", dialogue.octets_to_send())

    def test_goodbye_all_the_same(self) -> None:
        """RFC 5321 §4.1.1.10: who is refused says QUIT, and waits for the answer."""
        for refusal, pieces in (
            ("not greeted: 554 go away", [b"554 go away\r\n"]),
            ("hello refused: 450 no", [b"220 x\r\n", b"450 no\r\n"]),
            ("hello refused: 550 no", [b"220 x\r\n", b"500 what\r\n", b"550 no\r\n"]),
        ):
            dialogue = ClientDialogue("client.example")
            (over,) = hear(dialogue, *pieces)
            assert isinstance(over, SessionOver)
            self.assertEqual((refusal, ()), (over.words, over.replies))
            self.assertTrue(dialogue.octets_to_send().endswith(b"QUIT\r\n"))
            self.assertEqual(Phase.QUITTING, dialogue.phase)
            hear(dialogue, b"221 bye\r\n")
            self.assertEqual(Phase.CLOSED, dialogue.phase)

    def test_too_many_recipients(self) -> None:
        """RFC 5321 §4.5.3.1.10: 552 once meant what 452 means; a full mailbox says so (5.2.2)."""
        dialogue = ready()
        dialogue.send_envelope(Envelope(None, (A, B, A)), 3)
        said = b"250 ok\r\n552 too many\r\n552 5.2.2 full\r\n552 5.5.3 too many\r\n503 no\r\n"
        (done,) = hear(dialogue, said)
        assert isinstance(done, TransactionDone)
        self.assertEqual(
            ["452 4.5.3", "552 5.2.2", "452 4.5.3"],
            [f"{one.code} {one.status}" for one in done.replies],
        )

    def test_refused_greeting(self) -> None:
        """A 554 in place of the greeting ends the session."""
        dialogue = ClientDialogue("client.example")

        (event,) = hear(dialogue, b"554 5.7.1 no\r\n")

        assert isinstance(event, SessionOver)
        self.assertEqual(Reply(554, "5.7.1", "no"), event.reply)

    def test_ehlo_refused_for_now(self) -> None:
        """A 4yz to EHLO is no reason for HELO."""
        dialogue = ClientDialogue("client.example")

        events = hear(dialogue, b"220 x\r\n", b"450 later\r\n")

        self.assertIsInstance(events[-1], SessionOver)


class TransactionTests(SynchronousTestCase):
    def test_pipelined_envelope_is_one_write(self) -> None:
        """RFC 2920 §3.1."""
        dialogue = ready()

        dialogue.send_envelope(
            Envelope(
                None,
                (
                    A,
                    B,
                ),
                "8BITMIME",
            ),
            7,
        )

        self.assertEqual(
            b"MAIL FROM:<> SIZE=7 BODY=8BITMIME\r\nRCPT TO:<a@example.com>\r\n"
            b"RCPT TO:<b@example.net>\r\nDATA\r\n",
            dialogue.octets_to_send(),
        )

    def test_each_recipient_has_its_reply(self) -> None:
        """A refused RCPT keeps its reply; the final dot answers the others."""
        dialogue = ready()
        dialogue.send_envelope(
            Envelope(
                A,
                (
                    A,
                    B,
                ),
                "7BIT",
            ),
            7,
        )

        wanted = hear(dialogue, b"250 ok\r\n550 5.1.1 who\r\n250 ok\r\n354 go\r\n")
        dialogue.write_content(b"x\r\n")
        self.assertTrue(dialogue.end_content())
        (done,) = hear(dialogue, b"250 2.0.0 mine\r\n")

        self.assertEqual([ContentWanted()], wanted)
        assert isinstance(done, TransactionDone)
        self.assertEqual([550, 250], [reply.code for reply in done.replies])

    def test_one_at_a_time_without_pipelining(self) -> None:
        """Each command waits for the reply to the one before."""
        dialogue = ready(b"250 x\r\n")
        dialogue.send_envelope(
            Envelope(
                A,
                (
                    A,
                    B,
                ),
                "8BITMIME",
            ),
            7,
        )
        sent = [dialogue.octets_to_send()]
        for reply in (b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n"):
            hear(dialogue, reply)
            sent.append(dialogue.octets_to_send())

        self.assertEqual(
            [
                b"MAIL FROM:<a@example.com>\r\n",
                b"RCPT TO:<a@example.com>\r\n",
                b"RCPT TO:<b@example.net>\r\n",
                b"DATA\r\n",
            ],
            sent,
        )

    def test_nobody_accepted(self) -> None:
        """When all are refused DATA is not sent, and RSET comes before the next MAIL."""
        dialogue = ready(b"250 x\r\n")
        dialogue.send_envelope(Envelope(A, (A,), "7BIT"), 7)
        (done,) = hear(dialogue, b"250 ok\r\n", b"550 no\r\n")
        dialogue.octets_to_send()

        dialogue.send_envelope(Envelope(A, (B,), "7BIT"), 7)

        assert isinstance(done, TransactionDone)
        self.assertEqual(b"RSET\r\n", dialogue.octets_to_send())

    def test_354_for_nobody(self) -> None:
        """A peer that wants content for nobody gets an empty one (RFC 2920 §3.1)."""
        dialogue = ready()
        dialogue.send_envelope(Envelope(A, (A,), "7BIT"), 7)
        dialogue.octets_to_send()

        before = hear(dialogue, b"250 ok\r\n450 4.2.0 no\r\n354 go\r\n")
        sent = dialogue.octets_to_send()
        (done,) = hear(dialogue, b"554 no recipients\r\n")

        self.assertEqual([], before)
        self.assertEqual(b".\r\n", sent)
        assert isinstance(done, TransactionDone)
        self.assertEqual([450], [reply.code for reply in done.replies])

    def test_refused_sender_is_everybodys_reply(self) -> None:
        """MAIL 550: the 503 that follow are not what recipients are told."""
        dialogue = ready()
        dialogue.send_envelope(
            Envelope(
                A,
                (
                    A,
                    B,
                ),
                "7BIT",
            ),
            7,
        )

        (done,) = hear(dialogue, b"550 5.7.1 go away\r\n503 x\r\n503 x\r\n503 x\r\n")

        assert isinstance(done, TransactionDone)
        self.assertEqual([550, 550], [reply.code for reply in done.replies])

    def test_421_in_mid_envelope(self) -> None:
        """Who has no refusal of its own has the 421; the session is over."""
        dialogue = ready()
        dialogue.send_envelope(
            Envelope(
                A,
                (
                    A,
                    B,
                ),
                "7BIT",
            ),
            7,
        )

        (over,) = hear(dialogue, b"250 ok\r\n550 no\r\n421 4.3.2 bye\r\n")

        assert isinstance(over, SessionOver)
        self.assertEqual([550, 421], [reply.code if reply else None for reply in over.replies])

    def test_silence_after_the_dot_is_doubt(self) -> None:
        """P3: the connection dies between our final dot and the reply."""
        dialogue = ready()
        dialogue.send_envelope(Envelope(A, (A,), "7BIT"), 3)
        hear(dialogue, b"250 ok\r\n250 ok\r\n354 go\r\n")
        dialogue.write_content(b"x\r\n")
        dialogue.end_content()

        dialogue.receive_end("connection lost")
        over = dialogue.next_event()

        assert isinstance(over, SessionOver)
        self.assertTrue(over.in_doubt)
        self.assertEqual((None,), over.replies)

    def test_loss_before_the_dot_is_no_doubt(self) -> None:
        """A refusal that was heard stays; a 250 to RCPT promises nothing."""
        dialogue = ready()
        dialogue.send_envelope(
            Envelope(
                A,
                (
                    A,
                    B,
                ),
                "7BIT",
            ),
            3,
        )
        hear(dialogue, b"250 ok\r\n250 ok\r\n550 no\r\n")

        dialogue.receive_end("connection lost")
        over = dialogue.next_event()

        assert isinstance(over, SessionOver)
        self.assertFalse(over.in_doubt)
        self.assertEqual([None, 550], [reply.code if reply else None for reply in over.replies])

    def test_bare_line_ends_are_never_sent_to_their_end(self) -> None:
        """P6: the final dot is withheld from content with a bare CR or LF."""
        for content in (b"a\nb\r\n", b"a\rb\r\n", b"a\r"):
            dialogue = ready()
            dialogue.send_envelope(Envelope(A, (A,), "7BIT"), 3)
            hear(dialogue, b"250 ok\r\n250 ok\r\n354 go\r\n")
            dialogue.write_content(content)

            self.assertFalse(dialogue.end_content())


class ReplyTests(SynchronousTestCase):
    def test_code_alone(self) -> None:
        """A reply may be its code and nothing else (RFC 5321 §4.2)."""
        for greeting in (b"220\r\n", b"220 \r\n", b"220-\r\n220\r\n"):
            events = hear(ClientDialogue("client.example"), greeting, b"250\r\n")

            self.assertIsInstance(events[-1], Ready, greeting)

    def test_first_digit(self) -> None:
        """A code that nobody has listed counts as its class (RFC 5321 §4.2, §4.3.2)."""
        for code in (299, 499, 599):
            dialogue = ready()
            dialogue.send_envelope(Envelope(A, (A, B), "7BIT"), 3)
            hear(dialogue, b"259 x\r\n%d x\r\n250 x\r\n354 x\r\n" % code)
            dialogue.write_content(b"x\r\n")
            self.assertTrue(dialogue.end_content())

            (done,) = hear(dialogue, b"277 taken\r\n")

            assert isinstance(done, TransactionDone)
            first, second = done.replies
            assert first is not None and second is not None
            self.assertEqual((code == 299, 277), (first.positive, second.code))

    def test_patience(self) -> None:
        """Each phase waits as long as RFC 5321 §4.5.3.2 asks, or longer."""
        least = {
            Phase.BANNER: 300,
            Phase.ENVELOPE: 300,
            Phase.DATA: 120,
            Phase.CONTENT: 180,
            Phase.DOT: 600,
        }
        for phase, seconds in least.items():
            self.assertGreaterEqual(phase.patience_seconds, seconds, phase)


class HostilePeerTests(SynchronousTestCase):
    def test_endless_replies_end(self) -> None:
        """A reply of more than 100 lines, or a line without end, is refused."""
        for flood in (b"220-x\r\n" * 101, b"2" * 20000):
            (event,) = hear(ClientDialogue("client.example"), flood)

            self.assertIsInstance(event, SessionOver)

    def test_no_reply_at_all(self) -> None:
        """What is no reply code is no reply (attacks A65)."""
        for line in (b"2_0 x\r\n", b"+25 x\r\n", b"-12\r\n", b"hello\r\n", b"25\r\n", b"620 x\r\n"):
            (event,) = hear(ClientDialogue("client.example"), line)

            self.assertIsInstance(event, SessionOver)

    def test_unasked_reply(self) -> None:
        """A reply that nothing asked for ends the session."""
        (event,) = hear(ready(), b"250 surprise\r\n")

        self.assertIsInstance(event, SessionOver)

    def test_line_feeds(self) -> None:
        """A host whose lines end in LF alone; what stands behind one is a reply of its own."""
        dialogue = ready(PIPELINING.replace(b"\r", b""))
        self.assertIn("8BITMIME", dialogue.extensions)
        dialogue.send_envelope(Envelope(A, (A,), "7BIT"), 3)
        hear(dialogue, b"250 ok\n250 ok\n354 go\n")
        dialogue.end_content()

        done, over = hear(dialogue, b"550 no <a\n250 taken> and more\r\n")

        assert isinstance(done, TransactionDone)
        self.assertEqual([550], [reply.code for reply in done.replies])
        self.assertIsInstance(over, SessionOver)

    def test_no_answer(self) -> None:
        """A code that cannot answer the command is no success: nothing was taken."""
        for replies in (
            b"354 x\r\n250 x\r\n354 x\r\n",
            b"250 x\r\n354 x\r\n354 x\r\n",
            b"250 x\r\n250 x\r\n250 x\r\n",
        ):
            dialogue = ready()
            dialogue.send_envelope(Envelope(A, (A,), "7BIT"), 3)

            (over,) = hear(dialogue, replies)

            assert isinstance(over, SessionOver)
            self.assertEqual(((None,), False), (over.replies, over.in_doubt), replies)

    def test_354_to_the_dot(self) -> None:
        """P3: it says neither yes nor no."""
        dialogue = ready()
        dialogue.send_envelope(Envelope(A, (A,), "7BIT"), 3)
        hear(dialogue, b"250 ok\r\n250 ok\r\n354 go\r\n")
        dialogue.end_content()

        (over,) = hear(dialogue, b"354 go\r\n")

        assert isinstance(over, SessionOver)
        self.assertEqual(((None,), True), (over.replies, over.in_doubt))

    def test_answers_before_their_questions(self) -> None:
        """What was said too early answers nothing, and nothing is sent on the strength of it."""
        chunking = b"250-x\r\n250-PIPELINING\r\n250 CHUNKING\r\n"
        for ehlo, replies in (
            (PIPELINING, b"250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n"),
            (b"250 x\r\n", b"250 ok\r\n250 ok\r\n"),
            (chunking, b"250 ok\r\n250 ok\r\n250 taken\r\n"),
        ):
            dialogue = ready(ehlo)
            dialogue.send_envelope(Envelope(A, (A,), "7BIT"), 3)
            dialogue.octets_to_send()

            (over,) = hear(dialogue, replies)

            assert isinstance(over, SessionOver)
            self.assertEqual(((None,), False), (over.replies, over.in_doubt), ehlo)
            self.assertEqual(b"", dialogue.octets_to_send())

    def test_two_greetings(self) -> None:
        """The second one is not the reply to EHLO."""
        dialogue = ClientDialogue("client.example")

        (over,) = hear(dialogue, b"220 x\r\n250 x\r\n")

        self.assertIsInstance(over, SessionOver)
        self.assertEqual(b"", dialogue.octets_to_send())

    def test_taken_and_more(self) -> None:
        """A 250 to the dot counts, whatever comes behind it."""
        dialogue = ready()
        dialogue.send_envelope(Envelope(A, (A,), "7BIT"), 3)
        hear(dialogue, b"250 ok\r\n250 ok\r\n354 go\r\n")
        dialogue.end_content()

        done, over = hear(dialogue, b"250 taken\r\n421 4.3.2 bye\r\n")

        self.assertIsInstance(done, TransactionDone)
        self.assertIsInstance(over, SessionOver)

    def test_refused_and_more(self) -> None:
        """An answer that ends a transaction counts, and the session with it takes no other."""
        dialogue = ready(b"250 x\r\n")
        dialogue.send_envelope(Envelope(A, (A,), "7BIT"), 3)

        done, over = hear(dialogue, b"450 later\r\n67")

        assert isinstance(done, TransactionDone)
        self.assertEqual([450], [reply.code for reply in done.replies])
        self.assertIsInstance(over, SessionOver)
        self.assertIs(Phase.CLOSED, dialogue.phase)

    @given(st.lists(st.binary(max_size=40), max_size=12))
    def test_any_octets(self, pieces: list[bytes]) -> None:
        """Whatever the peer sends becomes events, never an exception."""
        dialogue = ready()
        dialogue.send_envelope(
            Envelope(
                A,
                (
                    A,
                    B,
                ),
                "7BIT",
            ),
            3,
        )
        for event in hear(dialogue, *pieces):
            if isinstance(event, ContentWanted):
                dialogue.write_content(b"x\r\n")
                dialogue.end_content()

        self.assertIsInstance(dialogue.phase, Phase)

    @given(st.data())
    def test_plausible_replies(self, data: st.DataObject) -> None:
        """Any sequence of good replies gives each recipient one reply or none, once."""
        dialogue = ready()
        dialogue.send_envelope(
            Envelope(
                A,
                (
                    A,
                    B,
                ),
                "7BIT",
            ),
            3,
        )
        codes = st.sampled_from([220, 250, 354, 421, 450, 500, 550, 221])
        finished = []
        for code in data.draw(st.lists(codes, max_size=10)):
            for event in hear(dialogue, b"%d x\r\n" % code):
                if isinstance(event, ContentWanted):
                    dialogue.write_content(b"x\r\n")
                    dialogue.end_content()
                elif isinstance(event, (TransactionDone, SessionOver)) and event.replies:
                    finished.append(len(event.replies))

        self.assertIn(finished, ([], [2]))
