"""Clients of a simulated world: each submits one message until it gets an answer for good."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.simulation.plan import MessagePlan

if TYPE_CHECKING:
    from tests.simulation.world import World

_AGAIN_SECONDS = 120.0
_MOST_TRIES = 40
_HERE = IPv4Address("TCP", "127.0.0.1", 25)
_PEER = IPv4Address("TCP", "198.51.100.7", 40000)


@define(eq=False)
class Client:
    """
    :ivar done: it has its answer, or has given up.
    :ivar tries: every try is a message of its own, with recipients of its own.
    """

    world: World
    plan: MessagePlan
    tries: int = 0
    done: bool = False
    _transport: Any = None
    _heard: bytes = b""
    _steps: deque[str] = field(factory=deque)
    _paths: list[str] = field(factory=list)
    _taken: list[str] = field(factory=list)

    def submit(self) -> None:
        """Try once."""
        if self.done:
            return
        self.tries += 1
        if self.tries > _MOST_TRIES:
            self.done = True
            return
        factory = self.world.factory
        if factory is None:
            self._again()
            return
        protocol: Any = factory.buildProtocol(_PEER)
        self._transport = _Transport(self, protocol)
        self._heard = b""
        self._taken = []
        stem = f"{self.plan.number}t{self.tries}"
        self._paths = [f"r{stem}n{n}@{one}" for n, one in enumerate(self.plan.domains)]
        sender = f"s{stem}@{self.plan.sender}" if self.plan.sender else ""
        self._steps = deque(
            ["", "EHLO client.example", f"MAIL FROM:<{sender}> BODY={self.plan.body}"]
            + [f"RCPT TO:<{one}>" for one in self._paths]
            + ["DATA", "."]
        )
        self.world.clients.add(self)
        protocol.makeConnection(self._transport)

    def lost(self) -> None:
        """The server is gone, or has hung up."""
        if self._transport is None:
            return
        transport, self._transport = self._transport, None
        transport.disconnected = True
        transport.protocol.connectionLost(Failure(ConnectionLost()))
        self.world.clients.discard(self)
        self._again()

    def killed(self) -> None:
        """As `lost`, and there is nobody to be told."""
        self._transport = None
        self.world.clients.discard(self)
        self._again()

    def _again(self) -> None:
        if not self.done:
            self.world.timeline.callLater(_AGAIN_SECONDS, self.submit)

    # ---- the dialogue

    def hear(self, octets: bytes) -> None:
        if self._transport is None:
            return
        self._heard += octets
        while b"\n" in self._heard and self._transport is not None:
            line, _, self._heard = self._heard.partition(b"\n")
            if line[3:4] == b" ":
                self._reply(line.decode().strip())

    def _reply(self, line: str) -> None:
        step = self._steps.popleft() if self._steps else "QUIT"
        good = line[:1] in "23"
        if step.startswith("RCPT") and good:
            self._taken.append(self._paths[len(self._paths) - self._left()])
        if step == ".":
            if good:
                self.done = True
                self.world.acknowledge(self._taken)
            self._leave()
        elif not good and not step.startswith("RCPT"):
            self._leave()
        else:
            self._next(step)

    def _left(self) -> int:
        """RCPT commands without a reply, with the one that has just got it."""
        return sum(one.startswith("RCPT") for one in self._steps) + 1

    def _next(self, step: str) -> None:
        following = self._steps[0]
        if following == "DATA" and not self._taken:
            self._leave()
        elif following == ".":
            self._send(self._content() + b".\r\n")
            if self.plan.hangs_up:
                self.done = True
                self.lost()
        elif following:
            self._send(following.encode() + b"\r\n")

    def _content(self) -> bytes:
        line = b"..a line that begins with a dot\r\n" + b"x" * 70 + b"\r\n"
        body = line * max(1, self.plan.octets // len(line))
        if self.plan.body == "8BITMIME" and self.plan.number % 2:
            body += "gr\u00fc\u00dfe\r\n".encode()
        return b"Subject: %d try %d\r\n\r\n" % (self.plan.number, self.tries) + body

    def _send(self, octets: bytes) -> None:
        self.world.timeline.callLater(0, self._transport.deliver, octets)

    def _leave(self) -> None:
        """Hang up; in a turn of its own, since the server is speaking."""
        self.world.timeline.callLater(0, self.lost)


class _Transport(StringTransport):
    """Octets to the client at once, in the server's own turn."""

    def __init__(self, client: Client, protocol: Any) -> None:
        super().__init__(hostAddress=_HERE, peerAddress=_PEER)
        self.client, self.protocol = client, protocol

    def write(self, octets: bytes) -> None:
        self.client.world.timeline.callLater(0, self._said, octets)

    def _said(self, octets: bytes) -> None:
        if self.client._transport is self:
            self.client.hear(octets)

    def deliver(self, octets: bytes) -> None:
        if self.client._transport is self:
            self.protocol.dataReceived(octets)

    def loseConnection(self) -> None:
        self.client.world.timeline.callLater(0, self._end)

    def abortConnection(self) -> None:
        self.loseConnection()

    def _end(self) -> None:
        if self.client._transport is self:
            self.client.lost()
