"""The base of all tests that run mailhost as a process, among real peers."""

from __future__ import annotations

import json
import shutil
import smtplib
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.trial.unittest import SynchronousTestCase

from tests.support.mailroot import Delivered, Mailroot, Waiting
from tests.support.postfix_tools import (
    PROJECT,
    postfix_environment,
    sink_command,
    source_command,
    swaks_program,
)
from tests.support.process import (
    LOOPBACK,
    PATIENCE_SECONDS,
    Mailhost,
    Process,
    project_environment,
    reserve_address,
    split_address,
    takes_connections,
    wait_until,
)

SENDER = "sender@example.com"


def content(test_id: str = "", body: str = "Hello.\r\n", **fields: str) -> bytes:
    """A message with CRLF line ends."""
    header = {"From": SENDER, "Subject": "test", "X-Test-ID": test_id, **fields}
    lines = "".join(f"{name}: {value}\r\n" for name, value in header.items() if value)
    return f"{lines}\r\n{body}".encode()


@define(eq=False)
class Server:
    """
    A mailhost process with one virtual server, for example.com.

    :ivar address: ``host:port`` where it listens.
    """

    mailhost: Mailhost
    address: str
    root: Mailroot
    settings: dict[str, Any] = field(factory=dict)
    resolver: dict[str, Any] | None = None

    @property
    def process(self) -> Process:
        return self.mailhost.process

    def configure(self, **changes: Any) -> None:
        """Write the configuration with *changes*; what runs does not know of it yet."""
        self.settings |= changes
        server = {
            "name": "one",
            "home": str(self.root.home),
            "fqdn": "mail.example.com",
            "domain": "example.com",
            "listen": [self.address],
            **self.settings,
        }
        tree: dict[str, Any] = {"virtual_servers": [server]}
        if self.resolver is not None:
            tree["resolver"] = self.resolver
        self.mailhost.write(tree)

    def start(self) -> None:
        """Run it until it listens; where the port has been taken since, on another."""
        for _ in range(5):
            self.mailhost.start()
            if self.mailhost.running():
                return
            if "Address already in use" not in self.process.said():
                break
            self.process.terminate()
            self.address = reserve_address()
            self.configure()
        raise AssertionError(f"the server does not run\n{self.process.said()}")

    def client(self) -> smtplib.SMTP:
        """A session before its EHLO."""
        return smtplib.SMTP(*split_address(self.address), timeout=PATIENCE_SECONDS)

    def submit(
        self, receivers: str | Sequence[str], octets: bytes = b"", sender: str = SENDER
    ) -> None:
        """Have one message accepted."""
        with self.client() as client:
            refused = client.sendmail(sender, receivers, octets or content())
            if refused:
                raise AssertionError(f"refused: {refused}")

    # ---- waiting

    def wait_for_drop(self, receiver: str, count: int = 1) -> list[Delivered]:
        """Until *receiver* has *count* messages in Drop."""

        def found() -> list[Delivered]:
            files = self.root.drop_for(receiver)
            return files if len(files) >= count else []

        return self.process.wait_until(found, f"{count} messages in Drop for {receiver}")

    def wait_for_attempts(self, receiver: str, count: int = 1) -> Waiting:
        """Until *count* attempts for *receiver* have failed, and the message waits in Queue."""

        def tried() -> list[Waiting]:
            return [one for one in self.root.queue_for(receiver) if one.attempts >= count]

        return self.process.wait_until(tried, f"{count} failed attempts for {receiver}")[0]

    def wait_until_empty(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Until nobody waits in Queue."""
        self.process.wait_until(lambda: not self.root.queue(), "an empty Queue", seconds)


@define(eq=False)
class Sink:
    """
    A running smtp-sink.

    :ivar address: where it listens.
    :ivar dumps: the folder of what it has taken.
    """

    process: Process
    address: str
    dumps: Path

    @property
    def next_hop(self) -> str:
        """The sink as a next hop that needs no DNS."""
        host, port = split_address(self.address)
        return f"[{host}]:{port}"

    def taken(self) -> list[bytes]:
        """Each transaction that was not refused, with smtp-sink's own header."""
        found = [path.read_bytes() for path in sorted(self.dumps.iterdir())]
        # It opens the file at DATA; a file with an end of line at its end is not half-written.
        return [octets for octets in found if octets.endswith((b"\n\n", b"\r\n"))]

    def taken_ids(self) -> list[str]:
        """The X-Test-ID of each, sorted."""
        return sorted(
            line.partition(b": ")[2].strip().decode()
            for octets in self.taken()
            for line in octets.splitlines()
            if line.startswith(b"X-Test-ID: ")
        )

    def wait_for(self, *ids: str) -> None:
        """Until it has taken messages with exactly these X-Test-IDs."""
        self.process.wait_until(
            lambda: self.taken_ids() == sorted(ids), f"messages {ids}, not {self.taken_ids()}"
        )


def _comes_up(sink: Process, address: str) -> bool:
    """Wait for *sink*; whether it listens."""
    wait_until(lambda: takes_connections(address) or sink.ended, f"a listener on {address}")
    return not sink.ended


class PeerCase(SynchronousTestCase):
    """Has a folder of its own, and ends all it has started."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mailhost-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self._count = 0

    def path(self, name: str) -> Path:
        """A new path below this test's folder."""
        self._count += 1
        return self.directory / f"{self._count}-{name}"

    # ---- mailhost

    def make_server(self, resolver: str | None = None, **settings: Any) -> Server:
        """A virtual server, configured and not started."""
        folder = self.path("server")
        folder.mkdir()
        server = Server(
            Mailhost(self.addCleanup, folder / "mailhost.yaml"),
            reserve_address(),
            Mailroot(folder / "home"),
            dict(settings),
            {"servers": [resolver], "timeout": "1s"} if resolver else None,
        )
        server.configure()
        return server

    def start_server(self, resolver: str | None = None, **settings: Any) -> Server:
        """A virtual server that listens."""
        server = self.make_server(resolver, **settings)
        server.start()
        return server

    # ---- peers

    def start_sink(self, *options: str, address: str | None = None) -> Sink:
        """An smtp-sink that listens."""
        for _ in range(5):
            where = address or reserve_address()
            dumps = self.path("sink")
            dumps.mkdir()
            process = Process(
                sink_command(where, *options, "-d", str(dumps / "%H%M%S.")), self.path("sink.log")
            )
            process.start(self.addCleanup, environment=postfix_environment())
            if _comes_up(process, where):
                return Sink(process, where, dumps)
            if address is not None or "Address already in use" not in process.said():
                break
        raise AssertionError(f"smtp-sink does not run\n{process.said()}")

    def start_dns(
        self,
        zones: Mapping[str, Mapping[str, Sequence[str]]],
        faults: Mapping[str, str] | None = None,
    ) -> str:
        """A name server; its ``host:port``."""
        told = self.path("zones.json")
        told.write_text(json.dumps({"zones": zones, "faults": faults or {}}))
        process = Process(
            [sys.executable, "-m", "tests.support.dns_process", LOOPBACK, str(told)],
            self.path("dns.log"),
        )
        process.start(self.addCleanup, PROJECT, project_environment())
        process.wait_until(lambda: process.said().endswith("\n"), "the name server's port")
        return f"{LOOPBACK}:{int(process.said())}"

    def run_source(self, address: str, *options: str, status: int = 0) -> str:
        """smtp-source from its beginning to its end with *status*; what it has said."""
        return self.run_peer(source_command(address, *options), postfix_environment(), status)

    def swaks(self, server: str, *options: str, status: int = 0) -> str:
        """
        swaks from its beginning to its end with *status*; the transcript.

        Of its exit statuses 24 means that no recipient was accepted.
        """
        command = [swaks_program(), "--server", server, "--helo", "client.example.net", *options]
        return self.run_peer(command, None, status)

    def run_peer(self, command: list[str], environment: dict[str, str] | None, status: int) -> str:
        """*command* from its beginning to its end with *status*; what it has said."""
        ended = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_SECONDS * 2,
            text=True,
            errors="replace",
            check=False,
        )
        self.assertEqual(status, ended.returncode, f"{command[0]}:\n{ended.stdout}")
        return ended.stdout
