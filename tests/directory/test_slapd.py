"""A real slapd: 10,000 people, 1,000 groups."""

from __future__ import annotations

import time
from typing import Any

import ldap3  # type: ignore[import-untyped]
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from mailhost.directory.binding import Binding, BindingKind, DirectoryServer, Terms
from mailhost.directory.schemas import INETORGPERSON, SITE_SERVER
from mailhost.errors import LookupProblem
from mailhost.model.address import Mailbox
from mailhost.model.directory import (
    Destination,
    Expansion,
    Found,
    GroupRef,
    Kind,
    Refused,
    ReportTo,
    Weight,
)
from mailhost.model.route import NextHop
from tests.directory.house import AD, PEOPLE, DirectoryCase, ad, arrived, locals_of, person
from tests.support.slapd import LIMITED, MISSING, PASSWORD, READER, SHARED, group, special, user


class SlapdCase(DirectoryCase):
    if MISSING:
        skip = MISSING

    def setUp(self) -> None:
        self.slapd = SHARED.get()
        self.ad = self.resolver(self.slapd.url)
        self.people = self.resolver(self.slapd.url, base=PEOPLE, schema=INETORGPERSON)


class ActiveDirectoryTests(SlapdCase):
    async def test_user(self) -> None:
        """A user is found by any address, in any case, and gets the primary one."""
        for local in ("user00042", "FIRST.last00042"):
            found = await self.found(self.ad, ad(local))
            self.assertEqual(ad("user00042"), found.address)
            self.assertEqual((Destination(ad("user00042")),), found.destinations)
            self.assertEqual((Kind.USER, user(42)), (found.kind, found.dn))

    async def test_refusals(self) -> None:
        """Each reason has its status."""
        expected = {"nobody": "5.1.1", "twin": "5.1.4", "disabled": "5.2.1", "ring.a": "5.4.6"}
        told = {local: await self.refused(self.ad, ad(local)) for local in expected}
        self.assertEqual(expected, told)

    async def test_hostile_addresses(self) -> None:
        """What means something in a filter finds nobody, and breaks nothing."""
        for local in (
            "*",
            "user0004*",
            "*)(uid=*",
            "*)(objectClass=*))(|(cn=*",
            "\\2a",
            "x\0y",
            "(",
            ")",
            "\u00e4\u20ac\U0001f600",
            "\udcff",
            '"a b"',
            "a" * 5000,
        ):
            self.assertEqual("5.1.1", await self.refused(self.ad, ad(local)), local)
        self.assertEqual(0, self.ad.statistics["failed"])

    async def test_forwarding(self) -> None:
        """Mail goes to the other, and with a copy to both."""
        away = await self.found(self.ad, ad("away"))
        copied = await self.found(self.ad, ad("copied"))
        self.assertEqual((Destination(ad("clerk")),), away.destinations)
        self.assertEqual((Destination(ad("copied")), Destination(ad("clerk"))), copied.destinations)

    async def test_mutual_copies(self) -> None:
        """Two that forward to each other and keep copies both get one."""
        found = await self.found(self.ad, ad("mate.a"))
        self.assertEqual((Destination(ad("mate.a")), Destination(ad("mate.b"))), found.destinations)

    async def test_forward_to_nobody(self) -> None:
        """It is an operator's mistake, and the mail waits for the operator."""
        problem = await self.problem(self.ad, ad("to.nobody"))
        self.assertEqual("4.3.5", problem.status)

    async def test_forward_to_group(self) -> None:
        """The group is named, to be expanded later."""
        found = await self.found(self.ad, ad("to.group"))
        self.assertEqual((), found.destinations)
        self.assertEqual((GroupRef(group("owned"), ad("owned")),), found.groups)

    async def test_home_servers(self) -> None:
        """By an Exchange path, by a homeMTA, and our own."""
        hosts = [
            (await self.found(self.ad, ad(local))).destinations[0].host
            for local in ("homed", "homed.mta", "homed.here")
        ]
        self.assertEqual([NextHop("mail1.example.com"), NextHop("mail2.example.com"), None], hosts)

    async def test_target_address(self) -> None:
        """It takes the mailbox's place, for users and contacts."""
        moved = await self.found(self.ad, ad("moved"))
        partner = await self.found(self.ad, ad("partner"))
        self.assertEqual((Destination(Mailbox("moved", "example.net")),), moved.destinations)
        self.assertEqual(Kind.CONTACT, partner.kind)
        self.assertEqual((Destination(Mailbox("partner", "example.org")),), partner.destinations)

    async def test_sender(self) -> None:
        """A known sender gets his primary address; a stranger keeps his."""
        known = await arrived(self.ad.resolve_sender(ad("first.last00007")))
        stranger = await arrived(self.ad.resolve_sender(ad("stranger")))
        cached = self.ad.resolve_sender(ad("first.last00007"))
        self.assertEqual([ad("user00007"), ad("stranger")], [known, stranger])
        self.assertEqual(ad("user00007"), cached)

    async def test_send_as(self) -> None:
        """One's own addresses, and those of who has named one as a delegate."""
        asked = [("clerk", "clerk"), ("helper", "clerk"), ("clerk", "helper"), ("nobody", "clerk")]
        told = [await arrived(self.ad.may_send_as(login, ad(local))) for login, local in asked]
        self.assertEqual([True, True, False, False], told)
        self.assertIs(True, self.ad.may_send_as("helper", ad("clerk")))


