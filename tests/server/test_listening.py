"""Several processes that take connections from one socket."""

from __future__ import annotations

import socket
from typing import Any

from attrs import define, field
from twisted.internet.epollreactor import EPollReactor
from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.settings import ListenAddress
from mailhost.net.poller import poller_for
from mailhost.server.listening import accept_in_turns, bind
from tests.support.world import World


@define(eq=False)
class Process:
    """What would be one: a reactor, a port, sessions."""

    listening: socket.socket
    reactor: Any = field(factory=EPollReactor)
    world: World = field(factory=World)

    def __attrs_post_init__(self) -> None:
        accept_in_turns(poller_for(self.reactor), self.listening.dup(), self.world.factory)

    def turn(self) -> int:
        """What is ready is done; how many sessions there are then."""
        self.reactor.doPoll(0)
        return len(self.world.factory.sessions)

    def end(self) -> None:
        self.reactor.disconnectAll()
        self.reactor.waker.connectionLost(None)
        self.reactor._poller.close()


class TurnsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.listening = bind(ListenAddress("127.0.0.1", 0))
        self.addCleanup(self.listening.close)

    def process(self) -> Process:
        process = Process(self.listening)
        self.addCleanup(process.end)
        return process

    def connect(self, count: int) -> None:
        for _ in range(count):
            client = socket.create_connection(self.listening.getsockname())
            self.addCleanup(client.close)

    def test_each_has_its_part(self) -> None:
        """A client that opens many connections at once has them with all processes."""
        first, second = self.process(), self.process()
        self.connect(20)

        for number in range(1, 11):
            self.assertEqual((number, number), (first.turn(), second.turn()))

    def test_who_has_many_takes_more(self) -> None:
        """Its turns are long, and those who wait should not need one each."""
        process = self.process()
        self.connect(50)

        taken = [process.turn() for _ in range(27)]

        self.assertEqual([*range(1, 17), *range(18, 33, 2), 35, 38, 41], taken)
