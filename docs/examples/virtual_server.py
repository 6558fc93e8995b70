"""
A whole virtual server from settings in code: sockets, queue, relay, Pickup, Drop and Badmail.

    python virtual_server.py 127.0.0.1 2525 example.com mailhost-home

Address and port to listen on (port 0: the kernel chooses), the local domain,
and the home under which its directories are made.  Clients on this machine may
relay.  Prints ``listening on ADDRESS PORT``; ends in order at SIGTERM or Ctrl-C.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.logger import globalLogBeginner, textFileLogObserver

from mailhost import VirtualServer
from mailhost.config.settings import AccessSettings, ListenAddress, VirtualServerSettings
from mailhost.model.access import AccessList
from mailhost.relay.dns.resolver import DNSResolver
from mailhost.server.virtual_server import CannotStart


def make_settings(address: str, port: int, domain: str, home: Path) -> VirtualServerSettings:
    """What is not said here has the default of docs/settings.rst."""
    return VirtualServerSettings(
        name="embedded",
        home=home,
        fqdn=f"mail.{domain}",
        domain=domain,
        listen=(ListenAddress(address, port),),
        access=AccessSettings(relay=AccessList.build(False, ["127.0.0.1", "::1"])),
    )


def main(address: str, port: str, domain: str, home: str) -> None:
    """Run until the process is told to end."""
    reactor: Any = global_reactor
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    names = DNSResolver(reactor)
    server = VirtualServer(make_settings(address, int(port), domain, Path(home)), reactor, names)
    try:
        server.start()
    except CannotStart as problem:
        sys.exit(str(problem))
    for host, number in server.addresses:
        print("listening on", host, number, flush=True)

    def end() -> Deferred[None]:
        # Sessions hear 421, what is under way comes to its end, the queue stays.
        return server.stop().addCallback(lambda nothing: names.close())

    reactor.addSystemEventTrigger("before", "shutdown", end)
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
