"""Tests for `mailhost.net.inbound` and `mailhost.net.factory`."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import SpoolFull, SpoolProblem
from mailhost.model.address import Mailbox
from mailhost.model.parameters import MailParameters
from mailhost.model.reply import Reply
from mailhost.model.session import SessionFacts
from mailhost.net.factory import ESMTPFactory
from mailhost.smtp import replies
from mailhost.smtp.rules import Rules
from mailhost.spool.memory import MemoryQueue
from tests.support.world import START, Session, World, make_settings

ENVELOPE = b"EHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n"


class SlowStore(MemoryQueue):
    """Commits when it is told to; counts what was thrown away."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.commits: list[Deferred[Any]] = []
        self.problem: Exception | None = None

    def commit(self, *given: Any) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred()
        waiting.addCallback(lambda nothing: MemoryQueue.commit(self, *given))
        self.commits.append(waiting)
        return waiting

    def new_message(self, prefix: bytes, expected: int | None) -> Any:
        if self.problem is not None:
            raise self.problem
        return super().new_message(prefix, expected)


class SlowWorld(World):
    def __attrs_post_init__(self) -> None:
        self.store = SlowStore(self.clock.seconds)
        super().__attrs_post_init__()


class TimeTests(SynchronousTestCase):
    def test_silent_client(self) -> None:
        """GEN-07: after the time-out a silent client is told 421 and left."""
        world = World(make_settings(connection_timeout=60))
        session = world.connect()
        session.send(b"EHLO x\r\n")

        world.clock.pump([1.0] * 59)
        early = session.closed
        world.clock.pump([1.0] * 3)

        self.assertFalse(early)
        self.assertEqual(replies.TIMED_OUT.octets, session.read())
        self.assertTrue(session.closed)

    def test_half_a_command_is_silence(self) -> None:
        """A client that sends an octet now and then but no command runs out of time."""
        world = World(make_settings(connection_timeout=60))
        session = world.connect()
        said = b""
        for _ in range(4):
            world.clock.pump([1.0] * 16)
            said += session.send(b"N")

        self.assertIn(b"421 4.4.2", said)

    def test_slow_content(self) -> None:
        """A35: content below 500 octets a second ends without a reply, and is forgotten."""
        world = World(make_settings(connection_timeout=60))
        session = world.connect()
        session.send(ENVELOPE + b"DATA\r\n")
        for _ in range(100):
            world.clock.pump([1.0])
            session.send(b"x")

        self.assertTrue(session.transport.disconnected or session.transport.disconnecting)
        self.assertEqual(b"", session.read())
        self.assertEqual([], world.accepted)

    def test_steady_content_is_let_through(self) -> None:
        """A client that sends enough may take longer than the time-out."""
        world = World(make_settings(connection_timeout=60))
        session = world.connect()
        session.send(ENVELOPE + b"DATA\r\n")
        for _ in range(150):
            world.clock.pump([1.0])
            session.send(b"x" * 498 + b"\r\n" + b"x" * 100 + b"\r\n")
        said = session.send(b".\r\n")

        self.assertIn(b"250 2.6.0", said)

    def test_waiting_for_us_is_not_silence(self) -> None:
        """A client whose message is being committed is not timed out."""
        world = SlowWorld(make_settings(connection_timeout=60))
        session = world.connect()
        session.send(ENVELOPE + b"DATA\r\n\r\n.\r\n")

        world.clock.pump([1.0] * 200)
        world.store.commits[0].callback(None)

        self.assertIn(b"250 2.6.0", session.read())

    def test_no_timer_is_left(self) -> None:
        """When the last session has gone the clock has nothing to do."""
        world = World()
        session = world.connect()
        session.send(b"QUIT\r\n")
        session.protocol.connectionLost()

        self.assertEqual([], world.clock.getDelayedCalls())
        self.assertEqual(0, world.desk.open_sessions)


