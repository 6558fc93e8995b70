"""
Whether a directory is fit for mail, in sentences.

:Room: ``directory``
:RFC: 4512 §4.2 (subschema), §5.1 (root DSE).
:Called by: `mailhost.directory.resolver.LDAPAddressResolver.check`; printed by commands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from attrs import define

from mailhost.directory.binding import BindingKind, DirectoryServer, Terms
from mailhost.directory.entries import text_of
from mailhost.directory.filters import equals, name_key
from mailhost.directory.link import Answer, Link, Query
from mailhost.directory.problems import ServerFailed
from mailhost.directory.session import Session
from mailhost.directory.source import DirectorySource
from mailhost.errors import LookupProblem
from mailhost.model.address import Mailbox
from mailhost.model.directory import DirectoryFinding, Schema, Weight

_ANYTHING = "(objectClass=*)"
_ROOT = ("namingContexts", "supportedControl", "subschemaSubentry", "schemaNamingContext")
_PAGED_RESULTS = "1.2.840.113556.1.4.319"
#: A search for an address by an index takes about a millisecond.
_SLOW_SECONDS = 0.05
_SECONDS = 10.0
#: Nobody's: RFC 2606 keeps the domain unused.
_NOBODY = Mailbox("mailhost-check-no-such-user", "nobody.invalid")
_ATTRIBUTE_NAMES = re.compile(r"NAME\s+(?:'([^']+)'|\(([^)]*)\))")
#: ATTINDEX of searchFlags in Active Directory's schema.
_INDEXED = 1


def judge_settings(
    servers: tuple[DirectoryServer, ...], terms: Terms, schema: Schema
) -> tuple[DirectoryFinding, ...]:
    """What can be said before anybody is asked."""
    return tuple(_judge(servers, terms, schema))


def _judge(
    servers: tuple[DirectoryServer, ...], terms: Terms, schema: Schema
) -> Iterator[DirectoryFinding]:
    if len(servers) == 1:
        yield DirectoryFinding(
            Weight.ADVICE, "", "One server only: while it is down mail has to wait; name another."
        )
    by_name = terms.binding.kind is not BindingKind.ANONYMOUS
    for server in servers:
        if server.scheme == "ldap" and not terms.start_tls and by_name:
            yield DirectoryFinding(
                Weight.ADVICE,
                str(server),
                "Name, password and answers go in clear text: use ldaps:// or start_tls.",
            )
        if schema.name == "active_directory" and server.port in (389, 636):
            yield DirectoryFinding(
                Weight.ADVICE,
                str(server),
                "A domain controller answers for its own domain: in a forest of several ask the "
                "global catalog, port 3268 or 3269.",
            )


def check_server(
    session: Session,
    server: DirectoryServer,
    source: Callable[[Session], DirectorySource],
) -> tuple[DirectoryFinding, ...]:
    """Ask *server* about itself; in a thread."""
    checking = _Checking(session, server, source(session))
    return tuple(checking.run())


@define(eq=False)
class _Checking:
    session: Session
    server: DirectoryServer
    source: DirectorySource

    def run(self) -> Iterator[DirectoryFinding]:
        link = Link(self.server, self.session.terms, self.session.connect)
        try:
            began = self.session.seconds()
            link.open()
            took = self.session.seconds() - began
            kind = self.session.terms.binding.kind.value
            yield self._good(f"Connected and bound ({kind}) in {1000 * took:.0f} ms.")
            yield from self._ask(link)
        except (ServerFailed, LookupProblem) as problem:
            yield self._fault(f"{problem}")
        finally:
            link.close()

    def _ask(self, link: Link) -> Iterator[DirectoryFinding]:
        root = self._read(link, "", _ROOT)
        if _PAGED_RESULTS not in root.get("supportedcontrol", ()):
            yield self._advice("No paged results (RFC 2696): large groups may be cut off.")
        yield from self._base(link, root)
        yield from self._schema(link, root)
        yield from self._speed(link)

    def _base(self, link: Link, root: dict[str, tuple[str, ...]]) -> Iterator[DirectoryFinding]:
        base = self.source.base
        if link.search(Query(base, "base", _ANYTHING, ("objectClass",)), _SECONDS).rows:
            yield self._good(f"The base {base} is there.")
            return
        contexts = root.get("namingcontexts", ())
        inside = any(name_key(base).endswith(name_key(one)) for one in contexts)
        words = ", ".join(contexts) or "none that it tells"
        why = "it is not there, or may not be read by us" if inside else f"the server has {words}"
        yield self._fault(f"The base {base}: {why}.")

    def _schema(self, link: Link, root: dict[str, tuple[str, ...]]) -> Iterator[DirectoryFinding]:
        place = next(iter(root.get("subschemasubentry", ())), "")
        found = self._read(link, place, ("attributeTypes",)) if place else {}
        known = set(_attribute_names(found.get("attributetypes", ())))
        if not known:
            yield self._advice("The server does not tell its schema: attributes are not checked.")
            return
        schema = self.source.reader.schema
        missing = [name for name in schema.wanted if name.lower() not in known]
        searched = {name.lower() for name, _ in schema.prefixes}
        if searched.isdisjoint(known):
            yield self._fault(f"None of the searched attributes is known: {', '.join(searched)}.")
        elif missing:
            yield self._advice(f"Attributes that this server does not know: {', '.join(missing)}.")
        else:
            yield self._good("All attributes are known.")
        if "schemanamingcontext" in root:
            yield from self._flags(link, root["schemanamingcontext"][0], sorted(searched & known))

    def _flags(self, link: Link, place: str, names: list[str]) -> Iterator[DirectoryFinding]:
        """Active Directory says in its schema what is indexed."""
        for name in names:
            query = Query(place, "one", equals("lDAPDisplayName", name), ("searchFlags",))
            for row in link.search(query, _SECONDS).rows:
                flags = text_of(next(iter(row.attributes.get("searchflags", ())), b"0")) or "0"
                if not (flags.isdecimal() and int(flags) & _INDEXED):
                    yield self._advice(f"{name} has no index (searchFlags).")

    def _speed(self, link: Link) -> Iterator[DirectoryFinding]:
        query = Query(self.source.base, "sub", self.source.address_filter(_NOBODY), ("1.1",), 1)
        began = self.session.seconds()
        answer: Answer = link.search(query, _SECONDS)
        took = self.session.seconds() - began
        names = ", ".join(name for name, _ in self.source.reader.schema.prefixes)
        if answer.missing:
            return
        if took > _SLOW_SECONDS:
            yield self._advice(
                f"A search for an address takes {1000 * took:.0f} ms: index {names} for equality."
            )
        else:
            yield self._good(f"A search for an address takes {1000 * took:.1f} ms.")

    def _read(
        self, link: Link, base: str, attributes: tuple[str, ...]
    ) -> dict[str, tuple[str, ...]]:
        rows = link.search(Query(base, "base", _ANYTHING, attributes), _SECONDS).rows
        found = rows[0].attributes if rows else {}
        return {
            name: tuple(text for one in values if (text := text_of(one)) is not None)
            for name, values in found.items()
        }

    def _good(self, words: str) -> DirectoryFinding:
        return DirectoryFinding(Weight.GOOD, str(self.server), words)

    def _advice(self, words: str) -> DirectoryFinding:
        return DirectoryFinding(Weight.ADVICE, str(self.server), words)

    def _fault(self, words: str) -> DirectoryFinding:
        return DirectoryFinding(Weight.FAULT, str(self.server), words)


def _attribute_names(types: tuple[str, ...]) -> Iterator[str]:
    """The names in attribute type descriptions (RFC 4512 §4.1.2), lower case."""
    for text in types:
        found = _ATTRIBUTE_NAMES.search(text)
        if found is not None:
            names = [found[1]] if found[1] else re.findall(r"'([^']+)'", found[2])
            yield from (name.lower() for name in names)
