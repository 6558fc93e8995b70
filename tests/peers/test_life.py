"""The process itself: signals, restarts, two processes on one home, Pickup."""

from __future__ import annotations

import os
import signal
import socket
import time

from tests.support.peer_case import SENDER, PeerCase, Server, content
from tests.support.process import (
    PATIENCE_SECONDS,
    Mailhost,
    reserve_address,
    split_address,
    takes_connections,
    wait_until,
)

RELAY = {"relay": {"default": "allow"}}


class HangUpTests(PeerCase):
    """SIGHUP reads the configuration anew."""

    def hang_up(self, server: Server, words: str) -> None:
        before = server.process.said().count(words)
        server.process.send_signal(signal.SIGHUP)
        server.process.wait_for_words(words, before + 1)

    def test_new_limits_reach_an_open_session(self) -> None:
        """A session that is open stays open, and goes by the new limits from its next command."""
        server = self.start_server(messages={"max_message_size": "1M"})
        with server.client() as client:
            client.ehlo()
            self.assertEqual(250, client.mail(SENDER, [f"size={500 * 1024}"])[0])
            client.rset()

            server.configure(messages={"max_message_size": "100K"})
            self.hang_up(server, "The configuration is reloaded")

            self.assertEqual(552, client.mail(SENDER, [f"size={500 * 1024}"])[0])
            client.sendmail(SENDER, ["a@example.com"], content("small"))
        with server.client() as client:
            client.ehlo()
            self.assertEqual(str(100 * 1024), client.esmtp_features["size"])
        self.assertEqual("small", server.wait_for_drop("a@example.com")[0].test_id)

    def test_open_transaction(self) -> None:
        """A transaction under way comes to its end."""
        server = self.start_server()
        with server.client() as client:
            client.ehlo()
            client.mail(SENDER)
            client.rcpt("a@example.com")

            server.configure(max_connections=5)
            self.hang_up(server, "The configuration is reloaded")

            self.assertEqual(250, client.data(content("through"))[0])
        server.wait_for_drop("a@example.com")

    def test_new_route_for_queued_mail(self) -> None:
        """Mail that waits goes by the routes in force at its next attempt."""
        host, port = split_address(reserve_address())
        sink = self.start_sink()
        outbound = {"retry": ["2s"]}
        server = self.start_server(
            access=RELAY, delivery={"smart_host": f"[{host}]:{port}", "outbound": outbound}
        )
        server.submit("a@example.org", content("rerouted"))
        server.wait_for_attempts("a@example.org")

        server.configure(delivery={"smart_host": sink.next_hop, "outbound": outbound})
        self.hang_up(server, "The configuration is reloaded")

        sink.wait_for("rerouted")

    def test_new_address(self) -> None:
        """An address that is added is listened on; one that is gone is not, sessions apart."""
        server = self.start_server()
        old, new = server.address, reserve_address()
        with server.client() as client:
            client.ehlo()

            server.address = new
            server.configure()
            self.hang_up(server, "The configuration is reloaded")

            wait_until(lambda: takes_connections(new), f"a listener on {new}")
            wait_until(lambda: not takes_connections(old), f"nobody on {old}")
            client.sendmail(SENDER, ["a@example.com"], content())
        server.wait_for_drop("a@example.com")

    def test_faulty_file(self) -> None:
        """A faulty file changes nothing; the log says file, line, key and what is allowed."""
        server = self.start_server(messages={"max_message_size": "1M"})
        text = server.mailhost.configuration.read_text()
        faulty = text.replace("max_message_size: 1M", "max_message_size: 1X")
        line = faulty[: faulty.index("1X")].count("\n") + 1
        with server.client() as client:
            client.ehlo()

            server.mailhost.configuration.write_text(faulty)
            self.hang_up(server, "The configuration is not reloaded")

            server.process.wait_for_words(f"mailhost.yaml:{line}: ")
            server.process.wait_for_words("messages.max_message_size")
            self.assertEqual(250, client.mail(SENDER, [f"size={500 * 1024}"])[0])
        with server.client() as client:
            client.ehlo()
            self.assertEqual(str(1 << 20), client.esmtp_features["size"])
        self.assertNotIn("The configuration is reloaded", server.process.said())

    def test_missing_file(self) -> None:
        """Nor does a file that is not there."""
        server = self.start_server()
        server.mailhost.configuration.unlink()

        self.hang_up(server, "The configuration is not reloaded")

        server.submit("a@example.com")
        server.wait_for_drop("a@example.com")