class OrderTests(SynchronousTestCase):
    def test_pipelined_replies_wait_for_a_slow_commit(self) -> None:
        """P5: what was pipelined behind a message is answered after it."""
        world = SlowWorld()
        session = world.connect()
        session.read()

        before = session.send(ENVELOPE + b"DATA\r\n\r\n.\r\nNOOP\r\nQUIT\r\n")
        world.store.commits[0].callback(None)
        after = session.read()

        self.assertTrue(before.endswith(replies.START_CONTENT.octets))
        lines = after.splitlines()
        self.assertEqual([b"250", b"250", b"221"], [line[:3] for line in lines])
        self.assertIn(b"Queued mail", lines[0])

    def test_client_gone_while_committing(self) -> None:
        """The message is ours: it was handed to the store, and is delivered."""
        world = SlowWorld()
        session = world.connect()
        session.send(ENVELOPE + b"DATA\r\n\r\n.\r\n")
        session.protocol.connectionLost()

        world.store.commits[0].callback(None)

        self.assertEqual(1, len(world.accepted))

    def test_client_gone_before_the_dot(self) -> None:
        """Nothing is kept of half a message."""
        world = World()
        session = world.connect()
        session.send(ENVELOPE + b"DATA\r\nhalf")
        session.protocol.connectionLost()

        self.assertEqual(([], {}), (world.accepted, world.store.messages))


class TroubleTests(SynchronousTestCase):
    def refused(self, problem: Exception, octets: bytes = b"DATA\r\n") -> bytes:
        world = SlowWorld()
        world.store.problem = problem
        session = world.connect()
        session.send(ENVELOPE)
        said = session.send(octets)
        self.assertFalse(session.closed)
        return said

    def test_disk_full(self) -> None:
        """452, nothing half-written, and the session goes on."""
        self.assertEqual(replies.NO_ROOM.octets, self.refused(SpoolFull("full")))

    def test_disk_failed(self) -> None:
        """Whatever the disk says is temporary (P4)."""
        self.assertEqual(replies.SPOOL_FAILED.octets, self.refused(SpoolProblem("EIO")))

    def test_commit_failed(self) -> None:
        """A commit that fails is 451, or 452 when the disk is full."""
        for problem, code in ((SpoolProblem("EIO"), b"451"), (SpoolFull("full"), b"452")):
            world = SlowWorld()
            session = world.connect()
            session.send(ENVELOPE + b"DATA\r\n\r\n.\r\n")
            world.store.commits[0].errback(problem)

            self.assertEqual(code, session.read()[-60:].splitlines()[-1][:3])
            self.assertEqual([], world.accepted)

    def test_a_bug_is_temporary(self) -> None:
        """An exception nobody foresaw is 451 and logged, and the next command is answered."""
        world = World()
        session = world.connect()
        session.send(b"EHLO x\r\n")
        world.desk.categorizer = None  # type: ignore[assignment]  # breaks every decision

        said = session.send(b"MAIL FROM:<a@example.org>\r\nNOOP\r\n")

        self.assertEqual(replies.LOCAL_ERROR.octets + replies.OK.octets, said)
        self.assertEqual(1, len(self.flushLoggedErrors(AttributeError)))


class BackPressureTests(SynchronousTestCase):
    def test_a_client_that_does_not_read(self) -> None:
        """A36: when our replies are not taken its commands are not either."""
        world = World()
        session = world.connect()
        session.read()

        session.protocol.pauseProducing()
        unheard = session.send(b"NOOP\r\n" * 10)
        state = session.transport.producerState
        session.protocol.resumeProducing()

        self.assertEqual(b"", unheard)
        self.assertEqual("paused", state)
        self.assertEqual("producing", session.transport.producerState)
        self.assertEqual(replies.OK.octets * 10, session.read())

    def test_a_client_that_does_not_wait(self) -> None:
        """Input that piles up behind a decision stops the reading (P7)."""
        world = SlowWorld()
        session = world.connect()
        session.send(ENVELOPE + b"DATA\r\n\r\n.\r\n")
        while session.transport.producerState == "producing":
            session.send(b"NOOP\r\n" * 1000)

        held = session.protocol._dialogue.held_octets
        world.store.commits[0].callback(None)

        self.assertLess(held, 200_000)
        self.assertEqual("producing", session.transport.producerState)
        self.assertIn(b"Queued mail", session.read())


