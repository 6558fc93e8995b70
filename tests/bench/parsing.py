"""
The protocol engine alone, without sockets: content in MB a second, commands in microseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from mailhost.model.reply import Reply
from mailhost.smtp import replies
from mailhost.smtp.content import ContentReader
from mailhost.smtp.events import ContentAsked, ContentEnded, Event, Wait
from mailhost.smtp.rules import Rules
from mailhost.smtp.server_dialogue import ServerDialogue

_BLOCK_OCTETS = 65536
_CONTENTS = {
    "lines of 64": b"x" * 62 + b"\r\n",
    "text with dots": b"Some words. And more of them, as people write.\r\n",
    "every line stuffed": b"..x\r\n",
    "empty lines": b"\r\n",
}
_ENVELOPE = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nRSET\r\n"
_ENVELOPES = 2000


def measure() -> None:
    """Prints a line for each sort of content, and one for commands."""
    for name, line in _CONTENTS.items():
        content = line * (8_000_000 // len(line)) + b".\r\n"
        seconds = _best(lambda content=content: _read(content))  # type: ignore[misc]  # bound now
        print(f"content, {name:20}{len(content) / 1e6 / seconds:8.0f} MB/s", flush=True)
    seconds = _best(_commands)
    print(f"a command              {1e6 * seconds / (3 * _ENVELOPES):8.1f} us", flush=True)


def _best(work: Callable[[], None]) -> float:
    """The median of five runs, in seconds of CPU."""
    found = []
    for _ in range(5):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return median(found)


def _read(content: bytes) -> None:
    reader = ContentReader()
    for start in range(0, len(content), _BLOCK_OCTETS):
        reader.feed(content[start : start + _BLOCK_OCTETS])
    assert reader.ended and reader.fault is None


def _commands() -> None:
    # Of others so many commands without a message would be errors, and the session would end.
    dialogue = ServerDialogue(Rules("mail.example.com"), trusted=True)
    _answer(dialogue)
    for octets in (b"EHLO client.example\r\n", *[_ENVELOPE] * _ENVELOPES):
        dialogue.receive_octets(octets)
        _answer(dialogue)
        assert dialogue.octets_to_send()[:1] == b"2"


def _answer(dialogue: ServerDialogue) -> None:
    while not isinstance(event := dialogue.next_event(), Wait):
        if dialogue.paused:
            dialogue.answer(_reply(event))


def _reply(event: Event) -> Reply:
    assert not isinstance(event, ContentAsked | ContentEnded)
    return replies.OK
