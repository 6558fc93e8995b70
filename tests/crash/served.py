"""
A whole server, recorded system call by system call while each of its workers serves a message of
each kind, and what ends in Badmail is sent again.

Its clients and its next hop are in this process and not recorded; what it says to them, and
hears from them, is.
"""

from __future__ import annotations

import os
import re
import signal
import smtplib
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from mailhost.cli.link import Link
from tests.crash.recorded import CALLS, CLONES, STRACE, processes
from tests.support.mailroot import Mailroot
from tests.support.peer_case import SENDER, content
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
from tests.workers.house import House

_LINE = "0123456789" * 7 + "\r\n"
_BODIES = {"small": _LINE, "large": _LINE * 4200}
_HERE, _ELSEWHERE, _NOBODY = "bob@example.com", "carl@example.net", f"dora@{REFUSED_DOMAIN}"
_KINDS = (
    ("dropped", SENDER, _HERE),
    ("relayed", SENDER, _ELSEWHERE),
    ("returned", SENDER, _NOBODY),
    ("bad", "", _NOBODY),
)
#: What lies in Pickup before the start: test id, recipient; the last has none.
PICKED = tuple(
    (f"picked-{name}-{size}", receiver)
    for size in _BODIES
    for name, receiver in (("dropped", _HERE), ("relayed", _ELSEWHERE), ("bad", ""))
)


#: What `processes` is made of, and nothing that is played.
_NO_FILE = re.compile(rb"(?:<\.\.\. )?(?:clone3?|v?fork|execve)\W")


def submitted(worker: int) -> list[tuple[str, str, str]]:
    """What clients submit to *worker*, in this order: test id, sender, recipient."""
    return [
        (f"{name}-{worker}-{size}", sender, receiver)
        for size in _BODIES
        for name, sender, receiver in _KINDS
    ]


def octets_of(test_id: str) -> bytes:
    """The message called *test_id*, as it was handed over; our own fields come in front."""
    return content(test_id, _BODIES[test_id.rpartition("-")[2]], To=dict(PICKED).get(test_id, ""))


class _Traced(Mailhost):
    """As an operator starts it, below strace."""

    def launch(self) -> None:
        folder = self.configuration.parent
        calls = f"trace={CALLS},{CLONES},sendto,recvfrom,execve"
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


@frozen
class Trace:
    """
    :ivar lines: what strace has written.
    :ivar processes: by thread.
    """

    lines: bytes
    processes: Mapping[bytes, bytes]


@define(eq=False)
class Served:
    """
    :ivar folder: is durable before the start.
    :ivar picked: there is a home, with files in Pickup; else it is made at the start.
    :ivar workers: how many.
    :ivar queue_ids: the acknowledged messages' test ids, by queue id.
    """

    folder: Path
    clean: Callable[[Callable[[], object]], object]
    picked: bool
    workers: int
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

    def record(self) -> Trace:
        """From the start to the end of the server."""
        self.sink.start()
        self.clean(self.sink.stop)
        host, port = split_address(self.sink.address)
        settings = {
            "access": {"relay": {"default": "allow"}},
            "delivery": {"smart_host": f"[{host}]:{port}"},
        }
        mailhost = _Traced(self.clean, self.folder / "mailhost.yaml")
        server = House(
            mailhost, reserve_address(), Mailroot(self.home), settings, workers=self.workers
        )
        # What is no mail makes directories too, and before the queue does.
        log = {"file": str(self.folder / "home" / "log" / "a.log")}
        server.top = {"control": str(self._control), "log": log}
        server.configure()
        server.start()
        for worker, client in self._sessions(server).items():
            for test_id, sender, receiver in submitted(worker):
                client.ehlo()
                client.mail(sender)
                client.rcpt(receiver)
                code, words = client.data(octets_of(test_id))
                assert code == 250, words
                self.queue_ids[words.decode().split()[-1].strip("[]")] = test_id
        self._send_again(server)
        mailhost.stop()
        return _of_the_server((self.folder / "trace").read_bytes())

    @property
    def _control(self) -> Path:
        return self.folder / "home" / "control.sock"

    def _sessions(self, server: House) -> dict[int, smtplib.SMTP]:
        """One with each worker."""
        found: dict[int, smtplib.SMTP] = {}
        for _ in range(100):
            client = server.client()
            self.clean(client.close)
            assert client.sock is not None
            port = client.sock.getsockname()[1]
            rows = Link(self._control).get("/v1/sessions")["rows"]
            (worker,) = (int(row["id"].split("-")[0]) for row in rows if row["peer_port"] == port)
            found.setdefault(worker, client)
            if len(found) == self.workers:
                return dict(sorted(found.items()))
        raise AssertionError(f"only the workers {list(found)} take sessions")

    def _send_again(self, server: House) -> None:
        """What ends in Badmail: files out of Pickup as they are, and then all of it elsewhere."""
        bad = self._wait_until_served(server, len(_BODIES) * (self.workers + self.picked))
        if self.picked:
            files = [one["id"] for one in bad if one["source"]]
            assert len(files) == len(_BODIES), bad
            self._requeue(files)
            bad = self._wait_until_served(server, len(bad))
        for start, receiver in enumerate((_HERE, _ELSEWHERE)):
            self._requeue([one["id"] for one in bad[start::2]], receiver)
        self._wait_until_served(server, 0)

    def _requeue(self, stems: list[str], *to: str) -> None:
        done = Link(self._control).post("/v1/badmail/requeue", {"ids": stems, "to": to})["done"]
        assert [one["id"] for one in done if "became" in one] == stems, done

    def _wait_until_served(self, server: House, bad: int) -> list[dict[str, Any]]:
        """Until nothing waits, and *bad* messages are in Badmail; these."""
        pickup = self.home / "Pickup"

        def served() -> bool:
            waiting = [*pickup.glob("*.eml"), *(pickup / ".work").glob("*")]
            return not waiting and not any(server.waiting()) and len(self._badmail()) == bad

        server.process.wait_until(served, f"everything served but {bad}")
        return self._badmail()

    def _badmail(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = Link(self._control).get("/v1/badmail")["rows"]
        return rows


def _of_the_server(trace: bytes) -> Trace:
    """
    Without programs that the server runs, ``ctypes`` looks for libraries with some, and without
    what a worker does before it is one.
    """
    lines = [line.split(maxsplit=1) for line in trace.splitlines(keepends=True)]
    python = b'execve("' + b"".join(b"\\x%02x" % one for one in os.fsencode(sys.executable)) + b'"'
    runs: dict[bytes, int] = {}
    for number, (thread, text) in enumerate(lines):
        if text.startswith(b"execve("):
            runs[thread] = number if text.startswith(python) else len(lines)
    left = (
        thread + b" " + text
        for number, (thread, text) in enumerate(lines)
        if number > runs.get(thread, -1) and not _NO_FILE.match(text)
    )
    return Trace(b"".join(left), processes(trace))
