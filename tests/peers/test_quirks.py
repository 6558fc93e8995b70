"""The same words to us and to Postfix: where the answers differ stands in docs/quirks.rst."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import BinaryIO

from tests.bench.postfix_instance import start_postfix
from tests.support.peer_case import PeerCase
from tests.support.process import (
    PATIENCE_SECONDS,
    reserve_address,
    split_address,
    takes_connections,
    wait_until,
)

PAGE = Path(__file__).parents[2] / "docs" / "quirks.rst"
HELLO, MAIL, RCPT = "EHLO client.example", "MAIL FROM:<a@b.example>", "RCPT TO:<c@example.com>"
OPEN = [HELLO, MAIL, RCPT]
#: Steps in their names' order: a text is a line, octets are sent as they are; each has one reply.
CASES: dict[str, list[str | bytes]] = {
    "plain": [HELLO, MAIL, RCPT, "DATA", b"Subject: x\r\n\r\nx\r\n.\r\n", "QUIT"],
    "two-messages": [*OPEN, "DATA", b"\r\n.\r\n", MAIL, RCPT, "DATA", b"\r\n.\r\n"],
    "helo": ["HELO client.example", MAIL, RCPT, "DATA", b"\r\n.\r\n"],
    "small-letters": ["ehlo client.example", "mail from:<a@b.example>", "rcpt to:<c@example.com>"],
    "mail-before-hello": [MAIL],
    "rcpt-before-mail": [HELLO, RCPT],
    "data-before-rcpt": [HELLO, MAIL, "DATA"],
    "data-before-mail": [HELLO, "DATA"],
    "mail-twice": [HELLO, MAIL, MAIL],
    "rset-drops-mail": [HELLO, MAIL, "RSET", RCPT],
    "ehlo-drops-mail": [HELLO, MAIL, HELLO, RCPT],
    "rset-before-hello": ["RSET"],
    "rset-with-argument": [HELLO, "RSET x"],
    "noop-with-argument": ["NOOP x"],
    "quit-with-argument": [HELLO, "QUIT x"],
    "data-with-argument": [*OPEN, "DATA x"],
    "hello-without-name": ["EHLO"],
    "hello-with-two-names": ["EHLO a b"],
    "hello-with-underscore": ["EHLO a_b"],
    "hello-with-literal": ["EHLO [127.0.0.1]"],
    "helo-without-name": ["HELO"],
    "unknown-verb": [HELLO, "FOO"],
    "empty-line": [HELLO, ""],
    "vrfy": [HELLO, "VRFY a@b.example"],
    "vrfy-without-name": [HELLO, "VRFY"],
    "expn": [HELLO, "EXPN a"],
    "help": [HELLO, "HELP"],
    "turn": [HELLO, "TURN"],
    "send": [HELLO, "SEND FROM:<a@b.example>"],
    "etrn": [HELLO, "ETRN elsewhere.example"],
    "starttls-without-certificate": [HELLO, "STARTTLS"],
    "auth-without-logins": [HELLO, "AUTH PLAIN AGEAYg=="],
    "null-sender": [HELLO, "MAIL FROM:<>"],
    "null-recipient": [HELLO, MAIL, "RCPT TO:<>"],
    "postmaster": [HELLO, MAIL, "RCPT TO:<postmaster>"],
    "sender-without-domain": [HELLO, "MAIL FROM:<a>"],
    "blank-behind-colon": [HELLO, "MAIL FROM: <a@b.example>", "RCPT TO: <c@example.com>"],
    "blank-before-colon": [HELLO, "MAIL FROM :<a@b.example>"],
    "without-brackets": [HELLO, "MAIL FROM:a@b.example"],
    "blank-at-the-end": [HELLO, "MAIL FROM:<a@b.example> "],
    "source-route": [HELLO, MAIL, "RCPT TO:<@x.example,@y.example:c@example.com>"],
    "quoted-local-part": [HELLO, 'MAIL FROM:<"a b"@b.example>', 'RCPT TO:<"c"@example.com>'],
    "percent-hack": [HELLO, MAIL, "RCPT TO:<c%other.example@example.com>"],
    "bang-path": [HELLO, MAIL, "RCPT TO:<other.example!c@example.com>"],
    "address-literal": [HELLO, "MAIL FROM:<a@[127.0.0.1]>", "RCPT TO:<c@[192.0.2.1]>"],
    "ipv6-literal": [HELLO, "MAIL FROM:<a@[IPv6:::1]>"],
    "bad-literal": [HELLO, "MAIL FROM:<a@[1.2.3]>"],
    "two-dots": [HELLO, "MAIL FROM:<a..b@b.example>"],
    "dot-at-the-end": [HELLO, "MAIL FROM:<a@b.example.>"],
    "long-local-part": [HELLO, f"MAIL FROM:<{'a' * 65}@b.example>"],
    "long-label": [HELLO, f"MAIL FROM:<a@{'b' * 64}.example>"],
    "8-bit-address": [HELLO, b"MAIL FROM:<\xe4@b.example>\r\n"],
    "utf8-address": [HELLO, "MAIL FROM:<\u00e4@b.example> SMTPUTF8"],
    "control-in-address": [HELLO, b"MAIL FROM:<a\x01@b.example>\r\n"],
    "size": [HELLO, "MAIL FROM:<a@b.example> SIZE=100"],
    "size-too-large": [HELLO, "MAIL FROM:<a@b.example> SIZE=99999999999"],
    "size-no-number": [HELLO, "MAIL FROM:<a@b.example> SIZE=x"],
    "size-negative": [HELLO, "MAIL FROM:<a@b.example> SIZE=-1"],
    "size-twice": [HELLO, "MAIL FROM:<a@b.example> SIZE=1 SIZE=2"],
    "body-8bitmime": [HELLO, "MAIL FROM:<a@b.example> BODY=8BITMIME"],
    "body-unknown": [HELLO, "MAIL FROM:<a@b.example> BODY=9BIT"],
    "unknown-parameter": [HELLO, "MAIL FROM:<a@b.example> FOO=1"],
    "unknown-rcpt-parameter": [HELLO, MAIL, "RCPT TO:<c@example.com> FOO=1"],
    "parameter-after-helo": ["HELO client.example", "MAIL FROM:<a@b.example> SIZE=10"],
    "ret-wrong": [HELLO, "MAIL FROM:<a@b.example> RET=SOME"],
    "envid-no-xtext": [HELLO, "MAIL FROM:<a@b.example> ENVID=a+"],
    "notify-never-and-more": [HELLO, MAIL, "RCPT TO:<c@example.com> NOTIFY=NEVER,DELAY"],
    "orcpt-without-type": [HELLO, MAIL, "RCPT TO:<c@example.com> ORCPT=x"],
    "same-recipient-twice": [HELLO, MAIL, RCPT, RCPT, "DATA", b"\r\n.\r\n"],
    "bdat": [*OPEN, b"BDAT 3 LAST\r\nx\r\n"],
    "bdat-zero": [*OPEN, "BDAT 0 LAST"],
    "bdat-before-rcpt": [HELLO, MAIL, b"BDAT 1\r\nx"],
    "bdat-without-size": [*OPEN, "BDAT"],
    "bdat-no-number": [*OPEN, "BDAT x"],
    "bdat-then-data": [*OPEN, b"BDAT 3\r\nx\r\n", "DATA"],
    "bdat-then-mail": [*OPEN, b"BDAT 3\r\nx\r\n", MAIL],
    "bare-lf-ends-nothing": [*OPEN, "DATA", b"x\n.\nMAIL FROM:<x>\r\n.\r\n"],
    "bare-lf-before-dot": [*OPEN, "DATA", b"x\n.\r\ny\r\n.\r\n"],
    "bare-lf-behind-dot": [*OPEN, "DATA", b"x\r\n.\ny\r\n.\r\n"],
    "bare-cr": [*OPEN, "DATA", b"x\ry\r\n.\r\n"],
    "nul-in-content": [*OPEN, "DATA", b"x\0y\r\n.\r\n"],
    "long-line-in-content": [*OPEN, "DATA", b"x" * 1500 + b"\r\n.\r\n"],
    "stuffed-dots": [*OPEN, "DATA", b"..\r\n...x\r\n.\r\n"],
    "line-of-2100": [HELLO, "NOOP " + "x" * 2095],
    "line-of-5000": [HELLO, "NOOP " + "x" * 4995],
    "bare-lf-command": [b"EHLO x\n"],
    "nul-in-command": [b"NO\0OP\r\n"],
    "web-request": ["GET / HTTP/1.1"],
    "twenty-errors": ["FOO"] * 21,
}


#: A code, and its status where it has one.
_REPLY = re.compile(rb"(\d{3})(?:[ -](\d\.\d{1,3}\.\d{1,3})\b)?")


def play(address: str, steps: list[str | bytes]) -> list[str]:
    """
    All replies behind the greeting: their codes and statuses.

    ``-`` stands for a reply in whose place the connection was closed; the last entry is
    ``closed`` where it was closed behind the last reply.
    """
    told: list[str] = []
    with (
        socket.create_connection(split_address(address), PATIENCE_SECONDS) as peer,
        peer.makefile("rb") as reader,
    ):
        for step in (b"", *steps):
            line = _say(peer, reader, f"{step}\r\n".encode() if isinstance(step, str) else step)
            found = _REPLY.match(line)
            told.append(b" ".join(filter(None, found.groups())).decode() if found else "-")
            if not line:
                break
        else:
            told += [] if _say(peer, reader, b"NOOP\r\n") else ["closed"]
    return told[1:]


def _say(peer: socket.socket, reader: BinaryIO, octets: bytes) -> bytes:
    """The last line of the reply to *octets*; nothing: there is none any more."""
    try:
        peer.sendall(octets)
        line = reader.readline()
        while line[3:4] == b"-":
            line = reader.readline()
    except OSError:
        return b""
    return line


def codes(told: list[str]) -> str:
    """Without the statuses."""
    return " ".join(reply[:3] if reply[0].isdigit() else reply for reply in told)


def other_statuses(ours: list[str], theirs: list[str]) -> set[tuple[str, str]]:
    """Replies that have the same code and not the same status."""
    pairs = zip(ours, theirs, strict=False)
    return {(one, two) for one, two in pairs if one[:3] == two[:3] and one != two}


def listed() -> dict[str, tuple[str, str]]:
    """Rows of the first table of the page: case, our codes, Postfix's."""
    rows = re.findall(
        r"^   \* - ``(\S+)``\n     - (.+)\n     - (.+)\n     - \S",
        PAGE.read_text("utf-8"),
        re.MULTILINE,
    )
    return {name: (ours, theirs) for name, ours, theirs in rows}