class GroupTests(SlapdCase):
    async def test_owner(self) -> None:
        """Reports go to the owner where the group says so."""
        expansion = await self.group(self.ad, ad("owned"))
        (part,) = expansion.parts
        self.assertEqual((ReportTo.OWNER, ad("helper")), (part.report_to, part.owner))
        self.assertEqual(ad("helper"), part.reverse_path(ad("sender")))
        self.assertIsNone(part.reverse_path(None))

    async def test_parts(self) -> None:
        """A nested group with rules of its own has an envelope of its own; nobody gets two."""
        outer, inner = (await self.group(self.ad, ad("silent"))).parts
        self.assertEqual((Destination(ad("clerk")),), outer.destinations)
        self.assertIsNone(outer.reverse_path(ad("sender")))
        self.assertEqual((Destination(ad("helper")),), inner.destinations)
        self.assertEqual(ReportTo.OWNER, inner.report_to)

    async def test_mixed(self) -> None:
        """Odd names, contacts, forwarding, the disabled and the lost, in one group."""
        expansion = await self.group(self.ad, ad("mixed"))
        self.assertEqual(
            [
                "clerk@ad.example.com",
                "copied@ad.example.com",
                "odd@ad.example.com",
                "partner@example.org",
            ],
            locals_of(expansion),
        )
        told = {address.local: refused.status for address, refused in expansion.refused}
        self.assertEqual({"ring.a": "5.4.6", "to.nobody": "5.3.5"}, told)
        self.assertEqual(1, expansion.skipped)

    async def test_deep_and_round(self) -> None:
        """Ten groups in a ring end, with everybody once."""
        expansion = await self.group(self.ad, ad("deep0"))
        self.assertEqual(["clerk@ad.example.com", "helper@ad.example.com"], locals_of(expansion))

    async def test_dynamic(self) -> None:
        """The filter that stands in the entry finds the members."""
        expansion = await self.group(self.ad, ad("dynamic"))
        self.assertEqual(
            ["clerk@ad.example.com", "mate.a@ad.example.com", "mate.b@ad.example.com"],
            locals_of(expansion),
        )

    async def test_everybody(self) -> None:
        """5,000 members, each once, in few searches, while the reactor goes on turning."""
        turns: list[float] = []
        looping = LoopingCall(lambda: turns.append(time.monotonic()))
        looping.clock = reactor
        running = looping.start(0.005)
        expansion = await self.group(self.ad, ad("everybody"))
        looping.stop()
        await running

        self.assertEqual(5000, len({one.address for one in expansion.destinations}))
        self.assertEqual(5000, len(expansion.destinations))
        self.assertLess(self.ad.statistics["searches"], 100)
        self.assertGreater(len(turns), 10)

    async def test_too_large(self) -> None:
        """A group beyond the bound is refused whole, with a status for it."""
        small = self.resolver(self.slapd.url, limits={"most_members": 1000})
        answer = await small.expand(GroupRef(group("everybody"), ad("everybody")))
        assert isinstance(answer, Refused)
        self.assertEqual("5.5.3", answer.status)
        self.assertIn("1000", answer.words)

    async def test_dynamic_too_large(self) -> None:
        """The same for what a filter finds."""
        small = self.resolver(self.slapd.url, limits={"most_members": 2})
        answer = await small.expand(GroupRef(group("dynamic"), ad("dynamic")))
        self.assertIsInstance(answer, Refused)

    async def test_gone(self) -> None:
        """A group that has gone since it was accepted is trouble, not a refusal."""
        with self.assertRaises(LookupProblem) as caught:
            await self.ad.expand(GroupRef(special("clerk"), ad("clerk")))
        self.assertEqual("4.4.3", caught.exception.status)


