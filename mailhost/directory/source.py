"""
The questions that resolving an address asks, as searches.

:Room: ``directory``
:RFC: 4515, 4516; MS-ADTS §3.1.1.3.1.3.3 (``member;range=0-1499``).
:Called by: `mailhost.directory.resolving`, `mailhost.directory.expanding`, in a thread.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

from attrs import define, field

from mailhost.directory.entries import Entry, EntryReader, address_key, text_of
from mailhost.directory.filters import (
    all_of,
    any_of,
    equals,
    first_part,
    name_key,
    parse_url,
)
from mailhost.directory.link import Query
from mailhost.directory.problems import EntryFault
from mailhost.directory.session import NoSuchBase, Session, TooMany
from mailhost.model.address import Mailbox

T = TypeVar("T")
_ANYTHING = "(objectClass=*)"
#: More than two need not be told apart: an address of several entries is ambiguous.
_MOST_OF_ONE_ADDRESS = 3
#: Names or addresses in one search: few searches, and no filter that a server refuses.
_BATCH_COUNT = 100
#: A server that answers a range with nothing new would keep us asking.
_MAX_RANGES = 10_000


@define(eq=False)
class DirectorySource:
    """
    One thread's view of the directory.

    :ivar session: asks.
    :ivar reader: knows the schema.
    :ivar base: where everything is looked for, a DN.
    """

    session: Session
    reader: EntryReader
    base: str
    _wanted: tuple[str, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._wanted = self.reader.schema.wanted

    def by_address(self, address: Mailbox) -> tuple[Entry, ...]:
        """Those that have *address*; more than one is ambiguous."""
        return self._below_base(self.address_filter(address), _MOST_OF_ONE_ADDRESS)

    def address_filter(self, address: Mailbox) -> str:
        """Finds *address*."""
        return all_of(self.reader.schema.objects, any_of(self._address_tests(address)))

    def _address_tests(self, address: Mailbox) -> list[str]:
        text = plain(address)
        return [equals(name, prefix + text) for name, prefix in self.reader.schema.prefixes]

    def by_addresses(self, addresses: Sequence[Mailbox]) -> dict[str, list[Entry]]:
        """For each of *addresses*, by `address_key`, those that have it."""
        found: dict[str, list[Entry]] = {address_key(one): [] for one in addresses}
        for batch in _batches(addresses):
            tests = (test for one in batch for test in self._address_tests(one))
            query = self._query(all_of(self.reader.schema.objects, any_of(tests)))
            for row in self.session.search_all(query, len(batch) * _MOST_OF_ONE_ADDRESS):
                entry = self.reader.read(row)
                for key in {address_key(one) for one in entry.addresses} & found.keys():
                    found[key].append(entry)
        return found

    def by_name(self, dn: str) -> Entry | None:
        """The entry called *dn*; `None` where there is none, or it is none of ours."""
        try:
            rows = self.session.search(self._query(self._objects, base=dn, scope="base"))
        except NoSuchBase:
            return None
        return self.reader.read(rows[0]) if rows else None

    def by_login(self, login: str) -> tuple[Entry, ...]:
        """Those who log in as *login*."""
        tests = any_of(equals(name, login) for name in self.reader.schema.login)
        return self._below_base(all_of(self.reader.schema.objects, tests), 2)

    def _below_base(self, text: str, most: int) -> tuple[Entry, ...]:
        rows = self.session.search(self._query(text, most=most))
        return tuple({entry.key: entry for entry in map(self.reader.read, rows)}.values())

    @property
    def _objects(self) -> str:
        return self.reader.schema.objects or _ANYTHING

    def _query(
        self, text: str, base: str | None = None, scope: str = "sub", most: int = 0
    ) -> Query:
        return Query(self.base if base is None else base, scope, text, self._wanted, most)

    # ---- groups

    def members(self, group: Entry, most: int) -> Iterator[Entry]:
        """
        The entries that are members of *group*, not of groups in it.

        Names that lead nowhere are left out.

        :raises mailhost.directory.session.TooMany: *group* lists more than *most*.
        """
        for name in self.reader.schema.member_entries:
            yield from self.by_names(self._values(group.dn, name, most))
        if group.member_filter:
            yield from self._found(group.member_base or self.base, "sub", group.member_filter, most)
        if group.member_url:
            url = parse_url(group.member_url)
            if url is None:
                raise EntryFault(f"{group.dn}: {group.member_url!r} is no LDAP URL")
            yield from self._found(url.base or self.base, url.scope, url.filter, most)

    def member_addresses(self, group: Entry, most: int) -> tuple[str, ...]:
        """The members of *group* that are written as addresses."""
        names = self.reader.schema.member_addresses
        return tuple(text for name in names for text in self._values(group.dn, name, most))

    def _found(self, base: str, scope: str, text: str, most: int) -> Iterator[Entry]:
        """What a filter that stands in the directory finds."""
        written = text.strip() or _ANYTHING
        bracketed = written if written.startswith("(") else f"({written})"
        query = self._query(all_of(self.reader.schema.objects, bracketed), base, scope)
        return map(self.reader.read, self.session.search_all(query, most))

    def by_names(self, names: Sequence[str]) -> Iterator[Entry]:
        """
        The entries called *names*, in no certain order.

        Siblings are asked for by a hundred at a time: one search each would take
        fifty times as long for a large group.
        """
        siblings: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        alone: list[str] = []
        for dn in names:
            part = first_part(dn)
            if part is None or not part.parent:
                alone.append(dn)
            else:
                siblings[name_key(part.parent), part.attribute].append((dn, part.value))
        for (parent, attribute), those in siblings.items():
            for batch in _batches(those):
                yield from self._siblings(parent, attribute, batch, alone)
        for dn in alone:
            entry = self.by_name(dn)
            if entry is not None:
                yield entry

    def _siblings(
        self, parent: str, attribute: str, batch: list[tuple[str, str]], alone: list[str]
    ) -> Iterator[Entry]:
        """Entries of one level; those not found this way are added to *alone*."""
        missing = {name_key(dn): dn for dn, _ in batch}
        if len(batch) > 1:
            text = all_of(
                self.reader.schema.objects, any_of(equals(attribute, value) for _, value in batch)
            )
            query = self._query(text, base=parent, scope="one")
            try:
                rows = self.session.search_all(query, 10 * len(batch))
            except (NoSuchBase, TooMany):
                rows = ()
            for row in rows:
                # Another entry of the level may have the value in an attribute that is
                # not its name.
                if missing.pop(name_key(row.dn), None) is not None:
                    yield self.reader.read(row)
        alone += missing.values()

    def _values(self, dn: str, attribute: str, most: int) -> list[str]:
        """All values of *attribute*, in as many ranges as the server makes of them."""
        values: list[str] = []
        wanted = attribute
        for _ in range(_MAX_RANGES):
            query = Query(dn, "base", _ANYTHING, (wanted,))
            rows = self.session.search(query)
            found, after = _range_of(rows[0].attributes, attribute) if rows else ((), None)
            values += (text for one in found if (text := text_of(one)) is not None)
            if len(values) > most:
                raise TooMany
            if after is None or not found:
                break
            wanted = f"{attribute};range={after}-*"
        return values


def plain(address: Mailbox) -> str:
    """*address* as a directory keeps it: without the quotes of RFC 5321 §4.1.2."""
    local = address.local
    if local.startswith('"') and local.endswith('"') and len(local) > 1:
        unquoted = iter(local[1:-1])
        local = "".join(next(unquoted, "") if c == "\\" else c for c in unquoted)
    return f"{local}@{address.domain}"


def _range_of(
    attributes: Mapping[str, tuple[bytes, ...]], name: str
) -> tuple[tuple[bytes, ...], int | None]:
    """The values of *name* that came, and where the next range begins."""
    for key, values in attributes.items():
        attribute, _, options = key.partition(";range=")
        if attribute == name.lower() and options:
            last = options.partition("-")[2]
            return values, int(last) + 1 if last.isdecimal() else None
    return attributes.get(name.lower(), ()), None


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, _BATCH_COUNT)):
        yield batch
