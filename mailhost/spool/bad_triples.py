"""
Looking at what lies in Badmail, and taking something out of it.

:Room: ``spool``
:IIS: §10.5 (the triple).
:Called by: `mailhost.intake.badmail_desk`, in a thread; everything here blocks.

Operators may have changed what they find here, so nothing in a file is trusted: an envelope
that cannot be understood is told as such.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from mailhost.content.names import is_file_stem
from mailhost.durable import sync_directory
from mailhost.errors import DirectoryProblem, SyntaxProblem
from mailhost.model.address import Mailbox
from mailhost.model.parameters import (
    NO_MAIL_PARAMETERS,
    NO_RECIPIENT_PARAMETERS,
    MailParameters,
    RecipientParameters,
)
from mailhost.smtp.grammar import parse_mailbox
from mailhost.spool.badmail import CODE_PICKUP
from mailhost.spool.parameters import parameters_of

_REASON = re.compile(r"([0-9a-f]{24})\.BDR")
#: The reason first: without it there is no triple.
_KINDS = ("BDR", "BDP", "BAD")
_MOST_ENVELOPE_OCTETS = 8 << 20


@frozen
class BadTriple:
    """
    One triple.

    :ivar stem: its name, 24 hexadecimal digits.
    :ivar written_at: seconds since the epoch.
    :ivar size: octets of the message.
    :ivar reason: on one line.
    :ivar reverse_path: `None` is the null reverse-path.
    :ivar sender_known: false for a Pickup file without a sender.
    :ivar recipients: whom it was for.
    :ivar source: the Pickup file's name; empty: it was in the queue.
    :ivar from_pickup: it is a file that Pickup could not take, as it was.
    :ivar body: ``"7BIT"``, ``"8BITMIME"`` or ``"BINARYMIME"``.
    :ivar hello: what the submitting client called itself.
    :ivar queue_id: which it had.
    :ivar parameters: what the sender asked for the whole message.
    :ivar asked: and for each recipient, in their order.
    :ivar fault: why nothing of the envelope can be said; empty: nothing is wrong.
    """

    stem: str
    written_at: float
    size: int
    reason: str = ""
    reverse_path: Mailbox | None = None
    sender_known: bool = False
    recipients: tuple[Mailbox, ...] = ()
    source: str = ""
    from_pickup: bool = False
    body: str = "7BIT"
    hello: str = ""
    queue_id: str = ""
    parameters: MailParameters = NO_MAIL_PARAMETERS
    asked: tuple[RecipientParameters, ...] = ()
    fault: str = ""


def list_triples(directory: Path, after: str, limit: int) -> tuple[list[BadTriple], int]:
    """
    The next *limit* triples behind the name *after*, and how many there are in all.

    :raises DirectoryProblem: the directory cannot be read.
    """
    try:
        matches = map(_REASON.fullmatch, os.listdir(directory))
        stems = sorted(match[1] for match in matches if match is not None)
    except OSError as error:
        raise problem_of(error) from error
    wanted = [stem for stem in stems if stem > after][:limit]
    found = (read_triple(directory, stem) for stem in wanted)
    return [one for one in found if one is not None], len(stems)


def read_triple(directory: Path, stem: str) -> BadTriple | None:
    """
    The triple *stem*, or `None` where there is none.

    :raises DirectoryProblem: the directory cannot be read.
    """
    if not is_file_stem(stem):
        return None
    try:
        facts = (directory / f"{stem}.BAD").stat(follow_symlinks=False)
        (directory / f"{stem}.BDR").stat(follow_symlinks=False)
        with open(directory / f"{stem}.BDP", "rb") as file:
            octets = file.read(_MOST_ENVELOPE_OCTETS)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise problem_of(error) from error
    try:
        return _understood(json.loads(octets), stem, facts)
    except (ValueError, TypeError, KeyError, RecursionError, SyntaxProblem):
        fault = f"{stem}.BDP is not what this program writes"
        return BadTriple(stem, facts.st_mtime, facts.st_size, fault=fault)


def _understood(tree: Mapping[str, Any], stem: str, facts: os.stat_result) -> BadTriple:
    sender = tree["reverse_path"]
    if tree["body"] not in ("7BIT", "8BITMIME", "BINARYMIME"):
        raise ValueError(tree["body"])
    return BadTriple(
        stem,
        facts.st_mtime,
        facts.st_size,
        str(tree["reason"]),
        None if sender in (None, "<>") else _mailbox(sender),
        sender is not None,
        tuple(_mailbox(one["forward_path"]) for one in tree["recipients"]),
        str(tree["source"]),
        tree["code"] == CODE_PICKUP,
        tree["body"],
        str(tree["hello"]),
        str(tree["queue_id"]),
        parameters_of(tree.get("parameters", {}), NO_MAIL_PARAMETERS),
        tuple(
            parameters_of(one.get("parameters", {}), NO_RECIPIENT_PARAMETERS)
            for one in tree["recipients"]
        ),
    )


def _mailbox(path: str) -> Mailbox:
    if not (path.startswith("<") and path.endswith(">")):
        raise ValueError(path)
    return parse_mailbox(path[1:-1])


def read_content(directory: Path, stem: str, start: int, size: int) -> bytes:
    """
    At most *size* octets of the message of the triple *stem*; empty behind its end.

    :raises DirectoryProblem: it cannot be read.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(directory / f"{stem}.BAD", flags)
        try:
            return os.pread(fd, size, start)
        finally:
            os.close(fd)
    except OSError as error:
        raise problem_of(error) from error


def remove_triple(directory: Path, stem: str) -> None:
    """
    Forget the triple *stem*, durably; harmless where there is none.

    The reason goes first, and is gone for good before the rest goes: a disk may keep names in
    another order than ours, and a reason without its message would be a triple that is none.

    :raises DirectoryProblem: it cannot be done.
    """
    reason, *rest = (directory / f"{stem}.{kind}" for kind in _KINDS)
    try:
        reason.unlink(missing_ok=True)
        sync_directory(directory)
        for path in rest:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise problem_of(error) from error


def problem_of(error: OSError) -> DirectoryProblem:
    """*error* in the words of this house."""
    return DirectoryProblem(f"Badmail cannot be used now: {os.strerror(error.errno or 0)}")
