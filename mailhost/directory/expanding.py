"""
From a group to its mailboxes.

:Room: ``directory``
:IIS: the outline of resolution in §6, point 5.
:RFC: 5321 §3.9 (lists and aliases).
:Called by: `mailhost.directory.resolver`, in a thread.

Groups are walked breadth first; each is visited once, so that a loop of groups ends by
itself.  A mailbox that is reached twice gets one copy, by the first way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from attrs import define, field

from mailhost.directory.entries import Entry, address_key
from mailhost.directory.problems import EntryFault
from mailhost.directory.resolving import Source, Walk
from mailhost.directory.session import TooMany
from mailhost.errors import LookupProblem, SyntaxProblem
from mailhost.model.address import Mailbox
from mailhost.model.directory import (
    Destination,
    EnvelopePart,
    Expansion,
    GroupRef,
    Kind,
    Refused,
    ReportTo,
    ambiguous,
    too_many_members,
)
from mailhost.model.route import NextHop
from mailhost.smtp.grammar import parse_mailbox


def expand(source: Source, group: GroupRef, most: int) -> Expansion | Refused:
    """
    The mailboxes that *group* stands for.

    :param most: recipients, and entries looked at; a larger group is refused whole.
    :raises LookupProblem: the directory cannot say now.
    """
    entry = source.by_name(group.dn)
    if entry is None or entry.kind is not Kind.GROUP:
        # It was one when its address was accepted.
        raise LookupProblem(f"{group.dn} is no group any more")
    expanding = _Expanding(source, most)
    try:
        expanding.run(entry)
    except TooMany:
        return too_many_members(group.address, most)
    return expanding.result()


@define(frozen=True)
class _Rule:
    """Who hears of failures; what a nested group does not say, the outer one does."""

    report_to: ReportTo
    owner: Mailbox | None


@define(eq=False)
class _Part:
    found: list[Destination] = field(factory=list)
    refused: list[tuple[Mailbox, Refused]] = field(factory=list)


@define(eq=False)
class _Expanding:
    source: Source
    most: int
    _waiting: deque[tuple[Entry, _Rule]] = field(factory=deque, init=False)
    _seen: set[str] = field(factory=set, init=False)
    _found: set[tuple[str, NextHop | None]] = field(factory=set, init=False)
    _parts: dict[_Rule, _Part] = field(factory=dict, init=False)
    _skipped: int = field(default=0, init=False)

    def run(self, group: Entry) -> None:
        self._enter(group, _Rule(ReportTo.ORIGINATOR, None))
        while self._waiting:
            entry, rule = self._waiting.popleft()
            for member in self.source.members(entry, self.most):
                self._add_entry(member, rule)
            self._add_addresses(self.source.member_addresses(entry, self.most), rule)

    def result(self) -> Expansion:
        parts = (
            EnvelopePart(rule.report_to, rule.owner, tuple(part.found), tuple(part.refused))
            for rule, part in self._parts.items()
        )
        return Expansion(tuple(parts), self._skipped)

    def _part(self, rule: _Rule) -> _Part:
        return self._parts.setdefault(rule, _Part())

    def _enter(self, group: Entry, outer: _Rule) -> None:
        """Its members come when it is its turn, unless it has been seen."""
        if not self._is_new(group.key):
            return
        if group.disabled:
            self._skipped += 1
            return
        self._waiting.append((group, self._rule(group, outer)))

    def _rule(self, group: Entry, outer: _Rule) -> _Rule:
        if group.report_to is None:
            return outer
        if group.report_to is not ReportTo.OWNER:
            return _Rule(group.report_to, None)
        for dn in group.owners:
            owner = self.source.by_name(dn)
            if owner is not None and owner.primary is not None:
                return _Rule(ReportTo.OWNER, owner.primary)
        # Nobody would hear of it: better the sender than nobody.
        return _Rule(ReportTo.ORIGINATOR, None)

    def _is_new(self, key: str) -> bool:
        if key in self._seen:
            return False
        if len(self._seen) >= self.most:
            raise TooMany
        self._seen.add(key)
        return True

    def _add_entry(self, member: Entry, rule: _Rule, given: Mailbox | None = None) -> None:
        if member.kind is Kind.GROUP:
            self._enter(member, rule)
        elif self._is_new(member.key):
            self._follow(member, rule, given)

    def _follow(self, member: Entry, rule: _Rule, given: Mailbox | None) -> None:
        address = member.primary or given
        if member.disabled or address is None:
            self._skipped += 1
            return
        walk = Walk(self.source)
        try:
            refused = walk.follow(member, given)
        except EntryFault as fault:
            # One entry that nobody can follow must not hold back the mail of all others.
            refused = Refused("5.3.5", fault.words)
        for destination in walk.destinations:
            self._add(destination, rule)
        for group in walk.groups.values():
            entry = self.source.by_name(group.dn)
            if entry is not None:
                self._enter(entry, rule)
        if refused is not None and not walk.destinations and not walk.groups:
            self._part(rule).refused.append((address, refused))

    def _add_addresses(self, texts: Sequence[str], rule: _Rule) -> None:
        """Members that are written as addresses: of the directory, or from elsewhere."""
        addresses = []
        for text in texts:
            try:
                address = parse_mailbox(text.strip())
            except SyntaxProblem:
                self._skipped += 1
                continue
            if address.domain:
                addresses.append(address)
            else:
                self._skipped += 1
        found = self.source.by_addresses(addresses) if addresses else {}
        for address in addresses:
            entries = found.get(address_key(address), [])
            if len(entries) > 1:
                self._part(rule).refused.append((address, ambiguous(address)))
            elif entries:
                self._add_entry(entries[0], rule, address)
            else:
                self._add(Destination(address), rule)

    def _add(self, destination: Destination, rule: _Rule) -> None:
        key = (address_key(destination.address), destination.host)
        if key in self._found:
            return
        if len(self._found) >= self.most:
            raise TooMany
        self._found.add(key)
        self._part(rule).found.append(destination)
