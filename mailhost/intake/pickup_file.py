"""
A Pickup file's header: who sends to whom, and what of it may leave.

:Room: ``intake`` -- octets to values; no I/O, no clock.
:IIS: §10.2, PIC-02..06, PIC-09, PIC-11; Drop files (§10.3) are valid input.
:RFC: 5322 §3.6.3 (Bcc), 5321 §4.4 (Return-Path is for the last hop only).
:Called by: `mailhost.intake.submission`.

Only the run of ``x-sender`` and ``x-receiver`` fields at the very top is an
envelope.  Further down they are ordinary content, because a Drop file may hold
anything there.
"""

from __future__ import annotations

import re

from attrs import frozen

from mailhost.content.addresses import addresses_in
from mailhost.content.headers import header_end, remove_fields, scan_header, split_fields, unfold
from mailhost.errors import MailhostError, SyntaxProblem
from mailhost.model.address import Mailbox
from mailhost.smtp.grammar import parse_mailbox

#: Longer headers are an attack, or no header (attacks.md §1.4).
MAX_HEADER_OCTETS = 262144

_TOP = re.compile(rb"(x-sender|x-receiver)[ \t]*+:([^\n]*+\n(?:[ \t][^\n]*+\n)*+)", re.IGNORECASE)
#: Never leaves: blind copies, and what only the last hop may write.
_REMOVED = frozenset({b"bcc", b"resent-bcc", b"return-path"})

_Fields = list[tuple[bytes, bytes]]


class BadPickupFile(MailhostError):
    """
    A file that cannot be sent as it is.

    :ivar reason: why, on one line.
    :ivar header: what of its envelope is known, if that much could be read.
    """

    def __init__(self, reason: str, header: PickupHeader | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.header = header


class NobodyNamed(BadPickupFile):
    """It names no recipients."""


class MailLoop(BadPickupFile):
    """It has come through too many hosts."""


@frozen
class PickupHeader:
    """
    What a header says.

    :ivar reverse_path: `None` is the null reverse-path; perhaps unqualified.
    :ivar sender_known: false where nobody is named (PIC-05).
    :ivar recipients: in order, as often as they are named; perhaps unqualified.
    :ivar octets: the header that leaves, its blank line included.
    :ivar received_count: Received fields in it.
    :ivar has_date: there is a Date field.
    :ivar has_message_id: there is a Message-ID field.
    :ivar tls_optional: see `mailhost.content.headers.HeaderFacts`.
    """

    reverse_path: Mailbox | None
    sender_known: bool
    recipients: tuple[Mailbox, ...]
    octets: bytes
    received_count: int
    has_date: bool
    has_message_id: bool
    tls_optional: bool = False


def read_header(block: bytes) -> PickupHeader:
    """
    :param block: the header with CRLF line ends; a missing blank line is added.
    :raises BadPickupFile: no sender, no recipients, or an address that is none;
        the latter is named.
    """
    if header_end(block) < 0:
        block = block + b"\r\n"
    top, rest = _split_top(block)
    fields = split_fields(rest)
    facts = scan_header(rest)
    known, sender = _sender(top, fields)
    header = PickupHeader(
        sender,
        known,
        _recipients(top, fields),
        remove_fields(rest, _REMOVED),
        facts.received_count,
        facts.has_date,
        facts.has_message_id,
        facts.tls_optional,
    )
    if not known:
        raise BadPickupFile("it names no sender in x-sender, From or Sender", header)
    if not header.recipients:
        raise NobodyNamed("it names no recipients in x-receiver, To, Cc or Bcc", header)
    return header


def _split_top(block: bytes) -> tuple[_Fields, bytes]:
    """The envelope fields at the very top, and what follows them."""
    top: _Fields = []
    at = 0
    while (match := _TOP.match(block, at)) is not None:
        top.append((match[1].lower(), unfold(match[2])))
        at = match.end()
    return top, block[at:]


def _sender(top: _Fields, fields: _Fields) -> tuple[bool, Mailbox | None]:
    """Whether there is one, and who it is."""
    said = [value for name, value in top if name == b"x-sender"]
    if said:
        return True, _envelope_sender(said)
    for name in (b"from", b"sender"):
        found = _mailboxes(name, fields)
        if found:
            return True, found[0]
    return False, None


def _envelope_sender(said: list[bytes]) -> Mailbox | None:
    if len(said) > 1:
        raise BadPickupFile("it has more than one x-sender field")
    if said[0] in (b"", b"<>"):
        return None
    found = _mailboxes(b"x-sender", [(b"x-sender", said[0])])
    if len(found) != 1:
        raise BadPickupFile("its x-sender field does not name one address")
    return found[0]


def _recipients(top: _Fields, fields: _Fields) -> tuple[Mailbox, ...]:
    """PIC-03: where there are x-receiver fields, To, Cc and Bcc are for people."""
    if any(name == b"x-receiver" for name, _ in top):
        return _mailboxes(b"x-receiver", top)
    return tuple(path for name in (b"to", b"cc", b"bcc") for path in _mailboxes(name, fields))


def _mailboxes(name: bytes, fields: _Fields) -> tuple[Mailbox, ...]:
    """The addresses in all *fields* called *name*."""
    try:
        return tuple(
            parse_mailbox(address)
            for found, value in fields
            if found == name
            for address in addresses_in(value)
        )
    except SyntaxProblem as problem:
        raise BadPickupFile(f"its {name.decode('ascii')} field is malformed: {problem}") from None
