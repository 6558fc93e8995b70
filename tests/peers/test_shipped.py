"""The shipped configuration as it is, with swaks as its clients."""

from __future__ import annotations

import smtplib
import socket
from contextlib import closing
from pathlib import Path

from tests.support.mailroot import Mailroot
from tests.support.peer_case import PeerCase
from tests.support.postfix_tools import PROJECT
from tests.support.process import Mailhost, Process, reserve_address, split_address

SHIPPED_ADDRESSES = ("127.0.0.1:2525", "127.0.0.1:2526")


#: Reverse-paths: a stranger's, none, our own, incomplete ones, and the server's address.
SENDERS = (
    "a@client.example.net",
    "",
    "a@example.com",
    "postmaster@mail.example.com",
    "a",
    "a@localhost",
    "a@[127.0.0.1]",
    '"a@elsewhere.example"@example.com',
)
#: Arguments of RCPT, each of which would have the mail leave.
RECEIVERS = (
    "<u@elsewhere.example>",
    "u@elsewhere.example",
    "<u%elsewhere.example>",
    "<u%elsewhere.example@example.com>",
    "<u%elsewhere.example@[{host}]>",
    "<u%elsewhere.example%again.example@example.com>",
    '<"u%elsewhere.example">',
    '<"u@elsewhere.example">',
    '<"u@elsewhere.example"@example.com>',
    '<"u@elsewhere.example"@[{host}]>',
    "<u@elsewhere.example@example.com>",
    "<u@elsewhere.example@[{host}]>",
    "<@example.com:u@elsewhere.example>",
    "<@[{host}]:u@elsewhere.example>",
    "<@example.com,@mail.example.com:u@elsewhere.example>",
    "<@example.com:u%elsewhere.example@example.com>",
    "<elsewhere.example!u>",
    "<elsewhere.example!u@example.com>",
    "<elsewhere.example!u@[{host}]>",
    "<elsewhere.example!again.example!u@example.com>",
    "<u@[198.51.100.1]>",
    "<u@[IPv6:2001:db8::1]>",
    "<u%[198.51.100.1]@example.com>",
    "<u@198.51.100.1>",
    "<postmaster@elsewhere.example>",
    "<u@elsewhere.example.>",
    "<u@example.com.elsewhere.example>",
    "<u@sub.example.com>",
    "<u@notexample.com>",
    "<u@mail.partner.example>",
    '<"u"@elsewhere.example>',
    "<u@elsewhere.example,u@example.com>",
    "<u@example.com><u@elsewhere.example>",
    "<u@elsewhere.example> <u@example.com>",
    "<u@example.com@elsewhere.example>",
    "<u@example.com%elsewhere.example>",
    "<u@example.com:elsewhere.example>",
    "<u @elsewhere.example>",
    "<u@(example.com)elsewhere.example>",
)


