"""Tests for `mailhost.net.scribe`."""

from __future__ import annotations

from unittest.mock import Mock

from twisted.trial.unittest import SynchronousTestCase

from mailhost.model.protocol_log import OUTBOUND_COMMAND, Turn
from mailhost.net.scribe import LoggedScribe, Scribe
from mailhost.smtp.client_events import Phase


class ScribeTests(SynchronousTestCase):
    def test_session(self) -> None:
        """Who said what; neither the login nor the content."""
        scribe = Scribe()
        scribe.heard(b"220 peer\r\n", Phase.BANNER)
        scribe.said(b"EHLO us\r\n", Phase.HELLO)
        scribe.heard(b"250-peer\r\n250 AUTH PLAIN\r\n", Phase.HELLO)
        scribe.said(b"AUTH PLAIN c2VjcmV0\r\n", Phase.LOGIN)
        scribe.heard(b"334 c2VjcmV0\r\n", Phase.LOGIN)
        scribe.said(b"c2VjcmV0\r\n", Phase.LOGIN)
        scribe.heard(b"235 welcome\r\n", Phase.LOGIN)
        scribe.begin()
        scribe.said(b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n", Phase.ENVELOPE)
        scribe.heard(b"250 a\r\n250 b\r\n354 go\r\n", Phase.ENVELOPE)
        for _ in range(3):
            scribe.said(b"private\r\n", Phase.CONTENT)
        scribe.said(b"private\r\n.\r\n", Phase.DOT)
        scribe.heard(b"451 \x1b[31mred\r\n", Phase.DOT)

        self.assertEqual(
            [
                "S: 220 peer",
                "C: EHLO us",
                "S: 250-peer",
                "S: 250 AUTH PLAIN",
                "C: (login)",
                "S: (login)",
                "C: (login)",
                "S: 235 welcome",
                "C: MAIL FROM:<>",
                "C: RCPT TO:<a@b>",
                "C: DATA",
                "S: 250 a",
                "S: 250 b",
                "S: 354 go",
                "C: (content)",
                "S: 451 ?[31mred",
            ],
            scribe.text().splitlines(),
        )

    def test_chunk(self) -> None:
        """BDAT leaves with the content, and is told without it; what only looks like it is not."""
        facts: list[tuple[str, Turn]] = []
        log = Mock(outbound=lambda at, peer, port, name, turn: facts.append((name, turn)))
        scribe: Scribe = LoggedScribe(log=log, seconds=lambda: 0.0, peer="192.0.2.1", port=25)
        for envelope, content in (
            (b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\n", b"BDAT 7 LAST\r\nprivate"),
            (b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n", b"BDAT private\r\n"),
        ):
            scribe.begin()
            scribe.said(envelope, Phase.ENVELOPE)
            scribe.said(content, Phase.CONTENT)
            scribe.said(b"BDAT private\r\n", Phase.DOT)

        self.assertEqual({OUTBOUND_COMMAND}, {name for name, _ in facts})
        told = [(turn.verb, turn.argument, turn.sent) for _, turn in facts]
        sender, recipient = ("MAIL", "FROM:<>", 14), ("RCPT", "TO:<a@b>", 15)
        self.assertEqual(
            [sender, recipient, ("BDAT", "7 LAST", 13), sender, recipient, ("DATA", "", 6)],
            told,
        )
        scribe = Scribe()
        scribe.begin()
        scribe.said(b"BDAT 7 LAST\r\nprivate", Phase.DOT)
        self.assertEqual("C: BDAT 7 LAST\nC: (content)", scribe.text())

    def test_next_transaction(self) -> None:
        """The opening stays, the transaction before does not."""
        scribe = Scribe()
        scribe.said(b"EHLO us\r\n", Phase.HELLO)
        for name in (b"a", b"b"):
            scribe.begin()
            scribe.said(b"MAIL FROM:<%b>\r\n" % name, Phase.ENVELOPE)

        self.assertEqual("C: EHLO us\nC: MAIL FROM:<b>", scribe.text())

    def test_bounded(self) -> None:
        """Who never ends is cut."""
        scribe = Scribe()
        for _ in range(1000):
            scribe.heard(b"x" * 100_000 + b"\r\n", Phase.BANNER)

        self.assertLess(len(scribe.text()), 1_000_000)
        self.assertTrue(scribe.text().endswith("\n..."))
