"""
The fields that we add, and the forms that dates and ids have in them.

:Room: ``content``
:RFC: 5321 §4.4 (trace information), 5322 §3.3 (dates), §3.6.4 (ids).
:IIS: §10.4 (fields stamped), DEL-45 (the result of reverse DNS), PIC-09.
:Called by: `mailhost.intake` (Received, Date, Message-ID), `mailhost.delivery`
    (Return-Path, X-OriginalArrivalTime), `mailhost.reports`.

Times are seconds since the epoch and are written in UTC.
"""

from __future__ import annotations

from functools import lru_cache
from math import floor
from time import gmtime
from typing import Literal

from mailhost.content.words import path_octets, token_octets
from mailhost.model.address import Mailbox

#: What reverse DNS said of the client (IIS DEL-45).
PeerNote = Literal["", " unverified", " RDNS failed"]

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
#: From 1601, where a FILETIME begins, to 1970.
_FILETIME_EPOCH_MILLISECONDS = 11_644_473_600_000
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def rfc5322_date(now: float) -> bytes:
    """``Thu, 14 Mar 2002 15:31:58 +0000`` (RFC 5322 §3.3)."""
    return _date_at(floor(now))


@lru_cache(maxsize=32)
def _date_at(second: int) -> bytes:
    # Not strftime: its names follow the locale.
    year, month, day, hour, minute, sec, weekday, _, _ = gmtime(second)
    return (
        f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} "
        f"{hour:02}:{minute:02}:{sec:02} +0000"
    ).encode("ascii")


def received_field(
    hello: str,
    peer: str,
    peer_note: PeerNote,
    fqdn: str,
    protocol: str,
    queue_id: str,
    now: float,
) -> bytes:
    """
    The Received field of a message that came by SMTP, with its line ends.

    :param hello: what the client called itself; not to be trusted, made safe here.
    :param peer: its IP address.
    :param fqdn: our name.
    :param protocol: ``SMTP``, ``ESMTP`` ... (RFC 3848).
    """
    beginning = _received_from(hello, peer, peer_note, fqdn, protocol)
    return b"%b%b;\r\n\t %b\r\n" % (beginning, token_octets(queue_id), rfc5322_date(now))


# Remembered: the same hosts come again and again.
@lru_cache(maxsize=1024)
def _received_from(hello: str, peer: str, peer_note: str, fqdn: str, protocol: str) -> bytes:
    return b"Received: from %b (%b%b) by %b with %b id " % (
        token_octets(hello) or b"unknown",
        _address_literal(peer),
        peer_note.encode("ascii"),
        token_octets(fqdn),
        token_octets(protocol),
    )


def _address_literal(peer: str) -> bytes:
    address = peer.partition("%")[0].strip("[]")
    if ":" not in address:
        return b"[%b]" % token_octets(address)
    # A client of IPv4 on a socket of both is a client of IPv4.
    if address.lower().startswith("::ffff:") and "." in address:
        return b"[%b]" % token_octets(address[7:])
    return b"[IPv6:%b]" % token_octets(address)


def received_from_pickup(fqdn: str, queue_id: str, now: float) -> bytes:
    """The Received field of a message out of Pickup, in IIS's words (PIC-09)."""
    return b"Received: from mail pickup service by %b id %b;\r\n\t %b\r\n" % (
        token_octets(fqdn),
        token_octets(queue_id),
        rfc5322_date(now),
    )


def return_path_field(reverse_path: Mailbox | None) -> bytes:
    """The Return-Path field of final delivery (RFC 5321 §4.4)."""
    return b"Return-Path: %b\r\n" % path_octets(reverse_path)


def original_arrival_time(now: float) -> bytes:
    """
    The X-OriginalArrivalTime field as IIS writes it.

    Milliseconds in four digits, and the same instant as a FILETIME, its lower
    half first.
    """
    second, millisecond = divmod(round(now * 1000), 1000)
    year, month, day, hour, minute, sec, *_ = gmtime(second)
    ticks = filetime(now)
    return (
        f"X-OriginalArrivalTime: {day:02} {_MONTHS[month - 1]} {year:04} "
        f"{hour:02}:{minute:02}:{sec:02}.{millisecond:04} (UTC) "
        f"FILETIME=[{ticks & 0xFFFFFFFF:08X}:{ticks >> 32:08X}]\r\n"
    ).encode("ascii")


def filetime(now: float) -> int:
    """*now* in units of 100 ns since 1601, to the millisecond, as Windows counts."""
    return (round(now * 1000) + _FILETIME_EPOCH_MILLISECONDS) * 10_000


def message_id(fqdn: str, randomness: bytes, counter: int) -> bytes:
    """
    A Message-ID in IIS's form: ``<NAME`` 13 random characters, 8 digits ``@fqdn>``.

    :param randomness: at least 10 octets that nobody can guess.
    :param counter: only its lower 32 bits are used.
    :raises ValueError: too little randomness.
    """
    if len(randomness) < 10:
        raise ValueError(f"{len(randomness)} octets of randomness are too few")
    number = int.from_bytes(randomness)
    drawn = []
    for _ in range(13):
        number, digit = divmod(number, 62)
        drawn.append(_BASE62[digit])
    # NetBIOS: the first label, in capitals, at most 15 characters.
    name = "".join(c for c in fqdn.partition(".")[0] if c.isascii() and c.isalnum())[:15].upper()
    local = f"{name}{''.join(drawn)}{counter & 0xFFFFFFFF:08x}"
    return b"<%b@%b>" % (local.encode("ascii"), token_octets(fqdn) or b"localhost")
