"""Every example of the manual, run as a reader would run it (docs/embedding.rst)."""

from __future__ import annotations

import contextlib
import re
import smtplib
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mailhost import ESMTPFactory
from mailhost.model.address import Mailbox
from mailhost.model.parameters import MailParameters, RecipientParameters
from mailhost.model.reply import Reply
from mailhost.model.session import SessionFacts
from mailhost.smtp import replies
from mailhost.smtp.rules import Rules
from tests.support.dns_server import DNSServer

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"


class Example(ProcessProtocol):
    """One example under way."""

    def __init__(self, name: str, *arguments: str) -> None:
        self.out = b""
        self.err = b""
        self.ended: Deferred[int] = Deferred()
        command = [sys.executable, str(EXAMPLES / name), *arguments]
        environment = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        self.process: Any = reactor.spawnProcess(  # type: ignore[attr-defined]
            self, command[0], command, environment, str(ROOT)
        )

    def outReceived(self, data: bytes) -> None:
        self.out += data

    def errReceived(self, data: bytes) -> None:
        self.err += data

    def processEnded(self, reason: Failure) -> None:
        exit_code: Any = reason.value
        self.ended.callback(exit_code.exitCode)

    async def says(self, pattern: bytes) -> re.Match[bytes]:
        """Wait for it on standard output."""
        while (found := re.search(pattern, self.out)) is None:
            assert not self.ended.called, self.err.decode()
            await deferLater(clock(), 0.02)
        return found

    def end(self) -> Deferred[Any]:
        """Tell the process to end, and wait until it has; none is left behind."""
        if self.ended.called:
            return succeed(None)
        self._signal("TERM")
        killing = clock().callLater(10, self._signal, "KILL")

        def over(exit_code: int) -> None:
            if killing.active():
                killing.cancel()

        return self.ended.addCallback(over)

    def _signal(self, name: str) -> None:
        # Not imported by name: trial takes a module's `suppress` for its own list of warnings.
        with contextlib.suppress(ProcessExitedAlready):
            self.process.signalProcess(name)


def clock() -> IReactorTime:
    found: Any = reactor
    return found  # type: ignore[no-any-return]  # the global reactor has no type of its own


class NextHop:
    """An `IReception` that takes everything, and keeps it."""

    taken: list[tuple[str, list[str], bytes]]

    def __init__(self, taken: list[Any], refuses: bool, session: SessionFacts) -> None:
        self.session, self._taken, self._refuses = session, taken, refuses
        self.reset()

    def connected(self) -> Reply:
        return replies.OK

    def hello(self, name: str, extended: bool) -> Reply:
        return replies.OK

    def sender(
        self,
        reverse_path: Mailbox | None,
        size: int | None,
        body: str,
        parameters: MailParameters,
    ) -> Reply:
        self._sender = str(reverse_path or "<>")
        return replies.OK

    def recipient(self, forward_path: Mailbox, parameters: RecipientParameters) -> Reply:
        if self._refuses:
            return replies.NO_ROOM
        self._recipients.append(str(forward_path))
        return replies.OK

    def content(self) -> Reply:
        return replies.START_CONTENT

    def write(self, octets: bytes) -> None:
        self._octets += octets

    def end_of_content(self, fault: Reply | None, wire_ready: bool) -> Reply:
        self._taken.append((self._sender, self._recipients, self._octets))
        return fault or replies.OK

    def reset(self) -> None:
        self._sender, self._recipients, self._octets = "", [], b""

    def disconnected(self) -> None:
        """Nothing to do."""


def send(port: int, sender: str, recipients: list[str], text: str) -> Deferred[Any]:
    """A message by smtplib, in a thread; the recipients that were refused."""

    def client() -> Any:
        with smtplib.SMTP("127.0.0.1", port, "client.example.org", timeout=20) as smtp:
            return smtp.sendmail(sender, recipients, text)

    return deferToThread(client)


class ExampleTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_example(self, name: str, *arguments: str) -> Example:
        example = Example(name, *arguments)
        self.addCleanup(example.end)
        return example

    async def listening(self, name: str, *arguments: str) -> tuple[Example, int]:
        """An example that listens, and the port the kernel gave it."""
        example = self.run_example(name, "127.0.0.1", "0", *arguments)
        found = await example.says(rb"listening on 127\.0\.0\.1 (\d+)\n")
        return example, int(found[1])

    def next_hop(self, refuses: bool = False) -> tuple[list[Any], int]:
        """A host that takes mail, and its port."""
        taken: list[Any] = []
        factory = ESMTPFactory(
            lambda session: NextHop(taken, refuses, session), clock(), Rules("hop.example.net")
        )
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(factory.end_sessions)
        self.addCleanup(port.stopListening)
        return taken, port.getHost().port

    async def test_esmtp_factory(self) -> None:
        """A message for its domain becomes a file; another recipient is refused."""
        example, port = await self.listening("esmtp_factory.py", "example.com", str(self.folder))

        refused = await send(
            port,
            "a@example.org",
            ["b@example.com", "c@example.net"],
            "Subject: x\r\n\r\n.dot\r\n",
        )

        self.assertEqual(["c@example.net"], list(refused))
        name = (await example.says(rb"(\S+\.eml)\n"))[1].decode()
        self.assertEqual(b"Subject: x\r\n\r\n.dot\r\n", (self.folder / name).read_bytes())

    async def test_message_delivery(self) -> None:
        """A delivery of twisted.mail gets sender, recipient and lines."""
        example, port = await self.listening("message_delivery.py", "example.com")

        refused = await send(
            port, "a@example.org", ["b@example.com", "c@example.net"], "Subject: x\r\n\r\nhello\r\n"
        )

        self.assertEqual(["c@example.net"], list(refused))
        await example.says(rb"from a@example\.org to b@example\.com\n---\n")
        found = await example.says(rb"---\nReceived: .*\n((?:.*\n)*?)---\n")
        self.assertEqual(b"Subject: x\n\nhello\n", found[1])

    async def test_relay_manager(self) -> None:
        """The message arrives at the next hop; the queue is empty, and the exit status 0."""
        taken, port = self.next_hop()
        example = self.run_example(
            "relay_manager.py", "127.0.0.1", str(port), "a@example.org", "b@example.com"
        )
        example.process.write(b"Subject: x\n\n.hello\n")
        example.process.closeStdin()

        self.assertEqual(0, await example.ended, example.err.decode())
        self.assertEqual(
            [("a@example.org", ["b@example.com"], b"Subject: x\r\n\r\n.hello\r\n")], taken
        )
        self.assertRegex(example.out, rb"[0-9a-f]{24} has left the queue\n")

    async def test_relay_manager_waits(self) -> None:
        """A next hop that says "later" leaves the message waiting, and nothing arrives."""
        taken, port = self.next_hop(refuses=True)
        example = self.run_example(
            "relay_manager.py", "127.0.0.1", str(port), "a@example.org", "b@example.com"
        )
        example.process.write(b"Subject: x\n\nhello\n")
        example.process.closeStdin()

        while b"b@example.com delayed 4.3.1" not in example.err:
            self.assertFalse(example.ended.called, example.err.decode())
            await deferLater(clock(), 0.02)

        self.assertEqual(([], b""), (taken, example.out))

    async def test_ldap_resolver(self) -> None:
        """A person, a group with a forwarding member, and nobody, out of a directory in memory."""
        addresses = [f"{name}@example.com" for name in ("robert", "team", "nobody")]
        example = self.run_example("ldap_resolver.py", *addresses)

        self.assertEqual(0, await example.ended, example.err.decode())
        one, group, nobody = example.out.decode().splitlines()
        self.assertEqual("robert@example.com user robert@example.com at mail.example.com", one)
        self.assertIn("maria@example.net at its domain", group)
        self.assertEqual("nobody@example.com 550 5.1.1 User unknown: nobody@example.com", nobody)

    async def test_sqlite_queue(self) -> None:
        """What one process has stored, another reads; what is done is gone."""
        put = self.run_example(
            "sqlite_queue.py", "put", str(self.folder), "a@example.org", "b@example.com"
        )
        put.process.write(b"Subject: x\r\n\r\nhello\r\n")
        put.process.closeStdin()
        self.assertEqual(0, await put.ended, put.err.decode())
        queue_id = put.out.strip()
        line = b"%b 21 a@example.org b@example.com\n" % queue_id

        listed = self.run_example("sqlite_queue.py", "list", str(self.folder))
        self.assertEqual((0, line), (await listed.ended, listed.out), listed.err.decode())

        done = self.run_example("sqlite_queue.py", "done", str(self.folder))
        self.assertEqual(0, await done.ended, done.err.decode())
        self.assertEqual(line + b"Subject: x\r\n\r\nhello\r\n", done.out)

        empty = self.run_example("sqlite_queue.py", "list", str(self.folder))
        self.assertEqual((0, b""), (await empty.ended, empty.out), empty.err.decode())

    async def test_virtual_server(self) -> None:
        """Mail for its domain appears in Drop; it ends in order when it is told to."""
        example, port = await self.listening("virtual_server.py", "example.com", str(self.folder))

        await send(port, "a@example.org", ["b@example.com"], "Subject: x\r\n\r\nhello\r\n")
        drop = self.folder / "Drop"
        while not (found := list(drop.glob("[!.]*.eml"))):
            await deferLater(clock(), 0.02)

        self.assertIn(b"\r\nSubject: x\r\n\r\nhello\r\n", found[0].read_bytes())
        example.process.signalProcess("TERM")
        self.assertEqual(0, await example.ended, example.err.decode())

    async def test_mail_exchange_resolver(self) -> None:
        """Each host of a domain is a line, in the order to try."""
        server = DNSServer(reactor)
        self.addCleanup(server.stop)
        server.start(
            {
                "example.com": {"MX": ["20 b.example.com.", "10 a.example.com."]},
                "a.example.com": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
                "b.example.com": {"A": ["192.0.2.2"]},
            }
        )
        example = self.run_example(
            "mail_exchange_resolver.py", "example.com", "127.0.0.1", str(server.port)
        )

        self.assertEqual(0, await example.ended, example.err.decode())
        self.assertEqual(
            b"10 a.example.com 2001:db8::1 192.0.2.1\n20 b.example.com 192.0.2.2\n", example.out
        )
