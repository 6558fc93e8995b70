"""What is explained, and what then really happens: they must agree."""

from __future__ import annotations

from base64 import b64encode
from ipaddress import ip_network
from typing import Any

from attrs import evolve, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mailhost.authentication.exchange import Authentication
from mailhost.config.settings import DomainSettings, VirtualServerSettings
from mailhost.config.settings.access import BasicKeys
from mailhost.errors import LookupProblem, ResolveProblem
from mailhost.model.access import AccessList
from mailhost.model.address import Mailbox
from mailhost.model.client import ClientLimits, Tarpit
from mailhost.model.directory import disabled
from mailhost.model.dns_list import DNSList
from mailhost.model.explanation import Explanation
from mailhost.model.greylist import GreylistTerms
from mailhost.model.proven import Proven
from mailhost.model.rate import Rate
from mailhost.model.route import NextHop
from mailhost.model.security import Login, OutboundSecurity, Secret, TLSLevel
from mailhost.relay.mail_exchange import MailExchangeResolver
from mailhost.relay.manager import RelayManager
from mailhost.relay.terms import Terms
from mailhost.routing.categorizer import make_categorizer
from mailhost.server.explaining import Explainer
from mailhost.server.logins import rules_of
from mailhost.smtp.grammar import parse_mailbox
from tests.authentication.passwords import Passwords
from tests.relay.test_manager import Shelf
from tests.support.directory import FakeDirectory, mailbox, somebody
from tests.support.hosts import Host, Net
from tests.support.world import FakeNames, World, make_settings

INSIDE, OUTSIDE = "192.0.2.7", "203.0.113.9"
MX1, MX2, SMART = "192.0.2.1", "192.0.2.2", "192.0.2.50"
SMART_HOST = (NextHop(SMART, literal=True),)
LAN = AccessList.build(False, ["192.0.2.0/24"])
HOME = NextHop("mx2.remote.example")
PASSWORD = "secret-word"


def remote(name: str, **given: Any) -> DomainSettings:
    return DomainSettings(name=name, type="remote", **given)


@frozen
class Case:
    """
    :ivar code: what the client hears at last.
    :ivar where: ``drop``, an address, ``failed``, ``delayed``; empty: it is refused.
    :ivar setting: stands in the explanation.
    :ivar access: changes of the Access page, as *delivery*, *messages* and *more* are of theirs.
    :ivar people: the directory; `None`: there is none.
    :ivar full: as much is queued as may be.
    :ivar others: sessions that are there already.
    """

    to: str
    code: int
    where: str = ""
    setting: str = ""
    client: str = INSIDE
    sender: str = "a@sender.example"
    login: str | None = None
    access: dict[str, Any] = field(factory=dict)
    delivery: dict[str, Any] = field(factory=dict)
    messages: dict[str, Any] = field(factory=dict)
    more: dict[str, Any] = field(factory=dict)
    people: dict[str, Any] | None = None
    senders: tuple[str, ...] | None = None
    full: bool = False
    others: int = 0

    def settings(self) -> VirtualServerSettings:
        base = make_settings()
        access = {"basic": BasicKeys(enabled=True, require_tls=False), **self.access}
        return make_settings(
            access=evolve(base.access, **access),
            delivery=evolve(base.delivery, **self.delivery),
            messages=evolve(base.messages, **self.messages),
            **self.more,
        )


def domains(*given: DomainSettings) -> dict[str, Any]:
    return {"domains": given}


RELAYS = {"relay": LAN}
BAD, GOOD = DNSList("bl.example", 1), DNSList("wl.example", -2)
NAMED = AccessList.build(False, ["*.good.example"])

