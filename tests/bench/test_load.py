"""The source and the sink that measure the server: what they say is right, and counted right."""

from __future__ import annotations

import socket
from itertools import islice

from twisted.trial.unittest import SynchronousTestCase

from tests.bench import sink, source
from tests.bench.load import own_sink, own_source
from tests.support.process import reserve_port
from tests.support.recording_sink import RecordingSink
from tests.support.scripted_host import ScriptedHost, says

HOST = "127.0.0.1"
LINES = b"Subject: test\r\n\r\n" + b"x" * 62 + b"\r\n.a dot\r\n.\r\n" + b"y" * 62 + b"\r\n"
STUFFED = LINES.replace(b"\r\n.", b"\r\n..")


class SinkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.client, server = socket.socketpair()
        self.addCleanup(self.client.close)
        self.addCleanup(server.close)
        self.session = sink.Session(server)
        self.buffer = bytearray(1000)

    def hear(self, octets: bytes) -> tuple[bool, bytes]:
        """What *octets*, which come at once, are answered."""
        self.client.sendall(octets)
        ended = self.session.read(self.buffer)
        self.client.setblocking(False)
        try:
            return ended, self.client.recv(4096)
        except BlockingIOError:
            return ended, b""
        finally:
            self.client.setblocking(True)

    def codes(self, octets: bytes) -> tuple[bool, list[bytes]]:
        ended, said = self.hear(octets)
        return ended, [line[:3] for line in said.splitlines()]

    def test_the_end_of_a_content_in_pieces(self) -> None:
        """Wherever it is cut in two; a dot that is stuffed is no end."""
        for content in (STUFFED + b".\r\n", b".\r\n"):
            for cut in range(1, len(content)):
                self.assertEqual((False, [b"354"]), self.codes(b"DATA\r\n"))
                self.assertEqual((False, []), self.codes(content[:cut]))
                self.assertEqual((True, [b"250"]), self.codes(content[cut:]))

    def test_octet_by_octet(self) -> None:
        self.hear(b"DATA\r\n")

        found = [self.codes(bytes([octet])) for octet in STUFFED + b".\r\n"]

        self.assertEqual((True, [b"250"]), found.pop())
        self.assertEqual({(False, ())}, {(ended, tuple(codes)) for ended, codes in found})

    def test_a_content_larger_than_its_buffer(self) -> None:
        self.hear(b"DATA\r\n")
        self.client.sendall(STUFFED * 20 + b".\r\n")

        blocks = 1
        while not self.session.read(self.buffer):
            blocks += 1

        self.assertGreater(blocks, 3)

    def test_commands_behind_a_content(self) -> None:
        self.hear(b"DATA\r\n")

        found = self.codes(STUFFED + b".\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n")

        self.assertEqual((True, [b"250", b"250", b"250", b"354"]), found)
        self.assertEqual((True, [b"250", b"221"]), self.codes(b".\r\nQUIT\r\n"))

    def test_commands_in_pieces(self) -> None:
        self.assertEqual((False, []), self.codes(b"MAIL FR"))
        self.assertEqual((False, [b"250"]), self.codes(b"OM:<>\r\nRCPT"))
        self.assertEqual((False, [b"250", b"500"]), self.codes(b" TO:<a@b>\r\nTURN\r\n"))

    def refused(self, octets: bytes) -> None:
        self.client.sendall(octets)
        with self.assertRaises(ValueError):
            self.session.read(self.buffer)

    def test_a_command_before_354(self) -> None:
        self.refused(b"DATA\r\nRSET\r\n")

    def test_a_content_before_354(self) -> None:
        self.refused(b"DATA\r\nSubject")


class SourceTests(SynchronousTestCase):
    def test_contents_arrive(self) -> None:
        """50 messages of 100 KB over one connection."""
        host = RecordingSink(HOST)
        host.start()
        self.addCleanup(host.stop)
        address = HOST, int(host.address.rpartition(":")[2])
        session = source.Session(address, STUFFED * 800 + b".\r\n", kept=True)
        self.addCleanup(session.close)

        self.assertEqual(50, session.offer(iter(range(50))))

        self.assertEqual([LINES * 800] * 50, [copy.content for copy in host.copies])
        self.assertEqual(1, host.open_sessions)

    def test_a_connection_each(self) -> None:
        host = RecordingSink(HOST)
        host.start()
        self.addCleanup(host.stop)
        address = HOST, int(host.address.rpartition(":")[2])
        session = source.Session(address, source.message(1000))
        turns = iter(range(5))

        self.assertEqual(3, session.offer(islice(turns, 3)))

        self.assertEqual([3, 4], list(turns))
        self.assertEqual(3, len(host.copies))

    def test_refusals_are_faults(self) -> None:
        """None of them is counted as a message."""
        for phase in ("banner", "EHLO", "MAIL", "RCPT", "DATA", "."):
            host = ScriptedHost(HOST, {phase: [says("450 4.2.0 not now")]})
            host.start()
            self.addCleanup(host.stop)
            session = source.Session((HOST, host.port), source.message(1000))
            with self.assertRaises(ConnectionError, msg=phase):
                session.offer(iter(range(1)))

    def test_a_host_without_pipelining(self) -> None:
        host = ScriptedHost(HOST, extensions=())
        host.start()
        self.addCleanup(host.stop)
        session = source.Session((HOST, host.port), source.message(1000))

        with self.assertRaises(ConnectionError):
            session.offer(iter(range(1)))

    def test_sizes(self) -> None:
        for octets in (1000, 4096, 102_400):
            self.assertLessEqual(abs(len(source.message(octets)) - octets), 64)


class TogetherTests(SynchronousTestCase):
    def test_all_are_counted(self) -> None:
        """The two programs: what the one has offered has come to the other."""
        port = reserve_port(HOST)
        for options in ((), ("--kept",)):
            with own_sink(port) as taken, own_source(f"{HOST}:{port}", 102_400, *options) as offer:
                offer(50)
                self.assertEqual(50, taken.arrived())
                offer(7)
                self.assertEqual(57, taken.arrived())
