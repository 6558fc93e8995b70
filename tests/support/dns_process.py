"""
The name server of `tests.support.dns_server` as a process of its own.

    python -m tests.support.dns_process INTERFACE FILE

FILE is JSON: ``{"zones": {name: {type: [data]}}, "faults": {name: FAULT}}``.  The port
that the kernel has given is the first line it prints.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from twisted.internet import reactor

from tests.support.dns_server import DNSServer, Fault


def main(interface: str, file: str) -> None:
    """Serve until the process is ended."""
    told = json.loads(Path(file).read_text())
    server = DNSServer(reactor, interface)
    for name, fault in told["faults"].items():
        server.misbehave(name, Fault[fault])
    print(server.start(told["zones"]), flush=True)
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
