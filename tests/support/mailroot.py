"""What a virtual server has left on the disk, seen from outside."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

from attrs import frozen


@frozen
class Waiting:
    """
    One recipient in the queue.

    :ivar status: of the last failed attempt; `None` before there was one.
    """

    reverse_path: str
    local: str
    domain: str
    attempts: int
    status: str | None
    words: str | None

    @property
    def forward_path(self) -> str:
        return f"{self.local}@{self.domain}"


@frozen
class Delivered:
    """
    One file of Drop.

    :ivar sender: ``<>`` for the null reverse-path.
    :ivar content: what comes after the fields that Drop puts in front.
    """

    sender: str
    receivers: tuple[str, ...]
    content: bytes

    @property
    def message(self) -> Message:
        return message_from_bytes(self.content)

    @property
    def body(self) -> bytes:
        """What comes after the header, octet by octet."""
        return self.content.partition(b"\r\n\r\n")[2]

    @property
    def test_id(self) -> str:
        """The X-Test-ID field; empty where there is none."""
        return str(self.message["X-Test-ID"] or "")


@frozen
class Report:
    """
    One delivery report.

    :ivar kind: ``Failure``, ``Delay`` or ``Success``.
    :ivar fields: of the first recipient's group, names in lower case.
    :ivar returned: the third part.
    """

    kind: str
    fields: dict[str, str]
    returned: str


@frozen
class Mailroot:
    """The home of one virtual server."""

    home: Path

    def drop(self) -> list[Delivered]:
        """The files of Drop, sorted by what their names promise: the order of acceptance."""
        return [read_drop(path) for path in sorted((self.home / "Drop").glob("*.eml"))]

    def drop_for(self, receiver: str) -> list[Delivered]:
        """Those that are for *receiver*."""
        return [one for one in self.drop() if receiver in one.receivers]

    def reports_for(self, receiver: str) -> list[Report]:
        """The delivery reports that *receiver* got."""
        return [_read_report(one) for one in self.drop_for(receiver) if one.sender == "<>"]

    def queue(self) -> list[Waiting]:
        """Who waits in Queue."""
        path = self.home / "Queue" / "queue.sqlite"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
            rows = connection.execute(
                "SELECT reverse_path, local, domain, attempts, status, words"
                " FROM recipients JOIN messages USING (key) ORDER BY key, number"
            ).fetchall()
        return [Waiting(*row) for row in rows]

    def queue_for(self, receiver: str) -> list[Waiting]:
        """The entries of Queue for *receiver*."""
        return [one for one in self.queue() if one.forward_path == receiver]

    def badmail(self) -> list[dict[str, Any]]:
        """
        The envelopes (``.BDP``) of Badmail.

        :raises AssertionError: a triple is not whole.
        """
        directory = self.home / "Badmail"
        stems = {path.stem for path in directory.iterdir()}
        names = {path.name for path in directory.iterdir()}
        whole = {f"{stem}.{kind}" for stem in stems for kind in ("BAD", "BDP", "BDR")}
        if names != whole:
            raise AssertionError(f"{sorted(names ^ whole)} in {directory}")
        return [json.loads((directory / f"{stem}.BDP").read_bytes()) for stem in sorted(stems)]

    def left_over(self) -> list[str]:
        """Unfinished files in Drop, Badmail and SortTemp."""
        folders = (self.home / name for name in ("Drop", "Badmail", "SortTemp"))
        return [path.name for folder in folders for path in folder.glob("*.part")] + [
            path.name for folder in folders for path in folder.glob(".*.part")
        ]


def read_drop(path: Path) -> Delivered:
    """One file of Drop."""
    octets = path.read_bytes()
    sender = ""
    receivers: list[str] = []
    while True:
        line, _, rest = octets.partition(b"\r\n")
        name, _, value = line.decode("utf-8").partition(": ")
        if name == "x-sender":
            sender = value
        elif name == "x-receiver":
            receivers.append(value)
        elif name not in ("Return-Path", "X-OriginalArrivalTime"):
            break
        octets = rest
    return Delivered(sender, tuple(receivers), octets)


def _read_report(delivered: Delivered) -> Report:
    message = delivered.message
    subject = str(message["Subject"])
    _text, status, returned = _parts(message)
    _about_the_message, recipient, *_others = _parts(status)
    return Report(
        subject.partition("(")[2].rstrip(")"),
        {name.lower(): str(value) for name, value in recipient.items()},
        returned.as_string(),
    )


def _parts(message: Message) -> list[Message]:
    parts: Any = message.get_payload()
    if not isinstance(parts, list):
        raise AssertionError(f"{message.get_content_type()} has no parts")
    return parts
