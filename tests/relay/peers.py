"""Sites for the relay's scheduling: they take time, fill up, die and come back, on a clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from attrs import define, field
from twisted.internet.defer import execute
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.settings import VirtualServerSettings
from mailhost.model.address import Mailbox
from mailhost.model.envelope import Envelope
from mailhost.model.outcome import Outcome
from mailhost.model.queue import QueuedMessage
from mailhost.model.reply import Reply
from mailhost.model.route import HostAddress
from mailhost.net.deadlines import Deadlines
from mailhost.net.outbound import Transcript
from mailhost.relay.gates import Gates
from mailhost.relay.job import Destination
from mailhost.relay.line import Attempt, Opened
from mailhost.relay.mail_exchange import MailExchangeResolver
from mailhost.relay.manager import RelayManager
from mailhost.relay.outcomes import unreachable
from mailhost.relay.slots import Pool
from mailhost.relay.terms import Terms
from mailhost.routing.categorizer import make_categorizer
from mailhost.spool.badmail import Badmail
from mailhost.spool.memory import MemoryQueue
from mailhost.traces.tracer import Tracer
from tests.support.world import START, FakeNames, make_settings

TAKEN = Reply(250, "2.0.0", ("taken",))
SENDER = Mailbox("alice", "example.com")


@define(eq=False)
class Session:
    """A session with one site; who has said goodbye is there until the peer has answered."""

    peers: Peers
    key: str
    gone: Callable[[], None]
    extensions: dict[str, str] = field(factory=lambda: {"8BITMIME": ""})
    is_over: bool = False

    def send(self, envelope: Envelope, content: Any, over: Callable[[Transcript], None]) -> None:
        sender, recipients = envelope.reverse_path, list(envelope.forward_paths)
        self.peers.reactor.callLater(
            self.peers.seconds.get(self.key, self.peers.usual_seconds),
            lambda: over(self._taken(sender, recipients)),
        )

    def _taken(self, reverse_path: Any, recipients: list[Mailbox]) -> Transcript:
        peers, count = self.peers, len(recipients)
        if self.key in peers.down:
            self._close()
            return Transcript((None,) * count, "connection lost", peers.doubtful, False)
        said = peers.say(recipients)
        peers.taken.append((peers.reactor.seconds(), self.key, reverse_path, recipients))
        alive = said.code != 421
        if not alive:
            self._close()
        return Transcript((said,) * count, "", False, alive)

    def quit(self) -> None:
        self.peers.reactor.callLater(self.peers.goodbye_seconds, self.drop)

    def drop(self) -> None:
        if not self.is_over:
            self._close()
            self.gone()

    def _close(self) -> None:
        self.is_over = True
        self.peers.open_now[self.key] -= 1


@define(eq=False)
class Peers:
    """
    Stands where `Line` does.

    :ivar down: sites that take no connection.
    :ivar seconds: a transaction takes so long there.
    :ivar connect_seconds: a connection takes so long, or fails after it.
    :ivar goodbye_seconds: so long after QUIT a connection is closed.
    :ivar taken: (time, site, sender, recipients) of every transaction.
    :ivar doubtful: sessions that break do so after the final dot.
    """

    reactor: Clock
    down: set[str] = field(factory=set)
    seconds: dict[str, float] = field(factory=dict)
    usual_seconds: float = 0.1
    connect_seconds: float = 0.1
    goodbye_seconds: float = 0.02
    doubtful: bool = False
    say: Callable[[list[Mailbox]], Reply] = field(default=lambda recipients: TAKEN)
    taken: list[tuple[float, str, Mailbox | None, list[Mailbox]]] = field(factory=list)
    opened: Counter[str] = field(factory=Counter)
    refused: Counter[str] = field(factory=Counter)
    open_now: Counter[str] = field(factory=Counter)
    most_open: Counter[str] = field(factory=Counter)
    most_in_all: int = 0
    tracer: Tracer = field(factory=Tracer)
    deadlines: Deadlines = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.deadlines = Deadlines(self.reactor)

    async def open(
        self,
        destination: Destination,
        tried: set[tuple[str, int]],
        gone: Callable[[], None],
        attempts: list[Attempt] | None = None,
        requiretls: bool = False,
    ) -> Opened | Outcome | None:
        key = destination.key
        place = HostAddress(key, "192.0.2.1", 25)
        if (place.address, place.port) in tried:
            return None
        tried.add((place.address, place.port))
        await deferLater(self.reactor, self.connect_seconds)
        if key in self.down:
            self.refused[key] += 1
            return unreachable(key, "no answer")
        self.opened[key] += 1
        self.open_now[key] += 1
        self.most_open[key] = max(self.most_open[key], self.open_now[key])
        self.most_in_all = max(self.most_in_all, sum(self.open_now.values()))
        session: Any = Session(self, key, gone)
        return Opened(session, place)

    def count(self, key: str) -> int:
        """Transactions that the site *key* took."""
        return sum(1 for _, site, _, _ in self.taken if site == key)


class SchedulingTestCase(SynchronousTestCase):
    """A relay for example.com; every other domain is a site of its own, called ``mx.`` and it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.peers = Peers(self.clock)
        self.store = MemoryQueue(self.clock.seconds)
        self.relay = self.make_relay(make_settings())

    def make_relay(
        self,
        settings: VirtualServerSettings,
        pool: Pool | None = None,
        store: Any = None,
        gates: Gates | None = None,
    ) -> RelayManager:
        names = _EveryDomain()
        exchanges = MailExchangeResolver(names, self.clock)
        terms = Terms.of(settings, make_categorizer(settings))
        relay = RelayManager(
            store or self.store,
            exchanges,
            self.clock,
            terms,
            None,
            None,
            pool=pool,
            gates=gates,
            random=Random(7),
        )
        line: Any = self.peers
        relay._sites.line = line
        return relay

    def commit(
        self,
        *paths: str,
        sender: Mailbox | None = SENDER,
        relay: RelayManager | None = None,
    ) -> QueuedMessage:
        """Put a message into the queue, as intake does."""
        store: Any = (relay or self.relay).queue
        incoming = store.new_message(b"", None)
        incoming.write(b"\r\n")
        forward = tuple(Mailbox(*path.split("@")) for path in paths)
        message: QueuedMessage = self.successResultOf(
            store.commit(
                incoming,
                store.new_queue_id(),
                Envelope(sender, forward, "7BIT"),
                "client.example",
                self.clock.seconds(),
            )
        )
        (relay or self.relay).accept(message)
        return message

    def run_for(self, seconds: float, step: float = 0.1) -> None:
        """Let *seconds* pass."""
        until = self.clock.seconds() + seconds
        while self.clock.seconds() < until - 1e-6:
            self.clock.advance(min(step, until - self.clock.seconds()))
            self.clock.advance(0)

    def site(self, key: str) -> Any:
        """The view of the site *key*."""
        (found,) = [view for view in self.relay.sites() if view.key == key]
        return found

    def attempts(self) -> Counter[int]:
        """How often the recipients in the queue have been tried."""
        messages = self.store.messages.values()
        return Counter(r.attempts for m in messages for r in m.recipients.values())


class _EveryDomain(FakeNames):
    """Each domain has one exchange of its own, with an address."""

    def mail_exchanges(self, domain: str) -> Any:
        return [(10, f"mx.{domain}")]


def make_badmail(directory: Any) -> Badmail:
    """A Badmail directory without threads."""
    badmail = Badmail(directory, execute)
    badmail.start()
    return badmail