class EndTests(SynchronousTestCase):
    def test_stop_between_commands(self) -> None:
        """An idle session gets 421 at once; one in content when its message is done."""
        world = World()
        idle, busy = world.connect(), world.connect()
        idle.read()
        busy.send(ENVELOPE + b"DATA\r\n")

        ended = world.factory.end_sessions()
        said_idle, said_busy = idle.read(), busy.read()
        last = busy.send(b"\r\n.\r\n")
        self.assertNoResult(ended)
        for session in (idle, busy):
            session.protocol.connectionLost()

        self.assertEqual((replies.STOPPING.octets, b""), (said_idle, said_busy))
        self.assertIn(b"250 2.6.0", last)
        self.assertTrue(last.endswith(replies.STOPPING.octets))
        self.successResultOf(ended)

    def test_nothing_is_left_for_the_garbage_collector(self) -> None:
        """ADR 0015: a session that has ended is in no cycle, whatever was refused in it."""
        world = World()
        session = world.connect()
        session.send(b"EHLO client.example\r\nNONSENSE\r\n" + ENVELOPE + b"QUIT\r\n")
        protocol, ended = session.protocol, weakref.ref(session.protocol)
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        protocol.connectionLost()
        # What the transports of this test and Twisted's hold is not the session's own.
        protocol.transport = session.protocol = session.transport.protocol = None
        session.transport.producer = None
        del protocol
        self.assertIsNone(ended())

    def test_ended_by_the_operator(self) -> None:
        """Between two commands it is told, in content it is cut off."""
        world = World()
        between, within = world.connect(), world.connect()
        between.send(b"EHLO x\r\n")
        within.send(ENVELOPE + b"DATA\r\nSubject: x\r\n")
        self.assertEqual(("greeted", "content"), (between.protocol.state, within.protocol.state))

        for session in (between, within):
            session.protocol.terminate(replies.TERMINATED)

        self.assertIn(b"421 4.3.2 Session ended by the operator", between.read())
        self.assertTrue(between.closed)
        self.assertEqual(b"", within.read())
        self.assertTrue(within.closed)
        self.assertEqual([], world.accepted)

    def test_ended_by_the_operator_while_committing(self) -> None:
        """What is ours is acknowledged first."""
        world = SlowWorld()
        session = world.connect()
        session.send(ENVELOPE + b"DATA\r\nSubject: x\r\n\r\n.\r\n")
        session.protocol.terminate(replies.TERMINATED)
        self.assertFalse(session.closed)

        world.store.commits[0].callback(None)

        said = session.read()
        self.assertLess(said.index(b"250 2.6.0"), said.index(b"421 4.3.2"))
        self.assertTrue(session.closed)

    def test_too_many_connections(self) -> None:
        """GEN-06: the one too many is told 421; the others stay."""
        world = World(make_settings(max_connections=1))
        first, second = world.connect(), world.connect()

        self.assertEqual(replies.TOO_MANY_CONNECTIONS.octets, second.read())
        self.assertTrue(second.closed)
        self.assertFalse(first.closed)
        second.protocol.connectionLost()
        first.protocol.connectionLost()
        self.assertIn(b"220", world.connect().read())


class PlainReception:
    """An `IReception` in a few lines, as an embedding application writes one."""

    def __init__(self, session: SessionFacts) -> None:
        self.session = session

    def connected(self) -> Reply:
        return replies.OK

    def hello(self, name: str, extended: bool) -> Reply:
        return replies.OK

    async def sender(
        self,
        reverse_path: Mailbox | None,
        size: int | None,
        body: str,
        parameters: MailParameters,
    ) -> Reply:
        return replies.sender_ok(reverse_path)

    def reset(self) -> None:
        pass

    def disconnected(self) -> None:
        pass


class FactoryTests(SynchronousTestCase):
    def test_any_function_of_a_session(self) -> None:
        """The factory needs no configuration; a decision may be a coroutine."""
        clock = Clock()
        clock.advance(START)
        world = World()
        world.factory = ESMTPFactory(
            PlainReception, clock, Rules("host.example", early_talkers=True)
        )  # type: ignore[arg-type]  # only the methods used here

        said = Session(world, "192.0.2.7").send(b"EHLO x\r\nMAIL FROM:<a@b.example>\r\n")

        self.assertTrue(said.endswith(b"250 2.1.0 a@b.example....Sender OK\r\n"))

    def test_nonsense_is_refused(self) -> None:
        """What cannot decide anything is refused when the factory is made."""
        self.assertRaises(TypeError, ESMTPFactory, 7, Clock(), Rules("host.example"))
