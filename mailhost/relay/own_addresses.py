"""
Is an address one of this machine's?

:Room: ``relay``
:RFC: 5321 §5.1 (a host that is ourselves ends the list).
:Called by: `mailhost.relay.mail_exchange`, once per address of a host, when
    somebody listens on all addresses.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address


def is_own_address(address: IPv4Address | IPv6Address) -> bool:
    """
    Whether a socket can be bound to *address*.

    Only an address that a network interface has now can be bound, so this needs
    no list of interfaces, and follows them as they change.  Nothing is sent.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
