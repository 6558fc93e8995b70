"""
Opening a session to a site: its hosts, their addresses, one after the other.

:Room: ``relay``
:RFC: 5321 §5.1 (try every address in order), §4.5.3.2.1; 7435 (opportunistic security),
    8314 §3.3 (port 465).
:IIS: DEL-21 (login), DEL-31 (time-out), DEL-33 (TCP port).
:Called by: `mailhost.relay.sites`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint
from twisted.internet.error import ConnectionRefusedError as RefusedError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from mailhost.authentication.kerberos import initiator
from mailhost.errors import ResolveProblem
from mailhost.model.outcome import Fate, Outcome
from mailhost.model.route import HostAddress, NextHop
from mailhost.model.security import Login, OutboundSecurity, TLSLevel, TokenGrant
from mailhost.model.tally import Tally
from mailhost.net.deadlines import Deadlines
from mailhost.net.outbound import OutboundProtocol, Protection, Transcript
from mailhost.net.scribe import LoggedScribe, Scribe
from mailhost.net.tls import ClientTLS
from mailhost.net.tokens import TokenBroker, TokenProblem
from mailhost.net.turned import Onward, TurnedProtocol
from mailhost.protocol_log.log import ProtocolLog
from mailhost.relay.job import Destination
from mailhost.relay.mail_exchange import MailExchangeResolver
from mailhost.relay.outcomes import TURNED_AWAY, unopened_outcome, unreachable, unresolved
from mailhost.secrets import SecretProblem, reveal
from mailhost.smtp.client_login import ClientLogin
from mailhost.traces.tracer import Tracer

#: A host that takes no connection for so long is passed over; the operating
#: system's own patience is two minutes for each address.
CONNECT_SECONDS = 30
#: Addresses of one site that are tried in one attempt (attacks.md A63).
MAX_ADDRESSES = 5
#: Threads for what a login needs: passwords hashed, tickets got, tokens written.
LOGIN_THREADS = 4
#: Where TLS comes before the greeting (RFC 8314 §7.3, "submissions").
IMPLICIT_TLS_PORT = 465
#: What the resolver says of a host that is this machine (RFC 3463 X.4.6).
LOOPS_BACK = "5.4.6"

_session_numbers = count(1)

Connect = Callable[[HostAddress, Factory], Deferred[OutboundProtocol]]


@frozen
class Opened:
    """
    A session that can take an envelope, and where it leads.

    :ivar scribe: remembers what is said in it; `None`: nobody does.
    :ivar peer: host and address, as reports name them.
    :ivar session_id: unique in this process, and no id of a session of clients; for logs.
    """

    session: OutboundProtocol
    place: HostAddress
    scribe: Scribe | None = None
    session_id: str = field(factory=lambda: f"out-{next(_session_numbers):x}", init=False)
    peer: str = field(init=False)

    @peer.default
    def _name_peer(self) -> str:
        return f"{self.place.host} [{self.place.address}]"


@frozen
class Attempt:
    """
    An address that came to nothing.

    :ivar peer: its host, address and port.
    :ivar words: why.
    :ivar dialogue: what was said; empty: nothing, or nobody remembers.
    """

    peer: str
    words: str
    dialogue: str


class _SessionFactory(Factory):
    noisy = False

    def __init__(self, make: Callable[[], OutboundProtocol]) -> None:
        self._make = make

    def buildProtocol(self, addr: IAddress | None) -> OutboundProtocol:
        return self._make()


@define(eq=False)
class Line:
    """
    :ivar reactor: connects and tells the time.
    :ivar exchanges: finds the addresses of hosts.
    :ivar hello_name: what we call ourselves.
    :ivar port: where a next hop names none.
    :ivar timeout_seconds: patience with a silent peer.
    :ivar source_address: local address to connect from; `None`: the system's choice.
    :ivar tls: contexts for what leaves.
    :ivar connect: opens a connection; replaced in tests.
    :ivar tokens: access tokens for logins.
    :ivar deadlines: where the patience with peers, and with idle sessions, is looked after.
    :ivar tracer: where it is on, sessions are remembered.
    :ivar tally: counts connections.
    :ivar protocol_log: where it is on, it is told of all that is said.
    :ivar poller: what connections over TCP are watched by; `None`: the reactor.
    :ivar turned: sessions that their servers have asked for, by the key of their destination,
        until somebody takes them.
    """

    reactor: Any
    exchanges: MailExchangeResolver
    hello_name: str
    port: int = 25
    timeout_seconds: float = 600
    source_address: str | None = None
    tls: ClientTLS = field(factory=ClientTLS)
    connect: Connect | None = None
    tokens: TokenBroker = field(init=False)
    tracer: Tracer = field(factory=Tracer)
    tally: Tally = field(factory=Tally)
    protocol_log: ProtocolLog = field(factory=ProtocolLog)
    poller: Any = None
    turned: dict[str, Opened] = field(factory=dict, init=False)
    deadlines: Deadlines = field(init=False)
    # There are threads from the first login on that needs them.
    _threads: ThreadPool | None = field(default=None, init=False)

    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self.deadlines = Deadlines(self.reactor)
        self.tokens = TokenBroker(self.reactor, self._in_thread)

    async def open(
        self,
        destination: Destination,
        tried: set[tuple[str, int]],
        gone: Callable[[], None],
        attempts: list[Attempt] | None = None,
        requiretls: bool = False,
    ) -> Opened | Outcome | None:
        """
        The first session that can be had.

        :param tried: addresses and ports to pass over; those tried here are added.
        :param gone: called when the session given is lost.
        :param attempts: those that come to nothing are added.
        :param requiretls: who has no TLS for us has failed for good (RFC 8689 §4.2.1).
        :returns: why there is none, as an outcome, when every host has failed;
            `None` when there was no further host to try.
        """
        if destination.is_turned:
            return await self._open_turned(destination, tried, gone)
        last: Outcome | None = None
        for hop in destination.hops:
            try:
                places = await self.places(hop)
            except ResolveProblem as problem:
                # A host without an address is one host less.  It decides about
                # the message only if no other does, and "not now" beats "never".
                if last is None or last.fate is Fate.FAILED:
                    last = unresolved(problem)
                if problem.status == LOOPS_BACK:
                    break  # RFC 5321 §5.1: we are this host, and those behind are worse
                continue
            for place in places:
                if (place.address, place.port) in tried or len(tried) >= MAX_ADDRESSES:
                    continue
                tried.add((place.address, place.port))
                scribes: list[Scribe] = []
                opened = await self._open_at(place, destination, gone, scribes)
                if isinstance(opened, Transcript):
                    opened = unopened_outcome(opened, _name(place), requiretls)
                if isinstance(opened, Opened):
                    return opened
                if attempts is not None:
                    said = "\n".join(scribe.text() for scribe in scribes)
                    attempts.append(Attempt(_name(place), opened.words, said))
                if last is None or last.fate is Fate.FAILED or opened.fate is Fate.DELAYED:
                    last = opened
        return last

    def turn(
        self, key: str, place: HostAddress, gone: Callable[[], None], onward: Onward | None = None
    ) -> TurnedProtocol:
        """
        A session with a server that is connected already, for the destination *key*.

        :param gone: called when it is lost.
        :param onward: whose connection it is; `None`: the session's.
        """
        scribe = self._scribe(place)
        self.tally.outbound_connections += 1
        session = TurnedProtocol(
            self.hello_name,
            False,
            self.timeout_seconds,
            self.deadlines,
            gone,
            None,
            scribe,
            tally=self.tally,
        )
        session.onward = onward
        self.turned[key] = Opened(session, place, scribe)
        return session

    async def _open_turned(
        self,
        destination: Destination,
        tried: set[tuple[str, int]],
        gone: Callable[[], None],
    ) -> Opened | Outcome:
        opened = self.turned.pop(destination.key, None)
        if opened is None:
            return TURNED_AWAY
        opened.session.tell_too(gone)
        tried.add((opened.place.address, opened.place.port))
        refused = await opened.session.ready
        return opened if refused is None else unopened_outcome(refused, _name(opened.place))

    async def places(self, hop: NextHop) -> tuple[HostAddress, ...]:
        """
        Where to connect for *hop*, in the order to try.

        :raises mailhost.errors.ResolveProblem: nowhere, or not now.
        """
        port = hop.port or self.port
        if hop.literal:
            return (HostAddress(hop.host, hop.host, port),)
        found = self.exchanges.host_addresses(hop.host, port)
        return await found if isinstance(found, Awaitable) else found

    async def _open_at(
        self,
        place: HostAddress,
        destination: Destination,
        gone: Callable[[], None],
        scribes: list[Scribe],
    ) -> Opened | Transcript | Outcome:
        security = destination.security
        login = security.login
        if login is not None and login.tokens is not None:
            opened = await self._open_by_token(
                security, login.tokens, place, destination, gone, scribes
            )
        else:
            try:
                secret = _password_of(login)
            except SecretProblem as problem:
                # RFC 3463 X.3.5: system incorrectly configured.
                return Outcome(Fate.DELAYED, "4.3.5", f"login: {problem}")
            protection = self._protection(security, place, secret)
            opened = await self._open_with(protection, place, destination, gone, scribes)
        may_be_clear = security.tls is TLSLevel.OPPORTUNISTIC and login is None
        may_be_clear &= place.port != IMPLICIT_TLS_PORT
        if isinstance(opened, Transcript) and opened.tls_failed and may_be_clear:
            # RFC 7435 §3: better in clear than not at all, where nobody has
            # asked for more.
            self._log.warn(
                "{host}: {words}; once more in clear", host=place.host, words=opened.words
            )
            opened = await self._open_with(None, place, destination, gone, scribes)
        return opened

    async def _open_by_token(
        self,
        security: OutboundSecurity,
        grant: TokenGrant,
        place: HostAddress,
        destination: Destination,
        gone: Callable[[], None],
        scribes: list[Scribe],
    ) -> Opened | Transcript | Outcome:
        """A token that is refused may have been taken back: a fresh one is tried, once."""
        try:
            token = await self.tokens.token(grant)
            protection = self._protection(security, place, token.text)
            opened = await self._open_with(protection, place, destination, gone, scribes)
            if not isinstance(opened, Transcript) or not opened.login_refused:
                return opened
            fresh = self.tokens.replace(grant, token)
            if fresh is None:
                return opened
            protection = self._protection(security, place, (await fresh).text)
            return await self._open_with(protection, place, destination, gone, scribes)
        except TokenProblem as problem:
            return Outcome(Fate.DELAYED, problem.status, f"login: no token: {problem}")

    def _protection(
        self, security: OutboundSecurity, place: HostAddress, secret: str
    ) -> Protection:
        given, host = security.login, place.host
        login = None
        if given is not None:
            now = self.reactor.seconds()
            login = ClientLogin(given.username, secret, given.mechanisms, host, now)
            if given.keytab is not None:
                login.context = initiator(given.keytab, given.username, host)
        implicit = place.port == IMPLICIT_TLS_PORT and security.tls is not TLSLevel.NONE
        return Protection(
            security.tls, host, self.tls, security.ca, login, self._in_thread, implicit
        )

    def _in_thread(self, work: Callable[[], Any]) -> Deferred[Any]:
        if self._threads is None:
            self._threads = ThreadPool(0, LOGIN_THREADS, f"logins of {self.hello_name}")
            self._threads.start()
        done: Deferred[Any] = deferToThreadPool(self.reactor, self._threads, work)
        return done

    @property
    def pools(self) -> dict[str, ThreadPool]:
        """The threads for logins, once there are some."""
        return {} if self._threads is None else {"outbound logins": self._threads}

    def stop(self) -> None:
        """No further session; waits for what threads do."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.stop()

    async def _open_with(
        self,
        protection: Protection | None,
        place: HostAddress,
        destination: Destination,
        gone: Callable[[], None],
        scribes: list[Scribe],
    ) -> Opened | Transcript | Outcome:
        scribe = self._scribe(place)
        scribes += [scribe] if scribe is not None else []
        factory = _SessionFactory(
            lambda: OutboundProtocol(
                self.hello_name,
                destination.helo,
                self.timeout_seconds,
                self.deadlines,
                gone,
                protection,
                scribe,
                destination.lmtp,
                self.tally,
            )
        )
        self.tally.outbound_connections += 1
        try:
            session = await (self.connect or self._connect)(place, factory)
        except CancelledError:
            raise
        except Exception as error:
            self.tally.unreachable_connections += 1
            self.tally.refused_connections += isinstance(error, RefusedError)
            return unreachable(_name(place), str(error) or type(error).__name__)
        try:
            refused = await session.ready
        except CancelledError:
            session.drop()
            raise
        return Opened(session, place, scribe) if refused is None else refused

    def _scribe(self, place: HostAddress) -> Scribe | None:
        if self.protocol_log.on:
            return LoggedScribe(
                log=self.protocol_log,
                seconds=self.reactor.seconds,
                peer=place.address,
                port=place.port,
            )
        return Scribe() if self.tracer.on else None

    def _connect(self, place: HostAddress, factory: Factory) -> Deferred[OutboundProtocol]:
        if place.address.startswith("/"):
            make: Any = UNIXClientEndpoint
            local: Any = make(self.reactor, place.address, CONNECT_SECONDS).connect(factory)
            return local  # type: ignore[no-any-return]  # as below
        endpoint = TCP6ClientEndpoint if ":" in place.address else TCP4ClientEndpoint
        bind = (self.source_address, 0) if self.source_address else None
        connecting: Any = endpoint(
            self.poller or self.reactor,
            place.address,
            place.port,
            timeout=CONNECT_SECONDS,
            bindAddress=bind,
        ).connect(factory)
        return connecting  # type: ignore[no-any-return]  # endpoints know IProtocol only


def _password_of(login: Login | None) -> str:
    """:raises SecretProblem: it cannot be read."""
    if login is None or login.keytab is not None:
        return ""
    return reveal(login.password, login.password_file)


def _name(place: HostAddress) -> str:
    if place.address.startswith("/"):
        return place.address
    return f"{place.host} [{place.address}]:{place.port}"