class InetOrgPersonTests(SlapdCase):
    async def destinations(self, local: str) -> tuple[Destination, ...]:
        return (await self.found(self.people, person(local))).destinations

    async def test_person(self) -> None:
        """By mail and by an alternate address."""
        expected = (Destination(person("ann")),)
        self.assertEqual(expected, await self.destinations("ann"))
        self.assertEqual(expected, await self.destinations("a.other"))
        self.assertEqual("5.2.1", await self.refused(self.people, person("off")))

    async def test_local_mail_recipient(self) -> None:
        """Host without routing address: as given; with one: that; no host: sent on."""
        self.assertEqual(
            (Destination(person("h"), NextHop("mx1.example.com")),), await self.destinations("h")
        )
        self.assertEqual(
            (Destination(Mailbox("r", "inside.example"), NextHop("mx2.example.com")),),
            await self.destinations("routed"),
        )
        self.assertEqual((Destination(person("ann")),), await self.destinations("rewritten"))
        self.assertEqual((Destination(person("here")),), await self.destinations("here"))

    async def test_bad_host(self) -> None:
        """A home server that is no domain name makes mail wait for the operator."""
        problem = await self.problem(self.people, person("badhost"))
        self.assertEqual("4.3.5", problem.status)
        self.assertIn("no host!", problem.words)

    async def test_forwarding(self) -> None:
        """To addresses here and elsewhere; to itself is no loop but its mailbox's end."""
        elsewhere = Destination(Mailbox("x", "example.net"))
        self.assertEqual((Destination(person("ann")), elsewhere), await self.destinations("fwd"))
        self.assertEqual(
            (Destination(person("fwdcopy")), elsewhere), await self.destinations("fwdcopy")
        )
        self.assertEqual("5.4.6", await self.refused(self.people, person("fwdself")))

    async def test_groups(self) -> None:
        """Names and addresses mixed; what is no address is left out."""
        expansion = await self.group(self.people, person("names"))
        self.assertEqual(
            ["ann@people.example.com", "hosted@people.example.com", "stranger@example.net"],
            locals_of(expansion),
        )
        self.assertEqual(3, expansion.skipped)  # off, "not an address", "unqualified"

    async def test_url(self) -> None:
        """A group may be an LDAP URL."""
        expansion = await self.group(self.people, person("byurl"))
        self.assertEqual(
            ["ann@people.example.com", "fwdcopy@people.example.com", "x@example.net"],
            locals_of(expansion),
        )

    async def test_bad_url(self) -> None:
        """One that is none makes mail wait for the operator."""
        found = await self.found(self.people, person("badurl"))
        with self.assertRaises(LookupProblem) as caught:
            await self.people.expand(found.groups[0])
        self.assertEqual("4.3.5", caught.exception.status)

    async def test_own_schema(self) -> None:
        """An operator's own schema is a value."""
        schema = evolve(INETORGPERSON, name="own", searched=("uid",), primary=("mail",))
        own = self.resolver(self.slapd.url, base=PEOPLE, schema=schema)
        answer = await arrived(own.resolve(Mailbox("ann", "")))
        self.assertIsInstance(answer, Refused)  # uid has no domain: "ann@" is nobody
        self.assertEqual("uid", own.schema.searched[0])

    async def test_site_server(self) -> None:
        """The same people, read as Site Server kept them."""
        site = self.resolver(self.slapd.url, base=PEOPLE, schema=SITE_SERVER)
        found = await self.found(site, person("hosted"))
        self.assertEqual(
            (Destination(person("hosted"), NextHop("mx1.example.com")),), found.destinations
        )


