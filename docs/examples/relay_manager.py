"""
Deliver one message to a next hop: `RelayManager` on a `SQLiteQueue` in a temporary directory.

    python relay_manager.py 192.0.2.25 25 sender@example.org recipient@example.com < message

Address and port of the next hop, sender and recipient; the content on standard
input.  Exit status 0: the queue is empty, so the message was taken or its
failure was reported to the sender; the log on standard error says which.  1: it
still waits after `PATIENCE_SECONDS`; a program that means to deliver it would
keep its queue.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react
from twisted.logger import globalLogBeginner, textFileLogObserver

from mailhost import MailExchangeResolver, RelayManager, SQLiteQueue
from mailhost.model.envelope import Envelope
from mailhost.model.route import NextHop
from mailhost.relay.dns.resolver import DNSResolver
from mailhost.relay.terms import Terms
from mailhost.routing.categorizer import Categorizer
from mailhost.routing.domains import DomainTable
from mailhost.smtp.grammar import parse_mailbox

#: What we call ourselves.  Mail to this domain would be local, and there is no
#: final delivery here.
NAME = "client.example.net"
PATIENCE_SECONDS = 30


async def main(reactor: Any, address: str, port: str, sender: str, recipient: str) -> None:
    """Queue what stands on standard input, and see it out."""
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    queue, relay = assemble(reactor, NextHop(address, int(port), literal=True))
    content = sys.stdin.buffer.read().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    queue_id = queue.new_queue_id()
    incoming = queue.new_message(b"", len(content))
    incoming.write(content)
    envelope = Envelope(parse_mailbox(sender), (parse_mailbox(recipient),))
    now = reactor.seconds()
    # When this fires the message is on stable storage; then the relay is told of it.
    relay.accept(await queue.commit(incoming, queue_id, envelope, "", now))
    while (await queue.counts()).messages:
        if reactor.seconds() > now + PATIENCE_SECONDS:
            sys.exit(f"{queue_id} is still in the queue")
        await deferLater(reactor, 0.1)
    print(queue_id, "has left the queue")


def assemble(reactor: Any, next_hop: NextHop) -> tuple[SQLiteQueue, RelayManager]:
    """A relay and its queue, running; nothing of them is read from a file."""
    folder = TemporaryDirectory()
    queue = SQLiteQueue(
        reactor,
        Path(folder.name) / "Queue",
        Path(folder.name) / "SortTemp",
        reactor.seconds,
        ballast_octets=0,
    )
    names = DNSResolver(reactor)
    relay = RelayManager(
        queue,
        MailExchangeResolver(names, reactor),
        reactor,
        Terms(NAME, Categorizer(DomainTable.build(NAME, ()), smart_hosts=(next_hop,))),
    )
    queue.start()
    relay.start()

    async def close() -> None:
        # In this order.  A queue that is not stopped keeps its threads, and they
        # keep the process.
        await relay.stop()
        await queue.stop()
        await names.close()
        folder.cleanup()

    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(close()))
    return queue, relay


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, *sys.argv[1:])))
