"""
Take mail by ESMTP and keep each message in a file: `ESMTPFactory` with a reception of our own.

    python esmtp_factory.py 127.0.0.1 2525 example.com mail

Address and port to listen on (port 0: the kernel chooses), the domain to take
mail for, and a directory.  Prints ``listening on ADDRESS PORT``, then the name
of each file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable
from functools import partial
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from mailhost import ESMTPFactory
from mailhost.interfaces import IReception
from mailhost.model.address import Mailbox
from mailhost.model.parameters import MailParameters, RecipientParameters
from mailhost.model.reply import Reply
from mailhost.model.session import SessionFacts
from mailhost.smtp import replies
from mailhost.smtp.rules import Rules

NO_SUCH_DOMAIN = Reply(550, "5.7.1", "No mail for that domain here")
#: A message is kept in memory here, so it must be small.
MAX_OCTETS = 1024 * 1024


@implementer(IReception)
@define(eq=False)
class FileReception:
    """Decides for one session; one such object is made for each."""

    directory: Path
    domain: str
    session: SessionFacts
    _octets: bytearray = field(factory=bytearray, init=False)
    _count: int = field(default=0, init=False)

    def connected(self) -> Reply:
        """Everybody may connect."""
        return replies.OK

    def hello(self, name: str, extended: bool) -> Reply:
        """Remember what the client calls itself."""
        self.session.hello = name
        return replies.OK

    def sender(
        self,
        reverse_path: Mailbox | None,
        size: int | None,
        body: str,
        parameters: MailParameters,
    ) -> Reply:
        """An answer that is known at once is simply returned."""
        if size is not None and size > MAX_OCTETS:
            return replies.MESSAGE_TOO_BIG
        return replies.sender_ok(reverse_path)

    def recipient(self, forward_path: Mailbox, parameters: RecipientParameters) -> Reply:
        """Only our own domain."""
        if forward_path.domain_key != self.domain:
            return NO_SUCH_DOMAIN
        return replies.recipient_ok(forward_path)

    def content(self) -> Reply:
        """Let it come."""
        return replies.START_CONTENT

    def write(self, octets: bytes) -> None:
        """A block of content; `None` says that the next one may follow."""
        if len(self._octets) <= MAX_OCTETS:
            self._octets += octets

    def end_of_content(self, fault: Reply | None, wire_ready: bool) -> Reply | Awaitable[Reply]:
        """A reply that takes time is an awaitable; the session waits for it."""
        if fault is None and len(self._octets) > MAX_OCTETS:
            fault = replies.MESSAGE_TOO_BIG
        return fault or self._keep()

    async def _keep(self) -> Reply:
        self._count += 1
        # Names on disk are never taken from the network.
        file = self.directory / f"{os.getpid()}-{self.session.session_id}-{self._count}.eml"
        await deferToThread(_write_durably, file, bytes(self._octets))
        print(file.name, flush=True)
        return replies.OK

    def reset(self) -> None:
        """The transaction is over, whatever ended it."""
        self._octets = bytearray()

    def disconnected(self) -> None:
        """Nothing outlives the session."""


def _write_durably(file: Path, octets: bytes) -> None:
    """In a thread: 250 promises that the message survives a crash."""
    part = file.with_suffix(".part")
    with part.open("xb") as stream:
        stream.write(octets)
        stream.flush()
        os.fsync(stream.fileno())
    part.rename(file)
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def main(address: str, port: str, domain: str, directory: str) -> None:
    """Listen until the process is ended."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    factory = ESMTPFactory(
        partial(FileReception, Path(directory), domain.lower()),
        reactor,
        Rules("mail.example.com", max_message_octets=MAX_OCTETS),
    )
    listening: Any = reactor.listenTCP(int(port), factory, interface=address)
    print("listening on", address, listening.getHost().port, flush=True)
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
