"""A real Postfix between two of ours: what a sender asks for arrives, and is answered."""

from __future__ import annotations

import os
from email import message_from_bytes
from email.message import Message
from random import Random
from smtplib import SMTP
from typing import Any, ClassVar

from tests.bench.postfix_instance import start_postfix
from tests.support.mailroot import Delivered
from tests.support.peer_case import SENDER, PeerCase, content
from tests.support.process import reserve_address, split_address, takes_connections, wait_until

RELAY = {"relay": {"default": "allow"}}
HOME = {"name": "example.com", "type": "remote", "relay": True}


class ChainCase(PeerCase):
    """
    `first` (example.com) sends to Postfix, Postfix to `last` (other.example), which takes mail for
    the sender too, and has it for `first`.
    """

    if os.geteuid() != 0:
        skip = "Postfix changes users, so root has to start it"

    def start_chain(self, **last: Any) -> None:
        """All three."""
        postfix = reserve_address("127.0.0.1")
        self.first = self.start_server(
            access=RELAY, delivery={"smart_host": _hop(postfix), "security": {"tls": "none"}}
        )
        self.last = self.start_server(
            fqdn="mail.other.example",
            domain="other.example",
            domains=[{**HOME, "route": _hop(self.first.address)}],
            **last,
        )
        self.directory.chmod(0o711)  # its processes have users of their own
        port = split_address(postfix)[1]
        running = start_postfix(self.path("postfix"), port, split_address(self.last.address))
        self.addCleanup(running.wait)
        self.addCleanup(running.terminate)
        wait_until(lambda: takes_connections(postfix), "Postfix")

    def ask(self, mail: list[str], rcpt: list[str], receiver: str, octets: bytes) -> None:
        """One message to `first`, with parameters."""
        with self.first.client() as client:
            client.ehlo()
            self.assertEqual(250, client.mail(SENDER, mail)[0])
            code, words = client.rcpt(receiver, rcpt)
            self.assertEqual(250, code, words)
            self.assertEqual(250, client.data(octets)[0])

    def report(self) -> tuple[str, Message, Message]:
        """The report that has come back: who made it, and its two groups of fields."""
        (found,) = self.first.wait_for_drop(SENDER)
        return _fields(found)


class DSNTests(ChainCase):
    MAIL = ("RET=HDRS", "ENVID=QQ+2B1")
    RCPT = ("NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Bob@old.example")

    def test_success(self) -> None:
        """It goes through Postfix, and the host that delivers it tells."""
        self.start_chain()

        self.ask([*self.MAIL], [*self.RCPT], "bob@other.example", content("dsn"))

        self.last.wait_for_drop("bob@other.example")
        maker, message, recipient = self.report()
        self.assertIn("mail.other.example", maker)
        self.assertEqual("QQ+1", message["Original-Envelope-Id"])
        self.assertEqual("rfc822;Bob@old.example", recipient["Original-Recipient"])
        self.assertEqual("delivered", recipient["Action"])

    def test_failure(self) -> None:
        """Postfix knows what it was told when the mail goes no further."""
        self.start_chain()

        self.ask([*self.MAIL], [*self.RCPT], "bob@elsewhere.example", content())

        maker, message, recipient = self.report()
        self.assertIn("postfix.example", maker)
        self.assertEqual("QQ+1", message["Original-Envelope-Id"])
        self.assertEqual("rfc822;Bob@old.example", recipient["Original-Recipient"].replace(" ", ""))
        self.assertEqual("failed", recipient["Action"])


class SMTPUTF8Tests(ChainCase):
    def test_through_postfix(self) -> None:
        """Addresses and header in UTF-8 arrive as they were sent (RFC 6531, 6532)."""
        self.start_chain()
        trace = {"Date": "Fri, 27 Nov 2026 00:00:00 +0000", "Message-ID": "<1@example.com>"}
        octets = content("utf8", Subject="Größe", **trace)

        with self.first.client() as client:
            client.command_encoding = "utf-8"
            client.ehlo()
            self.assertEqual(250, client.mail("jörg@example.com", ["SMTPUTF8", "BODY=8BITMIME"])[0])
            self.assertEqual(250, client.rcpt("bjørn@other.example")[0])
            self.assertEqual(250, client.data(octets)[0])

        (found,) = self.last.wait_for_drop("bjørn@other.example")
        self.assertEqual("jörg@example.com", found.sender)
        self.assertTrue(found.content.endswith(octets))
        words = [line for line in found.content.split(b"\r\n") if b" with UTF8SMTP" in line]
        self.assertEqual(3, len(words))


class RoundTripTests(ChainCase):
    TRACE: ClassVar = {"Date": "Fri, 27 Nov 2026 00:00:00 +0000", "Message-ID": "<1@example.com>"}

    def bodies(self) -> dict[str, bytes]:
        """Text of every kind; Postfix keeps it as it is."""
        draw = Random(7)
        octets = bytes(range(1, 10)) + b"\x0b\x0c" + bytes(range(14, 256))
        line = b"..dots\r\n" + b"x" * 60 + b"\r\n.\r\n"
        return {
            "dots": b".\r\n..\r\n...\r\n. \r\n.x\r\n\r\n.\r\n",
            "octets": octets + b"\r\n" + octets[::-1] + b"\r\n",
            "long": b"." * 998 + b"\r\n" + b"\xe4" * 998 + b"\r\n",
            "blanks": b" \r\n\t\r\n \t \r\n\r\n\r\n",
            "empty": b"",
            "large": line * 3000,
            "random": b"".join(
                bytes(draw.choices(octets, k=draw.randrange(200))) + b"\r\n" for _ in range(300)
            ),
        }

    def test_any_content(self) -> None:
        """Sent by us, taken and sent on by Postfix, and taken by us again: octet by octet."""
        self.start_chain()
        sent = {name: content(name, **self.TRACE) + body for name, body in self.bodies().items()}
        binary = bytes(range(256)) * 20
        with self.first.client() as client:
            client.ehlo()
            for octets in sent.values():
                self.assertEqual(250, client.mail(SENDER, ["BODY=8BITMIME"])[0])
                self.assertEqual(250, client.rcpt("bob@other.example")[0])
                self.assertEqual(250, self.chunk(client, octets))
            self.assertEqual(250, client.mail(SENDER, ["BODY=BINARYMIME"])[0])
            self.assertEqual(250, client.rcpt("bob@other.example")[0])
            head = {"Content-Type": "image/x", "MIME-Version": "1.0", **self.TRACE}
            whole = content("binary", body="", **head) + binary
            self.assertEqual(250, self.chunk(client, whole))

        arrived = {
            one.test_id: one.content for one in self.last.wait_for_drop("bob@other.example", 8)
        }

        for name, octets in sent.items():
            self.assertTrue(arrived[name].endswith(b"\r\n" + octets), name)
        message = message_from_bytes(arrived["binary"])
        self.assertEqual("base64", message["Content-Transfer-Encoding"])
        self.assertEqual(binary, message.get_payload(decode=True))

    def chunk(self, client: SMTP, octets: bytes) -> int:
        """One BDAT; its reply's code."""
        client.send(b"BDAT %d LAST\r\n" % len(octets) + octets)
        return client.getreply()[0]


def _hop(address: str) -> str:
    host, port = split_address(address)
    return f"[{host}]:{port}"


def _fields(found: Delivered) -> tuple[str, Message, Message]:
    parts: Any = found.message.get_payload()
    status = parts[1].get_payload()
    return str(status[0]["Reporting-MTA"]), status[0], status[1]
