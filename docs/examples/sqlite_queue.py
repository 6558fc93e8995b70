"""
Keep messages in a `SQLiteQueue`, and read them back after the program has ended.

    python sqlite_queue.py put queue sender@example.org one@example.com two@example.com
    python sqlite_queue.py list queue
    python sqlite_queue.py done queue

``put`` stores what stands on standard input and prints its queue id; when it
has, the message survives a power cut.  ``list`` prints each message: queue id,
octets, sender, recipients.  ``done`` prints every content and records that all
its recipients are served, after which the message is gone.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from mailhost import SQLiteQueue
from mailhost.model.envelope import Envelope
from mailhost.model.outcome import Fate, Outcome
from mailhost.model.queue import QueuedMessage, Result
from mailhost.smtp.grammar import parse_mailbox

SERVED = Outcome(Fate.DELIVERED, "2.0.0", "printed")


async def main(reactor: Any, action: str, folder: str, *addresses: str) -> None:
    """Open the queue, do one thing, close it."""
    queue = SQLiteQueue(
        reactor,
        Path(folder) / "Queue",
        Path(folder) / "SortTemp",
        reactor.seconds,
        ballast_octets=0,
    )
    queue.start()  # blocks for a moment; `react` has not started the reactor yet
    try:
        if action == "put":
            await put(queue, reactor.seconds(), *addresses)
            return
        for message in await queue.load_due(reactor.seconds(), 1000, frozenset()):
            recipients = [str(one.forward_path) for one in message.recipients.values()]
            sender = message.reverse_path or "<>"
            print(message.queue_id, message.size, sender, *recipients, flush=True)
            if action == "done":
                await done(queue, message, reactor.seconds())
    finally:
        await queue.stop()


async def put(queue: SQLiteQueue, now: float, sender: str, *recipients: str) -> None:
    """Store standard input."""
    queue_id = queue.new_queue_id()
    incoming = queue.new_message(b"", None)
    while block := sys.stdin.buffer.read(65536):
        waiting = incoming.write(block)
        if waiting is not None:
            await waiting  # a large content goes to a file on the way
    envelope = Envelope(
        parse_mailbox(sender) if sender else None, tuple(map(parse_mailbox, recipients))
    )
    await queue.commit(incoming, queue_id, envelope, "", now)
    print(queue_id)


async def done(queue: SQLiteQueue, message: QueuedMessage, now: float) -> None:
    """Print the content, then let the message go."""
    opened = queue.open_content(message)
    content = await opened if isinstance(opened, Awaitable) else opened
    try:
        while True:
            block = content.read()
            if isinstance(block, Awaitable):
                block = await block
            if not block:
                break
            sys.stdout.buffer.write(block)
    finally:
        content.close()
    sys.stdout.buffer.flush()
    await queue.record(message, [Result(n, SERVED) for n in message.recipients], (), now)


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, *sys.argv[1:])))
