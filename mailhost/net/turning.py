"""
A connection whose two sides change their parts: client becomes server, server client.

:Room: ``net``
:RFC: 2645 §5.3 (after ATRN the session begins anew, in what TLS there is).
:Called by: `mailhost.net.inbound` and `mailhost.net.outbound`.
"""

from __future__ import annotations

from typing import Any

from twisted.protocols.tls import TLSMemoryBIOProtocol


def change_protocol(transport: Any, protocol: Any) -> None:
    """Let *protocol* have the connection of *transport*, which has no producer now."""
    holder = transport.protocol
    if isinstance(holder, TLSMemoryBIOProtocol):
        holder.wrappedProtocol = protocol
    else:
        transport.protocol = protocol
    protocol.makeConnection(transport)
