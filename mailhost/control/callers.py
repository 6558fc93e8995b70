"""
Who asks: at the local socket by the kernel's word.

:Room: ``control``
:Called by: `mailhost.control.api`; made by `mailhost.tap`.
"""

from __future__ import annotations

import os
import pwd
import socket
import struct
from typing import Any, Protocol

from attrs import field, frozen

from mailhost.control.rights import ALL, NONE, Rights

_CREDENTIALS = struct.Struct("3i")


@frozen
class Caller:
    """
    :ivar name: what the log calls him.
    :ivar rights: what he may do.
    """

    name: str
    rights: Rights = field(default=NONE)

    def __str__(self) -> str:
        return self.name


class Gate(Protocol):
    """Where callers are looked at before anything else."""

    async def admit(self, request: Any) -> Caller:
        """
        Who has sent *request*.

        :raises mailhost.control.calls.Refusal: that is not known.
        """


@frozen
class Process:
    """
    A process at the other end of the local socket.

    :ivar user_id: whose it is.
    :ivar process_id: which it is.
    """

    user_id: int
    process_id: int

    @staticmethod
    def of(transport: Any) -> Process:
        """As the kernel tells; what the caller says does not matter."""
        octets = transport.socket.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
        )
        process_id, user_id, _ = _CREDENTIALS.unpack(octets)
        return Process(user_id, process_id)

    @property
    def rights(self) -> Rights:
        """Root, and whoever we are, may do everything; nobody else anything."""
        return ALL if self.user_id in (0, os.geteuid()) else NONE

    def __str__(self) -> str:
        try:
            name = pwd.getpwuid(self.user_id).pw_name
        except KeyError:
            name = f"user id {self.user_id}"
        return f"{name} (process {self.process_id})"


@frozen
class LocalGate:
    """The gate of the local socket."""

    async def admit(self, request: Any) -> Caller:
        """See `Gate`."""
        process = Process.of(request.channel.transport)
        return Caller(str(process), process.rights)
