"""Clients of others: smtplib, smtp-source, and raw octets for what they cannot do."""

from __future__ import annotations

import smtplib
import socket
from pathlib import Path

from tests.support.peer_case import SENDER, PeerCase, content
from tests.support.process import PATIENCE_SECONDS, split_address

RECEIVER = "one@example.com"
MEGABYTE = 1 << 20


class ContentTests(PeerCase):
    """What is sent is what lies in Drop, octet by octet, below the trace fields."""

    def assert_arrives(self, octets: bytes) -> None:
        server = self.start_server()

        server.submit(RECEIVER, octets)

        found = server.wait_for_drop(RECEIVER)[0]
        trace, _, rest = found.content.partition(b"From: ")
        self.assertEqual(octets, b"From: " + rest)
        self.assertTrue(trace.startswith(b"Received: from "))
        self.assertEqual([], server.root.left_over())

    def test_dots(self) -> None:
        """Lines that begin with dots keep them all, whatever the transport adds."""
        self.assert_arrives(content(body=".\r\n..\r\n...\r\n.x\r\n x.\r\n.\r\n"))

    def test_eight_bit(self) -> None:
        """UTF-8 and Latin-1 octets pass as they are."""
        self.assert_arrives(content() + "Grüße, κόσμε\r\n".encode() + b"\xe4\xff\x80\r\n")

    def test_empty_body(self) -> None:
        """A header is a message."""
        self.assert_arrives(content(body=""))

    def test_large(self) -> None:
        """A message of 1.5 MB, which is kept as a file, not in its row."""
        line = b"0123456789abcdef" * 4 + b".\r\n"
        octets = content() + line * (3 * MEGABYTE // 2 // len(line))

        self.assert_arrives(octets)

    def test_large_lines_of_dots(self) -> None:
        """The escaping of dots holds across every border of blocks."""
        self.assert_arrives(content() + b"..\r\n.\r\n...\r\n" * 40_000)


class LimitTests(PeerCase):
    def test_declared_size(self) -> None:
        """A size over the limit is refused at MAIL with 552, before any content."""
        server = self.start_server(messages={"max_message_size": "100K"})

        with server.client() as client:
            client.ehlo()
            code, words = client.mail(SENDER, [f"size={200 * 1024}"])

        self.assertEqual((552, b"5.3.4"), (code, words[:5]))

    def test_undeclared_size(self) -> None:
        """A content over the limit gets 552 at its end, and the session goes on."""
        server = self.start_server(messages={"max_message_size": "100K"})

        with server.client() as client:
            client.ehlo()
            client.mail(SENDER)
            client.rcpt(RECEIVER)
            code, words = client.data(content() + b"x" * 70 + (b"\r\n" + b"y" * 70) * 3000)
            self.assertEqual((552, b"5.3.4"), (code, words[:5]))
            client.sendmail(SENDER, [RECEIVER], content("small"))

        self.assertEqual("small", server.wait_for_drop(RECEIVER)[0].test_id)
        self.assertEqual(1, len(server.root.drop()))

    def test_session_size(self) -> None:
        """MSG-02: beyond the session's limit the session ends with 421."""
        server = self.start_server(
            messages={"max_message_size": "100K", "max_session_size": "150K"}
        )
        octets = content() + (b"y" * 70 + b"\r\n") * 1200

        with server.client() as client:
            client.sendmail(SENDER, [RECEIVER], octets)
            with self.assertRaises(smtplib.SMTPResponseException) as caught:
                client.sendmail(SENDER, [RECEIVER], octets)

        self.assertEqual(421, caught.exception.smtp_code)
        server.wait_for_drop(RECEIVER)
        self.assertEqual([], server.root.left_over())

    def test_recipients(self) -> None:
        """MSG-04: one recipient too many is told to wait; the others are served."""
        server = self.start_server(messages={"max_recipients": 2})

        with server.client() as client:
            refused = client.sendmail(SENDER, [f"{name}@example.com" for name in "abc"], content())

        self.assertEqual([452], [code for code, _ in refused.values()])
        self.assertEqual(
            ("a@example.com", "b@example.com"), server.wait_for_drop("a@example.com")[0].receivers
        )

    def test_connections(self) -> None:
        """GEN-06: one connection too many hears 421 at once."""
        server = self.start_server(max_connections=1)

        with server.client() as first:
            with self.assertRaises(smtplib.SMTPConnectError) as caught:
                server.client()
            self.assertEqual(421, caught.exception.smtp_code)
            self.assertEqual(250, first.noop()[0])


class PipelineTests(PeerCase):
    """Clients that do not wait for 354, where the operator allows it."""

    def test_all_at_once(self) -> None:
        """Three transactions in one segment; the replies come in their order (RFC 2920)."""
        server = self.start_server(access={"early_talkers": "allow"})
        transaction = (
            b"MAIL FROM:<sender@example.com>\r\nRCPT TO:<one@example.com>\r\n"
            b"RCPT TO:<two@example.org>\r\nDATA\r\n%b.\r\n"
        )

        replies = self.converse(
            server.address,
            b"EHLO client.example.net\r\n"
            + b"".join(transaction % content(f"p{number}") for number in range(3))
            + b"QUIT\r\n",
        )

        codes = [line[:3] for line in replies.splitlines() if line[3:4] == b" "]
        self.assertEqual(
            [b"220", b"250", *[b"250", b"250", b"550", b"354", b"250"] * 3, b"221"], codes
        )
        found = server.wait_for_drop(RECEIVER, 3)
        self.assertEqual(["p0", "p1", "p2"], sorted(one.test_id for one in found))

    def test_early_disconnect(self) -> None:
        """A content without its end is nobody's, and leaves nothing."""
        server = self.start_server(access={"early_talkers": "allow"})

        with socket.create_connection(split_address(server.address), PATIENCE_SECONDS) as client:
            client.sendall(
                b"EHLO x.example\r\nMAIL FROM:<>\r\nRCPT TO:<one@example.com>\r\nDATA\r\n"
                + content()
                + b"." * 500_000
            )
        server.submit("two@example.com")

        server.wait_for_drop("two@example.com")
        server.wait_until_empty()
        self.assertEqual([], server.root.drop_for(RECEIVER))
        self.assertEqual([], list(Path(server.root.home, "SortTemp").iterdir()))

    def test_bare_line_feed_is_no_end(self) -> None:
        """P6: LF.LF and its relatives do not end a content; what follows is no command."""
        server = self.start_server(access={"early_talkers": "allow"})
        smuggled = b"MAIL FROM:<x@example.com>\r\nRCPT TO:<smuggled@example.com>\r\nDATA\r\n"

        for end in (b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\r"):
            replies = self.converse(
                server.address,
                b"EHLO x.example\r\nMAIL FROM:<>\r\nRCPT TO:<one@example.com>\r\nDATA\r\n"
                + content()
                + end
                + smuggled
                + content()
                + b"\r\n.\r\nQUIT\r\n",
            )
            self.assertEqual(1, replies.count(b"354 "), end)
            self.assertIn(b"554 5.6.0", replies, end)
        server.submit("last@example.com")
        server.wait_for_drop("last@example.com")
        self.assertEqual(1, len(server.root.drop()))

    def converse(self, address: str, octets: bytes) -> bytes:
        """Send *octets* in one piece; all that is said until the server hangs up."""
        replies = b""
        with socket.create_connection(split_address(address), PATIENCE_SECONDS) as client:
            client.sendall(octets)
            while block := client.recv(65536):
                replies += block
        return replies


class ProxyTests(PeerCase):
    def test_swaks_as_a_proxy(self) -> None:
        """XCLIENT as swaks says it: the message is the client's."""
        server = self.start_server(access={"proxies": ["127.0.0.1"]})
        said = self.swaks(
            server.address,
            *("--xclient-addr", "203.0.113.9", "--xclient-name", "client.example.net"),
            *("--from", SENDER, "--to", "user@example.com"),
        )
        self.assertIn("Hello [203.0.113.9]", said)
        (delivered,) = server.wait_for_drop("user@example.com")
        self.assertIn(b"([203.0.113.9])", delivered.content)


class SourceTests(PeerCase):
    def test_many_sessions(self) -> None:
        """smtp-source: 20 sessions, each message over a connection of its own."""
        self.assert_source_served("-s", "20", "-m", "200")

    def test_kept_sessions(self) -> None:
        """smtp-source: 20 sessions, each of which sends ten messages."""
        self.assert_source_served("-d", "-s", "20", "-m", "200")

    def test_without_hello(self) -> None:
        """smtp-source -o says no HELO, and is told to (IIS: 503 Send hello first)."""
        server = self.start_server()

        said = self.run_source(server.address, "-o", "-m", "1", "-t", RECEIVER, status=1)

        self.assertIn("503 5.5.2 Send hello first", said)

    def test_old_protocol(self) -> None:
        """A client that says HELO is served without extensions (RFC 5321 §4.1.1.1)."""
        server = self.start_server()

        said = self.swaks(server.address, "--protocol", "SMTP", "--to", RECEIVER, "--from", SENDER)

        self.assertNotIn("PIPELINING", said)
        self.assertIn(b" with SMTP id ", server.wait_for_drop(RECEIVER)[0].content)

    def assert_source_served(self, *options: str) -> None:
        server = self.start_server(messages={"max_session_size": "unlimited"})
        expected = int(options[-1])

        self.run_source(
            server.address, *options, "-l", "4096", "-f", "a@example.com", "-t", "one@example.com"
        )

        server.wait_for_drop(RECEIVER, expected)
        server.wait_until_empty()
        self.assertEqual(expected, len(server.root.drop()))