def listed_statuses() -> set[tuple[str, str]]:
    """Rows of the second one: our reply, Postfix's."""
    rows = re.findall(
        r"^   \* - (\d[\d .]+)\n     - (\d[\d .]+)\n     - \S",
        PAGE.read_text("utf-8"),
        re.MULTILINE,
    )
    return set(rows)


class QuirksTests(PeerCase):
    if os.geteuid() != 0:
        skip = "Postfix changes users, so root has to start it"

    def test_differences(self) -> None:
        """Each difference is in the table with its reason, and each row is a difference."""
        server = self.start_server(access={"relay": {"except": ["127.0.0.1"]}})
        postfix = reserve_address("127.0.0.1")
        self.directory.chmod(0o711)  # its processes have users of their own
        running = start_postfix(
            self.path("postfix"),
            split_address(postfix)[1],
            split_address(server.address),
            main="smtpd_error_sleep_time = 0\n",
        )
        self.addCleanup(running.wait)
        self.addCleanup(running.terminate)
        wait_until(lambda: takes_connections(postfix), "Postfix")

        found, statuses = {}, set()
        for name, steps in CASES.items():
            ours, theirs = play(server.address, steps), play(postfix, steps)
            statuses |= other_statuses(ours, theirs)
            if codes(ours) != codes(theirs):
                found[name] = (codes(ours), codes(theirs))

        self.maxDiff = None
        self.assertEqual(listed(), found)
        self.assertEqual(listed_statuses(), statuses)
