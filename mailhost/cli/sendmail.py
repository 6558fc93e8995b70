"""
What ``sendmail`` is told on its command line, and the Pickup file that comes of it.

:Room: ``cli`` (floor 7)
:IIS: §10.2 (x-sender, x-receiver).
:RFC: 5322 §3.6.2 (From), 5321 §4.5.5 (the null reverse-path).
:Called by: `mailhost.cli.send`.

Programs have called ``/usr/sbin/sendmail`` for forty years; the options here are those that
Postfix and the Linux Standard Base know.
"""

from __future__ import annotations

import getopt
import re
from collections.abc import Sequence
from email.header import Header
from typing import BinaryIO

from attrs import field, frozen

from mailhost.content.headers import header_end, split_fields
from mailhost.errors import SyntaxProblem
from mailhost.intake.local_text import to_crlf
from mailhost.intake.pickup_file import BadPickupFile, read_header
from mailhost.model.address import Mailbox, path_text
from mailhost.smtp.grammar import parse_mailbox

_OPTIONS = "A:B:C:F:GIL:N:O:R:UV:X:b:d:e:f:h:imno:p:r:tvx"
#: What changes nothing here: how errors are told, whether delivery waits, and the like.
_IGNORED = frozenset({f"-{one}" for one in "ABCGILNORUVXdehmnpvx"})
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
_ENVELOPE = re.compile(rb"x-(?:sender|receiver)[ \t]*:", re.IGNORECASE)
_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")


class NotUsable(Exception):
    """The command line asks for something that is not done here; the words say what."""


class NotSendable(Exception):
    """The message cannot be sent as it is; the words say why."""


@frozen
class Invocation:
    """
    :ivar recipients: named on the command line.
    :ivar sender: ``-f``; `None`: nobody was named; empty: the null one.
    :ivar full_name: ``-F``, for a From field that is missing.
    :ivar from_header: ``-t``: To, Cc and Bcc name recipients too.
    :ivar dot_ends: a line with nothing but a dot ends the message (no ``-i``).
    """

    recipients: tuple[str, ...] = ()
    sender: str | None = None
    full_name: str = field(default="", validator=lambda one, at, text: _check_text(text))
    from_header: bool = False
    dot_ends: bool = True


def _check_text(text: str) -> None:
    if not text.isprintable():
        raise NotUsable("-F: not one line of text")


def read_arguments(words: Sequence[str]) -> Invocation:
    """
    *words* as ``sendmail`` reads them.

    :raises NotUsable: see there.
    """
    try:
        options, recipients = getopt.getopt(list(words), _OPTIONS)
    except getopt.GetoptError as wrong:
        raise NotUsable(str(wrong)) from None
    sender: str | None = None
    full_name = ""
    from_header, dot_ends = False, True
    for option, value in options:
        if option in ("-f", "-r"):
            sender = value.strip().removeprefix("<").removesuffix(">")
        elif option == "-F":
            full_name = value
        elif option == "-t":
            from_header = True
        elif option == "-i" or (option, value) == ("-o", "i"):
            dot_ends = False
        elif option == "-b" and value != "m":
            raise NotUsable(f"-b{value} is not done here; only -bm is")
        elif option not in _IGNORED and option not in ("-b", "-o"):
            raise NotUsable(f"{option} is not done here")
    if not recipients and not from_header:
        raise NotUsable("no recipients; name them, or -t")
    return Invocation(tuple(recipients), sender, full_name, from_header, dot_ends)


def read_message(source: BinaryIO, dot_ends: bool) -> bytes:
    """All of *source*, up to a line with nothing but a dot where that *dot_ends*."""
    if not dot_ends:
        return source.read()
    lines = []
    for line in source:
        if line in (b".\n", b".\r\n", b"."):
            break
        lines.append(line)
    return b"".join(lines)


def pickup_file(invocation: Invocation, message: bytes, user: str, domain: str) -> bytes:
    """
    The Pickup file for *message*: its envelope in front, a From field added where there is none.

    :param user: who sends, where nobody was named.
    :param domain: of addresses without one.
    :raises NotSendable: see there.
    """
    header, body = _split(to_crlf(message))
    sender = _mailbox(invocation.sender if invocation.sender is not None else user, domain)
    recipients = [_mailbox(one, domain) for one in invocation.recipients]
    if any(one is None for one in recipients):
        raise NotSendable("a recipient is empty")
    if invocation.from_header:
        recipients += [_qualified(one, domain) for one in _named(header)]
    if not recipients:
        raise NotSendable("no recipients in To, Cc or Bcc")
    names = {name for name, _ in split_fields(header)}
    if b"from" not in names:
        header = _from_field(invocation.full_name, sender or Mailbox(user, domain)) + header
    lines = [f"x-sender: {path_text(sender)}"]
    lines += [f"x-receiver: {one}" for one in dict.fromkeys(recipients)]
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8") + header + body


def _split(message: bytes) -> tuple[bytes, bytes]:
    """Header with its blank line, and body; what is no header at all is body."""
    if message.startswith(b"From "):
        message = message.partition(b"\r\n")[2]  # of a mailbox file
    if not _FIELD.match(message):
        return b"\r\n", message.removeprefix(b"\r\n")
    # An envelope in front of the header would be obeyed: only ours may be.
    while _ENVELOPE.match(message):
        message = _without_first_field(message)
    end = header_end(message)
    if end < 0:
        return message + (b"" if message.endswith(b"\r\n") else b"\r\n") + b"\r\n", b""
    return message[:end], message[end:]


def _without_first_field(message: bytes) -> bytes:
    while True:
        message = message.partition(b"\r\n")[2]
        if not message.startswith((b" ", b"\t")):
            return message


def _named(header: bytes) -> tuple[Mailbox, ...]:
    """The recipients that *header* names."""
    try:
        return read_header(b"x-sender: <>\r\n" + header).recipients
    except BadPickupFile as wrong:
        if wrong.header is not None and not wrong.header.recipients:
            return ()
        raise NotSendable(str(wrong)) from None


def _mailbox(text: str, domain: str) -> Mailbox | None:
    if not text:
        return None
    try:
        return _qualified(parse_mailbox(text.strip().removeprefix("<").removesuffix(">")), domain)
    except SyntaxProblem as wrong:
        raise NotSendable(str(wrong)) from None


def _qualified(path: Mailbox, domain: str) -> Mailbox:
    return path if path.domain else path.in_domain(domain)


def _from_field(full_name: str, sender: Mailbox) -> bytes:
    if not full_name:
        return f"From: {sender}\r\n".encode()
    if full_name.isascii():
        quoted = full_name.replace("\\", "\\\\").replace('"', '\\"')
        name = full_name if _ATOM.fullmatch(full_name) else f'"{quoted}"'
        return f"From: {name} <{sender}>\r\n".encode()
    # RFC 2047 §2: an encoded word; never long, or it is cut.
    word = Header(full_name[:60], "utf-8", maxlinelen=998).encode()
    return f"From: {word} <{sender}>\r\n".encode()