CASES = (
    # Whose domain it is.
    Case("bob@example.com", 250, "drop", "domain"),
    Case("bob@EXAMPLE.com", 250, "drop", "domain", client=OUTSIDE),
    Case("bob", 250, "drop", "domain"),
    Case("postmaster", 250, "drop", "domain", sender="<>"),
    Case(
        "bob@alias.example",
        250,
        "drop",
        "domains[alias.example]",
        more=domains(DomainSettings(name="alias.example", type="alias")),
    ),
    Case("bob@remote.example", 550, setting="access.relay"),
    Case("bob@remote.example", 550, setting="access.relay", sender="<>"),
    # Relaying.
    Case("bob@remote.example", 250, MX1, "access.relay", access=RELAYS),
    Case("bob@remote.example", 550, "", "access.relay", client=OUTSIDE, access=RELAYS),
    Case(
        "bob@remote.example",
        250,
        MX1,
        "access.relay",
        client=OUTSIDE,
        access={"relay": AccessList.build(True, ["192.0.2.0/24"])},
    ),
    Case(
        "bob@remote.example",
        550,
        "",
        "access.relay",
        access={"relay": AccessList.build(True, ["192.0.2.0/24"])},
    ),
    Case("bob@remote.example", 250, MX1, "access.relay", access={"relay": NAMED}),
    Case("bob@remote.example", 550, "", "access.relay", client=OUTSIDE, access={"relay": NAMED}),
    Case(
        "bob@remote.example",
        250,
        MX1,
        "domains[remote.example].relay",
        client=OUTSIDE,
        more=domains(remote("remote.example", relay=True)),
    ),
    Case(
        "bob@a.remote.example",
        250,
        SMART,
        "domains[*.remote.example].relay",
        client=OUTSIDE,
        more=domains(remote("*.remote.example", relay=True, route=SMART_HOST)),
    ),
    Case(
        "bob@remote.example",
        550,
        "",
        "access.relay",
        client=OUTSIDE,
        more=domains(remote("*.remote.example", relay=True)),
    ),
    Case(
        "bob@remote.example",
        250,
        MX1,
        "access.relay.authenticated",
        client=OUTSIDE,
        login="olga",
        access={"relay": evolve(LAN, logins=True)},
    ),
    Case(
        "bob@remote.example", 550, "", "access.relay", client=OUTSIDE, login="olga", access=RELAYS
    ),
    Case("bob@example.com", 535, "", "access", login="nobody"),
    # Who may connect, and send.
    Case(
        "bob@example.com",
        554,
        "",
        "access.connections",
        access={"connections": AccessList.build(True, ["192.0.2.7"])},
    ),
    Case(
        "bob@example.com",
        250,
        "drop",
        "access.connections",
        client=OUTSIDE,
        access={"connections": AccessList.build(True, ["192.0.2.7"])},
    ),
    Case(
        "bob@example.com",
        554,
        "",
        "access.connections",
        client=OUTSIDE,
        access={"connections": AccessList.build(False, ["192.0.2.0/24"])},
    ),
    Case("bob@example.com", 421, "", "max_connections", others=1, more={"max_connections": 1}),
    Case(
        "bob@example.com",
        421,
        "",
        "access.per_address.connections",
        access={"per_address": ClientLimits(connections=0)},
    ),
    Case("bob@example.com", 530, "", "access.anonymous", access={"anonymous": False}),
    Case("bob@example.com", 250, "drop", "access", login="olga", access={"anonymous": False}),
    Case("bob@example.com", 553, "", "", login="olga", senders=("olga@example.com",)),
    Case(
        "bob@example.com",
        250,
        "drop",
        "",
        login="olga",
        sender="olga@example.com",
        senders=("olga@example.com",),
    ),
    Case("bob@example.com", 250, "drop", "", login="olga", sender="<>", senders=()),
    # Strangers.
    Case("bob@example.com", 550, "", "access.dns_lists", access={"dns_lists": (BAD,)}),
    Case(
        "bob@example.com",
        554,
        "",
        "access.dns_lists",
        access={"dns_lists": (BAD,), "dns_lists_at": "connect"},
    ),
    Case("bob@example.com", 250, "drop", "access.dns_lists", access={"dns_lists": (BAD, GOOD)}),
    Case("postmaster@example.com", 250, "drop", "access.dns_lists", access={"dns_lists": (BAD,)}),
    Case(
        "bob@example.com",
        250,
        "drop",
        "access.dns_lists",
        client=OUTSIDE,
        access={"dns_lists": (BAD,)},
    ),
    Case("bob@remote.example", 550, "", "access.dns_lists", access={"dns_lists": (BAD,)}),
    Case("bob@example.com", 250, "drop", "access.greet_delay", access={"greet_delay": 3.0}),
    Case(
        "bob@remote.example",
        550,
        "",
        "access.tarpit",
        access={"tarpit": Tarpit(2.0, 10.0, 0), "greet_delay": 3.0},
    ),
    # Limits.
    Case("bob@example.com", 250, "drop", "", others=1, more={"max_connections": 2}),
    Case("bob@example.com", 452, "", "", full=True),
    Case(
        "bob@example.com",
        250,
        "drop",
        "",
        access={"per_address": ClientLimits(messages=Rate(1, 60), recipients=Rate(1, 60))},
    ),
    # Routes.
    Case(
        "bob@remote.example",
        250,
        SMART,
        "delivery.smart_host",
        access=RELAYS,
        delivery={"smart_host": SMART_HOST},
    ),
    Case(
        "bob@remote.example",
        250,
        MX1,
        "delivery.smart_host",
        access=RELAYS,
        delivery={"smart_host": SMART_HOST, "direct_first": True},
    ),
    Case(
        "bob@nowhere.example",
        250,
        SMART,
        "delivery.smart_host",
        access=RELAYS,
        delivery={"smart_host": SMART_HOST, "direct_first": True},
    ),
    Case(
        "bob@remote.example",
        250,
        MX1,
        "domains[remote.example].route",
        access=RELAYS,
        delivery={"smart_host": SMART_HOST},
        more=domains(remote("remote.example", route=None)),
    ),
    Case(
        "bob@remote.example",
        250,
        MX2,
        "domains[remote.example].route",
        access=RELAYS,
        delivery={"smart_host": SMART_HOST},
        more=domains(remote("remote.example", route=(NextHop(MX2, literal=True),))),
    ),
    Case(
        "bob@remote.example",
        250,
        MX2,
        "domains[remote.example].route",
        access=RELAYS,
        more=domains(remote("remote.example", route=(NextHop("mx2.remote.example"),))),
    ),
    Case("bob@two.example", 250, MX2, "", access=RELAYS),
    Case("bob@implicit.example", 250, MX2, "", access=RELAYS),
    Case(f"bob@[{MX1}]", 250, MX1, "", access=RELAYS),
    Case("bob@null.example", 250, "failed", "", access=RELAYS),
    Case("bob@nowhere.example", 250, "failed", "", access=RELAYS),
    Case("bob@loop.example", 250, "failed", "", access=RELAYS),
    Case("bob@servfail.example", 250, "delayed", "", access=RELAYS),
    # How hosts are met.
    Case(
        "bob@remote.example",
        250,
        "delayed",
        "delivery.security.tls",
        access=RELAYS,
        delivery={"security": OutboundSecurity(TLSLevel.REQUIRED)},
    ),
    Case(
        "bob@remote.example",
        250,
        MX1,
        "domains[remote.example].security.tls",
        access=RELAYS,
        delivery={"security": OutboundSecurity(TLSLevel.REQUIRED)},
        more=domains(remote("remote.example", security=OutboundSecurity(TLSLevel.NONE))),
    ),
    # The directory.
    Case("bob@example.com", 250, "drop", "ldap", people={"bob@example.com": "bob@example.com"}),
    Case("nobody@example.com", 550, "", "", people={}),
    Case("postmaster@example.com", 250, "drop", "", people={}),
    Case(
        "bob@example.com",
        550,
        "",
        "",
        people={"bob@example.com": disabled(mailbox("bob@x.example"))},
    ),
    Case("bob@example.com", 451, "", "", people={"bob@example.com": LookupProblem("down")}),
    Case(
        "bob@example.com",
        250,
        MX1,
        "",
        client=OUTSIDE,
        people={"bob@example.com": "bob@remote.example"},
    ),
    Case(
        "bob@example.com",
        250,
        MX2,
        "ldap",
        people={"bob@example.com": somebody("bob@example.com", host="mx2.remote.example")},
    ),
    Case("bob@remote.example", 250, MX1, "", access=RELAYS, people={}),
)


