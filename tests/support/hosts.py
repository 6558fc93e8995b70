"""Mail hosts in memory: scripted peers for the relay, on a clock of ours."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from mailhost.model.route import HostAddress
from mailhost.net.outbound import OutboundProtocol

GOOD = {
    "banner": "220 peer.example",
    "EHLO": "250-peer.example\r\n250-PIPELINING\r\n250-SIZE\r\n250 8BITMIME",
    "HELO": "250 peer.example",
    "MAIL": "250 2.1.0 ok",
    "RCPT": "250 2.1.5 ok",
    "DATA": "354 go on",
    ".": "250 2.0.0 taken",
    "RSET": "250 ok",
    "QUIT": "221 bye",
}
#: A reply that is no reply: the connection ends instead.
HANG_UP = "hang up"
#: No reply at all, and the connection stays.
SILENT = "silent"


@define
class Host:
    """
    One address that takes connections.

    :ivar says: what it answers instead of `GOOD`, by verb or by whole line; a
        list is used up from its front, the last stays.
    :ivar wrong: what `mailhost.net.tls.check_identity` has to say of its certificate.
    :ivar envelopes: ``(MAIL line, [RCPT lines], content)`` of what it took.
    """

    says: dict[str, Any] = field(factory=dict)
    envelopes: list[tuple[str, list[str], bytes]] = field(factory=list)
    wrong: str | None = None
    connections: int = 0
    open: int = 0

    def reply(self, verb: str, line: str) -> str:
        for key in (line, verb):
            told = self.says.get(key)
            if isinstance(told, list):
                return str(told.pop(0) if len(told) > 1 else told[0])
            if told is not None:
                return str(told)
        return GOOD.get(verb, "500 what")


class _Wire:
    """The transport of one connection, and the host's side of it."""

    disconnecting = False

    def __init__(self, host: Host, clock: IReactorTime, protocol: OutboundProtocol) -> None:
        self._host, self._clock = host, clock
        self.protocol: Any = protocol
        self._buffer = b""
        self._content: bytes | None = None
        # Octets of a chunk, all of them content, that have not come.
        self._chunk: int | None = None
        self._mail = ""
        self._rcpts: list[str] = []
        self._up = True
        host.connections += 1
        host.open += 1

    def begin(self) -> None:
        self.protocol.makeConnection(self)
        self._say("banner", "")

    # ---- the client's transport

    def write(self, octets: bytes) -> None:
        if self._up:
            self._clock.callLater(0, self._hear, octets)

    def loseConnection(self) -> None:
        self._clock.callLater(0, self.end)

    abortConnection = loseConnection

    def startTLS(self, creator: object) -> None:
        """Only as if: the test patches what would look at a certificate."""
        self._clock.callLater(0, self.protocol.handshakeCompleted)

    @property
    def wrong(self) -> str | None:
        return self._host.wrong

    def registerProducer(self, producer: object, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def getHost(self) -> object:
        return None

    # ---- the host

    def _say(self, verb: str, line: str) -> None:
        reply = self._host.reply(verb, line)
        if reply == HANG_UP:
            self._clock.callLater(0, self.end)
            self._buffer, self._content = b"", None
            return
        if reply == SILENT:
            return
        if verb == "RCPT" and reply.startswith("2"):
            self._rcpts.append(line)
        if verb == "MAIL":
            self._mail, self._rcpts = line, []
        if verb == "DATA" and reply.startswith("354"):
            self._content = b""
        self._clock.callLater(0, self._deliver, reply.encode() + b"\r\n")
        if reply.startswith(("421", "221")):
            self._clock.callLater(0, self.end)

    def _deliver(self, octets: bytes) -> None:
        if self._up:
            self.protocol.dataReceived(octets)

    def end(self) -> None:
        if self._up:
            self._up = False
            self._host.open -= 1
            self.protocol.connectionLost(Failure(ConnectionDone()))

    def _hear(self, octets: bytes) -> None:
        self._buffer += octets
        while self._up:
            if self._content is not None:
                end = (b"\r\n" + self._buffer).find(b"\r\n.\r\n")
                if end < 0:
                    return
                content, self._buffer = self._buffer[:end], self._buffer[end + 3 :]
                self._content = None
                self._take(content)
                continue
            if self._chunk is not None:
                if len(self._buffer) < self._chunk:
                    return
                content, self._buffer = self._buffer[: self._chunk], self._buffer[self._chunk :]
                self._chunk = None
                self._take(content)
                continue
            line, found, rest = self._buffer.partition(b"\r\n")
            if not found:
                return
            self._buffer = rest
            text = line.decode()
            if text.startswith("BDAT "):
                self._chunk = int(text.split()[1])
            else:
                self._say(text[:4].upper(), text)

    def _take(self, content: bytes) -> None:
        if self._host.reply(".", "").startswith("2"):
            self._host.envelopes.append((self._mail, list(self._rcpts), content))
        self._say(".", "")


def connected(host: Host, clock: Any, protocol: Any) -> None:
    """*host* has connected, or been connected to, and *protocol* is its client."""
    _Wire(host, clock, protocol).begin()


@define
class Net:
    """
    Who can be reached.

    :ivar hosts: by address; what is missing refuses connections.
    """

    clock: Any
    hosts: dict[str, Host] = field(factory=dict)

    def connect(self, place: HostAddress, factory: Factory) -> Deferred[OutboundProtocol]:
        host = self.hosts.get(place.address)
        if host is None:
            return fail(ConnectionRefusedError())
        protocol: Any = factory.buildProtocol(None)
        connected(host, self.clock, protocol)
        return succeed(protocol)
