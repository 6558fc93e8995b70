"""
What a protocol log tells of: one command and its reply, and what can be said about both.

:Room: ``model``
:IIS: GEN-08..GEN-12.
:Made by: `mailhost.smtp.recorded_dialogue` (`Turn`), `mailhost.net`; written by
    `mailhost.protocol_log`.
"""

from __future__ import annotations

from typing import NamedTuple

from attrs import frozen

#: The fields of the W3C format, in the order in which IIS writes them (GEN-12 LogExtFileFlags).
FIELDS = (
    "date",
    "time",
    "c-ip",
    "cs-username",
    "s-sitename",
    "s-computername",
    "s-ip",
    "s-port",
    "cs-method",
    "cs-uri-stem",
    "cs-uri-query",
    "sc-status",
    "sc-substatus",
    "sc-win32-status",
    "sc-bytes",
    "cs-bytes",
    "time-taken",
    "cs-version",
    "cs-host",
    "cs(User-Agent)",
    "cs(Cookie)",
    "cs(Referer)",
)
DEFAULT_FIELDS = ("time", "c-ip", "cs-method", "cs-uri-stem", "sc-status")
#: What IIS writes in place of a client's name where we are the client.
OUTBOUND_COMMAND = "OutboundConnectionCommand"
OUTBOUND_RESPONSE = "OutboundConnectionResponse"


@frozen
class LogSchedule:
    """
    When a new file is begun (GEN-10 LogFilePeriod).

    :ivar period: ``hourly``, ``daily``, ``weekly``, ``monthly``, or ``unlimited``: never.
    :ivar octets: a file is this large at most (LogFileTruncateSize); `None`: of any size.
    """

    period: str
    octets: int | None = None

    def __str__(self) -> str:
        return self.period if self.octets is None else f"every {self.octets} octets"


class Turn(NamedTuple):
    """
    A command of a client and the reply to it.

    :ivar verb: in upper case; empty: a reply to no command, such as a time-out.
    :ivar argument: what stood behind it; nothing secret.
    :ivar status: the reply's code.
    :ivar received: octets of the command, and of the content that it brought.
    :ivar sent: octets of the reply.
    :ivar seconds: from the command to the reply.
    """

    verb: str
    argument: str
    status: int
    received: int
    sent: int
    seconds: float


class Spoken(NamedTuple):
    """
    One line of a protocol log.

    :ivar at: seconds since the epoch.
    :ivar client: the other end's IP address.
    :ivar name: what the client calls itself, or `OUTBOUND_COMMAND` or `OUTBOUND_RESPONSE`.
    :ivar server: our IP address; empty where we are the client.
    :ivar port: the server's.
    :ivar turn: what was said.
    """

    at: float
    client: str
    name: str
    server: str
    port: int
    turn: Turn
