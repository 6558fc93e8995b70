"""Resolving and expanding over entries made by hand: no LDAP at all."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.directory.entries import Entry, EntryReader, address_key
from mailhost.directory.expanding import expand
from mailhost.directory.homes import HomeServers, server_name
from mailhost.directory.link import Row
from mailhost.directory.problems import EntryFault
from mailhost.directory.resolving import MAX_FORWARDS, resolve
from mailhost.directory.schemas import ACTIVE_DIRECTORY, EXCHANGE, SCHEMAS
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
    Schema,
    unknown,
)
from mailhost.model.route import NextHop


def at(local: str) -> Mailbox:
    return Mailbox(local, "example.com")


@define
class Book:
    """A `Source` in memory."""

    entries: dict[str, Entry] = field(factory=dict)
    members_of: dict[str, list[str]] = field(factory=dict)

    def add(self, name: str, kind: Kind = Kind.USER, **more: object) -> Entry:
        given = {"addresses": (at(name),), "primary": at(name), **more}
        self.entries[name] = Entry(name, name, kind, **given)  # type: ignore[arg-type]
        return self.entries[name]

    def group(self, name: str, *members: str, **more: object) -> None:
        self.add(name, Kind.GROUP, **more)
        self.members_of[name] = list(members)

    def by_address(self, address: Mailbox) -> tuple[Entry, ...]:
        return tuple(one for one in self.entries.values() if one.has_address(address))

    def by_addresses(self, addresses: Sequence[Mailbox]) -> dict[str, list[Entry]]:
        return {address_key(one): list(self.by_address(one)) for one in addresses}

    def by_name(self, dn: str) -> Entry | None:
        return self.entries.get(dn)

    def members(self, group: Entry, most: int) -> list[Entry]:
        return [self.entries[name] for name in self.members_of[group.dn] if name in self.entries]

    def member_addresses(self, group: Entry, most: int) -> list[str]:
        return [name for name in self.members_of[group.dn] if "@" in name]

    def expand(self, name: str, most: int = 1000) -> Expansion:
        answer = expand(self, GroupRef(name, at(name)), most)
        assert isinstance(answer, Expansion)
        return answer


class ResolveTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.book = Book()

    def found(self, local: str) -> tuple[Destination, ...]:
        answer = resolve(self.book, at(local))
        assert isinstance(answer, Found), answer
        return answer.destinations

    def test_chain(self) -> None:
        """Forwarding is followed as far as it goes, and no further than the bound."""
        for number in range(MAX_FORWARDS + 3):
            self.book.add(f"u{number}", forward_entries=(f"u{number + 1}",))
        last = f"u{MAX_FORWARDS + 3}"
        self.book.add(last)
        self.assertEqual((Destination(at(last)),), self.found("u3"))
        answer = resolve(self.book, at("u0"))
        assert isinstance(answer, Refused)
        self.assertEqual("5.4.6", answer.status)

    def test_copy_then_loop(self) -> None:
        """A loop behind a copy that is kept has an end."""
        self.book.add("a", forward_entries=("b",))
        self.book.add("b", forward_entries=("a",), keep_copy=True)
        self.assertEqual((Destination(at("b")),), self.found("a"))

    def test_forward_to_disabled(self) -> None:
        """With a copy the address is good; without, it is refused as the other is."""
        self.book.add("off", disabled=True)
        self.book.add("kept", forward_entries=("off",), keep_copy=True)
        self.book.add("lost", forward_entries=("off",))
        self.assertEqual((Destination(at("kept")),), self.found("kept"))
        answer = resolve(self.book, at("lost"))
        assert isinstance(answer, Refused)
        self.assertEqual(("5.2.1", 550), (answer.status, answer.reply.code))

    def test_target_is_own_address(self) -> None:
        """A target that is the mailbox itself sends nothing away."""
        self.book.add("self", target=at("SELF"))
        self.assertEqual((Destination(at("self")),), self.found("self"))

    def test_target_loop(self) -> None:
        """Two targets that point at each other are a loop."""
        self.book.add("x", target=at("y"))
        self.book.add("y", target=at("x"))
        answer = resolve(self.book, at("x"))
        assert isinstance(answer, Refused)
        self.assertEqual("5.4.6", answer.status)

    def test_fault(self) -> None:
        """An entry that cannot be routed is a problem, not a refusal."""
        self.book.add("bad", fault="home server ...")
        self.assertRaises(EntryFault, resolve, self.book, at("bad"))

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(
            st.tuples(st.lists(st.integers(0, 7), max_size=3), st.booleans(), st.booleans()),
            min_size=8,
            max_size=8,
        )
    )
    def test_any_forwarding(self, plan: list[tuple[list[int], bool, bool]]) -> None:
        """Whatever forwards to whatever: it ends, and gives a mailbox once, or a reason."""
        book = Book()
        for number, (targets, keep, off) in enumerate(plan):
            forwards = tuple(f"u{one}" for one in targets)
            book.add(f"u{number}", forward_entries=forwards, keep_copy=keep, disabled=off)
        answer = resolve(book, at("u0"))
        if isinstance(answer, Refused):
            self.assertIn(answer.status, ("5.2.1", "5.4.6"))
        else:
            self.assertTrue(answer.destinations)
            self.assertEqual(len(set(answer.destinations)), len(answer.destinations))


class ExpandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.book = Book()

    def test_inherited_rule(self) -> None:
        """A nested group without rules has those of the outer one."""
        self.book.add("owner")
        self.book.add("a")
        self.book.group("inner", "a")
        self.book.group("outer", "inner", report_to=ReportTo.OWNER, owners=("owner",))
        self.assertEqual(
            (EnvelopePart(ReportTo.OWNER, at("owner"), (Destination(at("a")),)),),
            self.book.expand("outer").parts,
        )

    def test_owner_is_gone(self) -> None:
        """Without an owner the sender hears: somebody has to."""
        self.book.add("a")
        self.book.group("g", "a", report_to=ReportTo.OWNER, owners=("gone",))
        (part,) = self.book.expand("g").parts
        self.assertEqual(at("s"), part.reverse_path(at("s")))

    def test_null_sender(self) -> None:
        """The null reverse-path stays null whatever the group says (RFC 5321 §4.5.5)."""
        for report_to in ReportTo:
            self.assertIsNone(EnvelopePart(report_to, at("o"), ()).reverse_path(None))

    def test_bound(self) -> None:
        """One recipient too many, in whatever group, and all is refused."""
        for number in range(10):
            self.book.add(f"u{number}")
        self.book.group("inner", *(f"u{number}" for number in range(5, 10)))
        self.book.group("outer", "inner", *(f"u{number}" for number in range(5)))
        self.assertEqual(10, len(self.book.expand("outer", 12).destinations))
        answer = expand(self.book, GroupRef("outer", at("outer")), 9)
        assert isinstance(answer, Refused)
        self.assertEqual("5.5.3", answer.status)

    def test_addresses(self) -> None:
        """An address of the directory is its mailbox, a stranger is himself, once."""
        self.book.add("a", addresses=(at("a"), at("alias")))
        self.book.group("g", "a", "alias@example.com", "x@example.net", "X@Example.net", "@", "n@")
        expansion = self.book.expand("g")
        self.assertEqual(
            {"a@example.com", "x@example.net"},
            {str(one.address) for one in expansion.destinations},
        )
        self.assertEqual(2, expansion.skipped)

    def test_disabled_group(self) -> None:
        """A nested group that is switched off gets nothing."""
        self.book.add("a")
        self.book.group("off", "a", disabled=True)
        self.book.group("g", "off")
        self.assertEqual((), self.book.expand("g").parts)

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.lists(st.integers(0, 11), max_size=6), min_size=6, max_size=6))
    def test_any_nesting(self, plan: list[list[int]]) -> None:
        """Groups in groups in whatever way: everybody who can be reached, once."""
        book = Book()
        for number in range(6, 12):
            book.add(f"n{number}")
        for number, members in enumerate(plan):
            book.group(f"n{number}", *(f"n{one}" for one in members))
        reached: set[int] = set()
        waiting = [0]
        while waiting:
            one = waiting.pop()
            if one not in reached:
                reached.add(one)
                waiting += plan[one] if one < 6 else []
        expected = {f"n{one}" for one in reached if one >= 6}
        got = [one.address.local for one in book.expand("n0").destinations]
        self.assertEqual(sorted(expected), sorted(got))


class EntryTests(SynchronousTestCase):
    def read(self, schema: Schema, **attributes: str) -> Entry:
        row = Row(
            "cn=x", {n.replace("_", "-").lower(): (v.encode(),) for n, v in attributes.items()}
        )
        return EntryReader(schema, HomeServers({}, "example.com")).read(row)

    def test_primary(self) -> None:
        """SMTP: in capitals is the primary address; without it the attribute mail is."""
        by_prefix = self.read(
            ACTIVE_DIRECTORY, proxyAddresses="SMTP:a@example.com", mail="b@x.example"
        )
        by_mail = self.read(
            ACTIVE_DIRECTORY, proxyAddresses="smtp:a@example.com", mail="b@x.example"
        )
        other = self.read(ACTIVE_DIRECTORY, proxyAddresses="X400:c=US;a=x", mail="not an address")
        self.assertEqual(at("a"), by_prefix.primary)
        self.assertEqual(Mailbox("b", "x.example"), by_mail.primary)
        self.assertEqual((None, ()), (other.primary, other.addresses))

    def test_disabled(self) -> None:
        """Bit 2 of userAccountControl, of whatever number it is part."""
        told = [
            self.read(ACTIVE_DIRECTORY, userAccountControl=value).disabled
            for value in ("512", "514", "66050", "-2147483646", "", "x", "2x")
        ]
        self.assertEqual([False, True, True, True, False, False, False], told)

    def test_exchange(self) -> None:
        """Exchange 5.5 writes other addresses with smtp$, and hyphens in names."""
        entry = self.read(
            EXCHANGE,
            rfc822Mailbox="a@example.com",
            otherMailbox="smtp$b@example.com",
            Home_MTA="cn=Microsoft MTA,cn=MAIL9,cn=Servers,o=x",
            Report_To_Owner="TRUE",
            objectClass="groupOfNames",
        )
        self.assertEqual((at("a"), at("b")), entry.addresses)
        self.assertEqual(NextHop("mail9.example.com"), entry.host)
        self.assertEqual((Kind.GROUP, ReportTo.OWNER), (entry.kind, entry.report_to))

    def test_server_names(self) -> None:
        """The name of the server in every form it is written in."""
        told = {
            text: server_name(text)
            for text in (
                "/o=Org/ou=Site/cn=Configuration/cn=Servers/cn=MAIL1",
                "CN=Microsoft MTA,CN=MAIL1,CN=Servers,CN=x",
                "CN=MAIL1,CN=Servers",
                "nonsense",
                "/o=Org",
            )
        }
        self.assertEqual(["MAIL1", "MAIL1", "MAIL1", "", ""], list(told.values()))

    def test_every_schema(self) -> None:
        """Each reads all it needs, and names each attribute once."""
        for schema in SCHEMAS.values():
            lowered = [name.lower() for name in schema.wanted]
            self.assertEqual(len(set(lowered)), len(lowered))
            self.assertLessEqual({name.lower() for name, _ in schema.prefixes}, set(lowered))
            self.assertNotIn("member", lowered)

    def test_reply(self) -> None:
        """A refusal is a 550 with its status."""
        self.assertEqual("550 5.1.1 User unknown: a@example.com", str(unknown(at("a")).reply))