class House:
    """A virtual server in memory: what comes in, and where it goes."""

    def __init__(self, case: Case) -> None:
        settings = case.settings()
        self.clock = Clock()
        self.names = self.make_names()
        passwords = Passwords({"olga": PASSWORD}, case.senders)
        self.world = World(settings, self.clock, self.names, passwords=passwords)
        self.hosts = {one: Host() for one in (MX1, MX2, SMART)}
        self.net = Net(self.clock, dict(self.hosts))
        self.shelf = Shelf()
        exchanges = MailExchangeResolver(
            self.names, self.clock, own_names=frozenset({settings.fqdn})
        )
        self.relay = RelayManager(
            self.world.store,
            exchanges,
            self.clock,
            Terms.of(settings, make_categorizer(settings)),
            self.shelf,
        )
        self.relay._line.connect = self.net.connect
        desk = self.world.desk
        desk.accepted = self.relay.accept
        desk.full = lambda: "as much is queued as may be" if case.full else None
        if case.people is not None:
            people = {
                name: somebody(found) if isinstance(found, str) else found
                for name, found in case.people.items()
            }
            desk.directory = FakeDirectory(people)
        for _ in range(case.others):
            self.world.connect(OUTSIDE)
        self.explainer = Explainer(
            settings,
            "running",
            desk,
            self.relay,
            rules_of(settings, starttls=False),
            Authentication(passwords, self.clock),
        )

    @staticmethod
    def make_names() -> FakeNames:
        names = FakeNames()
        names.exchanges |= {
            "remote.example": [(10, "mx1.remote.example")],
            "two.example": [(20, "mx1.remote.example"), (10, "mx2.remote.example")],
            "null.example": [(0, "")],
            "loop.example": [(10, "mail.example.com")],
            "servfail.example": ResolveProblem("4.4.3", "no answer"),
        }
        names.hosts |= {
            "mx1.remote.example": [MX1],
            "mx2.remote.example": [MX2],
            "implicit.example": [MX2],
            "7.2.0.192.bl.example": ["127.0.0.2"],
            "7.2.0.192.wl.example": ["127.0.0.2"],
            "host.good.example": [INSIDE],
            "host.evil.example": [OUTSIDE],
        }
        names.pointers |= {INSIDE: ("host.good.example",), OUTSIDE: ("host.evil.example",)}
        return names

    def really(self, case: Case, run: bool = True) -> tuple[int, str]:
        """The last reply to a real client, and where its message really went."""
        session = self.world.connect(case.client)
        heard = session.read()
        while not heard:
            self.clock.advance(1)
            heard = session.read()
        sender = case.sender if case.sender != "<>" else ""
        commands = ["EHLO client.example", f"MAIL FROM:<{sender}>", f"RCPT TO:<{case.to}>"]
        if case.login is not None:
            word = b64encode(f"\0{case.login}\0{PASSWORD}".encode()).decode()
            commands.insert(1, f"AUTH PLAIN {word}")
        for command in commands:
            if not heard.startswith(b"2"):
                break
            heard = session.send(command.encode() + b"\r\n")
            while not heard:
                self.clock.advance(1)
                heard = session.read()
        code = int(heard.splitlines()[-1][:3])
        if code != 250:
            return code, ""
        session.send(b"DATA\r\nSubject: x\r\n\r\ntext\r\n.\r\n")
        if run:
            self.run()
        return code, self.place() if run else ""

    def run(self) -> None:
        """Let everything happen that happens at once."""
        for seconds in [0.0] * 40 + [1.0] + [0.0] * 40:
            self.clock.advance(seconds)

    def place(self) -> str:
        for address, host in self.hosts.items():
            if host.envelopes:
                return address
        mine = [octets for _, _, octets in self.shelf.taken if b"multipart/report" not in octets]
        if mine:
            return "drop"
        waiting = self.world.store.messages.values()
        # What is left of a message that has failed is a report with the null reverse-path.
        still = [one for one in waiting if one.reverse_path is not None]
        return "delayed" if still else "failed"