class BindingTests(SlapdCase):
    async def test_plain_text(self) -> None:
        """With the right name and password; the password may come from a file."""
        file = self.folder() / "secret"
        file.touch(0o600)
        file.write_text(f"{PASSWORD}\n")
        for binding in (
            Binding(BindingKind.PLAIN_TEXT, READER, PASSWORD),
            Binding(BindingKind.PLAIN_TEXT, READER, password_file=file),
        ):
            bound = self.resolver(self.slapd.url, binding=binding)
            self.assertEqual(ad("clerk"), (await self.found(bound, ad("clerk"))).address)

    async def test_wrong_password(self) -> None:
        """Never a refusal of the address; and the account is not tried again at once."""
        binding = Binding(BindingKind.PLAIN_TEXT, READER, "wrong")
        bound = self.resolver(self.slapd.url, binding=binding)
        problem = await self.problem(bound, ad("clerk"))
        self.assertEqual("4.4.3", problem.status)
        self.assertIn("invalidCredentials", problem.words)
        with self.assertRaises(LookupProblem):
            bound.resolve(ad("nobody"))
        self.assertEqual(1, bound.statistics["connections"])

    async def test_service_account_by_socket(self) -> None:
        """On a local socket the kernel says who we are."""
        binding = Binding(BindingKind.SERVICE_ACCOUNT)
        bound = self.resolver(self.slapd.socket_url, binding=binding)
        self.assertEqual(ad("clerk"), (await self.found(bound, ad("clerk"))).address)

    async def test_size_limit(self) -> None:
        """A server that gives less than all is trouble, not the end of a list."""
        binding = Binding(BindingKind.PLAIN_TEXT, LIMITED, PASSWORD)
        bound = self.resolver(self.slapd.url, binding=binding)
        self.assertEqual(ad("clerk"), (await self.found(bound, ad("clerk"))).address)
        self.assertEqual("4.4.3", (await self.problem(bound, ad("twin"))).status)
        with self.assertRaises(LookupProblem) as caught:
            await bound.expand(GroupRef(group("dynamic"), ad("dynamic")))
        self.assertEqual("4.4.3", caught.exception.status)

    async def test_wrong_base(self) -> None:
        """A base that is not there makes nobody unknown."""
        lost = self.resolver(self.slapd.url, base=f"ou=Nowhere,{AD}")
        self.assertEqual("4.3.5", (await self.problem(lost, ad("clerk"))).status)

    async def test_bind_as(self) -> None:
        """A user's password, on a connection of its own."""
        tries = [
            ("clerk", "the clerk's password", True),
            ("CLERK", "the clerk's password", True),
            ("clerk@ad.example.com", "the clerk's password", True),
            ("clerk", "the helper's password", False),
            ("clerk", "", False),
            ("", "x", False),
            ("nobody", "x", False),
            ("*", "the clerk's password", False),
            ("disabled", "x", False),
        ]
        told = [await self.ad.bind_as(login, password) for login, password, _ in tries]
        self.assertEqual([expected for *_, expected in tries], told)
        self.assertEqual(ad("clerk"), (await self.found(self.ad, ad("clerk"))).address)


class StrategyTests(SlapdCase):
    async def test_safe_sync(self) -> None:
        """A connection of ldap3's SAFE_SYNC, which gives its answers another way, will do."""

        def safe(server: DirectoryServer, terms: Terms) -> Any:
            made = ldap3.Server(server.host, server.port, get_info=ldap3.NONE)
            return ldap3.Connection(
                made, client_strategy=ldap3.SAFE_SYNC, check_names=False, auto_range=False
            )

        resolver = self.resolver(self.slapd.url, connect=safe)
        self.assertEqual(ad("clerk"), (await self.found(resolver, ad("clerk"))).address)
        self.assertEqual("5.1.1", await self.refused(resolver, ad("nobody")))