class EndTests(PeerCase):
    def test_idle_session(self) -> None:
        """SIGTERM: a session between two commands gets 421; the process ends in good order."""
        server = self.start_server()
        with socket.create_connection(split_address(server.address), PATIENCE_SECONDS) as client:
            stream = client.makefile("rb")
            self.assertEqual(b"220", stream.readline()[:3])

            server.process.send_signal(signal.SIGTERM)

            self.assertEqual(b"421 4.3.2", stream.readline()[:9])
            self.assertEqual(b"", stream.readline())
        server.process.wait()
        self.assertNotIn("Traceback", server.process.said())

    def test_open_transaction(self) -> None:
        """A content that is on its way is taken, and the session ends after it."""
        server = self.start_server()
        with server.client() as client:
            client.ehlo()
            client.mail(SENDER)
            client.rcpt("a@example.com")
            client.putcmd("data")
            self.assertEqual(354, client.getreply()[0])
            client.send(content("half", body=""))

            server.process.send_signal(signal.SIGTERM)
            server.process.wait_for_words("Received SIGTERM")
            wait_until(lambda: not takes_connections(server.address), "a closed port")
            client.send(b"the rest\r\n.\r\n")

            self.assertEqual(250, client.getreply()[0])
            self.assertEqual(421, client.getreply()[0])
            client.close()
        server.process.wait()
        server.start()
        self.assertEqual("half", server.wait_for_drop("a@example.com")[0].test_id)
        self.assertEqual(1, len(server.root.drop()))

    def test_restart_delivers(self) -> None:
        """What is queued when the process ends is delivered by the next one, once."""
        hop = reserve_address()
        host, port = split_address(hop)
        server = self.start_server(
            access=RELAY,
            delivery={"smart_host": f"[{host}]:{port}", "outbound": {"retry": ["3s"]}},
        )
        large = content("large") + b"0123456789\r\n" * 20_000
        server.submit("a@example.org", content("small"))
        server.submit("a@example.org", large)
        server.wait_for_attempts("a@example.org")

        server.process.terminate()
        self.assertEqual(2, len(server.root.queue()))
        sink = self.start_sink(address=hop)
        server.start()

        sink.wait_for("large", "small")
        server.wait_until_empty()
        # A body goes after its row.
        queue = server.root.home / "Queue"
        server.process.wait_until(lambda: not list(queue.glob("*.eml")), "the body is removed")

    def test_second_process(self) -> None:
        """A second process on the same home refuses to run, and leaves the first in peace."""
        first = self.start_server()
        second = self.make_server(home=str(first.root.home))
        second.mailhost.start()

        self.assertEqual([], second.mailhost.running())
        self.assertIn(
            f"{first.root.home}/Queue is in use by process {first.process.pid}",
            second.mailhost.stopped()[0],
        )
        self.assertFalse(takes_connections(second.address))
        first.submit("a@example.com")
        first.wait_for_drop("a@example.com")

    def test_faulty_configuration(self) -> None:
        """A faulty file is refused at the start, with all of its faults."""
        configuration = self.directory / "mailhost.yaml"
        configuration.write_text(
            "workers: many\nvirtual_servers:\n  - name: one\n    listne: ['127.0.0.1:1']\n"
        )
        mailhost = Mailhost(self.addCleanup, configuration)

        mailhost.launch()

        self.assertEqual(1, mailhost.process.wait())
        mailhost.process.wait_for_words("mailhost.yaml:1: workers: ")
        mailhost.process.wait_for_words("mailhost.yaml:4: ")
        mailhost.process.wait_for_words("'listen'")


class PickupTests(PeerCase):
    """A file put into Pickup is sent and disappears."""

    def test_sent(self) -> None:
        """Mail from a file goes the way of all mail (PIC-01)."""
        sink = self.start_sink()
        server = self.start_server(delivery={"smart_host": sink.next_hop})

        self.put(server, "good.eml", content("filed", To="a@example.org, b@example.com"))

        sink.wait_for("filed")
        self.assertEqual("filed", server.wait_for_drop("b@example.com")[0].test_id)
        wait_until(lambda: not self.pickup(server), "an empty Pickup")

    def test_bad(self) -> None:
        """A file without recipients goes to Badmail with its reason."""
        server = self.start_server()

        self.put(server, "bad.eml", content("bad"))

        badmail = server.root.home / "Badmail"
        server.process.wait_until(lambda: list(badmail.glob("*.BDR")), "a Badmail triple")
        self.assertEqual("bad.eml", server.root.badmail()[0]["source"])
        wait_until(lambda: not self.pickup(server), "an empty Pickup")

    def test_found_at_the_start(self) -> None:
        """A file that was there before the process is sent too."""
        server = self.make_server()
        (server.root.home / "Pickup").mkdir(parents=True)
        self.put(server, "early.eml", content("early", To="a@example.com"))

        server.start()

        self.assertEqual("early", server.wait_for_drop("a@example.com")[0].test_id)

    def pickup(self, server: Server) -> list[str]:
        """The files in Pickup, those that are being worked on included."""
        folder = server.root.home / "Pickup"
        return [path.name for path in folder.rglob("*") if path.is_file()]

    def put(self, server: Server, name: str, octets: bytes) -> None:
        """As a careful program does: written elsewhere, then renamed."""
        pickup = server.root.home / "Pickup"
        # A thread makes it, and the log's line about listening may be earlier.
        wait_until(pickup.is_dir, "the Pickup directory")
        part = self.path("part")
        part.write_bytes(octets)
        part.rename(pickup / name)


class UpkeepTests(PeerCase):
    def test_old_badmail(self) -> None:
        """MSG-06: what is older than the operator keeps goes at the start; the rest stays."""
        server = self.make_server(messages={"badmail": {"keep": "1d"}})
        badmail = server.root.home / "Badmail"
        badmail.mkdir(parents=True)
        for name, age_seconds in (("0" * 24, 2 * 86400), ("1" * 24, 3600)):
            for suffix in (".BAD", ".BDP", ".BDR"):
                path = badmail / f"{name}{suffix}"
                path.write_text("x")
                at = time.time() - age_seconds
                os.utime(path, (at, at))
        server.start()

        server.process.wait_until(
            lambda: {path.stem for path in badmail.glob("*.B*")} == {"1" * 24}, "the purge"
        )

    def test_full_queue(self) -> None:
        """As much as the operator allows is queued: 452, until it has become less."""
        server = self.start_server(
            delivery={
                "smart_host": f"[127.0.0.1]:{split_address(reserve_address())[1]}",
                "queue": {"max_messages": 2},
            },
            access={"relay": {"except": ["127.0.0.1", "127.0.0.0/8"]}},
        )
        for number in range(2):
            server.submit(f"user{number}@remote.example")

        with server.client() as client:
            client.ehlo()
            code, words = client.mail("sender@example.com")
        self.assertEqual(452, code)
        self.assertIn(b"4.3.1", words)
        server.process.wait_for_words("delivery.queue.max_messages")
