"""
A whole server, recorded system call by system call while it serves a message of each kind.

Its clients and its next hop are in this process and not recorded; what it says to them, and
hears from them, is.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from attrs import define, field

from tests.crash.recorded import CALLS, STRACE
from tests.support.mailroot import Mailroot
from tests.support.peer_case import SENDER, Server, content
from tests.support.process import (
    LOOPBACK,
    Mailhost,
    Process,
    mailhost_command,
    project_environment,
    reserve_address,
    split_address,
)
from tests.support.recording_sink import REFUSED_DOMAIN, RecordingSink

_LINE = "0123456789" * 7 + "\r\n"
_BODIES = {"small": _LINE, "large": _LINE * 4200}
_HERE, _ELSEWHERE, _NOBODY = "bob@example.com", "carl@example.net", f"dora@{REFUSED_DOMAIN}"
#: What clients submit, in this order: test id, sender, recipient.
SUBMITTED = tuple(
    (f"{name}-{size}", sender, receiver)
    for size in _BODIES
    for name, sender, receiver in (
        ("dropped", SENDER, _HERE),
        ("relayed", SENDER, _ELSEWHERE),
        ("returned", SENDER, _NOBODY),
        ("bad", "", _NOBODY),
    )
)
#: What lies in Pickup before the start: test id, recipient; the last has none.
PICKED = tuple(
    (f"picked-{name}-{size}", receiver)
    for size in _BODIES
    for name, receiver in (("dropped", _HERE), ("relayed", _ELSEWHERE), ("bad", ""))
)


def octets_of(test_id: str) -> bytes:
    """The message called *test_id*, as it was handed over; our own fields come in front."""
    return content(test_id, _BODIES[test_id.rpartition("-")[2]], To=dict(PICKED).get(test_id, ""))


class _Traced(Mailhost):
    """As an operator starts it, below strace."""

    def launch(self) -> None:
        folder = self.configuration.parent
        calls = f"trace={CALLS},sendto,recvfrom,execve"
        command = [*STRACE, "-e", calls, "-o", str(folder / "trace")]
        self.process = Process(
            [*command, *mailhost_command(self.configuration)], folder / "mailhost.log"
        )
        self.process.start(self.clean, folder, project_environment())

    def running(self) -> list[str]:
        """See `Mailhost`; the log is a file of its own."""
        log = self.configuration.parent / "home" / "log" / "a.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if " is running for " in line]

    def stop(self) -> None:
        """In good order; strace goes with what it traces."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGTERM)
        self.process.wait()


class _HomeOfAll(Server):
    """What is no mail makes directories too, and before the queue does."""

    def configure(self, **changes: Any) -> None:
        home = self.root.home.parent
        super().configure(**changes)
        tree = yaml.safe_load(self.mailhost.configuration.read_text())
        own = {"control": str(home / "control.sock"), "log": {"file": str(home / "log" / "a.log")}}
        self.mailhost.write(tree | own)


@define(eq=False)
class Served:
    """
    :ivar folder: is durable before the start.
    :ivar picked: there is a home, with files in Pickup; else it is made at the start.
    :ivar queue_ids: the acknowledged messages' test ids, by queue id.
    """

    folder: Path
    clean: Callable[[Callable[[], object]], object]
    picked: bool
    queue_ids: dict[str, str] = field(factory=dict)
    sink: RecordingSink = field(factory=partial(RecordingSink, LOOPBACK))

    @property
    def home(self) -> Path:
        return self.folder / "home" / "one"

    def prepare(self) -> None:
        """What is there before the server is."""
        if not self.picked:
            return
        pickup = self.home / "Pickup"
        pickup.mkdir(parents=True)
        for test_id, _ in PICKED:
            (pickup / f"{test_id}.eml").write_bytes(octets_of(test_id))

    def record(self) -> bytes:
        """
        From the start to the end of the server.

        :returns: the trace.
        """
        self.sink.start()
        self.clean(self.sink.stop)
        host, port = split_address(self.sink.address)
        settings = {
            "access": {"relay": {"default": "allow"}},
            "delivery": {"smart_host": f"[{host}]:{port}"},
        }
        mailhost = _Traced(self.clean, self.folder / "mailhost.yaml")
        server = _HomeOfAll(mailhost, reserve_address(), Mailroot(self.home), settings)
        server.configure()
        server.start()
        with server.client() as client:
            for test_id, sender, receiver in SUBMITTED:
                client.ehlo()
                client.mail(sender)
                client.rcpt(receiver)
                code, words = client.data(octets_of(test_id))
                assert code == 250, words
                self.queue_ids[words.decode().split()[-1].strip("[]")] = test_id
        server.process.wait_until(lambda: self._is_served(server), "everything served")
        mailhost.stop()
        return _of_the_server((self.folder / "trace").read_bytes())

    def _is_served(self, server: Server) -> bool:
        pickup = self.home / "Pickup"
        waiting = [*pickup.glob("*.eml"), *(pickup / ".work").glob("*")]
        return not waiting and not server.root.queue()


def _of_the_server(trace: bytes) -> bytes:
    """*trace* without programs that the server runs: ``ctypes`` looks for libraries with some."""
    lines = [line.split(b" ", 1) for line in trace.splitlines(keepends=True)]
    starts = [thread for thread, text in lines if b"execve" in text]
    others = {thread for thread in starts if thread != starts[0]}
    return b"".join(
        thread + b" " + text
        for thread, text in lines
        if thread not in others and b"execve" not in text
    )