class DiagnosisTests(SlapdCase):
    async def test_trace(self) -> None:
        """Each question with its filter, what it found and how long it took."""
        trace = await self.ad.trace(ad("away"))
        assert isinstance(trace.result, Found)
        first, second = trace.steps
        self.assertEqual(("sub", AD, 1), (first.scope, first.base, first.count))
        self.assertIn("(proxyAddresses=smtp:away@ad.example.com)", first.filter)
        self.assertEqual((special("clerk"),), second.found)
        self.assertTrue(all(0 < step.seconds < trace.seconds < 3 for step in trace.steps))

    async def test_trace_of_trouble(self) -> None:
        """A problem is part of the trace."""
        trace = await self.ad.trace(ad("to.nobody"))
        self.assertIsNone(trace.result)
        self.assertIn("4.3.5", trace.problem)
        self.assertEqual(2, len(trace.steps))

    async def test_check(self) -> None:
        """A fit directory has no fault; one server and clear text draw advice."""
        findings = await self.ad.check()
        words = [one.words for one in findings]
        self.assertEqual([], [one for one in findings if one.weight is Weight.FAULT])
        self.assertTrue(any("One server only" in one for one in words))
        self.assertTrue(any("All attributes are known" in one for one in words))
        self.assertTrue(any("search for an address takes" in one for one in words))

    async def test_check_finds_faults(self) -> None:
        """A wrong base, unknown attributes, and a server that is not there."""
        schema = evolve(INETORGPERSON, searched=("noSuchThing",))
        wrong = self.resolver(
            self.slapd.url, "ldap://127.0.0.1:1", base="dc=elsewhere", schema=schema
        )
        faults = [one.words for one in await wrong.check() if one.weight is Weight.FAULT]
        self.assertEqual(3, len(faults), faults)
        self.assertIn("dc=elsewhere", faults[0])
        self.assertIn("nosuchthing", faults[1])
        self.assertIn("refused", faults[2])


class CacheTests(SlapdCase):
    async def test_ready(self) -> None:
        """What is known costs no Deferred and no search; what is refused is known too."""
        for local in ("user00001", "nobody"):
            self.assertIsInstance(first := self.ad.resolve(ad(local)), Deferred)
            told = await arrived(first)
            self.assertIs(told, self.ad.resolve(ad(local)))
        self.assertEqual(2, self.ad.statistics["searches"])
        self.assertEqual(2, self.ad.statistics["cache_hits"])

    async def test_joined(self) -> None:
        """The same question asked often at once is asked once; one may go away."""
        answers = [self.ad.resolve(ad("user00002")) for _ in range(20)]
        first = answers[0]
        assert isinstance(first, Deferred)
        first.addErrback(lambda failure: None)
        first.cancel()
        told = [await arrived(answer) for answer in answers[1:]]
        self.assertEqual(1, len(set(map(id, told))))
        self.assertEqual((1, 19), (self.ad.statistics["searches"], self.ad.statistics["joined"]))

    async def test_many_at_once(self) -> None:
        """Hundreds of different questions share a few connections."""
        answers = [self.ad.resolve(ad(f"user{number:05}")) for number in range(300)]
        told = [await arrived(answer) for answer in answers]
        self.assertTrue(all(isinstance(one, Found) for one in told))
        self.assertLessEqual(self.ad.statistics["connections"], 4)

    async def test_group_of_everybody_twice(self) -> None:
        """Two expansions at a time do not disturb each other."""
        ref = GroupRef(group("everybody"), ad("everybody"))
        both = [self.ad.expand(ref), self.ad.expand(ref)]
        counts = []
        for one in both:
            answer = await one
            assert isinstance(answer, Expansion)
            counts.append(len(answer.destinations))
        self.assertEqual([5000, 5000], counts)
