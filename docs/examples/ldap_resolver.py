"""
Ask a directory about addresses; a directory in memory where no server is named.

    python ldap_resolver.py robert@example.com team@example.com nobody@example.com
    python ldap_resolver.py --server ldap://192.0.2.1 --base dc=example,dc=com robert@example.com

Prints a line for each: what it is and where its mail goes, or the reply that RCPT
would get.  Exit status 1 where the directory cannot answer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable
from typing import Any

import ldap3
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from mailhost.directory.binding import DirectoryServer, Terms
from mailhost.directory.resolver import LDAPAddressResolver
from mailhost.directory.schemas import SCHEMAS
from mailhost.errors import LookupProblem
from mailhost.model.directory import Expansion, Found
from mailhost.smtp.grammar import parse_mailbox

#: What ldap3's mock strategy answers with: two people and a group of them.
PEOPLE = {
    "uid=robert,dc=example,dc=com": {
        "objectClass": "inetOrgPerson",
        "mail": "robert@example.com",
        "mailHost": "mail.example.com",
    },
    "uid=maria,dc=example,dc=com": {
        "objectClass": "inetOrgPerson",
        "mail": "maria@example.com",
        "mailForwardingAddress": "maria@example.net",
    },
    "cn=team,dc=example,dc=com": {
        "objectClass": "groupOfNames",
        "mail": "team@example.com",
        "member": ["uid=robert,dc=example,dc=com", "uid=maria,dc=example,dc=com"],
    },
}


def connection_in_memory(server: DirectoryServer, terms: Terms) -> Any:
    """In place of `mailhost.directory.link.connection_to`: no server, no socket."""
    connection = ldap3.Connection(
        ldap3.Server(server.host, get_info=ldap3.NONE),
        client_strategy=ldap3.MOCK_SYNC,
        check_names=False,
        auto_escape=False,
        return_empty_attributes=False,
    )
    connection.strategy.add_entry("dc=example,dc=com", {"objectClass": "domain"})
    for name, attributes in PEOPLE.items():
        connection.strategy.add_entry(name, attributes)
    return connection


def make_resolver(reactor: Any, given: argparse.Namespace) -> LDAPAddressResolver:
    """The resolver that the command line describes."""
    schema = SCHEMAS[given.schema]
    if given.server:
        return LDAPAddressResolver(reactor, given.server, given.base, schema)
    return LDAPAddressResolver(
        reactor, ["memory"], "dc=example,dc=com", schema, connect=connection_in_memory
    )


async def tell(resolver: LDAPAddressResolver, text: str) -> None:
    """Print what the directory says of one address."""
    # The answer is there at once where it is cached, and awaitable where not.
    answer = resolver.resolve(parse_mailbox(text))
    if isinstance(answer, Awaitable):
        answer = await answer
    if not isinstance(answer, Found):
        print(text, answer.reply)
        return
    destinations = list(answer.destinations)
    for group in answer.groups:
        expansion = await resolver.expand(group)
        if isinstance(expansion, Expansion):
            destinations += expansion.destinations
    # A directory gives members in any order.
    told = sorted(f"{one.address} at {one.host or 'its domain'}" for one in destinations)
    print(text, answer.kind.value, ", ".join(told))


async def main(reactor: Any, *arguments: str) -> None:
    """Ask for all addresses of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", action="append", help="ldap://host or ldaps://host")
    parser.add_argument("--base", default="dc=example,dc=com")
    parser.add_argument("--schema", default="inetorgperson", choices=sorted(SCHEMAS))
    parser.add_argument("address", nargs="+")
    given = parser.parse_args(arguments)
    resolver = make_resolver(reactor, given)
    try:
        for text in given.address:
            await tell(resolver, text)
    except LookupProblem as problem:
        sys.exit(f"{problem.status} {problem.words}")
    finally:
        await resolver.stop()


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, *sys.argv[1:])))
