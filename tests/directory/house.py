"""What the tests of this room share."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, TypeVar

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from mailhost.directory.homes import HomeServers
from mailhost.directory.resolver import LDAPAddressResolver, Limits
from mailhost.errors import LookupProblem
from mailhost.interfaces import Maybe
from mailhost.model.address import Mailbox
from mailhost.model.directory import (
    Expansion,
    Found,
    GroupRef,
    Refused,
    Resolution,
)
from tests.support.slapd import AD, PEOPLE

T = TypeVar("T")
HOMES = HomeServers({}, "example.com", frozenset({"here.example.com", "mail.example.com"}))
#: Patience and pauses short enough for a test, long enough for a loaded machine.
LIMITS = Limits(lookup_seconds=3.0, probe_seconds=0.1, probe_limit_seconds=0.3)


def ad(local: str) -> Mailbox:
    return Mailbox(local, "ad.example.com")


def person(local: str) -> Mailbox:
    return Mailbox(local, "people.example.com")


async def arrived(answer: Maybe[T]) -> T:
    return await answer if isinstance(answer, Awaitable) else answer


class DirectoryCase(TestCase):
    """Makes resolvers, and stops them."""

    timeout = 60

    def folder(self) -> Path:
        found = mkdtemp(prefix="ldap")
        self.addCleanup(rmtree, found)
        return Path(found)

    def resolver(self, *servers: str, base: str = AD, **more: Any) -> LDAPAddressResolver:
        limits = evolve(LIMITS, **more.pop("limits", {}))
        made = LDAPAddressResolver(
            reactor, servers, base, **{"homes": HOMES, "limits": limits, **more}
        )
        self.addCleanup(made.stop)
        return made

    async def refused(self, resolver: LDAPAddressResolver, address: Mailbox) -> str:
        """The status with which *address* is refused."""
        answer = await arrived(resolver.resolve(address))
        assert isinstance(answer, Refused), answer
        return answer.status

    async def found(self, resolver: LDAPAddressResolver, address: Mailbox) -> Found:
        answer = await arrived(resolver.resolve(address))
        assert isinstance(answer, Found), answer
        return answer

    async def group(self, resolver: LDAPAddressResolver, address: Mailbox) -> Expansion:
        """The one group that *address* is, expanded."""
        found = await self.found(resolver, address)
        (ref,) = found.groups
        answer = await resolver.expand(ref)
        assert isinstance(answer, Expansion), answer
        return answer

    async def problem(self, resolver: LDAPAddressResolver, address: Mailbox) -> LookupProblem:
        """Why there is no answer for *address*."""
        try:
            answer = await arrived(resolver.resolve(address))
        except LookupProblem as problem:
            return problem
        raise AssertionError(f"answered: {answer}")


def locals_of(expansion: Expansion) -> list[str]:
    return sorted(str(one.address) for one in expansion.destinations)


def gathered(answers: list[Maybe[Resolution]]) -> list[Deferred[Resolution]]:
    return [answer for answer in answers if isinstance(answer, Deferred)]


__all__ = ["AD", "PEOPLE", "GroupRef"]
