"""
Print the hosts that take mail for a domain, and their addresses, in the order to try.

    python mail_exchange_resolver.py example.com 192.0.2.53 53

Domain, then the address and port of a name server; without these two the ones of
``/etc/resolv.conf`` are asked.  Exit status 1 and a reason on standard error
where there is no host.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from mailhost.errors import ResolveProblem
from mailhost.relay.dns.resolver import DNSResolver
from mailhost.relay.mail_exchange import MailExchangeResolver


async def main(reactor: Any, domain: str, server: str = "", port: str = "53") -> None:
    """Look *domain* up and print what was found."""
    names = DNSResolver(reactor, [(server, int(port))] if server else None)
    exchanges = MailExchangeResolver(names, reactor)
    try:
        # Both answers are there at once where they are cached, and awaitable where not.
        site = exchanges.site(domain)
        if isinstance(site, Awaitable):
            site = await site
        for one in site.hosts:
            located = exchanges.host_addresses(one.host, 25)
            if isinstance(located, Awaitable):
                located = await located
            print(one.preference, one.host, *(found.address for found in located))
    except ResolveProblem as problem:
        sys.exit(f"{problem.status} {problem.words}")
    finally:
        await names.close()


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, *sys.argv[1:])))
