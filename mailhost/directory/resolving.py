"""
From an address to where its mail goes: the rules, without the questions.

:Room: ``directory``
:IIS: the outline of resolution in §6.
:Called by: `mailhost.directory.resolver`, in a thread; `mailhost.directory.expanding`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from attrs import define, field

from mailhost.directory.entries import Entry
from mailhost.directory.problems import EntryFault
from mailhost.model.address import Mailbox
from mailhost.model.directory import (
    Destination,
    Found,
    GroupRef,
    Kind,
    Refused,
    Resolution,
    ambiguous,
    disabled,
    looping,
    unknown,
)

#: Forwarding from one to the next is followed so far; more is taken for a loop.
MAX_FORWARDS = 10


class Source(Protocol):
    """What the rules ask; `mailhost.directory.source.DirectorySource` is the real one."""

    def by_address(self, address: Mailbox) -> tuple[Entry, ...]:
        """Those that have *address*."""

    def by_addresses(self, addresses: Sequence[Mailbox]) -> dict[str, list[Entry]]:
        """The same for several."""

    def by_name(self, dn: str) -> Entry | None:
        """The entry called *dn*."""

    def members(self, group: Entry, most: int) -> Iterable[Entry]:
        """Members that are entries."""

    def member_addresses(self, group: Entry, most: int) -> Sequence[str]:
        """Members that are addresses."""


def resolve(source: Source, address: Mailbox) -> Resolution:
    """
    What *source* says of *address*; groups are named, not expanded.

    :raises mailhost.errors.LookupProblem: it cannot say.
    """
    entries = source.by_address(address)
    if not entries:
        return unknown(address)
    if len(entries) > 1:
        return ambiguous(address)
    entry = entries[0]
    walk = Walk(source)
    refused = walk.follow(entry, address)
    if refused is not None and not walk.destinations and not walk.groups:
        return refused
    return Found(
        entry.primary or address,
        entry.kind,
        entry.dn,
        tuple(walk.destinations),
        tuple(walk.groups.values()),
    )


@define(eq=False)
class Walk:
    """
    Follows forwarding from one entry.

    :ivar destinations: mailboxes reached, in order.
    :ivar groups: groups reached, by key.
    """

    source: Source
    destinations: dict[Destination, None] = field(factory=dict, init=False)
    groups: dict[str, GroupRef] = field(factory=dict, init=False)
    _delivered: set[str] = field(factory=set, init=False)
    _path: list[str] = field(factory=list, init=False)

    def follow(self, entry: Entry, given: Mailbox | None) -> Refused | None:
        """
        Note where mail for *entry* goes.

        :param given: the address it was found by, where it was.
        :returns: why one of the ways leads nowhere.
        :raises EntryFault: there is no way to follow *entry*.
        """
        address = entry.primary or given
        if entry.key in self._delivered:
            return None
        if address is None:
            raise EntryFault(f"{entry.dn} gets forwarded mail and has no address")
        if entry.key in self._path or len(self._path) > MAX_FORWARDS:
            return looping(given or address)
        if entry.disabled:
            return disabled(given or address)
        if entry.fault:
            raise EntryFault(f"{entry.dn}: {entry.fault}")
        if entry.kind is Kind.GROUP:
            self.groups[entry.key] = GroupRef(entry.dn, address)
            return None
        self._path.append(entry.key)
        try:
            return self._leave(entry, address, given)
        finally:
            self._path.pop()

    def _leave(self, entry: Entry, address: Mailbox, given: Mailbox | None) -> Refused | None:
        """Past *entry*: to its mailbox, or on."""
        if entry.target is not None and not entry.has_address(entry.target):
            return self._send_on(entry.target)
        forwards = bool(entry.forward_entries or entry.forward_addresses)
        if entry.keep_copy or not forwards:
            refused = self._keep(entry, address, given)
            if refused is not None:
                return refused
        refusals = [self._forward_to_entry(entry, dn) for dn in entry.forward_entries]
        refusals += [self._send_on(one) for one in entry.forward_addresses]
        return next((one for one in refusals if one is not None), None)

    def _keep(self, entry: Entry, address: Mailbox, given: Mailbox | None) -> Refused | None:
        """Into the mailbox of *entry*, wherever it is."""
        if entry.host is not None:
            # The inetLocalMailRecipient draft: the host gets the routing address, or else
            # the address as it was given.
            as_given = given if entry.keeps_given else None
            self.destinations[Destination(entry.routing or as_given or address, entry.host)] = None
        elif entry.routing is not None and not entry.has_address(entry.routing):
            return self._send_on(entry.routing)
        else:
            self.destinations[Destination(address)] = None
        self._delivered.add(entry.key)
        return None

    def _forward_to_entry(self, entry: Entry, dn: str) -> Refused | None:
        found = self.source.by_name(dn)
        if found is None:
            raise EntryFault(f"{entry.dn} forwards to {dn}, which is not there")
        return self.follow(found, None)

    def _send_on(self, address: Mailbox) -> Refused | None:
        """To *address*, which may be in the directory too, or anywhere."""
        entries = self.source.by_address(address)
        if len(entries) > 1:
            return ambiguous(address)
        if entries:
            return self.follow(entries[0], address)
        self.destinations[Destination(address)] = None
        return None
