"""A directory in a table."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from mailhost.errors import LookupProblem
from mailhost.interfaces import IAddressResolver
from mailhost.model.address import Mailbox
from mailhost.model.directory import (
    Destination,
    EnvelopePart,
    Expansion,
    Found,
    GroupRef,
    Kind,
    Refused,
    ReportTo,
    Trace,
    TraceStep,
    unknown,
)
from mailhost.model.route import NextHop


def mailbox(text: str) -> Mailbox:
    local, _, domain = text.rpartition("@")
    return Mailbox(local, domain)


def somebody(*texts: str, groups: tuple[str, ...] = (), host: str = "") -> Found:
    """Who gets mail at *texts*, and in *groups*."""
    hop = NextHop(host) if host else None
    refs = tuple(GroupRef(f"cn={one.partition('@')[0]}", mailbox(one)) for one in groups)
    address = mailbox((*texts, *groups)[0])
    places = tuple(Destination(mailbox(one), hop) for one in texts)
    return Found(address, Kind.USER, f"cn={address.local}", places, refs)


def part(
    *texts: str, owner: str = "", silent: bool = False, refused: dict[str, Refused] | None = None
) -> EnvelopePart:
    """Members that share a return path."""
    report = ReportTo.OWNER if owner else ReportTo.NOBODY if silent else ReportTo.ORIGINATOR
    return EnvelopePart(
        report,
        mailbox(owner) if owner else None,
        tuple(Destination(mailbox(one)) for one in texts),
        tuple((mailbox(text), why) for text, why in (refused or {}).items()),
    )


@implementer(IAddressResolver)
@define(eq=False)
class FakeDirectory:
    """
    :ivar people: by address; who is not in it is unknown.  An exception is raised, a
        Deferred is given as it is.
    :ivar groups: by DN.
    :ivar primary: senders.
    :ivar delegations: addresses that whoever asks may write, or not.
    :ivar asked: addresses, in order.
    """

    people: dict[str, Any] = field(factory=dict)
    groups: dict[str, Any] = field(factory=dict)
    primary: dict[str, Any] = field(factory=dict)
    delegations: dict[str, Any] = field(factory=dict)
    asked: list[str] = field(factory=list)

    def resolve(self, address: Mailbox) -> Any:
        self.asked.append(str(address))
        answer = self.people.get(str(address), unknown(address))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def trace(self, address: Mailbox) -> Deferred[Trace]:
        answer = self.people.get(str(address), unknown(address))
        step = TraceStep("ldap://192.0.2.1", "", "sub", f"(mail={address})", (), 1, 0.001)
        if isinstance(answer, Exception):
            return succeed(Trace(address, (step,), None, str(answer), 0.001))
        return succeed(Trace(address, (step,), answer, "", 0.001))

    def expand(self, group: GroupRef) -> Deferred[Expansion | Refused]:
        self.asked.append(group.dn)
        answer = self.groups.get(group.dn, LookupProblem("no such group"))
        if isinstance(answer, Deferred):
            return answer
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)

    def resolve_sender(self, address: Mailbox) -> Any:
        answer = self.primary.get(str(address), address)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def may_send_as(self, login: str, address: Mailbox) -> Any:
        answer = self.delegations.get(str(address), False)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def bind_as(self, login: str, password: str) -> Deferred[bool]:
        return succeed(False)

    def stop(self) -> Deferred[None]:
        return succeed(None)
