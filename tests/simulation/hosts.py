"""Other people's mail hosts, which do what their plan says, and remember what they did."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost, ConnectionRefusedError, TimeoutError
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from mailhost.model.route import HostAddress
from tests.simulation.plan import HostPlan, Manner
from tests.simulation.timeline import LifeReactor, Timeline
from tests.support.hosts import GOOD

_CONNECT_SECONDS = 30.0


@define(eq=False)
class Dot:
    """
    A host has a whole message, and somebody ended it.

    :ivar place: see `Timeline.next_place`.
    :ivar taken: the host keeps it.
    :ivar told: the relay has read the reply.
    """

    elapsed: float
    place: int
    life: int
    host: str
    content: bytes = field(repr=False)
    paths: tuple[str, ...]
    taken: bool = False
    told: bool = False
    reply: str = ""


@define(eq=False)
class Internet:
    """
    :ivar dots: what came to the hosts, in order.
    :ivar refused: recipients and senders that a host refused for ever.
    :ivar wires: connections that are open.
    """

    timeline: Timeline
    random: Random
    plans: dict[str, HostPlan]
    dots: list[Dot] = field(factory=list, init=False)
    refused: set[str] = field(factory=set, init=False)
    wires: set[Wire] = field(factory=set, init=False)
    connections: int = field(default=0, init=False)

    def connector(
        self, reactor: LifeReactor, life: int
    ) -> Callable[[HostAddress, Factory], Deferred[Any]]:
        """What stands where `mailhost.relay.line.Line` connects."""

        def connect(place: HostAddress, factory: Factory) -> Deferred[Any]:
            plan = self.plans[place.address]
            manner = self.manner(plan)
            connecting: Deferred[Any] = Deferred(lambda cancelled: None)
            waits = {"refused": plan.latency_seconds, "timeout": _CONNECT_SECONDS}
            seconds = waits.get(manner.connect, plan.latency_seconds)

            def connected() -> None:
                if connecting.called or reactor.dead:
                    return
                if manner.connect == "refused":
                    connecting.errback(ConnectionRefusedError())
                elif manner.connect:
                    connecting.errback(TimeoutError())
                else:
                    protocol: Any = factory.buildProtocol(None)
                    wire = Wire(self, plan, protocol, reactor, life)
                    connecting.callback(protocol)
                    wire.begin()

            self.timeline.callLater(seconds, connected)
            return connecting

        return connect

    def manner(self, plan: HostPlan) -> Manner:
        """How a host behaves now."""
        found = [one for one in plan.manners if one.start <= self.timeline.elapsed]
        return found[-1] if found else Manner(0.0)

    def kill(self, life: int) -> None:
        """The process is gone; its peers see the end of their connections."""
        for wire in [one for one in self.wires if one.life == life]:
            wire.end(False)


@define(eq=False)
class Wire:
    """One connection: the relay's transport, and the host's side of it."""

    net: Internet
    plan: HostPlan
    protocol: Any
    reactor: LifeReactor
    life: int
    disconnecting: bool = False
    _up: bool = True
    _silent: bool = False
    _closing: bool = False
    _to_host: deque[bytes] = field(factory=deque)
    _to_relay: deque[tuple[bytes, Dot | None]] = field(factory=deque)
    _buffer: bytes = b""
    _in_content: bool = False
    _chunk: int = 0
    _mail_said: str = ""
    _paths: list[str] = field(factory=list)
    _all: list[str] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.net.wires.add(self)
        self.net.connections += 1
        self.protocol.makeConnection(self)

    def begin(self) -> None:
        self._answer("banner")

    # ---- the relay's transport

    def write(self, octets: bytes) -> None:
        if self._up and not self.disconnecting:
            self._to_host.append(octets)
            self.net.timeline.callLater(self.plan.latency_seconds, self._arrive)

    def loseConnection(self) -> None:
        self.disconnecting = True
        self.net.timeline.callLater(self.plan.latency_seconds, self.end)

    def abortConnection(self) -> None:
        self.disconnecting = True
        self._to_host.clear()
        self.net.timeline.callLater(0, self.end)

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """It always takes more."""

    def unregisterProducer(self) -> None:
        """See `registerProducer`."""

    def getHost(self) -> object:
        return None

    def end(self, tell: bool = True) -> None:
        """The connection is no more."""
        if not self._up:
            return
        self._up = False
        self.net.wires.discard(self)
        if tell and not self.reactor.dead:
            self.protocol.connectionLost(Failure(ConnectionLost()))

    # ---- octets on their way

    def _arrive(self) -> None:
        if self._up and self._to_host:
            octets = self._to_host.popleft()
            if not self._silent and not self._closing:
                self._hear(octets)

    def _say(self, words: str, dot: Dot | None = None) -> None:
        self._to_relay.append((words.encode() + b"\r\n", dot))
        self.net.timeline.callLater(self.plan.latency_seconds, self._said)

    def _said(self) -> None:
        if not self._up or not self._to_relay:
            return
        octets, dot = self._to_relay.popleft()
        if self.reactor.dead or self.disconnecting:
            return
        if dot is not None:
            dot.told = True
        self.protocol.dataReceived(octets)

    def _hang_up(self) -> None:
        self._closing = True
        self.net.timeline.callLater(self.plan.latency_seconds, self.end)

    # ---- the host

    def _fault(self, phase: str) -> str:
        for place, chance, what in self.net.manner(self.plan).faults:
            if place == phase and self.net.random.random() < chance:
                return what
        return ""

    def _answer(self, phase: str, good: str = "") -> str:
        """Say what the plan says, or *good*; what was said, empty when nothing was."""
        fault = self._fault(phase)
        if fault == "silent":
            self._silent = True
            return ""
        if fault == "hang up":
            self._hang_up()
            return ""
        said = fault or good or GOOD[phase]
        self._say(said)
        if said.startswith("421"):
            self._hang_up()
        return said

    def _hear(self, octets: bytes) -> None:
        self._buffer += octets
        while self._up and not self._silent and not self._closing:
            if self._in_content:
                end = (b"\r\n" + self._buffer).find(b"\r\n.\r\n")
                if end < 0:
                    return
                stuffed, self._buffer = self._buffer[:end], self._buffer[end + 3 :]
                self._in_content = False
                self._end_of_content((b"\r\n" + stuffed).replace(b"\r\n..", b"\r\n.")[2:])
            elif self._chunk:
                if len(self._buffer) < self._chunk:
                    return
                content, self._buffer = self._buffer[: self._chunk], self._buffer[self._chunk :]
                self._chunk = 0
                self._end_of_content(content)
            else:
                line, found, rest = self._buffer.partition(b"\r\n")
                if not found:
                    return
                self._buffer = rest
                self._command(line.decode())

    def _command(self, line: str) -> None:
        verb = line[:4].upper()
        if verb == "EHLO":
            keywords = ["peer.example", *self.plan.extensions]
            self._answer(
                "EHLO",
                "\r\n".join(
                    f"250{'-' if one is not keywords[-1] else ' '}{one}" for one in keywords
                ),
            )
        elif verb == "MAIL":
            self._paths, self._all = [], []
            self._mail_said = self._answer("MAIL")
            if self._mail_said.startswith("5"):
                self.net.refused.add(line[len("MAIL FROM:<") :].partition(">")[0])
        elif verb == "RCPT":
            self._recipient(line)
        elif verb == "DATA":
            self._data()
        elif verb == "BDAT":
            self._chunk = int(line.split()[1])
        elif verb == "QUIT":
            self._say(GOOD["QUIT"])
            self._hang_up()
        else:
            self._say(GOOD.get(verb, "500 5.5.2 what"))

    def _recipient(self, line: str) -> None:
        found = re.search("<(.*)>", line)
        assert found is not None, line
        path = found[1]
        self._all.append(path)
        if not self._mail_said.startswith("2"):
            self._say("503 5.5.1 MAIL first")
            return
        said = self._answer("RCPT")
        if said.startswith("2"):
            self._paths.append(path)
        elif said.startswith("5"):
            self.net.refused.add(path)

    def _data(self) -> None:
        if not self._paths:
            self._say("554 5.5.1 no valid recipients")
            return
        said = self._answer("DATA")
        self._in_content = said.startswith("354")
        if said.startswith("5"):
            self.net.refused.update(self._paths)

    def _end_of_content(self, content: bytes) -> None:
        net = self.net
        timeline, paths = net.timeline, tuple(self._paths)
        place = timeline.next_place()
        dot = Dot(timeline.elapsed, place, self.life, self.plan.address, content, paths)
        net.dots.append(dot)
        fault = self._fault(".")
        dot.taken = fault.startswith("taken") or not fault
        dot.reply = fault or GOOD["."]
        if "hang up" in fault:
            self._hang_up()
        elif "silent" in fault:
            self._silent = True
        else:
            if dot.reply.startswith("5"):
                net.refused.update(self._paths)
            self._say(dot.reply, dot)
            if dot.reply.startswith("421"):
                self._hang_up()
