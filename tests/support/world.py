"""A virtual server's intake in memory: no sockets, no threads, a clock of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import define, evolve, field
from twisted.internet.address import IPv4Address
from twisted.internet.defer import fail, succeed
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from mailhost.authentication.exchange import Authentication
from mailhost.config.settings import ListenAddress, VirtualServerSettings
from mailhost.config.settings.access import AccessSettings
from mailhost.errors import ResolveProblem
from mailhost.intake.desk import Desk
from mailhost.intake.reception import Reception
from mailhost.interfaces import IHeldMail, INameResolver
from mailhost.model.held import HeldDomains
from mailhost.model.queue import QueuedMessage
from mailhost.model.security import TLSFacts
from mailhost.net.factory import ESMTPFactory
from mailhost.routing.categorizer import make_categorizer
from mailhost.server.logins import rules_of
from mailhost.spool.memory import MemoryQueue
from tests.authentication.passwords import Passwords

START = 1_000_000_000.0


@implementer(INameResolver)
@define
class FakeNames:
    """Answers from tables; what is not in them does not exist."""

    exchanges: dict[str, Any] = field(factory=dict)
    hosts: dict[str, Any] = field(factory=dict)
    pointers: dict[str, Any] = field(factory=dict)

    def mail_exchanges(self, domain: str) -> Any:
        return self._answer(self.exchanges, domain, ())

    def addresses(self, host: str) -> Any:
        return self._answer(self.hosts, host, None)

    def names(self, address: str) -> Any:
        return self._answer(self.pointers, address, ())

    def _answer(self, table: dict[str, Any], name: str, missing: Any) -> Any:
        found = table.get(name, missing)
        if found is None:
            raise ResolveProblem("5.1.2", f"{name} does not exist")
        if isinstance(found, Exception):
            raise found
        return found


def make_settings(**changes: Any) -> VirtualServerSettings:
    """A virtual server for example.com called mail.example.com."""
    base: dict[str, Any] = {
        "name": "test",
        "home": Path("nowhere"),
        "fqdn": "mail.example.com",
        "domain": "example.com",
        "listen": (ListenAddress("127.0.0.1", 0),),
        # Tests say much at once.
        "access": AccessSettings(early_talkers=True),
    }
    return VirtualServerSettings(**{**base, **changes})


@implementer(IHeldMail)
@define(eq=False)
class FakeHeldMail:
    """
    :ivar domains: with mail; an error: the store cannot say.
    :ivar started: what was asked for.
    :ivar turned: sessions that were given away.
    """

    domains: set[str] = field(factory=set)
    problem: Exception | None = None
    started: list[tuple[tuple[str, ...], str]] = field(factory=list)
    turned: list[tuple[tuple[str, ...], str, Protocol]] = field(factory=list)

    def waits(self, domains: HeldDomains) -> Any:
        if self.problem is not None:
            return fail(self.problem)
        return succeed(any(map(domains.cover, self.domains)))

    def start(self, domains: HeldDomains, who: str) -> Any:
        if self.problem is None and any(map(domains.cover, self.domains)):
            self.started.append((domains.names, who))
        return self.waits(domains)

    def session(self, domains: HeldDomains, peer: str, port: int, onward: Any = None) -> Protocol:
        protocol = Protocol()
        self.turned.append((domains.names, peer, protocol))
        return protocol


@define(eq=False)
class World:
    """Everything an inbound session needs, and what it left behind."""

    settings: VirtualServerSettings = field(factory=make_settings)
    clock: Clock = field(factory=Clock)
    names: FakeNames = field(factory=FakeNames)
    store: Any = None
    passwords: Passwords = field(factory=lambda: Passwords({}))
    accepted: list[QueuedMessage] = field(factory=list)
    held: FakeHeldMail = field(factory=FakeHeldMail)
    desk: Desk = field(init=False)
    factory: ESMTPFactory = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.clock.advance(START)
        if self.store is None:
            self.store = MemoryQueue(self.clock.seconds)
        self.desk = Desk(
            self.settings,
            make_categorizer(self.settings),
            self.store,
            self.names,
            self.clock,
            self.accepted.append,
            held=self.held,
        )
        self.factory = ESMTPFactory(
            lambda session: Reception(self.desk, session),
            self.clock,
            rules_of(self.settings, starttls=False),
            self.settings.connection_timeout,
            authentication=Authentication(
                self.passwords, self.clock, self.settings.access.basic.default_domain
            ),
        )

    def connect(self, peer: str = "192.0.2.7") -> Session:
        """A client connects."""
        return Session(self, peer)

    def contents(self) -> list[bytes]:
        """What was accepted, as it is stored."""
        return [bytes(self.store.open_content(message).read()) for message in self.accepted]


class Session:
    """One client's side of a connection in memory."""

    def __init__(self, world: World, peer: str) -> None:
        address = IPv4Address("TCP", peer, 40000)
        self.protocol = world.factory.buildProtocol(address)
        self.transport = StringTransport(
            hostAddress=IPv4Address("TCP", "127.0.0.1", 25), peerAddress=address
        )
        holder: Any = self.transport
        holder.protocol = self.protocol
        self.protocol.makeConnection(self.transport)

    def send(self, octets: bytes) -> bytes:
        """Send *octets*; what the server said to them."""
        self.protocol.dataReceived(octets)
        return self.read()

    def secure(self) -> None:
        """From here on as if a handshake had been done."""
        self.protocol.session.tls = TLSFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384")
        dialogue = self.protocol._dialogue
        dialogue.secure = True
        dialogue.change_rules(dialogue.rules)

    def read(self) -> bytes:
        """What the server has said since."""
        said = self.transport.value()
        self.transport.clear()
        return bytes(said)

    @property
    def closed(self) -> bool:
        """The server has hung up."""
        return bool(self.transport.disconnecting or self.transport.disconnected)


def with_messages(**changes: Any) -> VirtualServerSettings:
    """Settings with another Messages page."""
    base = make_settings()
    return evolve(base, messages=evolve(base.messages, **changes))