@frozen
class Visitors:
    """A greylist that knows all clients, or none; it is not for explanations to ask more."""

    known: bool

    def passes(self, *asked: Any) -> bool:
        return self.known


def place_of(found: Explanation) -> str:
    """Where it is said to go."""
    if not found.accepted:
        return ""
    (way,) = found.ways
    if way["fate"] == "delivered":
        return "drop"
    if way["fate"] != "relayed":
        return str(way["fate"])
    return str(way["addresses"][0].rpartition(":")[0])


class ExplainingTests(SynchronousTestCase):
    def explain(self, house: House, case: Case) -> Explanation:
        sender = None if case.sender == "<>" else parse_mailbox(case.sender)
        asked = house.explainer.explain(
            case.client, sender, parse_mailbox(case.to), case.login, secure=True
        )
        return self.successResultOf(Deferred.fromCoroutine(asked))

    def test_agrees(self) -> None:
        """Each case: what is said, what happens, and the setting that is named."""
        self.assertGreaterEqual(len(CASES), 50)
        for number, case in enumerate(CASES):
            told = f"{number}: {case}"
            house = House(case)
            found = self.explain(house, case)
            really = house.really(case)

            self.assertEqual((case.code, case.where), really, told)
            self.assertEqual(case.code, int(found.reply[:3]), told)
            expected = case.where
            if case.setting == "delivery.security.tls":
                # Whether a host offers TLS is seen when it is met.
                expected = MX1
                self.assertIn("TLS or nothing", str(found.steps), told)
            self.assertEqual(expected, place_of(found), told)
            if case.setting:
                self.assertIn(case.setting, [step.setting for step in found.steps], told)

    def test_leaves_nothing_behind(self) -> None:
        """Neither in the queue, nor in the counts, nor in the log."""
        limits = ClientLimits(connections=5, messages=Rate(1, 60))
        case = Case("bob@remote.example", 550, access={"per_address": limits})
        house = House(case)
        lines: list[Any] = []
        globalLogPublisher.addObserver(lines.append)
        self.addCleanup(globalLogPublisher.removeObserver, lines.append)

        for _ in range(3):
            self.assertEqual("550", self.explain(house, case).reply[:3])

        desk = house.world.desk
        self.assertEqual((0, 0, []), (desk.open_sessions, len(desk.clients), lines))
        self.assertEqual({}, house.world.store.messages)

    def test_limits_in_force(self) -> None:
        """A client that has had its messages is told so before it tries."""
        limits = ClientLimits(messages=Rate(1, 60))
        case = Case("bob@example.com", 250, access={"per_address": limits})
        house = House(case)
        self.assertEqual("250", self.explain(house, case).reply[:3])
        house.really(case)

        found = self.explain(house, case)

        self.assertEqual("451", found.reply[:3])
        self.assertIn("access.per_address.messages", [step.setting for step in found.steps])

    def test_waits_of_strangers(self) -> None:
        """How late the greeting and a refusal are; nobody waits for the explanation."""
        access = {"tarpit": Tarpit(2.0, 10.0, 0), "greet_delay": 3.0, "dns_lists": (GOOD,)}
        case = Case("bob@remote.example", 550, access=access)
        told = {step.topic: step.words for step in self.explain(House(case), case).steps}
        self.assertIn("3 s late", told["greeting"])
        self.assertEqual(
            "the first refusal is 2 s late; after 0 each 2 s later than the one before, up to 10 s",
            told["tarpit"],
        )
        trusted = evolve(case, access={**access, "trusted": (ip_network("192.0.2.0/24"),)})
        topics = {step.topic for step in self.explain(House(trusted), trusted).steps}
        self.assertEqual(set(), topics & {"greeting", "tarpit"})

    def test_greylist(self) -> None:
        """Told to whom it happens: not to who is in a good list; and to whom it has happened."""
        for lists, known, expected in (
            ((), False, ["451 4.7.1 at first, where this sender and recipient are new to it"]),
            ((), True, ["let in at once: it has come back often enough"]),
            ((GOOD,), False, []),
        ):
            access = {"greylist": GreylistTerms(enabled=True), "dns_lists": lists}
            case = Case("bob@example.com", 250, access=access)
            house = House(case)
            house.world.desk.greylist = Visitors(known)
            steps = self.explain(house, case).steps
            self.assertEqual(expected, [one.words for one in steps if one.topic == "greylist"])

    def test_no_password_is_shown(self) -> None:
        """Who logs in and where the password stands, never what it is."""
        login = Login("me", Secret("hunter2", literal=True))
        delivery = {
            "smart_host": SMART_HOST,
            "security": OutboundSecurity(TLSLevel.REQUIRED, login=login),
        }
        case = Case("bob@remote.example", 250, access=RELAYS, delivery=delivery)
        found = self.explain(House(case), case)

        words = [step.words for step in found.steps if step.topic == "credentials"]
        self.assertEqual(
            ["user me, password in the configuration, by SCRAM-SHA-256, PLAIN, LOGIN"], words
        )
        self.assertNotIn("hunter2", str(found))

    def test_suspended_site(self) -> None:
        """What mail for a site waits for now."""
        case = Case("bob@remote.example", 250, access=RELAYS)
        house = House(case)
        house.net.hosts.clear()
        for _ in range(6):
            house.really(case, run=False)
        house.run()

        steps = self.explain(house, case).steps

        self.assertIn("suspended", str([one.words for one in steps if one.topic == "wait"]))

    def test_requiretls(self) -> None:
        """Whether mail that needs TLS on its whole way may take the MX records."""
        case = Case("bob@remote.example", 250, access=RELAYS)
        for kind, expected in ((tuple, "comes back (5.7.30)"), (Proven, "may go there")):
            house = House(case)
            exchanges = house.names.exchanges
            exchanges["remote.example"] = kind(exchanges["remote.example"])
            steps = self.explain(house, case).steps
            (words,) = [step.words for step in steps if step.topic == "REQUIRETLS"]
            self.assertIn(expected, words)

    def test_masquerade(self) -> None:
        """A sender that leaves as another."""
        delivery = {"masquerade_domain": "public.example"}
        case = Case(
            "bob@remote.example", 250, sender="a@example.com", access=RELAYS, delivery=delivery
        )
        steps = self.explain(House(case), case).steps
        self.assertIn("leaves as <a@public.example>", [one.words for one in steps])
        self.assertEqual(Mailbox("a", "example.com"), parse_mailbox(case.sender))
