"""
Who is at the other end of the local socket.

:Room: ``control``
:Called by: `mailhost.control.api`.
"""

from __future__ import annotations

import os
import pwd
import socket
import struct
from typing import Any

from attrs import frozen

_CREDENTIALS = struct.Struct("3i")


@frozen
class Caller:
    """
    :ivar user_id: of the process that has connected.
    :ivar process_id: of that process.
    """

    user_id: int
    process_id: int

    @staticmethod
    def of(transport: Any) -> Caller:
        """As the kernel tells; what the caller says does not matter."""
        octets = transport.socket.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
        )
        process_id, user_id, _ = _CREDENTIALS.unpack(octets)
        return Caller(user_id, process_id)

    @property
    def is_trusted(self) -> bool:
        """Root, or whoever we are."""
        return self.user_id in (0, os.geteuid())

    def __str__(self) -> str:
        try:
            name = pwd.getpwuid(self.user_id).pw_name
        except KeyError:
            name = f"user id {self.user_id}"
        return f"{name} (process {self.process_id})"
