"""
Writing to a socket at once where it is idle.

:Room: ``net``
:Called by: `mailhost.net.inbound` and `mailhost.net.outbound`, once per turn.

``transport.write`` waits for the reactor to say that the socket is writable:
two changes of its interest set and a turn, for a reply of forty octets to a
socket that has been idle since the command came.  An idle socket takes the
octets now.  Whatever it does not take, and every transport that is not a plain
TCP connection with nothing waiting (TLS, tests), goes the usual way, so order,
back-pressure and errors are Twisted's own.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Connection


def write_promptly(transport: Any, octets: bytes) -> None:
    """Send *octets* behind everything *transport* has been given before."""
    if (
        isinstance(transport, Connection)
        and transport.connected
        # Nothing waits, and nobody else writes to the socket.
        and not (transport.dataBuffer or transport._tempDataBuffer or transport.TLS)
        and not (transport.disconnecting or transport._writeDisconnected)
    ):
        try:
            sent = transport.socket.send(octets)
        except OSError:
            # Full, interrupted or lost: `write` lets the reactor find out, and tell the
            # protocol in its own time.
            sent = 0
        if sent == len(octets):
            return
        octets = octets[sent:]
    transport.write(octets)
