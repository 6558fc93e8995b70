"""
What one Twisted process can do at most: accept, commit, relay, and nothing else.

``python -m tests.bench.bare_loop PORT NEXT_PORT FOLDER``.  No limits, no checks, no timers, no log,
one recipient, no failures: a next hop that refuses ends the process.  It is durable: a group of
messages is committed with a synchronous SQLite transaction in a thread before their 250, and what
was relayed is deleted in the same way.  It is no mail server, only the limit that a mail server in
one process is compared with.
"""

from __future__ import annotations

import sqlite3
import sys
from collections import deque
from pathlib import Path

from twisted.internet import reactor as installed
from twisted.internet import threads
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from mailhost.net.prompt import write_promptly

#: Connections to the next hop.
CONNECTIONS = 20


class Intake(Protocol):
    """The server's side: replies by the first four letters of each line."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.buffer = b""
        self.in_content = False

    def connectionMade(self) -> None:
        self.transport.write(b"220 bare.example ESMTP\r\n")

    def dataReceived(self, data: bytes) -> None:
        self.buffer += data
        while True:
            if self.in_content:
                content, dot, rest = self.buffer.partition(b"\r\n.\r\n")
                if not dot:
                    return
                self.buffer, self.in_content = rest, False
                content = content.replace(b"\r\n..", b"\r\n.")
                self.queue.accept(self, self.sender, self.recipient, content + b"\r\n")
                continue
            line, end, rest = self.buffer.partition(b"\r\n")
            if not end:
                return
            self.buffer = rest
            self.answer(line)

    def answer(self, line: bytes) -> None:
        match line[:4].upper():
            case b"MAIL":
                self.sender, reply = line[10:], b"250 2.1.0 Ok\r\n"
            case b"RCPT":
                self.recipient, reply = line[8:], b"250 2.1.5 Ok\r\n"
            case b"DATA":
                self.in_content, reply = True, b"354 Go\r\n"
            case b"QUIT":
                self.transport.write(b"221 2.0.0 Bye\r\n")
                self.transport.loseConnection()
                return
            case _:
                reply = b"250 bare.example\r\n"
        write_promptly(self.transport, reply)


class Relay(Protocol):
    """The client's side: a pipelined envelope, the content, and the next one when it is taken."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.buffer = b""
        self.ready = False
        self.wanted = 1  # replies until the next step
        self.step = self.greeted

    def dataReceived(self, data: bytes) -> None:
        self.buffer += data
        *lines, self.buffer = self.buffer.split(b"\r\n")
        for line in lines:
            if line[3:4] == b"-":
                continue
            if line[:1] not in b"23":
                sys.exit(f"refused: {line!r}")
            self.wanted -= 1
            if not self.wanted:
                self.step()

    def greeted(self) -> None:
        self.wanted, self.step = 1, self.idle
        self.transport.write(b"EHLO bare.example\r\n")

    def idle(self) -> None:
        self.queue.free(self)

    def send(self, key: int, sender: bytes, recipient: bytes, content: bytes) -> None:
        self.key, self.content = key, content
        self.wanted, self.step = 3, self.envelope_taken
        envelope = b"MAIL FROM:%b\r\nRCPT TO:%b\r\nDATA\r\n" % (sender, recipient)
        write_promptly(self.transport, envelope)

    def envelope_taken(self) -> None:
        self.wanted, self.step = 1, self.taken
        stuffed = self.content.replace(b"\r\n.", b"\r\n..")
        write_promptly(self.transport, stuffed + b".\r\n")

    def taken(self) -> None:
        self.queue.done(self.key)
        self.queue.free(self)


class Queue:
    """Groups what is accepted and what is done into transactions, one after another."""

    def __init__(self, folder: Path) -> None:
        self.database = sqlite3.connect(
            folder / "queue", isolation_level=None, check_same_thread=False
        )
        self.database.execute("PRAGMA journal_mode=WAL")
        self.database.execute("PRAGMA synchronous=FULL")
        self.database.execute("CREATE TABLE messages (key INTEGER PRIMARY KEY, a, b, content)")
        self.key = 0
        self.accepted: list[tuple[Intake, int, bytes, bytes, bytes]] = []
        self.finished: list[tuple[int]] = []
        self.writing = False
        self.waiting: deque[tuple[int, bytes, bytes, bytes]] = deque()
        self.idle: list[Relay] = []

    def accept(self, session: Intake, sender: bytes, recipient: bytes, content: bytes) -> None:
        self.key += 1
        self.accepted.append((session, self.key, sender, recipient, content))
        self.write()

    def done(self, key: int) -> None:
        self.finished.append((key,))
        self.write()

    def write(self) -> None:
        if self.writing:
            return
        self.writing = True
        installed.callLater(0, self.next_group)

    def next_group(self) -> None:
        accepted, self.accepted = self.accepted, []
        finished, self.finished = self.finished, []
        result = threads.deferToThread(self.commit, accepted, finished)
        result.addCallbacks(self.committed, lambda failure: sys.exit(failure.getTraceback()))

    def commit(
        self,
        accepted: list[tuple[Intake, int, bytes, bytes, bytes]],
        finished: list[tuple[int]],
    ) -> list[tuple[Intake, int, bytes, bytes, bytes]]:
        database = self.database
        database.execute("BEGIN IMMEDIATE")
        rows = [row[1:] for row in accepted]
        database.executemany("INSERT INTO messages VALUES (?, ?, ?, ?)", rows)
        database.executemany("DELETE FROM messages WHERE key = ?", finished)
        database.execute("COMMIT")
        return accepted

    def committed(self, accepted: list[tuple[Intake, int, bytes, bytes, bytes]]) -> None:
        self.writing = False
        for session, *message in accepted:
            write_promptly(session.transport, b"250 2.0.0 Ok\r\n")
            self.waiting.append(tuple(message))
        while self.waiting and self.idle:
            self.idle.pop().send(*self.waiting.popleft())
        if self.accepted or self.finished:
            self.write()

    def free(self, relay: Relay) -> None:
        if self.waiting:
            relay.send(*self.waiting.popleft())
        else:
            self.idle.append(relay)


def main() -> None:
    """Serve until it is told to end."""
    port, next_port, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    queue = Queue(folder)
    installed.listenTCP(port, Factory.forProtocol(lambda: Intake(queue)), interface="127.0.0.1")
    for _ in range(CONNECTIONS):
        next_hop = TCP4ClientEndpoint(installed, "127.0.0.1", next_port)
        next_hop.connect(Factory.forProtocol(lambda: Relay(queue)))
    installed.run()


if __name__ == "__main__":
    main()
