"""LMTP: a reply for each recipient after the content (RFC 2033)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailhost.model.address import Mailbox
from mailhost.model.envelope import Envelope
from mailhost.model.reply import Reply
from mailhost.smtp.client_dialogue import ClientDialogue
from mailhost.smtp.client_events import (
    ClientEvent,
    ContentWanted,
    Phase,
    SessionOver,
    TransactionDone,
)
from tests.smtp.test_client_dialogue import hear

A, B, C = (Mailbox(name, "example.com") for name in "abc")
LHLO = b"250-x\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
TAKEN, FULL = Reply(250, "2.0.0", "taken"), Reply(452, "4.2.2", "full")
NOBODY = Reply(550, "5.1.1", "no")


class LMTPTests(SynchronousTestCase):
    def opened(self, lhlo: bytes = LHLO) -> ClientDialogue:
        """A transaction with three recipients, of whom the second is refused."""
        dialogue = ClientDialogue("client.example", lmtp=True)
        hear(dialogue, b"220 x\r\n")
        self.assertEqual(b"LHLO client.example\r\n", dialogue.octets_to_send())
        hear(dialogue, lhlo)
        dialogue.send_envelope(Envelope(None, (A, B, C)), 3)
        return dialogue

    def sent(self, lhlo: bytes = LHLO) -> ClientDialogue:
        """The same, with its content."""
        dialogue = self.opened(lhlo)
        replies = b"250 ok\r\n250 ok\r\n550 5.1.1 no\r\n250 ok\r\n"
        replies += b"" if b"CHUNKING" in lhlo else b"354 go\r\n"
        self.assertEqual([ContentWanted()], hear(dialogue, replies))
        dialogue.write_content(b"x\r\n")
        self.assertTrue(dialogue.end_content())
        return dialogue

    def test_each_has_a_reply(self) -> None:
        """§4.2: in the order of those who were accepted, in one piece or in many."""
        said = b"250 2.0.0 taken\r\n452 4.2.2 full\r\n"
        chunks = b"250-x\r\n250-PIPELINING\r\n250 CHUNKING\r\n"
        for lhlo in (LHLO, chunks):
            for pieces in ([said], [bytes([octet]) for octet in said]):
                done = TransactionDone((TAKEN, NOBODY, FULL))
                self.assertEqual([done], hear(self.sent(lhlo), *pieces))

    def test_session_goes_on(self) -> None:
        """Another transaction follows."""
        dialogue = self.sent()
        hear(dialogue, b"250 2.0.0 taken\r\n250 2.0.0 taken\r\n")
        dialogue.octets_to_send()
        self.assertEqual(Phase.READY, dialogue.phase)
        dialogue.send_envelope(Envelope(None, (A,)), 3)
        self.assertTrue(dialogue.octets_to_send().startswith(b"MAIL FROM:<>"))

    def over(self, events: list[ClientEvent]) -> SessionOver:
        (found,) = events
        assert isinstance(found, SessionOver)
        return found

    def test_breaks_between_replies(self) -> None:
        """P3: who has an answer has it; about the other nobody knows."""
        dialogue = self.sent()
        self.assertEqual([], hear(dialogue, b"250 2.0.0 taken\r\n"))
        dialogue.receive_end("gone")

        over = self.over(hear(dialogue, b""))
        self.assertTrue(over.in_doubt)
        self.assertEqual((TAKEN, NOBODY, None), over.replies)

    def test_closes_between_replies(self) -> None:
        """421 is the last word."""
        over = self.over(hear(self.sent(), b"421 4.3.2 bye\r\n"))
        self.assertEqual((421, 550, None), tuple(one and one.code for one in over.replies))

    def test_too_many_replies(self) -> None:
        """One more than was asked for answers nothing."""
        said = b"250 2.0.0 taken\r\n" * 3
        done, over = hear(self.sent(), said)
        self.assertEqual(TransactionDone((TAKEN, NOBODY, TAKEN)), done)
        self.assertIsInstance(over, SessionOver)

    def test_content_for_nobody(self) -> None:
        """§4.2: a server that asks for it would say nothing to it, so it gets none."""
        dialogue = self.opened()
        said = b"250 ok\r\n" + b"550 5.1.1 no\r\n" * 3 + b"354 go\r\n"
        over = self.over(hear(dialogue, said))
        self.assertEqual((NOBODY,) * 3, over.replies)

    def test_no_old_servers(self) -> None:
        """§4.1: there is no HELO to fall back to."""
        dialogue = ClientDialogue("client.example", lmtp=True)
        over = self.over(hear(dialogue, b"220 x\r\n", b"500 what\r\n"))
        self.assertEqual(Phase.HELLO, over.phase)
