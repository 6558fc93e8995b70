"""Tests for `mailhost.reports.values`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailhost.model.address import Mailbox
from mailhost.model.queue import QueuedMessage
from mailhost.reports.values import OriginalMessage, reportable


def queued(reverse_path: Mailbox | None) -> QueuedMessage:
    """A queued message from *reverse_path*."""
    return QueuedMessage(1, "0" * 24, reverse_path, "7BIT", 10, 1016119918.0, "mail.example.net")


class ReportableTests(SynchronousTestCase):
    def test_who_is_told(self) -> None:
        """A null reverse-path and MAILER-DAEMON are never told (attacks.md A61)."""
        for path, expected in (
            (Mailbox("a", "example.com"), True),
            (Mailbox("postmaster", "example.com"), True),
            (None, False),
            (Mailbox("MAILER-DAEMON", "example.com"), False),
            (Mailbox('"Mailer-Daemon"', "example.com"), False),
        ):
            self.assertEqual(expected, reportable(queued(path)), path)
            original = OriginalMessage.of(queued(path), b"")
            self.assertEqual(expected, reportable(original), path)


class OriginalTests(SynchronousTestCase):
    def test_from_the_queue(self) -> None:
        """All that a report says is taken over from the queued message."""
        path = Mailbox("a", "example.com")

        original = OriginalMessage.of(queued(path), b"From: a")

        self.assertEqual(
            OriginalMessage(path, "0" * 24, 1016119918.0, "mail.example.net", 10, b"From: a"),
            original,
        )
