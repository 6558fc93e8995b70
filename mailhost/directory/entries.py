"""
From an entry's attributes to what they mean for mail.

:Room: ``directory``
:IIS: the outline of resolution in §6, points 4 to 6.
:Called by: `mailhost.directory.source`, in its thread.

What cannot be read (no UTF-8, no address) counts as not there: one bad value of one
attribute must not make an entry unreachable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from attrs import define, frozen

from mailhost.directory.filters import name_key
from mailhost.directory.homes import HomeServers
from mailhost.directory.link import Row
from mailhost.errors import SyntaxProblem
from mailhost.model.address import Mailbox
from mailhost.model.directory import Kind, ReportTo, Schema
from mailhost.model.route import NextHop
from mailhost.smtp.grammar import parse_mailbox

#: What a directory writes for yes.
_YES = frozenset({"true", "1", "yes"})
_SMTP = "smtp:"


@frozen
class Entry:
    """
    One entry, in the terms of mail.

    :ivar dn: its name.
    :ivar key: its name, for comparing.
    :ivar addresses: all it can be found by.
    :ivar primary: `None`: it has no address.
    :ivar target: takes the mailbox's place.
    :ivar forward_entries: DNs.
    :ivar keep_copy: the mailbox gets forwarded mail as well.
    :ivar host: the home server; `None`: us.
    :ivar routing: the recipient on *host*, or instead of the mailbox.
    :ivar report_to: `None` where the entry does not say.
    :ivar keeps_given: its host wants the address that was given, not the primary one.
    :ivar fault: why mail for it cannot be routed; empty as a rule.
    :ivar member_filter: finds the members of a dynamic group, below *member_base*.
    """

    dn: str
    key: str
    kind: Kind
    addresses: tuple[Mailbox, ...] = ()
    primary: Mailbox | None = None
    disabled: bool = False
    target: Mailbox | None = None
    forward_entries: tuple[str, ...] = ()
    forward_addresses: tuple[Mailbox, ...] = ()
    keep_copy: bool = False
    host: NextHop | None = None
    routing: Mailbox | None = None
    owners: tuple[str, ...] = ()
    delegates: tuple[str, ...] = ()
    report_to: ReportTo | None = None
    member_filter: str = ""
    member_base: str = ""
    member_url: str = ""
    keeps_given: bool = False
    fault: str = ""

    def has_address(self, address: Mailbox) -> bool:
        """Whether *address* is one of its own."""
        own = self.addresses if self.primary is None else (*self.addresses, self.primary)
        return address_key(address) in map(address_key, own)


@define(eq=False)
class EntryReader:
    """
    :ivar schema: which attributes mean what.
    :ivar homes: which servers are where.
    """

    schema: Schema
    homes: HomeServers

    def read(self, row: Row) -> Entry:
        """*row* in the terms of mail."""
        schema, values = self.schema, _Values(row.attributes)
        kind = self._kind(values)
        host, fault = self._host(values)
        return Entry(
            row.dn,
            name_key(row.dn),
            kind,
            tuple(self._addresses(values)),
            self._primary(values),
            self._is_disabled(values),
            _address(values.first(schema.target)),
            values.all(schema.forward_to_entry),
            tuple(_addresses(values.all(schema.forward_to_address))),
            any(word.lower() in _YES for word in values.all(schema.keep_copy)),
            host,
            _address(values.first(schema.routing_address)),
            values.all(*schema.owner),
            values.all(*schema.delegates),
            self._report_to(values) if kind is Kind.GROUP else None,
            values.first(schema.member_filter),
            values.first(schema.member_base),
            values.first(schema.member_url),
            bool(schema.routing_address),
            fault,
        )

    def _kind(self, values: _Values) -> Kind:
        classes = {name.lower() for name in values.all("objectClass")}
        if any(name.lower() in classes for name in self.schema.groups):
            return Kind.GROUP
        if any(name.lower() in classes for name in self.schema.contacts):
            return Kind.CONTACT
        return Kind.USER

    def _addresses(self, values: _Values) -> Iterator[Mailbox]:
        for name, prefix in self.schema.prefixes:
            for text in values.all(name):
                if text.lower().startswith(prefix.lower()):
                    found = _address(text[len(prefix) :])
                    if found is not None:
                        yield found

    def _primary(self, values: _Values) -> Mailbox | None:
        for name, prefix in self.schema.prefixes:
            for text in values.all(name):
                # In capitals the prefix marks the address that is written on what goes out.
                if prefix and prefix != prefix.upper() and text.startswith(prefix.upper()):
                    found = _address(text[len(prefix) :])
                    if found is not None:
                        return found
        return next(_addresses(values.all(*self.schema.primary)), None)

    def _is_disabled(self, values: _Values) -> bool:
        text = values.first(self.schema.disabled)
        if not self.schema.disabled_bit:
            return text.lower() in self.schema.disabled_words
        digits = text.removeprefix("-")
        return digits.isdecimal() and bool(int(text) & self.schema.disabled_bit)

    def _host(self, values: _Values) -> tuple[NextHop | None, str]:
        """The home server, and what is wrong with it."""
        host = values.first(self.schema.host)
        name = values.first(*self.schema.home)
        try:
            if host:
                return self.homes.by_host(host), ""
            return (self.homes.by_name(name) if name else None), ""
        except ValueError as wrong:
            return None, f"home server {wrong}"

    def _report_to(self, values: _Values) -> ReportTo | None:
        owner = values.first(self.schema.report_to_owner).lower()
        originator = values.first(self.schema.report_to_originator).lower()
        if owner in _YES:
            return ReportTo.OWNER
        if not originator and not owner:
            return None
        # "Send no reports" is kept as two times false.
        return ReportTo.ORIGINATOR if originator in _YES else ReportTo.NOBODY


@frozen
class _Values:
    """The attributes of one entry as text."""

    attributes: Mapping[str, tuple[bytes, ...]]

    def all(self, *names: str) -> tuple[str, ...]:
        """The values of all these attributes that are UTF-8."""
        return tuple(
            text
            for name in names
            for octets in self.attributes.get(name.lower(), ())
            if (text := text_of(octets)) is not None
        )

    def first(self, *names: str) -> str:
        """The first of them; empty where there is none."""
        return next(iter(self.all(*names)), "").strip()


def address_key(address: Mailbox) -> str:
    """For comparing: a directory does not tell capitals from small letters."""
    return str(address).lower()


def text_of(octets: bytes) -> str | None:
    """*octets* as text; `None` where they are no UTF-8."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _addresses(texts: Iterable[str]) -> Iterator[Mailbox]:
    return (found for text in texts if (found := _address(text)) is not None)


def _address(text: str) -> Mailbox | None:
    """*text* as an address, with or without ``SMTP:`` before it."""
    bare = text[len(_SMTP) :] if text[: len(_SMTP)].lower() == _SMTP else text
    try:
        found = parse_mailbox(bare.strip())
    except SyntaxProblem:
        return None
    return found if found.domain else None