class ShippedConfigurationTests(PeerCase):
    """Only the ports are others; the homes lie below the folder the process starts in."""

    def setUp(self) -> None:
        super().setUp()
        self.configuration = self.directory / "mailhost.yaml"
        self.default = Mailroot(self.directory / "mailroot" / "default")
        self.branch = Mailroot(self.directory / "mailroot" / "branch")
        self.mailhost = Mailhost(self.addCleanup, self.configuration, Process)

    def start(self, *addresses: str) -> tuple[str, str]:
        """Run it at *addresses*; by default at new ones until both are to be had."""
        for _ in range(1 if addresses else 5):
            default, branch = addresses or (reserve_address(), reserve_address())
            _write_shipped(self.configuration, default, branch)
            self.mailhost.start(servers=2)
            if addresses or not self.mailhost.stopped():
                return default, branch
            self.mailhost.process.terminate()
        raise AssertionError(f"no ports are to be had\n{self.mailhost.process.said()}")

    def test_every_local_domain_reaches_its_drop(self) -> None:
        """Mail for a default or an alias domain appears in the Drop of its own server."""
        default, branch = self.start()

        self.swaks(default, "--from", "a@client.example.net", "--to", "one@example.com")
        self.swaks(default, "--from", "a@client.example.net", "--to", "two@example.net")
        self.swaks(branch, "--from", "a@client.example.net", "--to", "three@branch.example")

        process = self.mailhost.process
        process.wait_until(lambda: len(self.default.drop()) == 2, "two files in default's Drop")
        process.wait_until(lambda: len(self.branch.drop()) == 1, "one file in branch's Drop")
        self.assertEqual(
            [("one@example.com",), ("two@example.com",)],  # an alias is stamped over (IIS §8)
            [one.receivers for one in self.default.drop()],
        )
        self.assertEqual([("three@branch.example",)], [one.receivers for one in self.branch.drop()])
        self.assertEqual({"a@client.example.net"}, {one.sender for one in self.default.drop()})

    def test_both_say_who_they_are(self) -> None:
        """Each server greets by its own name and announces its own limit (GEN-02, MSG-01)."""
        default, branch = self.start()

        first = self.swaks(default, "--quit-after", "EHLO")
        second = self.swaks(branch, "--quit-after", "EHLO")

        self.assertIn("220 mail.example.com", first)
        self.assertIn("SIZE 2097152", first)
        self.assertIn("220 mail.branch.example", second)
        self.assertIn("SIZE 524288", second)

    def test_relaying_is_refused(self) -> None:
        """Nobody may relay, not even loopback, nor by a domain that is another server's."""
        default, branch = self.start()

        for server, receiver in (
            (default, "a@example.org"),
            (default, "a@branch.example"),
            (default, "a@sub.partner.example"),
            (branch, "a@example.com"),
        ):
            said = self.swaks(server, "--from", "a@example.com", "--to", receiver, status=24)
            self.assertIn(f"550 5.7.1 Unable to relay for {receiver}", said)
        self.assertEqual([], self.default.queue() + self.branch.queue())

    def test_open_relay(self) -> None:
        """Every way to ask for relaying that testers of open relays know, and some more."""
        default, _ = self.start()
        host, port = split_address(default)
        wrong: list[object] = []
        for sender in SENDERS:
            for receiver in RECEIVERS if sender == SENDERS[0] else RECEIVERS[:1]:
                with smtplib.SMTP(host, port, "client.example.net", timeout=20) as client:
                    client.ehlo()
                    client.docmd(f"MAIL FROM:<{sender}>")
                    code, words = client.docmd(f"RCPT TO:{receiver.format(host=host)}")
                    if not 500 <= code < 600:
                        wrong.append((sender, receiver, code, words))
        self.assertEqual([], wrong)
        self.assertEqual([], self.default.queue() + self.default.drop())

    def test_recipients_of_both_sorts(self) -> None:
        """A refused recipient does not take the accepted one with it."""
        default, _ = self.start()

        said = self.swaks(
            default, "--from", "a@example.com", "--to", "here@example.com,there@example.org"
        )

        self.assertIn("550 5.7.1 Unable to relay for there@example.org", said)
        process = self.mailhost.process
        process.wait_until(lambda: self.default.drop_for("here@example.com"), "mail in Drop")

    def test_taken_port_fails_alone(self) -> None:
        """A virtual server that cannot bind says so and is stopped; the other one serves."""
        with closing(socket.socket()) as squatter:
            taken = reserve_address()
            squatter.bind(split_address(taken))
            squatter.listen()
            _, branch = self.start(taken, reserve_address())

            self.swaks(branch, "--from", "a@example.com", "--to", "one@branch.example")

        process = self.mailhost.process
        process.wait_until(lambda: self.branch.drop_for("one@branch.example"), "mail in Drop")
        self.assertEqual(1, len(self.mailhost.running()))
        self.assertEqual(1, len(self.mailhost.stopped()))
        self.assertIn(
            f"virtual server 'default' cannot listen on {taken}: Address already in use",
            self.mailhost.stopped()[0],
        )
        self.assertNotIn("Traceback", process.said())


def _write_shipped(configuration: Path, *addresses: str) -> None:
    text = (PROJECT / "etc" / "mailhost.yaml").read_text("utf-8")
    for shipped, address in zip(SHIPPED_ADDRESSES, addresses, strict=True):
        if text.count(f'listen: ["{shipped}"]') != 1:
            raise AssertionError(f"etc/mailhost.yaml does not listen on {shipped}")
        text = text.replace(shipped, address)
    configuration.write_text(text, "utf-8")
