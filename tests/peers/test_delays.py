"""Mail that cannot go now: the schedule, reports of delay and failure, Badmail."""

from __future__ import annotations

from typing import Any

from tests.support.peer_case import SENDER, PeerCase, Server, content
from tests.support.process import reserve_address, split_address

RELAY = {"relay": {"default": "allow"}}


class DelayTests(PeerCase):
    def start_with_dead_hop(self, **outbound: object) -> Server:
        """A server whose smart host is an address that nobody listens on yet."""
        self.hop = reserve_address()
        host, port = split_address(self.hop)
        return self.start_server(
            access=RELAY,
            delivery={"smart_host": f"[{host}]:{port}", "outbound": outbound},
        )

    def test_next_hop_comes_up(self) -> None:
        """DEL-01: what waits in Queue goes when the retry interval is over and the hop is there."""
        server = self.start_with_dead_hop(retry=["2s"])

        server.submit("a@example.org", content("late"))
        waiting = server.wait_for_attempts("a@example.org")
        self.assertEqual("4.4.1", waiting.status)
        sink = self.start_sink(address=self.hop)

        sink.wait_for("late")
        server.wait_until_empty()
        self.assertEqual([], server.root.drop())

    def test_many_wait_for_one_attempt(self) -> None:
        """Fifty messages for a dead hop all wait, and all go when it is there."""
        server = self.start_with_dead_hop(retry=["2s"])

        ids = [f"m{number}" for number in range(50)]
        with server.client() as client:
            for one in ids[:25]:
                client.sendmail(SENDER, "a@example.org", content(one))
        with server.client() as client:
            for one in ids[25:]:
                client.sendmail(SENDER, "a@example.org", content(one))
        server.wait_for_attempts("a@example.org")
        sink = self.start_sink(address=self.hop)

        sink.wait_for(*ids)
        server.wait_until_empty()

    def test_delay_report(self) -> None:
        """DEL-05: after the delay notification time the sender hears of it, once."""
        server = self.start_with_dead_hop(retry=["1s"], delay_notification="2s", expiration="1h")

        server.submit("a@example.org", content("slow"))
        server.wait_for_drop(SENDER)
        attempts = server.wait_for_attempts("a@example.org").attempts
        server.wait_for_attempts("a@example.org", attempts + 2)

        reports = server.root.reports_for(SENDER)
        self.assertEqual(["Delay"], [report.kind for report in reports])
        fields = reports[0].fields
        self.assertEqual("delayed", fields["action"])
        self.assertEqual("4.4.1", fields["status"])
        self.assertIn("will-retry-until", fields)
        self.assertIn("X-Test-ID: slow", reports[0].returned)

    def test_expiration(self) -> None:
        """DEL-06: what has expired is returned with 4.4.7, and forgotten."""
        server = self.start_with_dead_hop(retry=["1s"], delay_notification="none", expiration="3s")

        server.submit("a@example.org", content("never"))
        server.wait_for_drop(SENDER)
        server.wait_until_empty()

        reports = server.root.reports_for(SENDER)
        self.assertEqual(["Failure"], [report.kind for report in reports])
        self.assertEqual("failed", reports[0].fields["action"])
        self.assertEqual("4.4.7", reports[0].fields["status"])
        self.assertIn("X-Test-ID: never", reports[0].returned)

    def test_recipients_of_both_sorts(self) -> None:
        """One recipient's delay does not make another get the message twice."""
        server = self.start_with_dead_hop(retry=["1s"])

        server.submit(["here@example.com", "a@example.org"], content("both"))
        server.wait_for_attempts("a@example.org", 2)
        sink = self.start_sink(address=self.hop)

        sink.wait_for("both")
        server.wait_until_empty()
        self.assertEqual(1, len(server.root.drop_for("here@example.com")))

    def test_copy_of_a_report(self) -> None:
        """MSG-05: the postmaster gets a copy of a failure report."""
        refusing = self.start_sink("-f", "RCPT")
        server = self.start_server(
            access=RELAY,
            messages={"copy_ndr_to": "postmaster@example.com"},
            delivery={"smart_host": refusing.next_hop},
        )

        server.submit("a@example.org")

        server.wait_for_drop(SENDER)
        server.wait_for_drop("postmaster@example.com")
        server.wait_until_empty()
        self.assertEqual(2, len(server.root.drop()))


class UnwritableDropTests(PeerCase):
    def test_waits(self) -> None:
        """P4: while Drop cannot be written mail for it waits; it is not returned, nor lost."""
        server = self.make_server(delivery={"local": {"retry": ["1s"]}})
        server.root.home.mkdir()
        # Not by its mode, which would not keep root out.
        (server.root.home / "Drop").write_bytes(b"")
        server.start()

        server.submit("a@example.com", content("waits"))
        server.wait_for_attempts("a@example.com", 2)
        (server.root.home / "Drop").unlink()
        (server.root.home / "Drop").mkdir()

        self.assertEqual("waits", server.wait_for_drop("a@example.com")[0].test_id)
        server.wait_until_empty()


class BadmailTests(PeerCase):
    def setUp(self) -> None:
        super().setUp()
        refusing = self.start_sink("-f", "RCPT")
        self.server = self.start_server(access=RELAY, delivery={"smart_host": refusing.next_hop})

    def test_report_that_cannot_be_returned(self) -> None:
        """MSG-06: a report whose own recipient is refused becomes a Badmail triple."""
        self.server.submit("a@example.org", content("bad"), sender="nobody@example.net")

        bad = self.wait_for_badmail()
        self.assertEqual("<>", bad["reverse_path"])
        self.assertEqual("<nobody@example.net>", bad["recipients"][0]["forward_path"])
        self.assertEqual("failed", bad["recipients"][0]["fate"])
        self.assertEqual(0xC00402C7, bad["code"])
        returned = self.badmail_file("BAD")
        self.assertIn(b"Subject: Delivery Status Notification (Failure)", returned)
        self.assertIn(b"X-Test-ID: bad", returned)
        self.assertIn(b"nobody@example.net", self.badmail_file("BDR"))

    def test_message_without_sender(self) -> None:
        """RFC 5321 §4.5.5: nobody is told about a message with the null reverse-path."""
        self.server.submit("a@example.org", content("null"), sender="")

        bad = self.wait_for_badmail()
        self.assertEqual("<a@example.org>", bad["recipients"][0]["forward_path"])
        self.assertIn(b"X-Test-ID: null", self.badmail_file("BAD"))

    def wait_for_badmail(self) -> dict[str, Any]:
        """The envelope of the only triple there is when nothing is queued any more."""
        directory = self.server.root.home / "Badmail"
        self.server.process.wait_until(lambda: list(directory.glob("*.BDR")), "a Badmail triple")
        self.server.wait_until_empty()
        found = self.server.root.badmail()
        self.assertEqual(1, len(found))
        self.assertEqual([], self.server.root.drop())
        return found[0]

    def badmail_file(self, kind: str) -> bytes:
        (path,) = (self.server.root.home / "Badmail").glob(f"*.{kind}")
        return path.read_bytes()
